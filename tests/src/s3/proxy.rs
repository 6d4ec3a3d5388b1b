//! A proxy between a client and an S3 server that spoils chosen requests in chosen ways.
//!
//! ```text
//! client -> proxy -> server      one request per connection; what is spoilt is drawn or scripted
//! ```
//!
//! Leaves out: the server. Invariant: a request is passed on byte for byte but for `Connection: close` and what
//! its fault changes, so that its signature stays good; every request is noted with its fault.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::rng::Rng;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Answered with 503 SlowDown; the server never sees it.
    SlowDown,
    /// The connection is reset before the server sees anything.
    Reset,
    /// The server does it, the connection is reset in place of the answer.
    AnswerLost,
    /// Half the answer comes, then the connection is reset.
    AnswerCut,
    /// Passed on after a while.
    Late(Duration),
    /// Passed on as if it had been signed an hour ago.
    OldDate,
}

/// One request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `PUT`, `GET`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// What was done to it.
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct Plan {
    script: VecDeque<Fault>,
    only: Option<fn(&str, &str) -> bool>,
    chance: Option<(Rng, f64, Vec<Fault>)>,
    seen: Vec<Seen>,
}

impl Plan {
    fn next(&mut self, method: &str, target: &str) -> Fault {
        let spoils = self.only.is_none_or(|only| only(method, target));
        let scripted = if spoils { self.script.pop_front() } else { None };
        let fault = scripted.unwrap_or_else(|| self.draw());
        self.seen.push(Seen { method: method.to_owned(), target: target.to_owned(), fault });
        fault
    }

    fn draw(&mut self) -> Fault {
        let Some((rng, share, faults)) = &mut self.chance else { return Fault::None };
        if rng.uniform() >= *share {
            return Fault::None;
        }
        faults[rng.below(faults.len() as u64) as usize]
    }
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes on to `server`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let serving = tokio::spawn(serve(listener, server, Arc::clone(&plan)));
        Self { address, plan, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Spoils the next requests of which `only` says so, in this order.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn script(&self, faults: &[Fault], only: fn(&str, &str) -> bool) {
        let mut plan = self.plan.lock().unwrap();
        plan.script = faults.iter().copied().collect();
        plan.only = Some(only);
    }

    /// Spoils a share of all requests, drawn from a seed; a share of 0 ends it.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn chance(&self, seed: u64, share: f64, faults: &[Fault]) {
        let mut plan = self.plan.lock().unwrap();
        plan.only = None;
        plan.chance = Some((Rng::derive(seed, "proxy"), share, faults.to_vec()));
    }

    /// Takes the list of requests that came by.
    ///
    /// # Panics
    /// If a request panicked.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.plan.lock().unwrap().seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, plan: Arc<Mutex<Plan>>) {
    while let Ok((client, _)) = listener.accept().await {
        let plan = Arc::clone(&plan);
        tokio::spawn(async move {
            // A client that hangs up has what it wanted.
            let _ = exchange(client, server, &plan).await;
        });
    }
}

/// Closes a connection so that the other side sees a reset.
fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    drop(client);
    Ok(())
}

async fn exchange(mut client: TcpStream, server: SocketAddr, plan: &Mutex<Plan>) -> io::Result<()> {
    let (mut head, body) = read_request(&mut client).await?;
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let fault = plan.lock().unwrap().next(&method, &target);
    match fault {
        Fault::Reset => return reset(client),
        Fault::SlowDown => {
            let length = SLOW_DOWN.len();
            let answer = format!(
                "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{SLOW_DOWN}"
            );
            return client.write_all(answer.as_bytes()).await;
        }
        Fault::Late(wait) => tokio::time::sleep(wait).await,
        Fault::OldDate => head = an_hour_earlier(&head),
        Fault::None | Fault::AnswerLost | Fault::AnswerCut => {}
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    match fault {
        Fault::AnswerLost => reset(client),
        Fault::AnswerCut => {
            client.write_all(&answer[..answer.len() / 2]).await?;
            client.flush().await?;
            reset(client)
        }
        _ => {
            client.write_all(&answer).await?;
            client.shutdown().await
        }
    }
}

/// The head of a request, with `Connection: close`, and its body.
async fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 2;
        }
        if bytes.len() > HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end + 2);
    bytes.truncate(end);
    let head = String::from_utf8(bytes).map_err(io::Error::other)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let length: usize = length.unwrap_or(0);
    let start = body.len().min(length);
    body.resize(length, 0);
    client.read_exact(&mut body[start..]).await?;
    Ok((format!("{head}Connection: close\r\n\r\n"), body))
}

/// The head with the hour of `x-amz-date: 20261121T215528Z` one less, or one more in the first of the day.
fn an_hour_earlier(head: &str) -> String {
    let lines = head.split_inclusive("\r\n").map(|line| {
        let Some((name, value)) = line.split_once(':') else { return line.to_owned() };
        let value = value.trim();
        if !name.eq_ignore_ascii_case("x-amz-date") || value.len() != 16 {
            return line.to_owned();
        }
        let hour: u32 = value[9..11].parse().unwrap();
        let other = hour.checked_sub(1).unwrap_or(1);
        format!("{name}: {}{other:02}{}\r\n", &value[..9], &value[11..])
    });
    lines.collect()
}
