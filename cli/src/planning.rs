//! From a job file to its plan: survey every data set, describe every gLM, plan.

use glmeval_common::error::Result;
use glmeval_common::job::Job;
use glmeval_common::model::ModelFacts;
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::survey::survey;
use std::path::Path;

pub(crate) mod fetching;

/// A checked job file and its plan.
pub(crate) struct Planned {
    /// The job.
    pub(crate) job: Job,
    /// Its plan.
    pub(crate) plan: Plan,
}

/// Reads, checks and plans a job file.
pub(crate) fn plan_file(path: &Path) -> Result<Planned> {
    let job = Job::read(path)?;
    plan_job(job)
}

/// Plans a checked job.
pub(crate) fn plan_job(job: Job) -> Result<Planned> {
    let models = job
        .models
        .iter()
        .map(|model| {
            fetching::fetch(&model.source)
                .and_then(|folder| glmeval_worker::models::describe(&folder, &model.options))
                .map_err(|e| e.context(format!("open model {}", model.name)))
        })
        .collect::<Result<Vec<ModelFacts>>>()?;
    let datasets = job
        .datasets
        .iter()
        .map(|dataset| {
            survey(&dataset.source, dataset.task)
                .map_err(|e| e.context(format!("read data set {}", dataset.name)))
        })
        .collect::<Result<Vec<DatasetFacts>>>()?;
    let plan =
        glmeval_coordinator::plan::plan(&job, &datasets, &models, &glmeval_worker::numeric_class)?;
    Ok(Planned { job, plan })
}
