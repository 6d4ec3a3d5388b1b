//! The worker's one loop: register, ask, run, renew, report.
//!
//! Leaves out: what a unit does ([`UnitRunner`]), who gets which (coordinator).
//! Invariant: one unit is computed at a time, a few are on their way to the store; every lease taken ends in one report or one farewell; a
//! coordinator that is away stops nothing that is in hand.

use async_trait::async_trait;
use glmeval_common::clock::Clock;
use glmeval_common::control::{Control, Health, WorkerFacts};
use glmeval_common::error::Result;
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::limits;
use glmeval_common::unit::WorkUnit;
use std::sync::Arc;
use tracing::{Instrument, Span};

mod partition;
mod progress;
mod session;
mod stop;
mod talk;

pub use partition::{CommitCheck, PartitionOutcome, PartitionWorker, partition};
pub use progress::{Board, FitProgress, UnitProgress};
pub use stop::{Stop, StopHandle, StopSource, stop_pair};

/// How an attempt ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitOutcome {
    /// This attempt committed.
    Committed,
    /// Another attempt had committed, before or meanwhile.
    Lost,
}

/// What surrounds one attempt.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// Worker that runs it.
    pub worker: WorkerId,
    /// Fencing number of its lease; zero in partition mode.
    pub generation: Generation,
    /// Takes finished rows.
    pub progress: Arc<UnitProgress>,
    /// Once stopped: give up soon, leave nothing committed half; any error returned then is no failure.
    pub stop: StopSource,
}

/// Why a unit is told to stop that the coordinator needs no more.
pub(crate) const REVOKED: &str = "revoked";

/// Whether a runner can take a further unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// Not for now: finished work waits for the store and fills its place.
    Full,
    /// Not any more, and why: this worker had better be replaced.
    Broken(String),
}

/// Does one unit.
#[async_trait]
pub trait UnitRunner: Send + Sync {
    /// Runs `unit` and commits its result, unless it is committed already.
    ///
    /// Long computations belong on a blocking thread: heartbeats run on this one.
    ///
    /// # Errors
    /// What is the place's fault ([`glmeval_common::error::Error::of_place`]) ends the worker and is tried by others;
    /// of all else, `Unavailable`, `Conflict` and `Fenced` are tried again; `Corrupt` has the units before
    /// this one looked at again first; all others count against the unit.
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome>;

    /// Whether a further unit may be started.
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

/// How an agent behaves.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Name of this process; unique among all workers ever.
    pub worker: WorkerId,
    /// Machine it runs on.
    pub host: String,
    /// The classes it can compute embeddings in.
    pub numeric_classes: Vec<String>,
    /// Units held beyond the one that runs.
    pub prefetch_units_max: usize,
    /// Leave when every job is over, rather than wait for the next.
    pub until_idle: bool,
    /// How long an idle agent waits for a coordinator that is away.
    pub detached_ms_max: u64,
    /// How often it calls before the coordinator has said how often it wants that.
    pub call_interval_ms: u64,
    /// How long a unit may take to give up once told to.
    pub abandon_ms_max: u64,
    /// What the worker is.
    pub facts: WorkerFacts,
}

impl AgentSettings {
    /// The usual behaviour of worker `worker`.
    pub fn new(worker: WorkerId, host: &str, numeric_classes: Vec<String>) -> Self {
        Self {
            worker,
            host: host.to_owned(),
            numeric_classes,
            prefetch_units_max: limits::PREFETCH_UNITS_MAX,
            until_idle: false,
            detached_ms_max: 600_000,
            call_interval_ms: 1_000,
            abandon_ms_max: 2_000,
            facts: WorkerFacts::default(),
        }
    }
}

/// Why an agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentExit {
    /// Every job is over.
    Finished,
    /// Stopped while work is left: replace me.
    WorkLeft,
}

impl AgentExit {
    /// Process exit code of a worker.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::WorkLeft => 75,
        }
    }
}

/// Tells how a worker fares; the agent adds what it counts itself.
pub type HealthSource = Arc<dyn Fn() -> Health + Send + Sync>;

/// A worker.
pub struct Agent {
    control: Arc<dyn Control>,
    runner: Arc<dyn UnitRunner>,
    clock: Arc<dyn Clock>,
    settings: AgentSettings,
    stop: StopSource,
    board: Arc<Board>,
    health: HealthSource,
}

impl Agent {
    /// A worker that has not started yet.
    pub fn new(
        control: Arc<dyn Control>,
        runner: Arc<dyn UnitRunner>,
        clock: Arc<dyn Clock>,
        settings: AgentSettings,
        stop: StopSource,
    ) -> Self {
        let health: HealthSource = Arc::new(Health::default);
        Self { control, runner, clock, settings, stop, board: Arc::default(), health }
    }

    /// Asks `health` how this process fares, before each heartbeat.
    #[must_use]
    pub fn with_health(self, health: HealthSource) -> Self {
        Self { health, ..self }
    }

    /// How it fares now.
    fn health(&self) -> Health {
        let board = &self.board;
        Health {
            rows_done: board.rows_done(),
            units_done: board.units_done(),
            units_failed: board.units_failed(),
            ..(self.health)()
        }
    }

    /// Where its progress can be read while it runs.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Works until stopped or, with `until_idle`, until every job is over.
    ///
    /// # Errors
    /// `Invalid` or `Bug` when the coordinator refuses this worker; what makes it unfit for a unit, which it has
    /// handed back.
    pub async fn run(self) -> Result<AgentExit> {
        let span = worker_span(&self.settings.worker);
        session::Session::new(self).run().instrument(span).await
    }
}

/// Name of the span that a worker's life is.
pub const WORKER_SPAN: &str = "worker";

/// What every line of a worker's log stands in; as loud as an error, so that no filter of lines takes the name away.
fn worker_span(worker: &WorkerId) -> Span {
    tracing::error_span!("worker", %worker)
}

/// Rows a unit says it has.
fn unit_rows(unit: &WorkUnit) -> u64 {
    match unit {
        WorkUnit::Prepare(unit) => unit.rows,
        WorkUnit::Extract(unit) => unit.end.saturating_sub(unit.start),
        WorkUnit::Fit(_) | WorkUnit::Report(_) => 0,
    }
}
