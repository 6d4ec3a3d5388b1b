//! gRPC over simulated streams: what a server accepts, and how a client finds its coordinator.
//!
//! Leaves out: loss and delay (turmoil). Invariant: limits and signs of life of a connection are the product's.

use crate::store::Objects;
use crate::world::World;
use futures::Stream;
use glmeval_common::error::{Error, Result};
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::newest;
use glmeval_common::trust::Credentials;
use glmeval_common::wire::GrpcControl;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

/// Name of the simulated coordinators.
pub(crate) const NAME: &str = "sim";
/// Port that they listen on.
pub(crate) const PORT: u16 = 7_070;

/// An accepted stream.
pub(crate) struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Connections to this host.
///
/// # Errors
/// As binding the port.
pub(crate) async fn connections() -> io::Result<impl Stream<Item = io::Result<Accepted>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    }))
}

/// Address of the newest coordinator, as the store says.
async fn address(store: &Store) -> Result<String> {
    let record = newest(store, NAME).await?;
    let address = record.and_then(|record| record.address);
    address.ok_or_else(|| Error::not_found("no coordinator has claimed an epoch yet"))
}

/// A coordinator that is looked for in the store again with every connection.
pub(crate) fn following(world: &Arc<World>, store: Store, who: &str) -> GrpcControl {
    let (world, who) = (Arc::clone(world), who.to_owned());
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let (world, store, who) = (Arc::clone(&world), store.clone(), who.clone());
        async move {
            let address = address(&store).await?;
            world.note(&who, format!("connects to {address}"));
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|e| Error::unavailable("connect").with_source(e))?;
            Ok::<_, Error>(TokioIo::new(stream))
        }
    });
    let endpoint = GrpcControl::endpoint("http://newest", &Credentials::default()).expect("a URL");
    let channel = endpoint.connect_with_connector_lazy(connector);
    GrpcControl::over(channel, &Credentials::default()).expect("no token is a header")
}

/// The coordinator that was the newest when the process started, as `worker --discover` does.
///
/// # Errors
/// As the store; `NotFound` when there is none yet.
pub(crate) async fn discovered(
    world: &Arc<World>,
    store: &Store,
    who: &str,
) -> Result<GrpcControl> {
    let (world, who, address) = (Arc::clone(world), who.to_owned(), address(store).await?);
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        world.note(&who, format!("connects to {address}"));
        let stream = TcpStream::connect(address.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(stream.await?)) }
    });
    let endpoint =
        GrpcControl::endpoint("http://discovered", &Credentials::default()).expect("a URL");
    GrpcControl::over(endpoint.connect_with_connector_lazy(connector), &Credentials::default())
}

/// Address under which the coordinator on `host` is reached.
pub(crate) fn address_of(host: &str) -> String {
    format!("{host}:{PORT}")
}

/// The store of a client of `host`.
pub(crate) fn store_of(objects: &Arc<Objects>, host: &str, who: &str) -> Store {
    objects.seen_from(host, who)
}
