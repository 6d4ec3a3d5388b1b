//! Units of a job that are alike, as groups: what they wait for is kept once for all of them, and
//! those that nobody holds as ranges.
//!
//! Leaves out: what state a unit is in that somebody holds or that is through (state).
//! Invariant: a group is listed as ready exactly while nothing is open before it and a unit of it idles.

use super::unit_set::UnitSet;
use glmeval_common::plan::{EntrySpec, Plan};
use glmeval_common::unit::UnitKind;
use std::collections::{BTreeMap, BTreeSet};

/// Units a worker failed on that are looked at before it gets another one.
const TRIED_LOOKS_MAX: usize = 16;

/// Units of one stage and set with the same prerequisites, numbered in a row.
#[derive(Clone, Debug)]
pub struct Group {
    kind: UnitKind,
    set: Option<usize>,
    /// Numeric class that units need which fill no set: those that run a gLM or train on a device.
    class: Option<String>,
    first: u32,
    past: u32,
    inputs: Vec<(u32, u32)>,
    /// Barriers it waits for that are not down.
    open: u32,
    /// Barriers over its units.
    over: Vec<usize>,
    /// Units nobody holds, without those in `tried`.
    fresh: UnitSet,
    /// Of these, the units that failed on some worker.
    tried: BTreeSet<u32>,
}

impl Group {
    /// Stage of its units.
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    /// Index of the set its units fill; `None` for other stages.
    pub fn set(&self) -> Option<usize> {
        self.set
    }

    /// Numeric class that its units need although they fill no set; `None` = none, or that of the set.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// Numbers of its units in the plan, `[first, past)`.
    pub fn units(&self) -> (u32, u32) {
        (self.first, self.past)
    }

    /// Ranges of the units that its units read.
    pub fn inputs(&self) -> &[(u32, u32)] {
        &self.inputs
    }

    /// Ranges of inputs that are not through.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Units nobody holds.
    pub fn idle_count(&self) -> u64 {
        self.fresh.len() + self.tried.len() as u64
    }

    /// Whether nobody holds `unit`.
    pub fn is_idle(&self, unit: u32) -> bool {
        self.fresh.contains(unit) || self.tried.contains(&unit)
    }

    /// Ranges of the units nobody holds, in no order.
    pub fn idle_ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        self.fresh.ranges().chain(self.tried.iter().map(|unit| (*unit, unit + 1)))
    }

    /// The lowest idle unit that `may_run`, as far as a bounded look finds one.
    pub fn candidate(&self, may_run: impl Fn(u32) -> bool) -> Option<u32> {
        let fresh = self.fresh.first().filter(|unit| may_run(*unit));
        let tried = self.tried.iter().take(TRIED_LOOKS_MAX).copied().find(|unit| may_run(*unit));
        fresh.into_iter().chain(tried).min()
    }
}

/// What waits for one range of units.
#[derive(Clone, Debug)]
struct Barrier {
    first: u32,
    past: u32,
    /// Units of the range that are not through.
    open: u32,
    /// Groups that wait.
    dependants: Vec<usize>,
}

/// The groups of one job.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
    barriers: Vec<Barrier>,
    /// Ready groups by stage.
    ready: BTreeMap<UnitKind, BTreeSet<usize>>,
}

impl Groups {
    /// Groups the units of a plan; all of them are idle and none is through.
    pub fn new(plan: &Plan) -> Self {
        let mut all = Self::default();
        for (first, entry) in plan.entries.iter() {
            let past = first.saturating_add(u32::try_from(entry.unit_count()).unwrap_or(u32::MAX));
            let past = past.min(plan.unit_count());
            let set = match entry.spec {
                EntrySpec::Extract { set, .. } | EntrySpec::Shards { set, .. } => Some(set),
                _ => None,
            };
            // A range may only point back; a plan that says otherwise was refused, or is cut here.
            let inputs = entry.prerequisites.iter().map(|(from, to)| (*from, (*to).min(first)));
            let inputs: BTreeSet<_> = inputs.filter(|(from, to)| from < to).collect();
            let inputs: Vec<_> = inputs.into_iter().collect();
            let kind = entry.kind();
            let class = match &entry.spec {
                EntrySpec::Fit(unit) => unit.required_class().map(str::to_owned),
                _ => None,
            };
            match all.groups.last_mut() {
                Some(last)
                    if (last.kind, last.set) == (kind, set)
                        && last.class == class
                        && last.inputs == inputs =>
                {
                    last.past = past;
                    last.fresh.insert(first, past);
                }
                _ => all.groups.push(Group {
                    kind,
                    set,
                    class,
                    first,
                    past,
                    inputs,
                    open: 0,
                    over: Vec::new(),
                    fresh: UnitSet::range(first, past),
                    tried: BTreeSet::new(),
                }),
            }
        }
        all.raise_barriers();
        (0..all.groups.len()).for_each(|group| all.list(group));
        all
    }

