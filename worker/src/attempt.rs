//! What surrounds one attempt at a unit.
//!
//! Leaves out: what the unit does. Invariant: nothing here decides a result.

use crate::agent::RunContext;
use glmeval_common::clock::Clock;
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::store::Store;

/// What every unit needs to know of its attempt.
pub(crate) struct UnitContext<'a> {
    /// The store.
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

    /// Seconds since the attempt began.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.now_ms().saturating_sub(self.started_ms) as f64 / 1000.0
    }
}
