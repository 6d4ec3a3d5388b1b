//! Decides who does what: plans jobs, leases units to workers, recovers from the store.
//!
//! Leaves out: what a unit does (worker). Invariant: never links `kernels`; the store is the only
//! durable state, so any coordinator may die at any time.

pub mod certificates;
pub mod driver;
pub mod evidence;
pub mod job_store;
pub mod leases;
pub mod plan;
pub mod recover;
pub mod schedule;
pub mod service;
pub mod settings;
pub mod state;
pub mod stored_jobs;

pub use driver::{Coordinator, Recovery};
pub use job_store::{CoordinatorRecord, JobStore};
pub use service::Trust;
pub use service::dashboard;
pub use settings::Settings;
pub use stored_jobs::{StoredJobs, Unfinished};