    /// One barrier over each range that some group waits for.
    fn raise_barriers(&mut self) {
        let mut known: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.open = group.inputs.len() as u32;
            for &(first, past) in &group.inputs {
                let barrier = *known.entry((first, past)).or_insert(self.barriers.len());
                if barrier == self.barriers.len() {
                    let (open, dependants) = (past - first, Vec::new());
                    self.barriers.push(Barrier { first, past, open, dependants });
                }
                self.barriers[barrier].dependants.push(index);
            }
        }
        for (index, barrier) in self.barriers.iter().enumerate() {
            let from = self.groups.partition_point(|group| group.past <= barrier.first);
            let over = self.groups.iter_mut().skip(from);
            over.take_while(|group| group.first < barrier.past)
                .for_each(|group| group.over.push(index));
        }
    }

    /// The group of a unit of the plan; `None` past the plan's end.
    pub fn of(&self, unit: u32) -> Option<usize> {
        let index = self.groups.partition_point(|group| group.past <= unit);
        self.groups.get(index).is_some_and(|group| group.first <= unit).then_some(index)
    }

    /// A group by its index.
    pub fn get(&self, group: usize) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Every group, in the order of their units.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// Ready groups of a stage, in the order of their units.
    pub fn ready(&self, kind: UnitKind) -> impl Iterator<Item = &Group> {
        let indices = self.ready.get(&kind).into_iter().flatten();
        indices.filter_map(|index| self.groups.get(*index))
    }

    /// Whether a unit could start now.
    pub fn has_ready(&self) -> bool {
        self.ready.values().any(|groups| !groups.is_empty())
    }

    /// Nobody holds `unit` any more; `tried` = it failed on some worker.
    pub fn add_idle(&mut self, group: usize, unit: u32, tried: bool) {
        if let Some(it) = self.groups.get_mut(group) {
            if tried {
                it.tried.insert(unit);
            } else {
                it.fresh.insert(unit, unit.saturating_add(1));
            }
        }
        self.list(group);
    }

    /// Somebody holds the idle units of `first..past` or they are through; returns which were idle.
    pub fn remove_idle(&mut self, group: usize, first: u32, past: u32) -> Vec<(u32, u32)> {
        let Some(it) = self.groups.get_mut(group) else { return Vec::new() };
        let mut removed = it.fresh.remove(first, past);
        if !it.tried.is_empty() && first < past {
            let tried: Vec<u32> = it.tried.range(first..past).copied().collect();
            for unit in tried {
                it.tried.remove(&unit);
                removed.push((unit, unit + 1));
            }
        }
        self.list(group);
        removed
    }

    fn list(&mut self, group: usize) {
        let Some(it) = self.groups.get(group) else { return };
        let is_ready = it.open == 0 && it.idle_count() > 0;
        let ready = self.ready.entry(it.kind).or_default();
        if is_ready {
            ready.insert(group);
        } else {
            ready.remove(&group);
        }
    }

    fn over(&self, group: usize, (first, past): (u32, u32)) -> Vec<usize> {
        let over = self.groups.get(group).map_or(&[][..], |group| &group.over);
        let overlaps = |barrier: &Barrier| barrier.first < past && first < barrier.past;
        let over = over.iter().filter(|index| self.barriers.get(**index).is_some_and(overlaps));
        over.copied().collect()
    }

    /// Groups that wait for one of `units`, which are of `group`.
    pub fn dependants(&self, group: usize, units: (u32, u32)) -> BTreeSet<usize> {
        let over = self.over(group, units).into_iter();
        over.filter_map(|index| self.barriers.get(index))
            .flat_map(|barrier| barrier.dependants.iter().copied())
            .collect()
    }

    /// `units`, which are of `group`, are through; returns the groups that wait for nothing any more.
    pub fn lower(&mut self, group: usize, units: (u32, u32)) -> Vec<usize> {
        let mut opened = Vec::new();
        for index in self.over(group, units) {
            let Some(barrier) = self.barriers.get_mut(index) else { continue };
            let through = units.1.min(barrier.past) - units.0.max(barrier.first);
            let before = barrier.open;
            barrier.open = before.saturating_sub(through);
            if before == 0 || barrier.open > 0 {
                continue;
            }
            for dependant in barrier.dependants.clone() {
                let Some(waiting) = self.groups.get_mut(dependant) else { continue };
                waiting.open = waiting.open.saturating_sub(1);
                if waiting.open == 0 {
                    opened.push(dependant);
                    self.list(dependant);
                }
            }
        }
        opened
    }

    /// `unit`, which is of `group`, was through and is no more; returns the groups that have to wait.
    pub fn raise(&mut self, group: usize, unit: u32) -> Vec<usize> {
        let mut closed = Vec::new();
        for index in self.over(group, (unit, unit.saturating_add(1))) {
            let Some(barrier) = self.barriers.get_mut(index) else { continue };
            barrier.open += 1;
            if barrier.open > 1 {
                continue;
            }
            for dependant in barrier.dependants.clone() {
                let Some(waiting) = self.groups.get_mut(dependant) else { continue };
                waiting.open += 1;
                if waiting.open == 1 {
                    closed.push(dependant);
                    self.list(dependant);
                }
            }
        }
        closed
    }
}
