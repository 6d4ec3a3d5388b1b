//! Pure: which ready unit of a job a worker gets.
//!
//! Leaves out: which job it is taken from, stragglers (state).
//! Properties wanted: a worker stays with the gLM it has in memory and goes on to the next shard;
//! a worker without one joins the gLM with most ready shards per worker; stages that open others
//! come first; a worker never gets a shard of another numeric class.

use glmeval_common::ids::ModelId;
use glmeval_common::plan::Plan;
use glmeval_common::unit::UnitKind;

mod groups;
mod unit_set;

pub use groups::{Group, Groups};
pub use unit_set::UnitSet;

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

/// The unit a worker should run next; `may_run` refuses single units.
///
/// Takes as long as there are ready groups, however many units they have.
pub fn pick(
    (plan, groups): (&Plan, &Groups),
    taste: Taste<'_>,
    workers_by_model: impl Fn(&ModelId) -> u64,
    may_run: impl Fn(u32) -> bool,
) -> Option<u32> {
    let first = |kind: UnitKind| {
        let mut ready = groups.ready(kind);
        ready.find_map(|group| {
            let fits = class_matches(plan, group, taste.numeric_classes);
            fits.then(|| group.candidate(&may_run)).flatten()
        })
    };
    first(UnitKind::Prepare)
        .or_else(|| neighbour((plan, groups), taste, &may_run))
        .or_else(|| shard_of_model((plan, groups), taste, &may_run))
        .or_else(|| shard_of_any((plan, groups), taste, workers_by_model, &may_run))
        .or_else(|| first(UnitKind::Fit))
        .or_else(|| first(UnitKind::Report))
}

/// The shard behind the one the worker had last, in the same set.
fn neighbour(
    (plan, groups): (&Plan, &Groups),
    taste: Taste<'_>,
    may_run: impl Fn(u32) -> bool,
) -> Option<u32> {
    let group_of = |unit: u32| groups.get(groups.of(unit)?);
    let last = taste.last?;
    let next = last.checked_add(1)?;
    let set = group_of(last)?.set()?;
    let group = group_of(next).filter(|group| group.set() == Some(set))?;
    let ready = group.open() == 0 && group.is_idle(next);
    (ready && class_matches(plan, group, taste.numeric_classes) && may_run(next)).then_some(next)
}

fn shard_of_model(
    (plan, groups): (&Plan, &Groups),
    taste: Taste<'_>,
    may_run: impl Fn(u32) -> bool,
) -> Option<u32> {
    let model = taste.model?;
    groups.ready(UnitKind::Extract).find_map(|group| {
        let set = plan.sets.get(group.set()?)?;
        let fits = set.model.id == *model && taste.numeric_classes.contains(&set.numeric_class);
        fits.then(|| group.candidate(&may_run)).flatten()
    })
}

fn shard_of_any(
    (plan, groups): (&Plan, &Groups),
    taste: Taste<'_>,
    workers_by_model: impl Fn(&ModelId) -> u64,
    may_run: impl Fn(u32) -> bool,
) -> Option<u32> {
    let mut best: Option<(u64, u32)> = None;
    for group in groups.ready(UnitKind::Extract) {
        let Some(set) = group.set().and_then(|set| plan.sets.get(set)) else { continue };
        if !taste.numeric_classes.contains(&set.numeric_class) {
            continue;
        }
        let Some(unit) = group.candidate(&may_run) else { continue };
        let share = group.idle_count() / (workers_by_model(&set.model.id) + 1);
        if best.is_none_or(|(most, _)| share > most) {
            best = Some((share, unit));
        }
    }
    best.map(|(_, unit)| unit)
}

/// Numeric class that the units of `group` need, of their set or of their own; `None` = any worker can run them.
pub fn class_of<'a>(plan: &'a Plan, group: &'a Group) -> Option<&'a str> {
    let of_set = || plan.sets.get(group.set()?).map(|set| set.numeric_class.as_str());
    group.class().or_else(of_set)
}

/// Whether a worker of those numeric classes can run the units of `group`.
pub fn class_matches(plan: &Plan, group: &Group, numeric_classes: &[String]) -> bool {
    class_of(plan, group).is_none_or(|class| numeric_classes.iter().any(|known| known == class))
}

/// The gLM the units of `group` bring into memory.
pub fn model_of<'a>(plan: &'a Plan, group: &Group) -> Option<&'a ModelId> {
    plan.sets.get(group.set()?).map(|set| &set.model.id)
}
