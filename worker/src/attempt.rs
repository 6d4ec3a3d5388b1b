//! What surrounds one attempt at a unit.
//!
//! Leaves out: what the unit does. Invariant: nothing here decides a result.

use crate::agent::{RunContext, StopSource, UnitProgress};
use glmeval_common::clock::Clock;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::store::Store;

/// What every unit needs to know of its attempt.
pub(crate) struct UnitContext<'a> {
    /// The store; it takes no commit of an attempt that is too old.
    pub(crate) store: &'a Store,
    /// This try.
    pub(crate) attempt: &'a Attempt,
    /// This worker.
    pub(crate) worker: &'a WorkerId,
    /// Fencing number of the lease.
    pub(crate) generation: Generation,
    clock: &'a dyn Clock,
    started_ms: u64,
    run: &'a RunContext,
}

impl<'a> UnitContext<'a> {
    /// The surroundings of an attempt that begins now.
    pub(crate) fn new(
        store: &'a Store,
        attempt: &'a Attempt,
        run: &'a RunContext,
        clock: &'a dyn Clock,
    ) -> Self {
        let (worker, generation, started_ms) = (&run.worker, run.generation, clock.now_ms());
        Self { store, attempt, worker, generation, clock, started_ms, run }
    }

    /// Tells the coordinator that `rows` more are done.
    pub(crate) fn done(&self, rows: u64) {
        self.run.progress.add_rows(rows);
    }

    /// How far the attempt is, for people.
    pub(crate) fn progress(&self) -> &UnitProgress {
        &self.run.progress
    }

    /// Refuses to go on once told to stop.
    ///
    /// # Errors
    /// `Unavailable`: another attempt goes on.
    pub(crate) fn check_stop(&self) -> Result<()> {
        match self.run.stop.order() {
            None => Ok(()),
            Some(order) => Err(Error::unavailable(format!("told to stop: {}", order.reason))),
        }
    }

    /// Hears the order to give up.
    pub(crate) fn stop(&self) -> &StopSource {
        &self.run.stop
    }

    /// Milliseconds of the worker's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Seconds since the attempt began.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.now_ms().saturating_sub(self.started_ms) as f64 / 1000.0
    }
}

/// Whether a commit stands and `check` finds what it names sound; damage is no error here.
///
/// # Errors
/// As `standing` and `check`, but for `Corrupt`.
pub(crate) async fn is_sound<T>(
    standing: Result<Option<T>>,
    check: impl AsyncFnOnce(T) -> Result<()>,
) -> Result<bool> {
    let checked = match standing {
        Ok(None) => return Ok(false),
        Ok(Some(commit)) => check(commit).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(error = error.chain(), "what is committed is damaged: once more");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What an earlier unit committed cannot be missing: if it is, it is as good as damaged.
pub(crate) fn lost_input(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::corrupt("an input of this unit is gone").with_source(error)
    } else {
        error
    }
}
