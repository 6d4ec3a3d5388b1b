//! The durable side of a coordinator in an object store.
//!
//! Leaves out: paths and formats (`common::store`). Invariant: what counts as done is what is committed.

use crate::evidence::{self, Evidence};
use crate::job_store::{CoordinatorRecord, JobSnapshot, JobStore, Quarantined};
use crate::schedule::UnitSet;
use async_trait::async_trait;
use glmeval_common::control::Failure;
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::layout;
use glmeval_common::plan::{Plan, UnitSpec};
use glmeval_common::rng::random_token;
use glmeval_common::store::Store;
use glmeval_common::store::coordinators::{
    Claim, claim_epoch, newest_epoch, record_refused, refused_workers,
};
use glmeval_common::store::jobs::{self, FailedUnit, Snapshot};
use glmeval_common::unit::WorkUnit;
use std::collections::{BTreeMap, BTreeSet};

mod committed;
mod unfinished;

pub use unfinished::Unfinished;

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

fn failed(unit: u32, rows: Option<(u64, u64)>, why: &Failure) -> FailedUnit {
    FailedUnit {
        version: layout::FORMAT_VERSION,
        unit,
        label: String::new(),
        kind: why.kind,
        error: why.chain.clone(),
        failures: 1,
        workers: Vec::new(),
        token: random_token(),
        fits: why.fits.clone(),
        rows,
    }
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

    async fn refused(
        &self,
        name: &str,
        known: &BTreeSet<WorkerId>,
    ) -> Result<BTreeMap<WorkerId, String>> {
        refused_workers(&self.store, name, known).await
    }

    async fn record_refused(&self, name: &str, worker: &WorkerId, reason: &str) -> Result<()> {
        record_refused(&self.store, name, worker, reason).await
    }

    async fn wrong_rows(
        &self,
        plan: &Plan,
        authors: &BTreeSet<WorkerId>,
    ) -> Result<Vec<(u32, u64, u64)>> {
        evidence::wrong_rows(&self.store, plan, authors).await
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

    async fn job_toml(&self, job: &JobId) -> Result<Option<String>> {
        jobs::read_job_toml(&self.store, job).await.map(Some)
    }

    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        committed::committed(&self.store, plan, &UnitSet::default()).await
    }

    async fn committed_beyond(&self, plan: &Plan, known: &UnitSet) -> Result<Vec<bool>> {
        committed::committed(&self.store, plan, known).await
    }

    async fn snapshot(&self, job: &JobId) -> Result<(Option<JobSnapshot>, u64)> {
        let (found, next) = jobs::newest_readable_snapshot(&self.store, job).await?;
        Ok((found.map(|snapshot| snapshot.state), next))
    }

    async fn put_snapshot(
        &self,
        job: &JobId,
        name: &str,
        (number, epoch): (u64, u64),
        state: &JobSnapshot,
    ) -> Result<()> {
        if !self.has_rivals {
            return Ok(());
        }
        let snapshot = Snapshot { number, epoch, state, name: name.to_owned() };
        jobs::put_snapshot(&self.store, job, &snapshot, &random_token()).await
    }

    async fn resume(&self, job: &JobId) -> Result<u32> {
        jobs::resume(&self.store, job, &random_token()).await
    }

    async fn round(&self, job: &JobId) -> Result<u32> {
        jobs::round(&self.store, job).await
    }

    async fn failed_units(&self, job: &JobId) -> Result<BTreeMap<u32, String>> {
        let failed = jobs::failed_units(&self.store, job).await?;
        Ok(failed.into_iter().map(|(unit, record)| (unit, record.error)).collect())
    }

    async fn record_failed(&self, job: &JobId, round: u32, unit: u32, why: &Failure) -> Result<()> {
        jobs::record_failure(&self.store, job, round, failed(unit, None, why)).await.map(drop)
    }

    async fn quarantined(&self, job: &JobId) -> Result<Vec<Quarantined>> {
        let rows = jobs::failed_rows(&self.store, job).await?.into_iter().filter_map(|record| {
            let (start, end) = record.rows?;
            Some(Quarantined { unit: record.unit, start, end, reason: record.error })
        });
        Ok(rows.collect())
    }

    async fn kept_rows(&self, plan: &Plan, units: &BTreeSet<u32>) -> Result<Vec<(u32, u64, u64)>> {
        committed::kept_rows(&self.store, plan, units).await
    }

    async fn record_quarantined(
        &self,
        job: &JobId,
        round: u32,
        rows: &Quarantined,
        kind: ErrorKind,
    ) -> Result<()> {
        let why = Failure::new(kind, rows.reason.clone());
        let record = failed(rows.unit, Some((rows.start, rows.end)), &why);
        jobs::record_failure(&self.store, job, round, record).await.map(drop)
    }

    async fn evidence(&self, unit: &WorkUnit, digest: bool) -> Result<Evidence> {
        evidence::look(&self.store, unit, digest).await
    }

    async fn is_cancelled(&self, job: &JobId) -> Result<bool> {
        Ok(jobs::cancelled(&self.store, job).await?.is_some())
    }

    async fn record_cancelled(&self, job: &JobId, round: u32) -> Result<()> {
        jobs::cancel(&self.store, job, round, "cancelled by the user", &random_token()).await
    }
}
