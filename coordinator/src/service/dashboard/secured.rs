//! HTTP over TLS: the connections of a listener after their handshakes.
//!
//! Leaves out: handshakes and their bounds (incoming), who may look (access). Invariant: who comes in plain text is
//! told so and nothing else.

use crate::service::incoming::{Connection, incoming};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tonic::transport::server::Connected;

const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 39\r\n\
    Connection: close\r\n\r\nthis port speaks TLS: ask for https://\n";
/// How long a refused peer may take to read why, and what of its words is read before it is cut off.
const GOODBYE_MS_MAX: u64 = 1_000;
const GOODBYE_BYTES_MAX: u64 = 64 << 10;

/// The secured connections of a listener.
pub(super) struct Secured {
    connections: BoxStream<'static, io::Result<Connection>>,
    address: SocketAddr,
}

impl Secured {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the socket has no address.
    pub(super) fn new(listener: TcpListener, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { connections: incoming(listener, Some(tls)).boxed(), address })
    }
}

impl axum::serve::Listener for Secured {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The stream has no end and no errors of its own.
            let Some(Ok(connection)) = self.connections.next().await else {
                tokio::time::sleep(Duration::from_millis(GOODBYE_MS_MAX)).await;
                continue;
            };
            let peer = connection.connect_info();
            if peer.secured {
                return (connection, peer.address.unwrap_or(self.address));
            }
            tokio::spawn(refuse(connection));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Says why, and waits until the peer hung up: closing over unread bytes would take the words back.
async fn refuse(mut connection: Connection) {
    let goodbye = async {
        connection.write_all(REFUSAL).await?;
        connection.shutdown().await?;
        let mut rest = connection.take(GOODBYE_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    drop(tokio::time::timeout(Duration::from_millis(GOODBYE_MS_MAX), goodbye).await);
}
