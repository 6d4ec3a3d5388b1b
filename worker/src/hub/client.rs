//! Requests to a Hub: redirects, the token, retries, and what each status means.
//!
//! Leaves out: bodies of files (download). Invariant: the token goes to the endpoint's own scheme,
//! host and port only, and no message quotes a URL that a server signed.

use super::{Hub, HubModel, HubProgress};
use crate::json;
use glmeval_common::error::{Error, InputError, Result};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;

/// More than any Hub needs: renamed repository, mirror, storage.
const REDIRECTS_MAX: usize = 8;

/// A connection to one Hub.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    http: reqwest::Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    report: &'a dyn Fn(HubProgress),
}

/// What the Hub's own host says about a file, on the way to its bytes.
#[derive(Default)]
pub(super) struct FileHeaders {
    pub(super) commit: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) bytes: Option<u64>,
}

/// A response, and what was said on the way to it.
pub(super) struct Answer {
    pub(super) headers: FileHeaders,
    pub(super) response: Response,
}

/// A failed request, and how long the server wants to be left alone.
struct Failure {
    error: Error,
    wait: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, wait: None }
    }
}

impl<'a> Client<'a> {
    /// Prepares a client; no request is sent.
    pub(super) fn new(hub: &'a Hub, report: &'a dyn Fn(HubProgress)) -> Result<Self> {
        let endpoint = Url::parse(&hub.endpoint).ok().filter(is_web);
        let endpoint = endpoint.ok_or_else(|| {
            InputError::new("HF_ENDPOINT", "", "an http:// or https:// URL", &hub.endpoint)
        })?;
        let authorization = hub.token.as_ref().map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let expected = "HF_TOKEN: expected visible ASCII letters, found others";
            let mut value = value.map_err(|_| Error::invalid(expected))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        // Err means that another part of the process chose a TLS provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .user_agent(concat!("glmeval/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(20))
            // A limit on the whole request would cut off large files on slow links.
            .read_timeout(Duration::from_secs(60))
            .build()
            .map_err(|e| Error::unavailable("start an HTTP client").with_source(e))?;
        Ok(Self { hub, http, endpoint, authorization: authorization.transpose()?, report })
    }

    /// URL below the endpoint; each part is escaped, slashes in it too.
    pub(super) fn url<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Result<Url> {
        let mut url = self.endpoint.clone();
        let refused = || Error::invalid(format!("HF_ENDPOINT: {} has no path", self.hub.endpoint));
        url.path_segments_mut().map_err(|()| refused())?.pop_if_empty().extend(parts);
        Ok(url)
    }

    /// What the Hub says about a revision: an object in JSON, and its URL for messages.
    pub(super) async fn describe(&self, model: &HubModel) -> Result<(Url, Value)> {
        let (organisation, name) = (model.organisation(), model.name());
        let parts = ["api", "models", organisation, name, "revision", model.wanted_revision()];
        let url = self.url(parts)?;
        let mut attempt = 0;
        loop {
            let text = self.text(&url).await?;
            match text {
                Ok(text) => return Ok((url.clone(), json::parse(&url, "", &text)?)),
                Err(error) if attempt >= self.hub.retries => return Err(error),
                Err(error) => self.pause(attempt, None, &error).await,
            }
            attempt += 1;
        }
    }

    /// The body of a small answer; the inner error is a cut connection.
    async fn text(&self, url: &Url) -> Result<Result<Vec<u8>>> {
        let mut response = self.send(Method::GET, url, 0).await?.response;
        let mut text = Vec::new();
        loop {
            match response.chunk().await {
                // One byte too many is enough for the parser to refuse it.
                Ok(Some(_)) if text.len() > json::JSON_BYTES_MAX => return Ok(Ok(text)),
                Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                Ok(None) => return Ok(Ok(text)),
                Err(error) => return Ok(Err(broken(url, error))),
            }
        }
    }

