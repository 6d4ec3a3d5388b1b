//! The durable side of a coordinator in an object store.
//!
//! Leaves out: paths and formats (`common::store`). Invariant: what counts as done is what is committed.

use crate::job_store::{CoordinatorRecord, JobStore};
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{JobId, SetId};
use glmeval_common::layout;
use glmeval_common::plan::{Plan, UnitSpec};
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::{Claim, claim_epoch, newest_epoch};
use glmeval_common::store::embeddings::committed_ranges;
use glmeval_common::store::embeddings::cover::cover_range;
use glmeval_common::store::jobs::{self, FailedUnit};
use std::collections::BTreeMap;

/// Requests to the store at a time while a plan is compared with what is committed.
const REQUESTS_MAX: usize = 32;

/// Jobs in an object store.
pub struct StoredJobs {
    store: Store,
    /// A coordinator inside one process has no rival and leaves no record.
    has_rivals: bool,
    /// Fingerprint of the CA that its workers must believe.
    ca_sha256: Option<String>,
}

impl StoredJobs {
    /// For a coordinator that others may replace.
    pub fn shared(store: Store) -> Self {
        Self { store, has_rivals: true, ca_sha256: None }
    }

    /// For a coordinator inside one process.
    pub fn embedded(store: Store) -> Self {
        Self { store, has_rivals: false, ca_sha256: None }
    }

    /// Names the CA in the coordinator's records, so that nobody is led to another coordinator.
    #[must_use]
    pub fn with_ca(self, ca_sha256: Option<String>) -> Self {
        Self { ca_sha256, ..self }
    }

    /// Committed ranges of every set of `plan`.
    async fn ranges(&self, plan: &Plan) -> Result<BTreeMap<SetId, Vec<(u64, u64)>>> {
        let mut ranges = BTreeMap::new();
        for set in &plan.sets {
            ranges.insert(set.id.clone(), committed_ranges(&self.store, &set.id).await?);
        }
        Ok(ranges)
    }
}

/// The objects whose existence commits a unit; none for shards, which are covered by ranges.
fn commit_paths(plan: &Plan, spec: UnitSpec<'_>) -> Vec<String> {
    match spec {
        UnitSpec::Prepare { dataset } => {
            let dataset = plan.datasets.get(dataset);
            dataset.map(|set| layout::dataset_manifest_path(&set.facts.id)).into_iter().collect()
        }
        UnitSpec::Extract { .. } => Vec::new(),
        UnitSpec::Fit(unit) => unit.fits.iter().map(|fit| layout::scores_path(fit.id())).collect(),
        UnitSpec::Report => vec![layout::report_commit_path(&plan.job)],
    }
}

/// Whether all of `paths` exist.
async fn all_exist(store: &Store, paths: Vec<String>) -> Result<bool> {
    for path in &paths {
        if !store.exists(path).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[async_trait]
impl JobStore for StoredJobs {
    async fn claim_epoch(&self, name: &str, record: &CoordinatorRecord) -> Result<u64> {
        if !self.has_rivals {
            return Ok(1);
        }
        let claim = Claim {
            token: record.token.clone(),
            address: record.address.clone(),
            ca_sha256: self.ca_sha256.clone(),
            program: record.program.clone(),
            started_unix_ms: record.started_unix_ms,
        };
        Ok(claim_epoch(&self.store, name, &claim).await?.epoch)
    }

    async fn highest_epoch(&self, name: &str) -> Result<u64> {
        if !self.has_rivals {
            return Ok(1);
        }
        Ok(newest_epoch(&self.store, name).await?.unwrap_or(0))
    }

    async fn put_job(&self, job_toml: &str, plan: &Plan) -> Result<()> {
        jobs::create_job(&self.store, plan, job_toml).await.map(drop)
    }

    async fn list_jobs(&self) -> Result<Vec<JobId>> {
        let entries = jobs::list_jobs(&self.store).await?;
        Ok(entries.into_iter().map(|entry| entry.job).collect())
    }

    async fn plan(&self, job: &JobId) -> Result<Plan> {
        jobs::read_plan(&self.store, job).await
    }

    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        let ranges = self.ranges(plan).await?;
        let mut checks: Vec<BoxFuture<'_, Result<bool>>> = Vec::new();
        for unit in plan.units() {
            let covered = match unit.spec {
                UnitSpec::Extract { set, start, end, .. } => {
                    let committed = plan.sets.get(set).and_then(|set| ranges.get(&set.id));
                    committed.is_some_and(|all| cover_range(all, start, end).is_ok())
                }
                UnitSpec::Prepare { .. } | UnitSpec::Fit(_) | UnitSpec::Report => false,
            };
            let paths = commit_paths(plan, unit.spec);
            checks.push(if paths.is_empty() {
                Box::pin(std::future::ready(Ok(covered)))
            } else {
                Box::pin(all_exist(&self.store, paths))
            });
        }
        futures::stream::iter(checks).buffered(REQUESTS_MAX).try_collect().await
    }

    async fn resume(&self, job: &JobId) -> Result<()> {
        jobs::resume(&self.store, job, &random_token()).await.map(drop)
    }

    async fn failed_units(&self, job: &JobId) -> Result<BTreeMap<u32, String>> {
        let failed = jobs::failed_units(&self.store, job).await?;
        Ok(failed.into_iter().map(|(unit, record)| (unit, record.error)).collect())
    }

    async fn record_failed(&self, job: &JobId, unit: u32, reason: &str) -> Result<()> {
        let record = FailedUnit {
            version: layout::FORMAT_VERSION,
            unit,
            label: String::new(),
            kind: ErrorKind::Invalid,
            error: reason.to_owned(),
            failures: 1,
            workers: Vec::new(),
            token: random_token(),
        };
        jobs::record_failure(&self.store, job, record).await.map(drop)
    }

    async fn is_cancelled(&self, job: &JobId) -> Result<bool> {
        Ok(jobs::cancelled(&self.store, job).await?.is_some())
    }

    async fn record_cancelled(&self, job: &JobId) -> Result<()> {
        jobs::cancel(&self.store, job, "cancelled by the user", &random_token()).await
    }
}
