//! The overview as server-sent events: made once a second for all who watch, never when nobody does.
//!
//! Leaves out: what is in it (driver's overview). Invariant: a slow reader skips overviews, it never
//! queues them.

use crate::driver::{Coordinator, Overview};
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures::stream::{BoxStream, StreamExt};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time between two overviews.
const INTERVAL_MS: u64 = 1_000;

/// The overview, and why nothing new comes if that is so.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    overview: Overview,
    /// Why the coordinator answers workers no more; `None` while it does.
    stopped: Option<String>,
}

/// The overview of this moment as JSON.
pub(super) fn snapshot(coordinator: &Coordinator) -> String {
    let stopped = coordinator.ready().err().map(|error| error.chain());
    let told = Told { overview: coordinator.overview(), stopped };
    serde_json::to_string(&told).unwrap_or_else(|error| {
        tracing::error!(%error, "an overview cannot be written as JSON");
        "{}".to_owned()
    })
}

/// Hands the same overview to everyone who watches.
#[derive(Clone)]
pub(super) struct Events {
    coordinator: Coordinator,
    latest: Arc<watch::Sender<Arc<str>>>,
}

impl Events {
    /// Starts to make overviews; ends with the process.
    pub(super) fn start(coordinator: Coordinator) -> Self {
        let latest = Arc::new(watch::Sender::new(Arc::from("")));
        let sender = Arc::downgrade(&latest);
        let source = coordinator.clone();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_millis(INTERVAL_MS));
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let Some(sender) = sender.upgrade() else { return };
                if sender.receiver_count() > 0 {
                    sender.send_replace(Arc::from(snapshot(&source)));
                }
            }
        });
        Self { coordinator, latest }
    }

    /// This moment at once, then one overview a second.
    pub(super) fn stream(
        &self,
    ) -> Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>> {
        let first = Event::default().data(snapshot(&self.coordinator));
        let receiver = self.latest.subscribe();
        let rest = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.changed().await.ok()?;
            let text = Arc::clone(&receiver.borrow_and_update());
            Some((Ok(Event::default().data(&*text)), receiver))
        });
        let first = futures::stream::once(async { Ok(first) });
        Sse::new(first.chain(rest).boxed()).keep_alive(KeepAlive::default())
    }
}
