//! Pure: which ready unit of a job a worker gets.
//!
//! Leaves out: which job it is taken from, stragglers (state).
//! Properties wanted: a worker stays with the gLM it has in memory and goes on to the next shard;
//! a worker without one joins the gLM with most ready shards per worker; stages that open others
//! come first; a worker never gets a shard of another numeric class.

use glmeval_common::ids::ModelId;
use glmeval_common::plan::{Plan, UnitSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Ready units of one job: by stage, shards also by set.
#[derive(Clone, Debug, Default)]
pub struct ReadyUnits {
    prepares: BTreeSet<u32>,
    shards: BTreeMap<usize, BTreeSet<u32>>,
    fits: BTreeSet<u32>,
    reports: BTreeSet<u32>,
}

/// What of a worker decides its next unit.
#[derive(Clone, Copy, Debug)]
pub struct Taste<'a> {
    /// The classes it can compute embeddings in.
    pub numeric_classes: &'a [String],
    /// gLM in its memory.
    pub model: Option<&'a ModelId>,
    /// Unit of this job it got last.
    pub last: Option<u32>,
}

impl ReadyUnits {
    fn group(&mut self, plan: &Plan, unit: u32) -> Option<&mut BTreeSet<u32>> {
        Some(match plan.units.get(unit as usize)?.spec {
            UnitSpec::Prepare { .. } => &mut self.prepares,
            UnitSpec::Extract { set, .. } => self.shards.entry(set).or_default(),
            UnitSpec::Fit(_) => &mut self.fits,
            UnitSpec::Report => &mut self.reports,
        })
    }

    /// Adds a unit.
    pub fn insert(&mut self, plan: &Plan, unit: u32) {
        if let Some(group) = self.group(plan, unit) {
            group.insert(unit);
        }
    }

    /// Takes a unit out.
    pub fn remove(&mut self, plan: &Plan, unit: u32) {
        if let Some(group) = self.group(plan, unit) {
            group.remove(&unit);
        }
        self.shards.retain(|_, shards| !shards.is_empty());
    }

    /// Whether no unit is ready.
    pub fn is_empty(&self) -> bool {
        self.prepares.is_empty()
            && self.shards.is_empty()
            && self.fits.is_empty()
            && self.reports.is_empty()
    }

    /// The unit a worker should run next; `may_run` refuses single units.
    pub fn pick(
        &self,
        plan: &Plan,
        taste: Taste<'_>,
        workers_by_model: &BTreeMap<ModelId, u64>,
        may_run: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let first = |units: &BTreeSet<u32>| units.iter().copied().find(|unit| may_run(*unit));
        first(&self.prepares)
            .or_else(|| self.neighbour(plan, taste, &may_run))
            .or_else(|| self.shard_of_model(plan, taste, &may_run))
            .or_else(|| self.shard_of_any(plan, taste, workers_by_model, &may_run))
            .or_else(|| first(&self.fits))
            .or_else(|| first(&self.reports))
    }

    /// The shard behind the one the worker had last, in the same set.
    fn neighbour(
        &self,
        plan: &Plan,
        taste: Taste<'_>,
        may_run: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let set_of = |unit: u32| match plan.units.get(unit as usize)?.spec {
            UnitSpec::Extract { set, .. } => Some(set),
            _ => None,
        };
        let last = taste.last?;
        let next = last.checked_add(1)?;
        let set = set_of(last)?;
        let ready = self.shards.get(&set).is_some_and(|shards| shards.contains(&next));
        (ready && class_matches(plan, next, taste.numeric_classes) && may_run(next)).then_some(next)
    }

    fn shard_of_model(
        &self,
        plan: &Plan,
        taste: Taste<'_>,
        may_run: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let model = taste.model?;
        self.shards.iter().find_map(|(set, shards)| {
            let set = plan.sets.get(*set)?;
            let fits = set.model.id == *model && taste.numeric_classes.contains(&set.numeric_class);
            fits.then(|| shards.iter().copied().find(|unit| may_run(*unit))).flatten()
        })
    }

    fn shard_of_any(
        &self,
        plan: &Plan,
        taste: Taste<'_>,
        workers_by_model: &BTreeMap<ModelId, u64>,
        may_run: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut best: Option<(u64, u32)> = None;
        for (set, shards) in &self.shards {
            let Some(set) = plan.sets.get(*set) else { continue };
            if !taste.numeric_classes.contains(&set.numeric_class) {
                continue;
            }
            let Some(unit) = shards.iter().copied().find(|unit| may_run(*unit)) else { continue };
            let workers = workers_by_model.get(&set.model.id).copied().unwrap_or(0);
            let share = shards.len() as u64 / (workers + 1);
            if best.is_none_or(|(most, _)| share > most) {
                best = Some((share, unit));
            }
        }
        best.map(|(_, unit)| unit)
    }
}

/// Whether a worker of those numeric classes can run `unit`.
pub fn class_matches(plan: &Plan, unit: u32, numeric_classes: &[String]) -> bool {
    match plan.units.get(unit as usize).map(|unit| &unit.spec) {
        Some(UnitSpec::Extract { set, .. }) => {
            plan.sets.get(*set).is_some_and(|set| numeric_classes.contains(&set.numeric_class))
        }
        Some(_) => true,
        None => false,
    }
}

/// The gLM a unit brings into memory.
pub fn model_of(plan: &Plan, unit: u32) -> Option<&ModelId> {
    match plan.units.get(unit as usize)?.spec {
        UnitSpec::Extract { set, .. } => plan.sets.get(set).map(|set| &set.model.id),
        _ => None,
    }
}

/// Orders jobs for a worker: its own first while no more than its fair share of workers is there,
/// then those with fewest workers, ties in turn after `cursor`.
pub fn job_order<J: Ord + Clone>(
    own: Option<&J>,
    workers_by_job: &BTreeMap<J, u64>,
    workers: u64,
    cursor: Option<&J>,
) -> Vec<J> {
    let share = workers.div_ceil((workers_by_job.len() as u64).max(1));
    let stays = |job: &J, count: u64| own == Some(job) && count <= share;
    let mut jobs: Vec<_> = workers_by_job.iter().collect();
    jobs.sort_by_key(|(job, count)| {
        let behind_cursor = cursor.is_some_and(|cursor| *job <= cursor);
        (!stays(job, **count), **count, behind_cursor)
    });
    jobs.into_iter().map(|(job, _)| job.clone()).collect()
}
