//! A small HTTP client for loopback: one request, one connection, the whole answer.
//!
//! Leaves out: TLS, redirects, streams. Invariant: no request leaves this machine.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, as sent.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Answer {
    /// The value of a header; empty without it.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }
}

/// Sends one request to `address` (`host:port`); `headers` are whole lines.
///
/// # Errors
/// When nobody listens there or the connection breaks.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for line in headers {
        head.push_str(&format!("{line}\r\n"));
    }
    head.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    // Not every server closes the connection behind an answer of known length.
    while !is_whole(&bytes) && stream.read_buf(&mut bytes).await? > 0 {}
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Ok(Answer { status, head: head.to_owned(), body })
}

/// Whether all that the head says has come.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let length =
        lines.filter(|(key, _)| *key == "content-length").map(|(_, value)| value).next_back();
    let Some(length) = length.and_then(|value| value.trim().parse::<usize>().ok()) else {
        return false;
    };
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .is_some_and(|at| bytes.len() >= at + 4 + length)
}

/// `GET path`.
///
/// # Panics
/// When nobody answers.
pub async fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path, &[], "").await.unwrap()
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || size > rest.len() {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
