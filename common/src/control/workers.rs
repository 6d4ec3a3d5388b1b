//! What is known of workers: what they are, how they fare, what they do.
//!
//! Leaves out: where the numbers come from (the agent, the store's meter). Invariant: every field has a
//! default, so that programs of different versions understand each other.

use crate::ids::{JobId, WorkerId};
use serde::{Deserialize, Serialize};

/// What a worker process is; told once, at its registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerFacts {
    /// Kind of its device, as prices name it: `cpu`, `nvidia-h200`; empty = not told.
    pub device_kind: String,
    /// Name of its device, for people.
    pub device: String,
    /// CPU threads it computes on.
    pub threads: u32,
    /// Version of its program.
    pub program: String,
}

/// Requests to the store of one operation and one outcome, since a process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreRequests {
    /// `create`, `put`, `get`, `head`, `list` or `delete`.
    pub operation: String,
    /// `ok`, `exists`, `missing` or `error`.
    pub outcome: String,
    /// How many.
    pub requests: u64,
    /// Seconds they took together.
    pub seconds: f64,
}

/// How a worker fares; counts begin with its process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Rows computed, committed or not.
    pub rows_done: u64,
    /// Units it committed or found committed.
    pub units_done: u64,
    /// Attempts that failed.
    pub units_failed: u64,
    /// Times its device ran out of memory and it went on with less at a time.
    pub out_of_memory: u64,
    /// Bytes of memory the process holds.
    pub memory_bytes: u64,
    /// Bytes of device memory it holds; 0 without a device of its own.
    pub device_memory_bytes: u64,
    /// Bytes that wait on its disk for a store that is away.
    pub spool_bytes: u64,
    /// Its requests to the store.
    pub store: Vec<StoreRequests>,
}

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// It runs a unit.
    Working,
    /// It has none.
    Idle,
    /// It finishes what it holds and leaves.
    Draining,
    /// It said farewell.
    Left,
    /// It fell silent while it was wanted.
    Lost,
}

impl WorkerPhase {
    /// All phases.
    pub const ALL: [Self; 5] = [Self::Working, Self::Idle, Self::Draining, Self::Left, Self::Lost];

    /// `working`, `idle`, `draining`, `left` or `lost`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Draining => "draining",
            Self::Left => "left",
            Self::Lost => "lost",
        }
    }

    /// Whether the worker is no longer there.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Left | Self::Lost)
    }
}

/// One worker as its coordinator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Name of the process.
    pub worker: WorkerId,
    /// Machine it runs on.
    pub host: String,
    /// What it is.
    pub facts: WorkerFacts,
    /// What it is at.
    pub phase: WorkerPhase,
    /// gLM it holds in memory, by name.
    pub model: Option<String>,
    /// Job of the unit it runs.
    pub job: Option<JobId>,
    /// The unit it runs, for people.
    pub unit: Option<String>,
    /// Seconds it has run that unit.
    pub unit_seconds: Option<f64>,
    /// That unit runs far longer than its kind does.
    pub is_straggler: bool,
    /// Rows per second, as last told.
    pub rows_per_second: f64,
    /// Leases it holds.
    pub held: u32,
    /// Leases it lost by falling silent.
    pub leases_lost: u64,
    /// Milliseconds since it was last heard of.
    pub seen_ms_ago: u64,
    /// How it fares, as last told.
    pub health: Health,
}
