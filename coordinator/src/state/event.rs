//! What can happen to a coordinator, and what it answers or does.
//!
//! Leaves out: what follows from what (state).

use super::job::{Ended, Quarantined};
use crate::evidence::Evidence;
use glmeval_common::control::{Failure, LeaseKey, Outcome, Progress, Renamed};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::job::JobSchedule;
use glmeval_common::plan::Plan;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A job was submitted or recovered.
    Submit {
        /// Its plan, already verified.
        plan: Arc<Plan>,
        /// Per unit: whether the store holds its commit.
        committed: Vec<bool>,
        /// What ended before this coordinator began.
        ended: Ended,
        /// Its share of the workers.
        schedule: JobSchedule,
    },
    /// A worker presents itself.
    Register {
        /// Its name.
        worker: WorkerId,
        /// Its machine.
        host: String,
        /// The classes it can compute embeddings in.
        numeric_classes: Vec<String>,
        /// Kind of device it computes on; workers of one kind are compared with one another.
        device: String,
        /// Leases it holds, of whatever epoch.
        held: Vec<LeaseKey>,
    },
    /// A worker wants units.
    Ask {
        /// Who.
        worker: WorkerId,
        /// Units at most.
        units_max: u32,
    },
    /// A worker lives.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// What it holds.
        held: Vec<Progress>,
        /// It goes away.
        leaving: bool,
    },
    /// A worker is through with a lease.
    Report {
        /// Who.
        worker: WorkerId,
        /// Which lease.
        lease: LeaseKey,
        /// How it ended.
        outcome: Outcome,
        /// Milliseconds it ran, on the worker's clock.
        ran_ms: u64,
        /// What the store says of a unit that is reported as committed.
        evidence: Evidence,
    },
    /// A worker lied to another coordinator of this name.
    Refuse {
        /// Who.
        worker: WorkerId,
        /// What it did.
        reason: String,
    },
    /// The commits of refused workers were looked at.
    Looked {
        /// In which job.
        job: JobId,
        /// Whose.
        workers: BTreeSet<WorkerId>,
        /// Units of the plan, and rows of them that only wrong commits hold.
        wrong: Vec<(u32, u64, u64)>,
    },
    /// The user ends a job.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// The user wants a worker gone.
    Drain {
        /// Which.
        worker: WorkerId,
    },
    /// Time has passed.
    Tick,
}

/// What follows from an event, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell the caller: the unit is yours.
    Grant(LeaseKey),
    /// Tell the caller: your lease goes on under another generation.
    Rename(Renamed),
    /// Tell the caller: this unit needs no more work.
    Revoke(LeaseKey),
    /// Tell the caller: finish what runs and leave.
    DrainCaller,
    /// Tell the caller: register first.
    UnknownCaller,
    /// Tell the caller: you are refused, for this reason, whatever you do.
    RefuseCaller(String),
    /// Write down that a unit was given up.
    RecordFailed {
        /// The job.
        job: JobId,
        /// The unit.
        unit: u32,
        /// Its last failure.
        why: Failure,
    },
    /// Write down that rows of a shard were given up.
    RecordQuarantined {
        /// The job.
        job: JobId,
        /// Which, and why.
        rows: Quarantined,
        /// What their last error asks for.
        kind: ErrorKind,
    },
    /// A worker lied; it gets no unit any more.
    Refused {
        /// Who.
        worker: WorkerId,
        /// What it did.
        reason: String,
    },
    /// A machine gets no unit any more.
    HostDrained {
        /// Which.
        host: String,
        /// Why.
        reason: String,
    },
    /// A job is over.
    JobOver(JobId),
    /// Units became ready: wake those who wait.
    WorkReady,
}
