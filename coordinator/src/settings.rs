//! Numbers that change how a coordinator behaves, with their defaults; units stand in the names.
//!
//! Leaves out: bounds of the whole system (`common::limits`).

use glmeval_common::limits;

/// How a coordinator behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A lease lives this long without a heartbeat that names it.
    pub lease_ttl_ms: u64,
    /// How often workers are told to send a heartbeat.
    pub heartbeat_interval_ms: u64,
    /// How often expiries are looked for and watchers are told.
    pub tick_interval_ms: u64,
    /// How often the store is asked for a higher epoch.
    pub fence_interval_ms: u64,
    /// First wait after a transient failure; doubles with each one.
    pub backoff_ms_min: u64,
    /// Longest wait after a transient failure.
    pub backoff_ms_max: u64,
    /// Transient failures in a row before a unit may be given up after all.
    pub transient_failures_max: u32,
    /// How long these must have gone on; a store may be away for a while.
    pub transient_ms_max: u64,
    /// Attempts that found what they read damaged before a unit is given up; also how often one
    /// unit's commit is looked at again.
    pub corrupt_failures_max: u32,
    /// Workers that may fall silent while they run a unit before it is given up.
    pub silenced_workers_max: u32,
    /// Deterministic failures after which a unit is given up.
    pub unit_failures_max: u32,
    /// Workers a unit must have failed on before it is given up, where there are that many.
    pub failed_workers_min: u32,
    /// Units of a stage that must be done before one of it can count as a straggler.
    pub straggler_units_min: usize,
    /// Units that fail on a machine and run on another before the machine is drained.
    pub host_blames_max: u32,
    /// Workers of a machine that may lie before the machine is drained.
    pub host_liars_max: u32,
    /// How far, in milliseconds of every worker, a job may get ahead of its share before workers
    /// leave it and its gLM for another.
    pub turn_ms: u64,
    /// Most units granted by one ask.
    pub grants_per_ask_max: u32,
    /// How long a coordinator that took up running jobs grants nothing, so that workers can name what they hold.
    pub settle_ms: u64,
    /// Commits since the last snapshot of a job before the next is worth writing: a page of a listing.
    pub snapshot_commits_min: u64,
    /// How long a running job goes without a snapshot that is worth writing.
    pub snapshot_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ttl_ms: limits::LEASE_TTL_MS,
            heartbeat_interval_ms: limits::HEARTBEAT_INTERVAL_MS,
            tick_interval_ms: 500,
            fence_interval_ms: 5_000,
            backoff_ms_min: 5_000,
            backoff_ms_max: 300_000,
            transient_failures_max: 10,
            transient_ms_max: 30 * 60_000,
            corrupt_failures_max: 5,
            silenced_workers_max: 10,
            unit_failures_max: limits::UNIT_FAILURES_MAX,
            failed_workers_min: limits::FAILED_WORKERS_MIN,
            straggler_units_min: 5,
            host_blames_max: 3,
            host_liars_max: 2,
            turn_ms: 60_000,
            grants_per_ask_max: 64,
            settle_ms: 0,
            snapshot_commits_min: 1_000,
            snapshot_interval_ms: 60_000,
        }
    }
}
