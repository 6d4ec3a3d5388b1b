//! Pure: a checked job and the facts about its inputs become the list of units.
//!
//! Leaves out: reading anything (survey, model loading), who runs what (schedule).
//! Invariant: the same job over the same facts gives the same plan, byte for byte; prerequisites
//! point to earlier units only; a genome is never enumerated, only its shards are.

use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::ids::{JobId, ModelId};
use glmeval_common::job::{Job, JobModel};
use glmeval_common::limits::UNITS_PER_JOB_MAX;
use glmeval_common::model::{ModelFacts, Precision};
use glmeval_common::network::{ResolvedNetwork, TrainingSpec};
use glmeval_common::plan::{
    DatasetFacts, Entries, EntrySpec, PLAN_VERSION, Plan, PlanEntry, PlannedDataset, PlannedModel,
};
use glmeval_common::unit::ModelRef;
use std::collections::BTreeMap;

mod attribution;
mod cost;
mod effects;
mod fits;
mod known;
mod memory;
mod probes;
mod quirks;
mod reads;
mod scores;
mod sets;
#[cfg(test)]
pub(crate) mod tests;

pub use memory::{WorkerMemory, tokens, worker_memory};
pub use sets::TooLong;

/// A range of unit indices `[first, past)`.
type UnitRange = (u32, u32);

/// What planning one job works on.
struct Planner<'a> {
    job: &'a Job,
    datasets: &'a [DatasetFacts],
    models: &'a [ModelFacts],
    numeric_class: &'a dyn Fn(Precision) -> String,
    training_class: &'a TrainingClasses<'a>,
    entries: Entries,
    /// Per index into the job's data sets: the unit that prepares it; `None` for lazy ones.
    prepared: Vec<Option<u32>>,
}

/// Plans a job.
///
/// `datasets` and `models` are what surveys found, in the order of the job's own lists;
/// `numeric_class` names the class embeddings of a precision will be computed in (`f32.cpu.1`).
///
/// # Errors
/// `Invalid` naming the job file, the key, what is allowed and what was found: a layer the gLM
/// lacks, a sequence longer than it reads, probes that nothing can be fitted on, too many units.
pub fn plan(
    job: &Job,
    datasets: &[DatasetFacts],
    models: &[ModelFacts],
    numeric_class: &dyn Fn(Precision) -> String,
) -> Result<Plan> {
    let training = |_: &ResolvedNetwork, training: &TrainingSpec| {
        TrainingClass::OnCpu(numeric_class(training.precision))
    };
    let classes = NumericClasses { embeddings: numeric_class, training: &training };
    plan_in(job, datasets, models, &classes)
}

/// Numeric class that a network is trained in, such as `f32.cpu.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrainingClass {
    /// The CPU's, which every worker has.
    OnCpu(String),
    /// A kind of device's, which only workers of that kind have.
    OnDevice(String),
}

impl TrainingClass {
    /// Its name.
    pub fn name(&self) -> &str {
        let (Self::OnCpu(name) | Self::OnDevice(name)) = self;
        name
    }

    /// The class that a unit of such fits asks its worker for.
    pub(crate) fn required(&self) -> Option<String> {
        match self {
            Self::OnCpu(_) => None,
            Self::OnDevice(name) => Some(name.clone()),
        }
    }
}

/// Tells in which class a network is trained.
pub type TrainingClasses<'a> = dyn Fn(&ResolvedNetwork, &TrainingSpec) -> TrainingClass + 'a;

/// In which numeric class what is computed.
#[derive(Clone, Copy)]
pub struct NumericClasses<'a> {
    /// Embeddings, by precision (`f32.cpu.1`).
    pub embeddings: &'a dyn Fn(Precision) -> String,
    /// Networks that are trained as probes.
    pub training: &'a TrainingClasses<'a>,
}

/// As [`plan`], with training in another class than embeddings.
///
/// # Errors
/// As [`plan`].
pub fn plan_in(
    job: &Job,
    datasets: &[DatasetFacts],
    models: &[ModelFacts],
    classes: &NumericClasses<'_>,
) -> Result<Plan> {
    if datasets.len() != job.datasets.len() || models.len() != job.models.len() {
        return Err(Error::bug("a plan needs the facts of every data set and every model"));
    }
    let (entries, prepared) = (Entries::default(), Vec::new());
    let NumericClasses { embeddings: numeric_class, training: training_class } = *classes;
    let mut planner =
        Planner { job, datasets, models, numeric_class, training_class, entries, prepared };
    planner.add_prepares()?;
    let sets = sets::add_extracts(&mut planner)?;
    let first = planner.entries.unit_count();
    fits::add_fits(&mut planner, &sets)?;
    effects::add_zero_shot(&mut planner, &sets)?;
    effects::add_applied(&mut planner, &sets, first)?;
    attribution::add_attributions(&mut planner, &sets, first)?;
    fits::add_report(&mut planner, first)?;
    let mut plan = Plan {
        version: Plan::version_of(&planner.entries),
        job: JobId::new(""),
        name: job.name.clone(),
        seed: job.seed,
        protocol: job.protocol,
        datasets: planned_datasets(job, datasets),
        models: planned_models(job, models),
        sets: sets.into_iter().map(|set| set.spec).collect(),
        entries: planner.entries,
    };
    plan.job = job_id(&plan)?;
    Ok(plan)
}

