//! Pure: how many workers are at each job and hold each gLM, counted as they come and go.
//!
//! Leaves out: the workers themselves (state). Invariant: counts are those of all workers that are known.

use super::WorkerState;
use glmeval_common::ids::{JobId, ModelId};
use std::collections::BTreeMap;

/// Workers by what they do.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    by_job: BTreeMap<JobId, u64>,
    by_model: BTreeMap<ModelId, u64>,
}

fn remove<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Crowd {
    /// Counts a worker as it is.
    pub(super) fn add(&mut self, worker: &WorkerState) {
        if let Some(job) = &worker.job {
            *self.by_job.entry(job.clone()).or_default() += 1;
        }
        if let Some(model) = &worker.model {
            *self.by_model.entry(model.clone()).or_default() += 1;
        }
    }

    /// Counts a worker no more; it is as it was when it was added.
    pub(super) fn remove(&mut self, worker: &WorkerState) {
        if let Some(job) = &worker.job {
            remove(&mut self.by_job, job);
        }
        if let Some(model) = &worker.model {
            remove(&mut self.by_model, model);
        }
    }

    /// Workers whose last unit was of `job`.
    pub(super) fn at_job(&self, job: &JobId) -> u64 {
        self.by_job.get(job).copied().unwrap_or(0)
    }

    /// Workers with `model` in memory.
    pub(super) fn with_model(&self, model: &ModelId) -> u64 {
        self.by_model.get(model).copied().unwrap_or(0)
    }
}
