//! Listens: the control service and the health service on one socket.
//!
//! Leaves out: messages (`common::wire`), decisions. Invariant: a coordinator that was fenced or
//! told to stop answers nothing more, also on connections that are still open; every call passes the
//! gate.

use crate::driver::Coordinator;
use glmeval_common::error::{Error, Result};
use glmeval_common::limits::{HEADER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use glmeval_common::wire::{SERVICE_NAME, control_server};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;

pub mod dashboard;
mod gate;
mod health;
mod incoming;
#[cfg(test)]
mod tests;
mod trust;

use gate::Gate;
pub use health::serve_health;
pub use incoming::{Connection, Peer};
pub use trust::Trust;

/// How long the store may take at the end.
const LAST_WRITES_MS_MAX: u64 = 5_000;
/// How long open connections may take to end.
const FAREWELL_MS_MAX: u64 = 1_000;
/// How long the last snapshots may take; the next coordinator lists what they do not say.
const SNAPSHOTS_MS_MAX: u64 = 5_000;
const KEEPALIVE_MS: u64 = 20_000;

/// Serves everyone until `stop` resolves or a newer coordinator is found.
///
/// # Errors
/// As [`serve_trusted`].
pub async fn serve(
    coordinator: Coordinator,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    serve_trusted(coordinator, listener, Trust::open(), stop).await
}

/// Serves those that `trust` believes until `stop` resolves or a newer coordinator is found.
///
/// # Errors
/// `Fenced` when a newer coordinator was found, `Unavailable` when the socket breaks.
pub async fn serve_trusted(
    coordinator: Coordinator,
    listener: TcpListener,
    trust: Trust,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let connections = incoming::incoming(listener, trust.tls());
    serve_over(coordinator, connections, trust, stop).await
}

/// As [`serve_trusted`] over any stream of connections. Those that are no [`Connection`] are believed
/// only as far as their tokens go.
///
/// # Errors
/// As [`serve_trusted`].
pub async fn serve_over<C>(
    coordinator: Coordinator,
    connections: impl futures::Stream<Item = std::io::Result<C>>,
    trust: Trust,
    stop: impl Future<Output = ()> + Send,
) -> Result<()>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let (ending, ended) = tokio::sync::oneshot::channel::<()>();
    let control = control_server(Arc::new(coordinator.clone()));
    let routes = Routes::new(health_service).add_service(control).prepare();
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .serve_with_incoming_shutdown(Gate::new(routes, trust), connections, async {
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
    let left = coordinator.leave_snapshots();
    if tokio::time::timeout(Duration::from_millis(SNAPSHOTS_MS_MAX), left).await.is_err() {
        tracing::warn!("stopped before a last snapshot was written");
    }
    coordinator.close();
    coordinator.write_what_is_left(Duration::from_millis(LAST_WRITES_MS_MAX)).await;
    health.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await;
    drop(ending);
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), server).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
    result
}
