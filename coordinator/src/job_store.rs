//! What a coordinator needs of the store, and no more.
//!
//! Leaves out: paths and formats (`common::store`). Invariant: every write is create-only, so any
//! of these may be repeated after an error of unknown outcome.

use crate::evidence::Evidence;
use crate::schedule::UnitSet;
pub use crate::state::Quarantined;
use async_trait::async_trait;
pub use glmeval_common::control::CoordinatorRecord;
use glmeval_common::control::Failure;
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::plan::Plan;
use glmeval_common::store::jobs::Spent;
use glmeval_common::unit::WorkUnit;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a snapshot says of a job: units whose commits stood when it was taken.
///
/// It spares the next coordinator to list them. Of units it does not name it says nothing, and a commit
/// it names that is gone is met as damage by whoever reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSnapshot {
    /// Units of the plan.
    pub units: u32,
    /// Committed ones as ranges `[first, past)`, in order.
    pub committed: Vec<(u32, u32)>,
    /// What was spent so far; of older snapshots nothing is known.
    #[serde(default)]
    pub spent: Spent,
}

/// The durable side of a coordinator.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Claims the epoch behind the highest of coordinator `name`, trying on while rivals take it.
    async fn claim_epoch(&self, name: &str, record: &CoordinatorRecord) -> Result<u64>;
    /// The highest epoch of coordinator `name`; 0 without any.
    async fn highest_epoch(&self, name: &str) -> Result<u64>;
    /// Workers that lied to coordinators of `name` and are not `known`, with what they did.
    async fn refused(
        &self,
        _name: &str,
        _known: &BTreeSet<WorkerId>,
    ) -> Result<BTreeMap<WorkerId, String>> {
        Ok(BTreeMap::new())
    }
    /// Writes down that a worker lied; a record that is there already is fine.
    async fn record_refused(&self, _name: &str, _worker: &WorkerId, _reason: &str) -> Result<()> {
        Ok(())
    }
    /// Rows of a plan's shards that only wrong commits of `authors` hold, by unit, looked at to the last
    /// byte.
    async fn wrong_rows(
        &self,
        _plan: &Plan,
        _authors: &BTreeSet<WorkerId>,
    ) -> Result<Vec<(u32, u64, u64)>> {
        Ok(Vec::new())
    }
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
    /// As [`Self::committed`], without a look at those that are `known` to be.
    async fn committed_beyond(&self, plan: &Plan, known: &UnitSet) -> Result<Vec<bool>> {
        let mut committed = self.committed(plan).await?;
        for unit in known.ranges().flat_map(|(first, past)| first..past) {
            if let Some(committed) = committed.get_mut(unit as usize) {
                *committed = true;
            }
        }
        Ok(committed)
    }
    /// The newest snapshot of a job that can be read, and the number of the next one.
    async fn snapshot(&self, _job: &JobId) -> Result<(Option<JobSnapshot>, u64)> {
        Ok((None, 1))
    }
    /// Writes snapshot `number` of coordinator `name` of `epoch`. `Fenced` when one of that name and a higher
    /// epoch took the number, `Conflict` or `Corrupt` when something else stands there: take the next one.
    async fn put_snapshot(
        &self,
        _job: &JobId,
        _name: &str,
        (_number, _epoch): (u64, u64),
        _snapshot: &JobSnapshot,
    ) -> Result<()> {
        Ok(())
    }
    /// Opens the job's next round if the present one was cancelled or has failed units: what follows
    /// speaks of the round that is open, which is returned.
    async fn resume(&self, job: &JobId) -> Result<u32>;
    /// The round of a job that is open.
    async fn round(&self, _job: &JobId) -> Result<u32> {
        Ok(0)
    }
    /// Units that were given up, with their error chains.
    async fn failed_units(&self, job: &JobId) -> Result<BTreeMap<u32, String>>;
    /// Writes down that a unit was given up in a round of a job; a record that is there already is fine.
    async fn record_failed(&self, job: &JobId, round: u32, unit: u32, why: &Failure) -> Result<()>;
    /// Rows of shards that were given up; a store that keeps none has them tried again.
    async fn quarantined(&self, _job: &JobId) -> Result<Vec<Quarantined>> {
        Ok(Vec::new())
    }
    /// Rows of the shards `units` that are committed, as ranges by unit, sorted and joined; a store that
    /// says nothing has them computed again, or given up with a shard that is on record as given up.
    async fn kept_rows(
        &self,
        _plan: &Plan,
        _units: &BTreeSet<u32>,
    ) -> Result<Vec<(u32, u64, u64)>> {
        Ok(Vec::new())
    }
    /// Writes down that rows were given up in a round of a job; a record that is there already is fine.
    async fn record_quarantined(
        &self,
        _job: &JobId,
        _round: u32,
        _rows: &Quarantined,
        _kind: ErrorKind,
    ) -> Result<()> {
        Ok(())
    }
    /// What stands of a unit that a worker says is committed; `digest` = compare the sha256 too. A
    /// store that cannot be lied to need not look.
    async fn evidence(&self, _unit: &WorkUnit, _digest: bool) -> Result<Evidence> {
        Ok(Evidence::Unasked)
    }
    /// Whether a job was cancelled.
    async fn is_cancelled(&self, job: &JobId) -> Result<bool>;
    /// Writes down that a round of a job was cancelled; a record that is there already is fine.
    async fn record_cancelled(&self, job: &JobId, round: u32) -> Result<()>;
}
