//! Orders to stop: from outside to an agent, and from an agent to a running unit.
//!
//! Leaves out: what an agent does then. Invariant: the first order wins and is never taken back.

use tokio::sync::watch;

/// An order to stop a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// How long the unit in hand may still run.
    pub grace_ms: u64,
    /// Why, for the log: `SIGTERM`, `drained`, …
    pub reason: String,
}

/// Gives the order; clones give the same one.
#[derive(Clone, Debug)]
pub struct StopHandle {
    order: watch::Sender<Option<Stop>>,
    grace_ms_max: u64,
}

/// Hears the order; clones hear the same one.
#[derive(Clone, Debug)]
pub struct StopSource(watch::Receiver<Option<Stop>>);

/// A pair that belongs together. A source whose handles are all gone never stops.
pub fn stop_pair() -> (StopHandle, StopSource) {
    let (order, receiver) = watch::channel(None);
    (StopHandle { order, grace_ms_max: u64::MAX }, StopSource(receiver))
}

impl StopHandle {
    /// The same handle, whose orders allow at most this grace; `None` = any.
    pub fn with_grace_max(self, grace_ms_max: Option<u64>) -> Self {
        Self { grace_ms_max: grace_ms_max.unwrap_or(u64::MAX), ..self }
    }

    /// Orders to stop, unless that was done already.
    pub fn stop(&self, grace_ms: u64, reason: &str) {
        self.give(Stop { grace_ms, reason: reason.to_owned() });
    }

    /// Gives an order, unless one was given already.
    pub fn give(&self, order: Stop) {
        self.order.send_if_modified(|given| {
            let first = given.is_none();
            let grace_ms = order.grace_ms.min(self.grace_ms_max);
            given.get_or_insert_with(|| Stop { grace_ms, ..order });
            first
        });
    }

    /// Whether the order was given.
    pub fn was_told(&self) -> bool {
        self.order.borrow().is_some()
    }

    /// Turns SIGTERM, SIGUSR1 (Slurm's warning) and ctrl-c into orders.
    ///
    /// # Errors
    /// `Unavailable` when the process cannot listen to signals.
    #[cfg(unix)]
    pub fn follow_signals(self, grace_ms: u64) -> glmeval_common::error::Result<()> {
        use glmeval_common::error::Error;
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|e| Error::unavailable("listen to signals").with_source(e));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut warning = listen(SignalKind::user_defined1())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let reason = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = warning.recv() => "SIGUSR1",
                _ = interrupt.recv() => "ctrl-c",
            };
            self.stop(grace_ms, reason);
        });
        Ok(())
    }
}

impl StopSource {
    /// The order, if it was given.
    pub fn order(&self) -> Option<Stop> {
        self.0.borrow().clone()
    }

    /// Whether the order was given.
    pub fn is_stopped(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the order.
    pub async fn stopped(&self) -> Stop {
        let mut receiver = self.0.clone();
        let order = receiver.wait_for(Option::is_some).await.map(|order| order.clone());
        match order {
            Ok(Some(order)) => order,
            _ => std::future::pending().await,
        }
    }

    /// A source that hears signals only.
    ///
    /// # Errors
    /// As [`StopHandle::follow_signals`].
    #[cfg(unix)]
    pub fn from_signals(grace_ms: u64) -> glmeval_common::error::Result<Self> {
        let (handle, source) = stop_pair();
        handle.follow_signals(grace_ms)?;
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_order_wins() {
        let (handle, source) = stop_pair();
        assert!(!source.is_stopped());
        handle.stop(10, "SIGTERM");
        handle.stop(99, "later");
        drop(handle);
        assert_eq!(source.stopped().await, Stop { grace_ms: 10, reason: "SIGTERM".into() });
    }

    #[tokio::test]
    async fn no_order_allows_more_than_the_greatest_grace() {
        let (handle, source) = stop_pair();
        handle.with_grace_max(Some(5)).stop(10, "SIGTERM");
        assert_eq!(source.stopped().await.grace_ms, 5);
    }
}
