//! Pure: what a coordinator knows of a worker.
//!
//! Leaves out: its leases (leases), what it is granted (grants).

use glmeval_common::ids::{JobId, ModelId};

mod claims;
mod hosts;
mod suspects;
mod unfit;
mod unserved;

pub(super) use hosts::Hosts;
pub(super) use unfit::Unfit;
pub(super) use unserved::Hands;

/// One worker as a coordinator sees it.
#[derive(Clone, Debug)]
pub(super) struct WorkerState {
    pub(super) host: String,
    pub(super) numeric_classes: Vec<String>,
    /// Kind of device it computes on.
    pub(super) device: String,
    pub(super) seen_ms: u64,
    /// What it got last.
    pub(super) job: Option<JobId>,
    pub(super) unit: Option<u32>,
    /// gLM in its memory.
    pub(super) model: Option<ModelId>,
    pub(super) draining: bool,
    /// A commit of it was looked at to the last byte and found sound.
    pub(super) vouched: bool,
}
