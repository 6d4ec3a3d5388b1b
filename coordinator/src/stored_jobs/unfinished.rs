//! Which jobs of a store are not finished, and what in the store is theirs.
//!
//! Leaves out: sweeping (`common::store::gc`). Invariant: a job that cannot be read is an error, never left out.

use super::{StoredJobs, commit_paths};
use crate::job_store::JobStore;
use crate::recover::recover;
use crate::settings::Settings;
use crate::state::State;
use glmeval_common::control::JobPhase;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::JobId;
use glmeval_common::layout;
use glmeval_common::plan::Plan;
use glmeval_common::store::Store;
use std::collections::BTreeSet;

/// Jobs whose workers may be about to commit something.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// The jobs.
    pub jobs: BTreeSet<JobId>,
    /// Folders of all they read and write, as [`layout::content_folder`] names them.
    pub folders: BTreeSet<String>,
}

impl Unfinished {
    /// Looks at every job of a store.
    ///
    /// One that was cancelled or has failed units counts: a worker may not have heard of it yet.
    ///
    /// # Errors
    /// `Corrupt` for a job that cannot be read; store errors.
    pub async fn of(store: &Store) -> Result<Self> {
        let jobs = StoredJobs::shared(store.clone());
        let mut state = State::new(0, Settings::default());
        let listed = jobs.list_jobs().await?;
        recover(&jobs, &mut state, 0).await?;
        if let Some(job) = listed.iter().find(|job| state.phase(job).is_none()) {
            let message = format!("job {job} in {}: cannot be read", store.url());
            return Err(Error::corrupt(message));
        }
        let mut found = Self::default();
        for plan in state.plans().filter(|it| state.phase(&it.job) != Some(JobPhase::Finished)) {
            found.jobs.insert(plan.job.clone());
            found.folders.extend(folders(plan));
        }
        Ok(found)
    }
}

/// Folders of all that a plan reads and writes.
fn folders(plan: &Plan) -> BTreeSet<String> {
    let sets = plan.sets.iter().map(|set| layout::set_manifest_path(&set.id));
    let commits = plan.units().flat_map(|unit| commit_paths(plan, unit.spec));
    let paths = sets.chain(commits).chain([layout::plan_path(&plan.job)]);
    paths.filter_map(|path| layout::content_folder(&path).map(str::to_owned)).collect()
}
