//! Ends an embedded run when its disk is full.
//!
//! Leaves out: a cluster's workers, whose stores others clear. Invariant: the first such error is
//! the one that the run ends with.

use async_trait::async_trait;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::Attempt;
use glmeval_common::unit::WorkUnit;
use glmeval_worker::agent::{RunContext, StopHandle, UnitOutcome, UnitRunner};
use glmeval_worker::runner::Runner;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

/// A runner that orders every worker to stop once a write finds no space.
pub(crate) struct StopWhenFull {
    runner: Runner,
    stop: StopHandle,
    error: Mutex<Option<Error>>,
}

impl StopWhenFull {
    /// Runs units with `runner`.
    pub(crate) fn new(runner: Runner, stop: StopHandle) -> Self {
        Self { runner, stop, error: Mutex::new(None) }
    }

    /// The error that ended the run, once.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl UnitRunner for StopWhenFull {
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome> {
        let result = self.runner.run(unit, attempt, context).await;
        if let Err(error) = &result
            // What is the place's fault ends the worker by itself.
            && !error.is_of_place()
            && is_full(error)
        {
            let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| Error::unavailable(error.chain()));
            self.stop.stop(0, "the disk is full");
        }
        result
    }
}

/// Whether an error comes from a disk without space or a file system that takes no writes.
fn is_full(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
            let kinds =
                [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem];
            return kinds.contains(&cause.kind());
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let failed = |kind: ErrorKind| {
            let cause = std::io::Error::from(kind);
            Error::unavailable("put a.bin").with_source(cause).context("extract")
        };
        assert!(is_full(&failed(ErrorKind::StorageFull)));
        assert!(!is_full(&failed(ErrorKind::TimedOut)));
        assert!(!is_full(&Error::bug("No space left on device")));
    }
}
