//! Listens: the control service and the health service on one socket.
//!
//! Leaves out: messages (`common::wire`), decisions. Invariant: a coordinator that was fenced or
//! told to stop answers nothing more, also on connections that are still open.

use crate::driver::Coordinator;
use glmeval_common::error::{Error, Result};
use glmeval_common::wire::{SERVICE_NAME, control_server};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

#[cfg(test)]
mod tests;

/// How long the store may take at the end.
const LAST_WRITES_MS_MAX: u64 = 5_000;
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
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let (ending, ended) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
        .add_service(health_service)
        .add_service(control_server(Arc::new(coordinator.clone())))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            // An error means that the sender is gone, which ends the service as well.
            let _ = ended.await;
        });
    tokio::pin!(server);
    let result = tokio::select! {
        served = &mut server => {
            return served.map_err(|e| Error::unavailable("serve").with_source(e));
        }
        fenced = coordinator.run() => fenced,
        () = stop => Ok(()),
    };
    coordinator.close();
    coordinator.write_what_is_left(Duration::from_millis(LAST_WRITES_MS_MAX)).await;
    health.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
    drop(ending);
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), server).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
    result
}
