//! Where a job stands, for people and for `--format json`.
//!
//! Leaves out: how it is counted (coordinator).

use crate::ids::JobId;
use crate::unit::UnitKind;
use serde::{Deserialize, Serialize};

/// Life of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPhase {
    /// Units are left.
    Running,
    /// Every unit is committed.
    Finished,
    /// No unit is left, some were given up.
    FinishedWithFailures,
    /// Ended by the user.
    Cancelled,
}

impl JobPhase {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        self != Self::Running
    }

    /// Process exit code of a command that waits for a job which ends so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::FinishedWithFailures => 3,
            Self::Running => 75,
            Self::Cancelled => 1,
        }
    }

    /// `running`, `finished`, `finished-with-failures` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::FinishedWithFailures => "finished-with-failures",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Units of one stage by state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// The stage.
    pub kind: UnitKind,
    /// Prerequisites are missing.
    pub waiting: u64,
    /// Could start now.
    pub ready: u64,
    /// At a worker.
    pub leased: u64,
    /// Backing off after a transient failure.
    pub cooling: u64,
    /// Done.
    pub committed: u64,
    /// Given up.
    pub failed: u64,
}

impl KindCounts {
    /// All units of the stage.
    pub fn total(&self) -> u64 {
        self.waiting + self.ready + self.leased + self.cooling + self.committed + self.failed
    }
}

/// A unit that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFailure {
    /// Index into the plan's units.
    pub unit: u32,
    /// One line for people.
    pub label: String,
    /// The error chain on one line.
    pub reason: String,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub job: JobId,
    /// Name in the job file.
    pub name: String,
    /// Life of the job.
    pub phase: JobPhase,
    /// Per stage, in the order of [`UnitKind::ALL`].
    pub kinds: Vec<KindCounts>,
    /// Rows of all embedding sets.
    pub rows: u64,
    /// Rows embedded, those of running units included.
    pub rows_done: u64,
    /// Rows embedded per second, as the workers of the moment report it.
    pub rows_per_second: f64,
    /// Workers with a lease of this job.
    pub workers: u64,
    /// Seconds to the end at the pace so far; `None` before anything is done.
    pub eta_seconds: Option<f64>,
    /// Units that were given up, the first hundred.
    pub failures: Vec<UnitFailure>,
    /// Workers that are refused and hosts that are drained, one line each.
    #[serde(default)]
    pub notices: Vec<String>,
}
