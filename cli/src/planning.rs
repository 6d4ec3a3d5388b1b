//! From a job file to its plan: survey every data set, describe every gLM, plan.

use crate::output::complain;
use absent::Absent;
use clap::Args;
use glmeval_common::error::Result;
use glmeval_common::job::Job;
use glmeval_common::model::ModelFacts;
use glmeval_common::network::{ResolvedNetwork, TrainingSpec};
use glmeval_common::plan::{DatasetFacts, Plan};
use glmeval_coordinator::plan::{NumericClasses, TrainingClass};
use glmeval_worker::device::DeviceChoice;
use std::path::Path;

mod absent;
pub(crate) mod fetching;
mod longest;
mod padding;
#[cfg(test)]
mod tests;

/// A checked job file and its plan.
pub(crate) struct Planned {
    /// The job.
    pub(crate) job: Job,
    /// Its plan.
    pub(crate) plan: Plan,
    /// A line for everything that is not here and was planned by what is known of it.
    pub(crate) assumed: Vec<String>,
}

/// What becomes of data sets of the archive and published gLMs that are not here.
#[derive(Clone, Copy, PartialEq)]
enum WhatIsAbsent {
    /// They are refused, all in one message.
    Refused,
    /// They are planned by the protocol's numbers.
    Assumed,
}

/// Kind of device that a planned job embeds and trains on.
#[derive(Args, Clone)]
pub(crate) struct KindArguments {
    /// Kind of device that embeds and trains: cpu, cuda-sm80, cuda-sm90, or that of this machine's cuda.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", env = "GLMEVAL_DEVICE")]
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
    plan_job(read(path)?, kind)
}

/// As [`plan_file`], with the protocol's numbers for what is not here; such a plan cannot be run.
pub(crate) fn plan_file_assuming(path: &Path, kind: &str) -> Result<Planned> {
    plan_with(read(path)?, kind, WhatIsAbsent::Assumed)
}

/// Reads and checks a job file.
fn read(path: &Path) -> Result<Job> {
    Job::read_with(path, &glmeval_worker::tasks::names)
}

/// Plans a checked job for devices of `kind`, which train what they can of its probes.
pub(crate) fn plan_job(job: Job, kind: &str) -> Result<Planned> {
    plan_with(job, kind, WhatIsAbsent::Refused)
}

fn plan_with(mut job: Job, kind: &str, what_is_absent: WhatIsAbsent) -> Result<Planned> {
    let mut absent = Absent::default();
    let mut tables = std::mem::take(&mut job.datasets);
    let is_refused = what_is_absent == WhatIsAbsent::Refused;
    // What is fetched or read takes long; what is lacking is told first.
    if is_refused {
        Absent::of(&job, &tables)?.refuse(&job)?;
    }
    let mut models = job
        .models
        .iter()
        .map(|model| absent.model(model, (kind, is_refused)))
        .collect::<Result<Vec<ModelFacts>>>()?;
    let datasets = tables
        .iter_mut()
        .map(|dataset| absent.dataset(&job.file, dataset))
        .collect::<Result<Vec<DatasetFacts>>>()?;
    job.datasets = tables;
    for index in padding::follow_sequences(&mut job, &models, |model| !absent.lacks(model))? {
        models[index] = absent.model(&job.models[index], (kind, is_refused))?;
    }
    padding::count_tokens(&mut job, &models, |model| !absent.lacks(model))?;
    let embeddings = |precision| glmeval_worker::numeric_class_on(kind, precision);
    let training = |network: &ResolvedNetwork, training: &TrainingSpec| {
        match glmeval_worker::training_class_on(kind, network, training) {
            Some(class) => TrainingClass::OnDevice(class),
            None => TrainingClass::OnCpu(glmeval_worker::numeric_class(training.precision)),
        }
    };
    let classes = NumericClasses { embeddings: &embeddings, training: &training };
    let plan = glmeval_coordinator::plan::plan_in(&job, &datasets, &models, &classes)
        .map_err(|error| longest::named(error, &job))?;
    for dataset in &plan.datasets {
        for line in dataset.facts.leakage_lines() {
            complain(&format!("warning: data set {}: {line}", dataset.name));
        }
    }
    Ok(Planned { job, plan, assumed: absent.notes() })
}
