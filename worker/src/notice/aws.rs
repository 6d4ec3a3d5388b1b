//! Amazon's notice of a spot machine: a token (metadata service version 2), then `spot/instance-action`.
//!
//! Leaves out: version 1 without a token. Invariant: a recommendation to rebalance is a hint for people
//! and stops nobody; 404 means that there is no notice.

use super::metadata::{Endpoints, Metadata, Question, Reply};
use super::{NoticeService, Stop, grace_ms, not_understood};
use async_trait::async_trait;
use glmeval_common::error::Result;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

const NAME: &str = "AWS metadata service";
const TOKEN_PATH: &str = "/latest/api/token";
const ACTION_PATH: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE_PATH: &str = "/latest/meta-data/events/recommendations/rebalance";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_TTL_SECONDS: &str = "21600";
/// Notice that Amazon promises to try to give.
const LEAD_MS: u64 = 120_000;
/// Amazon's advice.
const PAUSE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(2);

/// The service of one machine.
pub(super) struct Aws {
    metadata: Metadata,
    /// The token, until it is refused.
    token: Option<String>,
    rebalance_told: bool,
}

impl Aws {
    pub(super) fn new(endpoints: &Endpoints) -> Result<Self> {
        let metadata = Metadata::new(&endpoints.aws)?;
        Ok(Self { metadata, token: None, rebalance_told: false })
    }

    async fn token(&mut self) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let headers = [(TOKEN_TTL_HEADER, TOKEN_TTL_SECONDS)];
        let question =
            Question { method: Method::PUT, path: TOKEN_PATH, headers: &headers, limit: LIMIT };
        let reply = self.metadata.ask(question).await?;
        if reply.status != 200 {
            return Err(self.metadata.refused(TOKEN_PATH, reply.status));
        }
        let token = String::from_utf8(reply.body).ok().filter(|text| is_token(text));
        let token =
            token.ok_or_else(|| not_understood(NAME, TOKEN_PATH, "a token", b"other text"))?;
        self.token = Some(token.clone());
        Ok(token)
    }

    /// An object of the service; none when it has none.
    async fn object(&mut self, path: &str) -> Result<Option<Value>> {
        let mut reply = self.get(path).await?;
        if reply.status == 401 {
            // The token's time is over.
            self.token = None;
            reply = self.get(path).await?;
        }
        match reply.status {
            200 => match serde_json::from_slice(&reply.body) {
                Ok(object @ Value::Object(_)) => Ok(Some(object)),
                _ => Err(not_understood(NAME, path, "an object in JSON", &reply.body)),
            },
            404 => Ok(None),
            status => Err(self.metadata.refused(path, status)),
        }
    }

    async fn get(&mut self, path: &str) -> Result<Reply> {
        let token = self.token().await?;
        let headers = [(TOKEN_HEADER, token.as_str())];
        let question = Question { method: Method::GET, path, headers: &headers, limit: LIMIT };
        self.metadata.ask(question).await
    }

    /// Says once that Amazon would rather have the machine back.
    async fn look_for_rebalance(&mut self) {
        if !self.rebalance_told
            && let Ok(Some(_)) = self.object(REBALANCE_PATH).await
        {
            self.rebalance_told = true;
            tracing::info!("AWS recommends to rebalance: this machine may be interrupted soon");
        }
    }
}

/// Tokens are opaque, but they have to fit into a header.
fn is_token(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[async_trait]
impl NoticeService for Aws {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn identify(&mut self) -> Result<()> {
        self.token().await.map(drop)
    }

    async fn ask(&mut self) -> Result<Option<Stop>> {
        let Some(notice) = self.object(ACTION_PATH).await? else {
            self.look_for_rebalance().await;
            return Ok(None);
        };
        let Some(action) = notice.get("action").and_then(Value::as_str) else {
            let found = notice.to_string();
            return Err(not_understood(NAME, ACTION_PATH, "an \"action\"", found.as_bytes()));
        };
        // Its "time" is not read: clocks of two machines are never compared.
        let reason = format!("AWS spot notice: {action}");
        Ok(Some(Stop { grace_ms: grace_ms(LEAD_MS, PAUSE), reason }))
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}
