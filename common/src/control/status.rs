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
    /// Examples `start..end` of a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<(u64, u64)>,
    /// The unit of the plan that it is a part of; such parts have numbers beyond the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<u32>,
    /// The unit that failed before it, so that it was never tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u32>,
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
    /// Rows embedded per second over the last ten seconds; 0 once the job is over.
    pub rows_per_second: f64,
    /// Workers with a lease of this job.
    pub workers: u64,
    /// Seconds to the end at the pace so far; `None` before anything is done.
    pub eta_seconds: Option<f64>,
    /// Units that were given up, the first hundred.
    pub failures: Vec<UnitFailure>,
    /// Units that could start and that no connected worker can run; `notices` say what they need.
    #[serde(default)]
    pub units_without_worker: u64,
    /// Device time and what it costs, as far as the present coordinator saw it.
    #[serde(default)]
    pub cost: JobCost,
    /// What keeps the job from going on: workers that units wait for, a store that is away, workers that are
    /// refused or unfit and hosts that are drained; one line each.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// Device time of one job by what became of it, and its price.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobCost {
    /// Seconds of attempts that committed.
    pub useful_seconds: f64,
    /// Seconds of attempts that another had overtaken.
    pub duplicate_seconds: f64,
    /// Seconds of attempts that failed.
    pub failed_seconds: f64,
    /// Seconds of attempts that were handed back.
    pub handed_back_seconds: f64,
    /// Seconds of attempts whose worker fell silent.
    pub expired_seconds: f64,
    /// Leases that ended because their worker fell silent.
    pub leases_expired: u64,
    /// Leases that were handed back.
    pub leases_handed_back: u64,
    /// Attempts that another had overtaken.
    pub duplicates: u64,
    /// Currency of the job file's prices; `None` without any.
    pub currency: Option<String>,
    /// Price of all these seconds; `None` where a device kind has no price.
    pub spent: Option<f64>,
    /// `spent`, and what is left at the pace of the moment.
    pub estimated_total: Option<f64>,
}

impl JobCost {
    /// Seconds of all attempts.
    pub fn leased_seconds(&self) -> f64 {
        self.useful_seconds + self.lost_seconds()
    }

    /// Seconds of attempts that came to nothing.
    pub fn lost_seconds(&self) -> f64 {
        self.duplicate_seconds
            + self.failed_seconds
            + self.handed_back_seconds
            + self.expired_seconds
    }

    /// Useful by leased seconds, in `0..=1`; `None` before any attempt ended.
    pub fn efficiency(&self) -> Option<f64> {
        let leased = self.leased_seconds();
        (leased > 0.0).then(|| self.useful_seconds / leased)
    }
}
