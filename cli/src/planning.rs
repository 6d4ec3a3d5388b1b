//! From a job file to its plan: survey every data set, describe every gLM, plan.

use crate::output::complain;
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::job::Job;
use glmeval_common::model::ModelFacts;
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_common::survey::survey;
use glmeval_coordinator::plan::NumericClasses;
use glmeval_worker::device::DeviceChoice;
use std::path::Path;

pub(crate) mod fetching;
mod padding;

/// A checked job file and its plan.
pub(crate) struct Planned {
    /// The job.
    pub(crate) job: Job,
    /// Its plan.
    pub(crate) plan: Plan,
}

/// Kind of device that a planned job embeds on.
#[derive(Args, Clone)]
pub(crate) struct KindArguments {
    /// Kind of device that embeds: cpu, cuda-sm80, cuda-sm90, or that of this machine's cuda.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
}

impl KindArguments {
    /// As numeric classes name it.
    pub(crate) fn kind(&self) -> Result<String> {
        self.device.kind()
    }
}

/// Reads, checks and plans a job file for devices of `kind`.
pub(crate) fn plan_file(path: &Path, kind: &str) -> Result<Planned> {
    let job = Job::read(path)?;
    plan_job(job, kind)
}

/// Plans a checked job for devices of `kind`; probes are trained on CPUs.
pub(crate) fn plan_job(mut job: Job, kind: &str) -> Result<Planned> {
    let models = job
        .models
        .iter()
        .map(|model| {
            fetching::fetch(&model.source)
                .and_then(|folder| {
                    glmeval_worker::models::describe_on(&folder, &model.options, kind)
                })
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
    padding::count_tokens(&mut job, &models)?;
    let embeddings = |precision| glmeval_worker::numeric_class_on(kind, precision);
    let classes =
        NumericClasses { embeddings: &embeddings, training: &glmeval_worker::numeric_class };
    let plan = glmeval_coordinator::plan::plan_in(&job, &datasets, &models, &classes)?;
    for dataset in &plan.datasets {
        for line in dataset.facts.leakage_lines() {
            complain(&format!("warning: data set {}: {line}", dataset.name));
        }
    }
    Ok(Planned { job, plan })
}