/// Checks a plan that came from elsewhere: every index resolves, prerequisites point back, the id
/// is the digest of the rest.
///
/// # Errors
/// `Invalid` naming the unit or field that is wrong.
pub fn verify(plan: &Plan) -> Result<()> {
    let wrong = |place: String, expected: &str, found: String| -> Result<()> {
        Err(InputError::new(format!("plan of {:?}", plan.name), place, expected, found).into())
    };
    if !(1..=PLAN_VERSION).contains(&plan.version) {
        let expected = format!("1 to {PLAN_VERSION}");
        return wrong("version".into(), &expected, plan.version.to_string());
    }
    let units = plan.entries.unit_count_asked();
    if units > UNITS_PER_JOB_MAX as u64 {
        let expected = format!("at most {UNITS_PER_JOB_MAX}");
        return wrong("units".into(), &expected, units.to_string());
    }
    for (first, entry) in plan.entries.iter() {
        let is_run = matches!(entry.spec, EntrySpec::Shards { .. });
        if entry.unit_count() == 0 || (is_run && plan.version < 2) {
            let expected = "a unit, or from version 2 on a run of some";
            return wrong(format!("unit {first}"), expected, "another entry".into());
        }
        // All units of a run name the same tables.
        if plan.work_unit(first).is_none() {
            return wrong(format!("unit {first}"), "indices inside the plan", "others".into());
        }
        for (from, past) in &entry.prerequisites {
            if from > past || *past > first {
                let found = format!("{from} to {past}");
                return wrong(format!("unit {first}"), "prerequisites before it", found);
            }
        }
    }
    let expected = job_id(plan)?;
    if expected != plan.job {
        return wrong("job".into(), expected.as_str(), plan.job.to_string());
    }
    Ok(())
}

/// Digest of a plan without its own id.
fn job_id(plan: &Plan) -> Result<JobId> {
    let anonymous = Plan { job: JobId::new(""), ..plan.clone() };
    let bytes = serde_json::to_vec(&anonymous)
        .map_err(|e| Error::bug("a plan cannot be serialised").with_source(e))?;
    Ok(JobId::new(ContentDigest::new("plan/1").field("plan", bytes).finish()))
}

fn planned_datasets(job: &Job, facts: &[DatasetFacts]) -> Vec<PlannedDataset> {
    let planned = job.datasets.iter().zip(facts).map(|(dataset, facts)| PlannedDataset {
        name: dataset.name.clone(),
        task: dataset.task,
        source: dataset.source.clone(),
        facts: facts.clone(),
    });
    planned.collect()
}

fn planned_models(job: &Job, facts: &[ModelFacts]) -> Vec<PlannedModel> {
    let planned = job.models.iter().zip(facts).map(|(model, facts)| PlannedModel {
        model: model_ref(&facts.id, model),
        facts: facts.clone(),
    });
    planned.collect()
}

fn model_ref(id: &ModelId, model: &JobModel) -> ModelRef {
    let JobModel { name, source, options, .. } = model.clone();
    ModelRef { id: id.clone(), name, source, options }
}

impl Planner<'_> {
    /// One unit per distinct data set that is not lazy.
    fn add_prepares(&mut self) -> Result<()> {
        let mut known = BTreeMap::new();
        for (i, (dataset, facts)) in self.job.datasets.iter().zip(self.datasets).enumerate() {
            if dataset.source.is_lazy() {
                self.prepared.push(None);
                continue;
            }
            if let Some(unit) = known.get(&facts.id) {
                self.prepared.push(Some(*unit));
                continue;
            }
            let unit = self.push(PlanEntry {
                spec: EntrySpec::Prepare { dataset: i },
                prerequisites: Vec::new(),
                flops: 0.0,
                bytes: cost::prepare_bytes(facts),
            })?;
            known.insert(&facts.id, unit);
            self.prepared.push(Some(unit));
        }
        Ok(())
    }

    /// The range of the unit that prepares data set `dataset`, if there is one.
    fn prepared_range(&self, dataset: usize) -> Option<UnitRange> {
        let unit = self.prepared.get(dataset).copied().flatten()?;
        Some((unit, unit + 1))
    }

    /// Adds an entry and returns the number of its first unit.
    fn push(&mut self, entry: PlanEntry) -> Result<u32> {
        self.room_for(entry.unit_count())?;
        let first = self.entries.unit_count();
        self.entries.push(entry);
        Ok(first)
    }

    /// Refuses to grow beyond the bound before anything is allocated.
    fn room_for(&self, more: u64) -> Result<()> {
        let total = more.saturating_add(u64::from(self.entries.unit_count()));
        if total > UNITS_PER_JOB_MAX as u64 {
            let expected = format!("shards large enough for at most {UNITS_PER_JOB_MAX} units");
            return Err(self.wrong("shard_rows", expected, format!("{total} units")).into());
        }
        Ok(())
    }

    fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> InputError {
        InputError::new(&self.job.file, key, expected, found)
    }
}
