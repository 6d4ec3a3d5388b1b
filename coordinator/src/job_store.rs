//! What a coordinator needs of the store, and no more.
//!
//! Leaves out: paths and formats (`common::store`). Invariant: every write is create-only, so any
//! of these may be repeated after an error of unknown outcome.

use crate::evidence::Evidence;
pub use crate::state::Quarantined;
use async_trait::async_trait;
pub use glmeval_common::control::CoordinatorRecord;
use glmeval_common::error::Result;
use glmeval_common::ids::JobId;
use glmeval_common::plan::Plan;
use glmeval_common::unit::WorkUnit;
use std::collections::BTreeMap;

/// The durable side of a coordinator.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Claims the epoch behind the highest of coordinator `name`, trying on while rivals take it.
    async fn claim_epoch(&self, name: &str, record: &CoordinatorRecord) -> Result<u64>;
    /// The highest epoch of coordinator `name`; 0 without any.
    async fn highest_epoch(&self, name: &str) -> Result<u64>;
    /// Writes job file and plan; a job that is there already is fine.
    async fn put_job(&self, job_toml: &str, plan: &Plan) -> Result<()>;
    /// Every job in the store.
    async fn list_jobs(&self) -> Result<Vec<JobId>>;
    /// The plan of a job.
    async fn plan(&self, job: &JobId) -> Result<Plan>;
    /// The file of a job as submitted; `None` where files are not kept.
    async fn job_toml(&self, _job: &JobId) -> Result<Option<String>> {
        Ok(None)
    }
    /// Per unit of the plan: whether its commit stands.
    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>>;
    /// Opens the job's next round if the present one was cancelled or has failed units: what follows
    /// speaks of the round that is open.
    async fn resume(&self, job: &JobId) -> Result<()>;
    /// Units that were given up, with their error chains.
    async fn failed_units(&self, job: &JobId) -> Result<BTreeMap<u32, String>>;
    /// Writes down that a unit was given up; a record that is there already is fine.
    async fn record_failed(&self, job: &JobId, unit: u32, reason: &str) -> Result<()>;
    /// Rows of shards that were given up; a store that keeps none has them tried again.
    async fn quarantined(&self, _job: &JobId) -> Result<Vec<Quarantined>> {
        Ok(Vec::new())
    }
    /// Writes down that rows were given up; a record that is there already is fine.
    async fn record_quarantined(&self, _job: &JobId, _rows: &Quarantined) -> Result<()> {
        Ok(())
    }
    /// What stands of a unit that a worker says is committed; `digest` = compare the sha256 too. A
    /// store that cannot be lied to need not look.
    async fn evidence(&self, _unit: &WorkUnit, _digest: bool) -> Result<Evidence> {
        Ok(Evidence::Unasked)
    }
    /// Whether a job was cancelled.
    async fn is_cancelled(&self, job: &JobId) -> Result<bool>;
    /// Writes down that a job was cancelled; a record that is there already is fine.
    async fn record_cancelled(&self, job: &JobId) -> Result<()>;
}
