//! Listens: the control service and the health service on one socket.
//!
//! Leaves out: messages (`common::wire`), decisions. Invariant: a coordinator that was fenced or
//! told to stop answers nothing more, also on connections that are still open.

use crate::driver::Coordinator;
use futures::Stream;
use glmeval_common::error::{Error, Result};
use glmeval_common::wire::{SERVICE_NAME, control_server};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;

#[cfg(test)]
mod tests;

/// How long open connections may take to end.
const FAREWELL_MS_MAX: u64 = 1_000;
const KEEPALIVE_MS: u64 = 20_000;

/// Serves until `stop` resolves or a newer coordinator is found.
///
/// # Errors
/// `Fenced` when a newer coordinator was found, `Unavailable` when the socket breaks.
pub async fn serve(
    coordinator: Coordinator,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_connections(coordinator, TcpListenerStream::new(listener), stop).await
}

/// As [`serve`], over connections of any kind: sockets, or streams of a simulated network.
///
/// # Errors
/// As [`serve`].
pub async fn serve_connections<C>(
    coordinator: Coordinator,
    connections: impl Stream<Item = io::Result<C>>,
    stop: impl Future<Output = ()> + Send,
) -> Result<()>
where
    C: AsyncRead
        + AsyncWrite
        + Connected<ConnectInfo: Clone + Send + Sync>
        + Send
        + Unpin
        + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let (ending, ended) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
        .add_service(health_service)
        .add_service(control_server(Arc::new(coordinator.clone())))
        .serve_with_incoming_shutdown(connections, async {
            // An error means that the sender is gone, which ends the service as well.
            let _ = ended.await;
        });
    tokio::pin!(server);
    let result = tokio::select! {
        biased;
        served = &mut server => {
            return served.map_err(|e| Error::unavailable("serve").with_source(e));
        }
        fenced = coordinator.run() => fenced,
        () = stop => Ok(()),
    };
    coordinator.close();
    health.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
    drop(ending);
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), server).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
    result
}
