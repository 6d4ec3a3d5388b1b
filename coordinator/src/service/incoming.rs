//! Connections as they arrive: bounded in number, secured, and named by their certificates.
//!
//! Leaves out: what a peer may call (gate). Invariant: who does not say who he is in time is cut off,
//! and who is refused is told why before the connection closes.

use glmeval_common::limits::{CONNECTIONS_MAX, HANDSHAKE_MS_MAX, HANDSHAKES_MAX};
use glmeval_common::trust::{Role, roles_of};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// First byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// A fatal alert, `protocol_version`: a client that wants TLS learns that there is none.
const NO_TLS_HERE: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];
/// Pause after the system had no connection to give, such as for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// How long a refused peer may take to read why.
const GOODBYE_MS_MAX: u64 = 1_000;
/// What of a refused peer's words is read before it is cut off.
const GOODBYE_BYTES_MAX: u64 = 64 << 10;

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address; `None` where there is no such thing.
    pub address: Option<SocketAddr>,
    /// Whether the connection is TLS.
    pub secured: bool,
    /// What its certificate says it is.
    pub roles: Vec<Role>,
}

enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// A connection that was let in.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// Held as long as the connection lives.
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secured(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// What a listener works with.
struct Door {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    room: Arc<Semaphore>,
    greetings: JoinSet<Option<Connection>>,
}

/// The connections of `listener`, with TLS where there is a configuration.
///
/// On a TLS listener plain connections come through as not secured: an engine's health probe has no
/// certificate, and a client that forgot its own is told so by an answer instead of a broken pipe.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) -> impl futures::Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let door = Door { listener, tls, room, greetings: JoinSet::new() };
    futures::stream::unfold(door, |mut door| async move {
        let connection = door.next().await;
        Some((Ok(connection), door))
    })
}

impl Door {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => self.greet(stream, address),
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
                Some(greeted) = self.greetings.join_next(), if !self.greetings.is_empty() => {
                    if let Ok(Some(connection)) = greeted {
                        return connection;
                    }
                }
            }
        }
    }

    fn greet(&mut self, stream: TcpStream, address: SocketAddr) {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok();
        let Some(permit) = permit.filter(|_| self.greetings.len() < HANDSHAKES_MAX) else {
            tracing::warn!(%address, "connection closed: there are too many");
            return;
        };
        let tls = self.tls.clone();
        self.greetings.spawn(async move {
            let greeting = greet(stream, address, tls);
            let (stream, peer) = in_time(HANDSHAKE_MS_MAX, greeting).await??;
            Some(Connection { stream, peer, _permit: permit })
        });
    }
}

async fn in_time<T>(limit_ms: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(limit_ms), future).await.ok()
}

/// Learns who is there; `None` once the connection is refused.
async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
) -> Option<(Stream, Peer)> {
    // Without it small answers wait for acknowledgements; a socket that refuses it still works.
    drop(stream.set_nodelay(true));
    let mut first = [0_u8; 1];
    let wants_tls = stream.peek(&mut first).await.ok()? > 0 && first[0] == TLS_HANDSHAKE;
    let plain = Peer { address: Some(address), ..Peer::default() };
    match (tls, wants_tls) {
        (_, false) => Some((Stream::Plain(stream), plain)),
        (None, true) => {
            tracing::warn!(%address, "connection refused: TLS, and this coordinator has none");
            say_goodbye(stream, &NO_TLS_HERE).await;
            None
        }
        (Some(config), true) => {
            match TlsAcceptor::from(config).accept(stream).into_fallible().await {
                Ok(stream) => {
                    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let roles = certificates.first().map(roles_of).unwrap_or_default();
                    let peer = Peer { secured: true, roles, ..plain };
                    Some((Stream::Secured(Box::new(stream)), peer))
                }
                Err((error, stream)) => {
                    tracing::warn!(%address, %error, "connection refused");
                    say_goodbye(stream, &[]).await;
                    None
                }
            }
        }
    }
}

/// Says the last words and waits until the peer hung up: closing over unread bytes would take back what
/// it has not read yet.
async fn say_goodbye(mut stream: TcpStream, last_words: &[u8]) {
    let goodbye = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(GOODBYE_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    drop(in_time(GOODBYE_MS_MAX, goodbye).await);
}
