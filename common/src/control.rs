//! What coordinator and workers say to each other, as plain values, and the trait both sides share.
//!
//! Leaves out: bytes on the wire (`wire`), what a coordinator decides (coordinator).
//! Invariant: every reply carries the epoch; who has seen a higher one ignores it.

use crate::error::Result;
use crate::ids::{Generation, JobId, WorkerId};
use crate::plan::Plan;
use crate::unit::WorkUnit;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

mod failure;
mod status;
mod workers;
pub use failure::{Failure, FitFailure, FitFailures};
pub use status::{JobCost, JobPhase, JobStatus, KindCounts, UnitFailure};
pub use workers::{Health, StoreRequests, WorkerFacts, WorkerPhase, WorkerStatus};

/// One lease: which unit of which job, and its fencing number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The job.
    pub job: JobId,
    /// Index into the plan's units.
    pub unit: u32,
    /// Fencing number of this grant.
    pub generation: Generation,
}

/// A unit handed to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseKey,
    /// What to do.
    pub work: WorkUnit,
    /// The coordinator's span that the attempt belongs under, as W3C writes it; empty without traces.
    pub trace: String,
}

/// A worker presents itself, at its start and whenever it meets a new epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Name of the worker process.
    pub worker: WorkerId,
    /// Machine it runs on; a straggler's copy goes to another one.
    pub host: String,
    /// The numeric classes it can compute embeddings in.
    pub numeric_classes: Vec<String>,
    /// Leases it still holds, of whatever epoch.
    pub held: Vec<LeaseKey>,
    /// What the worker is.
    pub facts: WorkerFacts,
}

/// A lease that lives on under a new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// As the worker knew it.
    pub from: LeaseKey,
    /// Its generation from now on.
    pub to: Generation,
}

/// Answer to a [`Registration`].
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Epoch of the coordinator.
    pub epoch: u64,
    /// A lease lives this long without a heartbeat.
    pub lease_ttl_ms: u64,
    /// How often heartbeats are wanted.
    pub heartbeat_interval_ms: u64,
    /// Held leases that go on.
    pub renamed: Vec<Renamed>,
    /// Held leases whose unit needs no more work.
    pub revoked: Vec<LeaseKey>,
}

/// A worker wants units.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Who asks.
    pub worker: WorkerId,
    /// Units at most.
    pub units_max: u32,
    /// How long the coordinator may wait for a unit to become ready before it answers with none.
    pub wait_ms: u64,
    /// Answer at once when every job is over.
    pub or_finished: bool,
}

/// Answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    /// Epoch of the coordinator.
    pub epoch: u64,
    /// Units to run, in this order.
    pub grants: Vec<Grant>,
    /// Every job the coordinator knows is over, and it knows at least one.
    pub finished: bool,
}

/// A lease a worker holds, and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The lease.
    pub lease: LeaseKey,
    /// Whether it is being computed, rather than waiting in the worker's queue.
    pub running: bool,
    /// Rows done.
    pub rows_done: u64,
    /// Rows per second.
    pub rows_per_second: f64,
    /// Whether it is computed and waits, on the worker's disk, for the store to be reachable again.
    pub waiting_for_store: bool,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// Who.
    pub worker: WorkerId,
    /// Everything it holds.
    pub held: Vec<Progress>,
    /// The worker goes away: whatever it has not reported is free at once.
    pub leaving: bool,
    /// How the worker fares.
    pub health: Health,
}

/// Answer to a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatReply {
    /// Epoch of the coordinator.
    pub epoch: u64,
    /// Leases whose unit needs no more work (committed elsewhere, given up, cancelled).
    pub revoked: Vec<LeaseKey>,
    /// Leases that had expired and go on.
    pub renamed: Vec<Renamed>,
    /// Finish what runs, hand the rest back and leave.
    pub drain: bool,
    /// As [`Grants::finished`].
    pub finished: bool,
}

/// How an attempt at a unit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This attempt committed.
    Committed,
    /// Another attempt had committed already.
    Lost,
    /// The unit failed.
    Failed(Failure),
    /// Not done and not failed: the worker is going away.
    HandedBack,
    /// Not done since this worker cannot, whatever the unit is like, and leaves; others may.
    Unfit {
        /// The whole error chain on one line.
        chain: String,
    },
}

/// A worker is through with a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who.
    pub worker: WorkerId,
    /// Which lease.
    pub lease: LeaseKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Seconds it ran, on the worker's own clock.
    pub seconds: f64,
    /// Of these, seconds until the next unit could begin: not those on the way to the store.
    pub device_seconds: f64,
}

/// Answer to a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportReply {
    /// Epoch of the coordinator.
    pub epoch: u64,
}

/// A coordinator as workers and the command line see it: in the same process or over the wire.
///
/// Errors: `Unavailable` = not reachable, try again; `NotFound` = unknown worker (register again)
/// or unknown job; `Fenced` = a newer coordinator exists; `Invalid` = the request is wrong.
#[async_trait]
pub trait Control: Send + Sync {
    /// Presents a worker.
    async fn register(&self, registration: Registration) -> Result<Registered>;
    /// Asks for units.
    async fn ask(&self, ask: Ask) -> Result<Grants>;
    /// Renews leases.
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply>;
    /// Ends a lease.
    async fn report(&self, report: Report) -> Result<ReportReply>;
    /// Starts a job or finds it; units that were given up before are tried again.
    async fn submit(&self, job_toml: &str, plan: Plan) -> Result<JobId>;
    /// Where a job stands.
    async fn status(&self, job: &JobId) -> Result<JobStatus>;
    /// Where every job stands.
    async fn jobs(&self) -> Result<Vec<JobStatus>>;
    /// Every worker it knows, those that went lately included.
    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        Ok(Vec::new())
    }
    /// Ends a job; what is committed stays.
    async fn cancel(&self, job: &JobId) -> Result<()>;
    /// Asks a worker, or all workers of a host, to finish what they run and leave.
    async fn drain(&self, worker: &WorkerId) -> Result<()>;
    /// The status of a job now and after every change, until it is over.
    async fn watch(&self, job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>>;
}

/// What a coordinator writes down when it claims an epoch (`coordinators/<name>/<epoch>.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorRecord {
    /// Format version of this record.
    pub version: u32,
    /// Random; tells this claim from a rival's when the answer to its create was lost.
    pub token: String,
    /// Where workers reach it, such as `http://10.0.0.4:7117`; `None` inside one process.
    pub address: Option<String>,
    /// Version of the program.
    pub program: String,
    /// When it started, for people.
    pub started_unix_ms: u64,
}
