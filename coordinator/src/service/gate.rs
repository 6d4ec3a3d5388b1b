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

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::limits::Rate;
    use glmeval_common::trust::Token;
    use glmeval_common::wire::SERVICE_NAME;
    use glmeval_common::wire::methods::METHODS;
    use tonic::Code;

    fn path(method: &str) -> String {
        format!("/{SERVICE_NAME}/{method}")
    }

    fn code(keeper: &Keeper, peer: &Peer, path: &str, headers: &HeaderMap) -> Code {
        keeper.allowed(peer, path, headers).map_or_else(|status| status.code(), |()| Code::Ok)
    }

    fn bearer(token: &Token) -> HeaderMap {
        let value = format!("bearer {}", token.reveal()).parse().unwrap();
        HeaderMap::from_iter([("authorization".parse().unwrap(), value)])
    }

    #[test]
    fn what_is_in_no_line_of_the_table_is_refused_even_without_identities() {
        let (keeper, peer, none) =
            (Keeper::new(Trust::open()), Peer::default(), HeaderMap::default());
        assert_eq!(code(&keeper, &peer, &path("Register"), &none), Code::Ok);
        for unknown in [&path("Erase"), "/x.Y/Register", "/", "", "/grpc.health.v1.Health/Erase"] {
            assert_eq!(code(&keeper, &peer, unknown, &none), Code::Unimplemented, "{unknown}");
        }
    }

    #[test]
    fn every_method_is_for_one_role() {
        let (worker, operator) = (Token::random().unwrap(), Token::random().unwrap());
        let trust = Trust::new(None, Some(worker.clone()), Some(operator.clone())).unwrap();
        let (keeper, peer) = (Keeper::new(trust), Peer::default());
        let stranger = Token::random().unwrap();
        for (method, role) in METHODS {
            let path = path(method);
            let of = |headers: &HeaderMap| code(&keeper, &peer, &path, headers);
            let (right, wrong) = match role {
                Role::Worker => (&worker, &operator),
                _ => (&operator, &worker),
            };
            assert_eq!(of(&bearer(right)), Code::Ok, "{method}");
            assert_eq!(of(&bearer(wrong)), Code::PermissionDenied, "{method}");
            assert_eq!(of(&bearer(&stranger)), Code::Unauthenticated, "{method}");
            assert_eq!(of(&HeaderMap::default()), Code::Unauthenticated, "{method}");
        }
    }

    #[test]
    fn a_peer_that_asks_too_often_waits_and_others_do_not() {
        let keeper = Keeper::new(Trust::open());
        let peer = |port| Peer { address: Some(([10, 0, 0, 4], port).into()), ..Peer::default() };
        let calls = |peer: &Peer, count: u64, now_ms| {
            (0..count).filter(|_| keeper.in_rate(peer, now_ms).is_ok()).count() as u64
        };
        let Rate { per_second, burst } = CALLS_PER_CONNECTION;
        assert_eq!(calls(&peer(1), 2 * burst, 0), burst);
        assert_eq!(keeper.in_rate(&peer(1), 0).unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(calls(&peer(2), burst, 0), burst);
        assert_eq!(calls(&peer(1), 2 * burst, 1_000), per_second);
    }

    #[test]
    fn one_address_has_a_bound_however_many_connections_it_opens() {
        let keeper = Keeper::new(Trust::open());
        let admitted = (1..=60_000_u16).filter(|port| {
            let peer = Peer { address: Some(([10, 0, 0, 4], *port).into()), ..Peer::default() };
            keeper.in_rate(&peer, 0).is_ok()
        });
        assert_eq!(admitted.count() as u64, CALLS_PER_ADDRESS.burst);
        let other = Peer { address: Some(([10, 0, 0, 5], 1).into()), ..Peer::default() };
        keeper.in_rate(&other, 0).unwrap();
    }
}
