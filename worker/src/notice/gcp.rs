//! Google's notice of a pre-emptible machine: a long poll of the metadata key `preempted`.
//!
//! Invariant: the change is not missed between two polls, since each names the version the last one saw.

use super::metadata::{Endpoints, Metadata, Question, Reply};
use super::{NoticeService, Stop, grace_ms, not_understood};
use async_trait::async_trait;
use glmeval_common::error::Result;
use reqwest::Method;
use std::time::Duration;

const NAME: &str = "GCP metadata service";
const PATH: &str = "/computeMetadata/v1/instance/preempted";
const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";
/// Notice that Google gives, about.
const LEAD_MS: u64 = 30_000;
/// How long the service may hold a question back.
const WAIT_SECONDS: u64 = 60;
const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

/// The service of one machine.
pub(super) struct Gcp {
    metadata: Metadata,
    /// Version of the value that was seen last.
    etag: Option<String>,
}

impl Gcp {
    pub(super) fn new(endpoints: &Endpoints) -> Result<Self> {
        Ok(Self { metadata: Metadata::new(&endpoints.gcp)?, etag: None })
    }

    /// Whether the machine is pre-empted.
    async fn is_preempted(&mut self, path: &str, limit: Duration) -> Result<bool> {
        let headers = [(FLAVOR_HEADER, FLAVOR)];
        let question = Question { method: Method::GET, path, headers: &headers, limit };
        let Reply { status, headers, body } = self.metadata.ask(question).await?;
        if status != 200 {
            return Err(self.metadata.refused(path, status));
        }
        // Without it the answer is another service's, such as a portal's page.
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header(FLAVOR_HEADER) != Some(FLAVOR) {
            return Err(not_understood(NAME, path, "header Metadata-Flavor: Google", &body));
        }
        let preempted = match body.trim_ascii() {
            b"TRUE" => true,
            b"FALSE" => false,
            found => return Err(not_understood(NAME, path, "TRUE or FALSE", found)),
        };
        let is_safe = |etag: &&str| etag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.etag = header("etag").filter(is_safe).map(str::to_owned);
        Ok(preempted)
    }
}

#[async_trait]
impl NoticeService for Gcp {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn identify(&mut self) -> Result<()> {
        let preempted = self.is_preempted(PATH, LIMIT).await?;
        if preempted {
            // A long poll would wait for the next change.
            self.etag = None;
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<Option<Stop>> {
        let preempted = match &self.etag {
            None => self.is_preempted(PATH, LIMIT).await?,
            Some(etag) => {
                let path = format!(
                    "{PATH}?wait_for_change=true&timeout_sec={WAIT_SECONDS}&last_etag={etag}"
                );
                self.is_preempted(&path, Duration::from_secs(WAIT_SECONDS) + LIMIT).await?
            }
        };
        let order = || Stop {
            grace_ms: grace_ms(LEAD_MS, PAUSE),
            reason: "GCP pre-emption notice".to_owned(),
        };
        Ok(preempted.then(order))
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}
