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
pub struct StopHandle(watch::Sender<Option<Stop>>);

/// Hears the order; clones hear the same one.
#[derive(Clone, Debug)]
pub struct StopSource(watch::Receiver<Option<Stop>>);

/// A pair that belongs together. A source whose handles are all gone never stops.
pub fn stop_pair() -> (StopHandle, StopSource) {
    let (sender, receiver) = watch::channel(None);
    (StopHandle(sender), StopSource(receiver))
}

impl StopHandle {
    /// Orders to stop, unless that was done already.
    pub fn stop(&self, grace_ms: u64, reason: &str) {
        self.0.send_if_modified(|order| {
            let first = order.is_none();
            order.get_or_insert_with(|| Stop { grace_ms, reason: reason.to_owned() });
            first
        });
    }

    /// Whether the order was given.
    pub fn was_told(&self) -> bool {
        self.0.borrow().is_some()
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

    /// A source that hears SIGTERM, SIGUSR1 (Slurm's warning) and ctrl-c.
    ///
    /// # Errors
    /// `Unavailable` when the process cannot listen to signals.
    #[cfg(unix)]
    pub fn from_signals(grace_ms: u64) -> glmeval_common::error::Result<Self> {
        use glmeval_common::error::Error;
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|e| Error::unavailable("listen to signals").with_source(e));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut warning = listen(SignalKind::user_defined1())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let (handle, source) = stop_pair();
        tokio::spawn(async move {
            let reason = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = warning.recv() => "SIGUSR1",
                _ = interrupt.recv() => "ctrl-c",
            };
            handle.stop(grace_ms, reason);
        });
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
}