    /// Sends a request, repeating it where the failure may pass; `from` > 0 asks for the bytes from
    /// there on.
    ///
    /// The answer is a success, status 416, or, to a HEAD, also a redirect to another host.
    pub(super) async fn send(&self, method: Method, url: &Url, from: u64) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            let failure = match self.follow(&method, url, from).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let passing = failure.error.kind() == glmeval_common::error::ErrorKind::Unavailable;
            if !passing || attempt >= self.hub.retries {
                return Err(failure.error);
            }
            self.pause(attempt, failure.wait, &failure.error).await;
            attempt += 1;
        }
    }

    /// How often a request is repeated.
    pub(super) fn retries(&self) -> u32 {
        self.hub.retries
    }

    /// Waits before repetition `attempt` (from 0).
    pub(super) async fn pause(&self, attempt: u32, wait: Option<Duration>, reason: &Error) {
        (self.report)(HubProgress::Repeating { reason: reason.chain() });
        let doubled = self.hub.pause.saturating_mul(1_u32 << attempt.min(16));
        let pause = doubled.max(wait.unwrap_or_default()).min(self.hub.pause_max);
        tokio::time::sleep(pause).await;
    }

    /// One request and its redirects.
    async fn follow(&self, method: &Method, url: &Url, from: u64) -> Result<Answer, Failure> {
        let mut at = url.clone();
        let mut headers = FileHeaders::default();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.request(method, &at, from).await.map_err(|e| broken(url, e))?;
            let target = redirect_target(&response, url)?;
            if self.is_home(&at) {
                headers.read(response.headers(), target.is_none());
            }
            let Some(target) = target else {
                refusal(url, &response)?;
                return Ok(Answer { headers, response });
            };
            // Storage hosts sign their URLs for GET only; all that HEAD asks for was said here.
            if *method == Method::HEAD && !self.is_home(&target) {
                return Ok(Answer { headers, response });
            }
            at = target;
        }
        let found = format!("more than {REDIRECTS_MAX}");
        Err(Error::from(InputError::new(url, "redirects", "a few", found)).into())
    }

    async fn request(&self, method: &Method, at: &Url, from: u64) -> reqwest::Result<Response> {
        let mut request = self.http.request(method.clone(), at.clone());
        // Compressed bytes would have another length and digest.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.authorization.as_ref().filter(|_| self.is_home(at)) {
            request = request.header(header::AUTHORIZATION, token);
        }
        request.send().await
    }

    /// Whether `url` is on the endpoint's own scheme, host and port.
    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }
}

impl FileHeaders {
    /// Takes what is not known yet; `last` = no redirect, so that it describes the bytes too.
    fn read(&mut self, headers: &HeaderMap, last: bool) {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let keep = |known: &mut Option<String>, name: &str| {
            *known = known.take().or_else(|| text(name).map(str::to_owned));
        };
        keep(&mut self.commit, "x-repo-commit");
        keep(&mut self.etag, "x-linked-etag");
        self.bytes = self.bytes.or_else(|| text("x-linked-size")?.parse().ok());
        if last {
            keep(&mut self.etag, "etag");
            self.bytes = self.bytes.or_else(|| text("content-length")?.parse().ok());
        }
        // `W/"x"` and `"x"` name the same blob.
        let bare = |etag: String| etag.trim_start_matches("W/").trim_matches('"').to_owned();
        self.etag = self.etag.take().map(bare);
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// Where a response sends the client on; `asked` is named in messages.
fn redirect_target(response: &Response, asked: &Url) -> Result<Option<Url>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let defect = |found: &str| InputError::new(asked, "redirect", "a web address", found);
    let location = response.headers().get(header::LOCATION).ok_or_else(|| defect("none"))?;
    let target = location.to_str().ok().and_then(|text| response.url().join(text).ok());
    let target = target.filter(is_web).ok_or_else(|| defect("another thing"))?;
    if response.url().scheme() == "https" && target.scheme() != "https" {
        return Err(defect("one without encryption").into());
    }
    Ok(Some(target))
}

/// The error that a status is; status 416 is for the caller to judge.
fn refusal(url: &Url, response: &Response) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(());
    }
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let code = header("x-error-code").map(|code| format!(" {code}")).unwrap_or_default();
    let said = format!("{url}: status {}{code}", status.as_u16());
    let error = match status.as_u16() {
        404 | 410 => Error::not_found(format!("{said}: no such model, revision or file")),
        // The Hub hides which names exist from those who may not know.
        401 if code.ends_with("RepoNotFound") => Error::not_found(format!(
            "{said}: no such model, or a private one: set HF_TOKEN to a token that may read it"
        )),
        401 | 403 => Error::invalid(format!(
            "{said}: the model is gated or private: ask for access on its page and set HF_TOKEN to \
             a token that may read it"
        )),
        408 | 425 | 429 | 500..=599 => Error::unavailable(said),
        _ => Error::invalid(said),
    };
    let seconds = header("retry-after").and_then(|text| text.parse().ok());
    Err(Failure { error, wait: seconds.map(Duration::from_secs) })
}

/// A connection that failed; the library's message would quote signed URLs.
pub(super) fn broken(url: &Url, error: reqwest::Error) -> Error {
    Error::unavailable(format!("request {url}")).with_source(error.without_url())
}
