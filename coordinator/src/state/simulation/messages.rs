//! What workers and coordinators of a world say to each other.
//!
//! Leaves out: how it gets there (network).

use glmeval_common::control::{LeaseKey, Outcome, Progress, Renamed};

/// What a worker asks of a coordinator.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Register { held: Vec<LeaseKey> },
    Ask { units_max: u32 },
    Beat { held: Vec<Progress>, leaving: bool },
    Report { lease: LeaseKey, outcome: Outcome, ran_ms: u64 },
}

/// What it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) epoch: u64,
    pub(super) grants: Vec<LeaseKey>,
    pub(super) renamed: Vec<Renamed>,
    pub(super) revoked: Vec<LeaseKey>,
    pub(super) drain: bool,
    /// Register first.
    pub(super) is_unknown: bool,
    /// Go away and do not come back.
    pub(super) is_refused: bool,
    /// Nobody answers: the coordinator is gone, fenced or cannot read the store.
    pub(super) is_away: bool,
}
