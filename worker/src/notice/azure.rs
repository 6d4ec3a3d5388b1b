//! Azure's notice of a spot machine: scheduled events of type `Preempt`.
//!
//! Leaves out: maintenance (reboots, freezes), which a worker survives as any crash; approving events.
//! Invariant: an event of a neighbour in the same scale set stops nobody else.

use super::metadata::{Endpoints, Metadata, Question, Reply};
use super::{NoticeService, Stop, grace_ms, not_understood};
use async_trait::async_trait;
use glmeval_common::error::Result;
use reqwest::Method;
use serde::Deserialize;
use std::time::Duration;

const NAME: &str = "Azure metadata service";
const NAME_PATH: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const EVENTS_PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
/// Least notice of a pre-emption.
const LEAD_MS: u64 = 30_000;
/// Azure's advice.
const PAUSE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(2);
/// The first question switches the service on, which takes up to two minutes.
const EVENTS_LIMIT: Duration = Duration::from_secs(125);

/// The service of one machine.
pub(super) struct Azure {
    metadata: Metadata,
    /// Name of this machine; while it is not known, every machine's events are ours.
    machine: Option<String>,
}

#[derive(Deserialize)]
struct Events {
    #[serde(rename = "Events")]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "EventType")]
    kind: String,
    #[serde(rename = "Resources", default)]
    resources: Vec<String>,
}

impl Azure {
    pub(super) fn new(endpoints: &Endpoints) -> Result<Self> {
        Ok(Self { metadata: Metadata::new(&endpoints.azure)?, machine: None })
    }

    async fn get(&self, path: &str, limit: Duration) -> Result<Vec<u8>> {
        let headers = [("metadata", "true")];
        let question = Question { method: Method::GET, path, headers: &headers, limit };
        let Reply { status, body, .. } = self.metadata.ask(question).await?;
        if status == 200 { Ok(body) } else { Err(self.metadata.refused(path, status)) }
    }

    async fn read_name(&mut self) -> Result<()> {
        let body = self.get(NAME_PATH, LIMIT).await?;
        let name = String::from_utf8(body.clone()).ok().map(|name| name.trim().to_owned());
        let is_name = |name: &String| {
            (1..=256).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let name = name.filter(is_name);
        let name =
            name.ok_or_else(|| not_understood(NAME, NAME_PATH, "a machine's name", &body))?;
        self.machine = Some(name);
        Ok(())
    }
}

#[async_trait]
impl NoticeService for Azure {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn identify(&mut self) -> Result<()> {
        self.read_name().await
    }

    async fn ask(&mut self) -> Result<Option<Stop>> {
        if self.machine.is_none()
            && let Err(error) = self.read_name().await
        {
            tracing::debug!(error = error.chain(), "Azure does not name this machine");
        }
        let body = self.get(EVENTS_PATH, EVENTS_LIMIT).await?;
        let Ok(Events { events }) = serde_json::from_slice(&body) else {
            return Err(not_understood(NAME, EVENTS_PATH, "\"Events\" in JSON", &body));
        };
        let is_ours = |event: &Event| {
            let named = |machine: &String| {
                event.resources.iter().any(|resource| resource.eq_ignore_ascii_case(machine))
            };
            event.kind == "Preempt" && self.machine.as_ref().is_none_or(named)
        };
        let order = || Stop {
            grace_ms: grace_ms(LEAD_MS, PAUSE),
            reason: "Azure scheduled event: Preempt".to_owned(),
        };
        Ok(events.iter().any(is_ours).then(order))
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}
