//! Health checks alone on a socket of their own, in plain text: Kubernetes asks without TLS.
//!
//! Invariant: nobody learns more here than that this process serves.

use glmeval_common::error::{Error, Result};
use glmeval_common::wire::SERVICE_NAME;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Answers health checks as long as it is polled.
///
/// # Errors
/// `Unavailable` when the socket breaks.
pub async fn serve_health(listener: TcpListener) -> Result<()> {
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status(SERVICE_NAME, ServingStatus::Serving).await;
    let incoming = TcpListenerStream::new(listener);
    let served = Server::builder().add_service(service).serve_with_incoming(incoming).await;
    served.map_err(|e| Error::unavailable("serve health checks").with_source(e))
}
