//! The web dashboard: one page, its events, metrics and health, over HTTP.
//!
//! Leaves out: what is shown (driver's overview), who may work (service). Invariant: nothing here changes
//! a job; off loopback nothing but health and login is answered without the token; the page loads nothing
//! from elsewhere.

use crate::driver::{Coordinator, gauges};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use glmeval_common::error::{Error, Result};
use std::sync::Arc;
use tokio::net::TcpListener;

mod access;
mod events;
mod secured;

pub use access::Access;

const PAGE: &str = include_str!("dashboard/page.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Nothing from elsewhere, nothing inline, no frame around it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// Writes every metric of this process in Prometheus' text form.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What the routes share.
#[derive(Clone)]
struct Shared {
    coordinator: Coordinator,
    events: events::Events,
    metrics: MetricsText,
}

/// Serves page, events, `/metrics`, `/healthz` and `/readyz` until the socket breaks.
///
/// # Errors
/// `Invalid` off loopback without a token, `Unavailable` when the socket breaks.
pub async fn serve(
    coordinator: Coordinator,
    listener: TcpListener,
    access: Access,
    metrics: MetricsText,
) -> Result<()> {
    access.check_address(&listener)?;
    let events = events::Events::start(coordinator.clone());
    let shared = Shared { coordinator, events, metrics };
    let guarded = Router::new()
        .route("/", get(async || typed("text/html; charset=utf-8", PAGE)))
        .route("/script.js", get(async || typed("text/javascript; charset=utf-8", SCRIPT)))
        .route("/events", get(async |State(shared): State<Shared>| shared.events.stream()))
        .route("/overview.json", get(overview))
        .route("/metrics", get(metrics_of_coordinator))
        .route_layer(middleware::from_fn_with_state(access.clone(), access::guard))
        .with_state(shared.clone());
    let open = Router::new()
        .route("/style.css", get(async || typed("text/css; charset=utf-8", STYLE)))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(shared);
    let login = Router::new()
        .route("/login", get(access::login_page).post(access::login))
        .route("/logout", post(access::logout))
        .with_state(access.clone());
    run(listener, &access, open.merge(login).merge(guarded)).await
}

/// Serves `/metrics` and `/healthz` of any process until the socket breaks.
///
/// # Errors
/// `Unavailable` when the socket breaks.
pub async fn serve_metrics(
    listener: TcpListener,
    access: Access,
    metrics: MetricsText,
) -> Result<()> {
    let guarded = Router::new()
        .route("/metrics", get(async move || typed(METRICS_TYPE, metrics())))
        .route_layer(middleware::from_fn_with_state(access.clone(), access::guard_token));
    let router = Router::new().route("/healthz", get(async || "ok\n")).merge(guarded);
    run(listener, &access, router).await
}

/// The metrics of a coordinator's process, its gauges brought up to date.
pub fn metrics_text(coordinator: &Coordinator, metrics: &MetricsText) -> String {
    gauges::set_gauges(&coordinator.overview());
    metrics()
}

async fn run(listener: TcpListener, access: &Access, router: Router) -> Result<()> {
    let router = router.layer(middleware::from_fn(harden));
    let served = match access.tls() {
        None => axum::serve(listener, router).await,
        Some(tls) => match secured::Secured::new(listener, tls) {
            Ok(secured) => axum::serve(secured, router).await,
            Err(error) => Err(error),
        },
    };
    served.map_err(|e| Error::unavailable("serve the dashboard").with_source(e))
}

fn typed(kind: &'static str, body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

/// Tells the browser to trust nothing and keep nothing.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn overview(State(shared): State<Shared>) -> Response {
    typed("application/json", events::snapshot(&shared.coordinator))
}

async fn metrics_of_coordinator(State(shared): State<Shared>) -> Response {
    typed(METRICS_TYPE, metrics_text(&shared.coordinator, &shared.metrics))
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.coordinator.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.chain())).into_response()
        }
    }
}
