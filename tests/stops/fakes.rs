//! The metadata services of three clouds on loopback, in the moods that tests need.
//!
//! Leaves out: everything that no worker asks for. Invariant: a question without the header that the
//! real service demands is refused.

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::{get, put};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should; there is no notice.
    Quiet,
    /// As it should; the machine is taken away.
    Notice,
    /// With 200 and these bytes, whatever is asked.
    Garbage(Vec<u8>),
    /// With this status, whatever is asked.
    Status(u16),
    /// Not at all, on an open connection.
    Silent,
}

/// What a service remembers.
struct Service {
    mood: watch::Sender<Mood>,
    questions: watch::Sender<u64>,
    /// The only token that counts.
    token: AtomicU64,
}

/// A service of one kind.
pub(crate) struct Fake {
    /// `http://127.0.0.1:port`.
    pub url: String,
    service: Arc<Service>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where nobody listens.
pub(crate) fn absent() -> String {
    "http://127.0.0.1:1".to_owned()
}

impl Fake {
    /// Amazon's.
    pub(crate) async fn aws(mood: Mood) -> Self {
        let router = Router::new()
            .route("/latest/api/token", put(aws_token))
            .route("/latest/meta-data/spot/instance-action", get(aws_action))
            .route("/latest/meta-data/events/recommendations/rebalance", get(aws_rebalance));
        Self::start(router, mood).await
    }

    /// Google's.
    pub(crate) async fn gcp(mood: Mood) -> Self {
        let route = get(gcp_preempted);
        Self::start(Router::new().route("/computeMetadata/v1/instance/preempted", route), mood)
            .await
    }

    /// Azure's, of the machine `gpu-3`.
    pub(crate) async fn azure(mood: Mood) -> Self {
        let router = Router::new()
            .route("/metadata/instance/compute/name", get(azure_name))
            .route("/metadata/scheduledevents", get(azure_events));
        Self::start(router, mood).await
    }

    async fn start(router: Router<Arc<Service>>, mood: Mood) -> Self {
        let service = Arc::new(Service {
            mood: watch::Sender::new(mood),
            questions: watch::Sender::new(0),
            token: AtomicU64::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router.with_state(Arc::clone(&service));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, service, task }
    }

    /// `host:port`, as Google's variable wants it.
    pub(crate) fn host(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// Changes how it answers.
    pub(crate) fn turn(&self, mood: Mood) {
        self.service.mood.send_replace(mood);
    }

    /// Refuses the tokens given so far.
    pub(crate) fn revoke_tokens(&self) {
        self.service.token.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until it was asked `count` times.
    pub(crate) async fn asked(&self, count: u64) {
        let mut questions = self.service.questions.subscribe();
        questions.wait_for(|asked| *asked >= count).await.unwrap();
    }
}

impl Service {
    /// What a mood other than `Quiet` and `Notice` answers; otherwise whether there is a notice.
    async fn mood(&self) -> Result<bool, Response<Body>> {
        self.questions.send_modify(|count| *count += 1);
        let mood = self.mood.borrow().clone();
        match mood {
            Mood::Quiet => Ok(false),
            Mood::Notice => Ok(true),
            Mood::Garbage(bytes) => Err(Response::new(Body::from(bytes))),
            Mood::Status(status) => Err(status_only(status)),
            Mood::Silent => std::future::pending().await,
        }
    }

    fn token(&self) -> String {
        format!("token-{}==", self.token.load(Ordering::Relaxed))
    }
}

fn status_only(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn text(body: impl Into<String>) -> Response<Body> {
    Response::new(Body::from(body.into()))
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
}

async fn aws_token(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    if let Err(answer) = service.mood().await {
        return answer;
    }
    let ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds");
    if ttl.is_some() { text(service.token()) } else { status_only(400) }
}

async fn aws_action(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    match service.mood().await {
        Err(answer) => answer,
        Ok(_) if !has(&headers, "x-aws-ec2-metadata-token", &service.token()) => status_only(401),
        Ok(true) => text(r#"{"action":"terminate","time":"2001-01-01T00:00:00Z"}"#),
        Ok(false) => status_only(404),
    }
}

/// Recommended from the start: a hint that must stop nobody.
async fn aws_rebalance(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    let known = has(&headers, "x-aws-ec2-metadata-token", &service.token());
    if known { text(r#"{"noticeTime":"2001-01-01T00:00:00Z"}"#) } else { status_only(401) }
}

async fn gcp_preempted(
    State(service): State<Arc<Service>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    let mut moods = service.mood.subscribe();
    let mut preempted = match service.mood().await {
        Ok(preempted) => preempted,
        Err(answer) => return answer,
    };
    if !has(&headers, "metadata-flavor", "Google") {
        return status_only(403);
    }
    if query.contains("wait_for_change=true") && query.contains(&format!("last_etag={preempted}")) {
        moods.changed().await.unwrap();
        preempted = match service.mood().await {
            Ok(preempted) => preempted,
            Err(answer) => return answer,
        };
    }
    let mut response = text(if preempted { "TRUE" } else { "FALSE" });
    response.headers_mut().insert("metadata-flavor", "Google".parse().unwrap());
    response.headers_mut().insert("etag", preempted.to_string().parse().unwrap());
    response
}

async fn azure_name(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    match service.mood().await {
        Err(answer) => answer,
        Ok(_) if has(&headers, "metadata", "true") => text("gpu-3"),
        Ok(_) => status_only(400),
    }
}

async fn azure_events(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    let event = |kind: &str, machine: &str| {
        format!(
            r#"{{"EventId":"1","EventType":"{kind}","ResourceType":"VirtualMachine","Resources":["{machine}"],
            "EventStatus":"Scheduled","NotBefore":"Mon, 19 Sep 2016 18:29:47 GMT","DurationInSeconds":-1}}"#
        )
    };
    let ours = match service.mood().await {
        Err(answer) => return answer,
        Ok(_) if !has(&headers, "metadata", "true") => return status_only(400),
        Ok(true) => event("Preempt", "GPU-3"),
        Ok(false) => event("Freeze", "gpu-3"),
    };
    let neighbour = event("Preempt", "gpu-4");
    text(format!(r#"{{"DocumentIncarnation":1,"Events":[{neighbour},{ours}]}}"#))
}
