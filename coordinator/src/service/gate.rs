//! The one place where a call is let through: rate, identity, role, by the table of methods.
//!
//! Leaves out: what a role may call (`common::wire::methods`). Invariant: every request to the server
//! passes here first, and what the table does not name reaches no service.

use super::incoming::Peer;
use super::trust::{Offered, Trust};
use glmeval_common::limits::{CALLS_PER_ADDRESS, CALLS_PER_CONNECTION, REFUSALS_LOGGED};
use glmeval_common::trust::Role;
use glmeval_common::trust::rate::RateLimit;
use glmeval_common::wire::methods::{Access, access};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, Service};

/// What of a method's path goes into an answer or a log.
const PATH_CHARS_SHOWN: usize = 80;

/// A service behind the gate.
#[derive(Clone)]
pub(super) struct Gate<S> {
    inner: S,
    keeper: Arc<Keeper>,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S, trust: Trust) -> Self {
        Self { inner, keeper: Arc::new(Keeper::new(trust)) }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        match self.keeper.admit(&peer, request.uri().path(), request.headers()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

/// Decides.
struct Keeper {
    trust: Trust,
    start: Instant,
    rates: Mutex<Rates>,
}

struct Rates {
    connections: RateLimit<SocketAddr>,
    addresses: RateLimit<Option<IpAddr>>,
    refusals: RateLimit<()>,
}

impl Keeper {
    fn new(trust: Trust) -> Self {
        let rates = Rates {
            connections: RateLimit::new(CALLS_PER_CONNECTION),
            addresses: RateLimit::new(CALLS_PER_ADDRESS),
            refusals: RateLimit::new(REFUSALS_LOGGED),
        };
        Self { trust, start: Instant::now(), rates: Mutex::new(rates) }
    }

    fn admit(&self, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<(), Status> {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = self.in_rate(peer, now_ms).and_then(|()| self.allowed(peer, path, headers));
        if let Err(status) = &result {
            let is_logged = self.rates().refusals.admits((), now_ms);
            if is_logged {
                let (method, address) = (shown(path), peer.address);
                tracing::warn!(?address, method, reason = status.message(), "call refused");
            }
        }
        result
    }

    fn rates(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_rate(&self, peer: &Peer, now_ms: u64) -> Result<(), Status> {
        let mut rates = self.rates();
        // Connections that are no sockets count as one address.
        let ip = peer.address.map(|address| address.ip());
        let admitted = peer.address.is_none_or(|one| rates.connections.admits(one, now_ms))
            && rates.addresses.admits(ip, now_ms);
        drop(rates);
        if admitted { Ok(()) } else { Err(Status::resource_exhausted("too many calls: wait")) }
    }

    fn allowed(&self, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<(), Status> {
        let role = match access(path) {
            Some(Access::Open) => return Ok(()),
            Some(Access::For(role)) => role,
            None => {
                let message = format!("this coordinator has no method {}", shown(path));
                return Err(Status::unimplemented(message));
            }
        };
        if self.trust.tls().is_some() {
            if !peer.secured {
                return Err(Status::unauthenticated(
                    "this coordinator speaks to holders of its certificates only: give --tls DIR",
                ));
            }
            has(&peer.roles, role, path, "certificate")?;
        }
        let header = headers.get("authorization").map(|value| value.as_bytes());
        match self.trust.roles_of_token(header) {
            Offered::Nothing => Err(Status::unauthenticated(
                "this coordinator wants a token: give --token-file FILE",
            )),
            Offered::Roles(roles) if roles.is_empty() => {
                Err(Status::unauthenticated("this is not the coordinator's token (--token-file)"))
            }
            Offered::Roles(roles) => has(&roles, role, path, "token"),
        }
    }
}

fn has(roles: &[Role], wanted: Role, path: &str, what: &str) -> Result<(), Status> {
    if roles.contains(&wanted) {
        return Ok(());
    }
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    let names = if names.is_empty() { "no role".to_owned() } else { names.join(" and ") };
    Err(Status::permission_denied(format!(
        "{}: expected a {what} of the role {}, found one of {names}",
        shown(path),
        wanted.name()
    )))
}

/// The method's name as people read it.
fn shown(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '?' };
    name.chars().take(PATH_CHARS_SHOWN).map(plain).collect()
}
