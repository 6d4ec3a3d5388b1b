//! Requests to a machine's metadata service: short, small, never through a proxy.
//!
//! Leaves out: what the answers mean. Invariant: no answer is longer than a notice can be, and none
//! is waited for beyond its limit.

use glmeval_common::error::{Error, InputError, Result};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use std::time::Duration;

/// A link-local address that never leaves the machine.
const LINK_LOCAL: &str = "http://169.254.169.254";
/// More than any service says; scheduled events name every machine of a set.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Variables that move the services, for tests and for tunnels.
const VARIABLES: [&str; 3] =
    ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "GCE_METADATA_HOST", "GLMEVAL_AZURE_METADATA_ENDPOINT"];
const CONNECT_MS_MAX: u64 = 1_000;

/// Where the metadata services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// URL of Amazon's.
    pub aws: String,
    /// URL of Google's.
    pub gcp: String,
    /// URL of Azure's.
    pub azure: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { aws: LINK_LOCAL.into(), gcp: LINK_LOCAL.into(), azure: LINK_LOCAL.into() }
    }
}

impl Endpoints {
    /// The usual ones, but for those that the environment moves: `AWS_EC2_METADATA_SERVICE_ENDPOINT`
    /// (URL), `GCE_METADATA_HOST` (`host:port`), `GLMEVAL_AZURE_METADATA_ENDPOINT` (URL).
    pub fn from_environment() -> Self {
        let [aws, gcp, azure] =
            VARIABLES.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let gcp = gcp.map(|host| format!("http://{host}"));
        let usual = || LINK_LOCAL.to_owned();
        Self {
            aws: aws.unwrap_or_else(usual),
            gcp: gcp.unwrap_or_else(usual),
            azure: azure.unwrap_or_else(usual),
        }
    }
}

/// A metadata service.
pub(super) struct Metadata {
    http: reqwest::Client,
    endpoint: String,
}

/// What it answered.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A question to it.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// Path and query, from `/` on.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    /// How long the whole answer may take.
    pub(super) limit: Duration,
}

impl Metadata {
    /// Points to `endpoint`; nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` when the endpoint is no URL.
    pub(super) fn new(endpoint: &str) -> Result<Self> {
        let url = Url::parse(endpoint).ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            let expected = "an http:// URL of a metadata service";
            return Err(
                InputError::new("environment", VARIABLES.join(", "), expected, endpoint).into()
            );
        }
        // Err means that another part of the process chose a TLS provider already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .build()
            .map_err(|e| Error::unavailable("start an HTTP client").with_source(e))?;
        Ok(Self { http, endpoint: endpoint.trim_end_matches('/').to_owned() })
    }

    /// Asks once.
    ///
    /// # Errors
    /// `Unavailable` without a whole answer within the limit; `Invalid` for one that is too long.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Reply> {
        let url = format!("{}{}", self.endpoint, question.path);
        let broken = |e| Error::unavailable(format!("ask {url}")).with_source(e);
        let mut request = self.http.request(question.method, &url).timeout(question.limit);
        for (name, value) in question.headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send().await.map_err(broken)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                let expected = format!("at most {ANSWER_BYTES_MAX} bytes");
                return Err(InputError::new(url, "answer", expected, "more").into());
            }
        }
        Ok(Reply { status, headers, body })
    }

    /// The error that a status without meaning is.
    pub(super) fn refused(&self, path: &str, status: u16) -> Error {
        let message = format!("{}{path}: status {status}", self.endpoint);
        match status {
            500..=599 | 408 | 425 | 429 => Error::unavailable(message),
            _ => Error::not_found(message),
        }
    }
}
