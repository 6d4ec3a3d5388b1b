//! Pure: a shard that fails for good is cut in halves, and these again, down to the rows at fault.
//!
//! Leaves out: when (reports). Invariant: a shard that was cut is through when all its parts are; its
//! rows are all in its parts, each in one. What fails in all its rows is not cut down to each of them, and no
//! other shard is cut less for it.

use super::{JobState, UnitState};
use std::collections::BTreeMap;

/// Cuts of a shard all of whose parts failed, since one of its parts ran; from there on a part that fails beside
/// failed ones is given up whole.
pub(in crate::state) const FRUITLESS_CUTS_MAX: u32 = 256;
/// Shards of a set that used these up, since a part of any of its shards ran; those that follow have none.
pub(in crate::state) const BARREN_SHARDS_MAX: u32 = 8;

/// Rows that are given up, with the unit of the plan they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The unit of the plan.
    pub unit: u32,
    /// First example.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Error chain of its last failure.
    pub reason: String,
}

/// Shards that were cut, with their parts, and parts that ended since anyone looked.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Splits {
    parts: BTreeMap<u32, Vec<u32>>,
    ended: Vec<u32>,
    /// By shard of the plan: cuts all of whose parts failed, where one of these was to be cut again, since a part
    /// ran.
    pub(in crate::state) fruitless: BTreeMap<u32, u32>,
    /// By set: shards that used up theirs, since a part ran.
    pub(in crate::state) barren: BTreeMap<Option<usize>, u32>,
}

impl Splits {
    /// Whether a unit was cut.
    pub(in crate::state) fn is_cut(&self, unit: u32) -> bool {
        self.parts.contains_key(&unit)
    }
}

impl JobState {
    /// Cuts a shard in halves that can be run; `false` if it is one row, or no shard, or if cuts have
    /// shown too often that no single row is at fault.
    pub(in crate::state) fn split(&mut self, unit: u32) -> bool {
        let Some((start, end)) = self.rows(unit).filter(|(start, end)| end - start > 1) else {
            return false;
        };
        if self.is_last_to_fail(unit) && !self.may_cut_in_vain(unit) {
            return false;
        }
        let middle = start + (end - start) / 2;
        self.cut(unit, &[(start, middle), (middle, end)]).is_some()
    }

    /// Counts one more cut whose parts all failed; whether its last part may be cut all the same.
    fn may_cut_in_vain(&mut self, unit: u32) -> bool {
        let (shard, set) = (self.children.root(unit), self.group_set(unit));
        let barren = self.splits.barren.entry(set).or_default();
        let most = if *barren < BARREN_SHARDS_MAX { FRUITLESS_CUTS_MAX } else { 0 };
        let count = self.splits.fruitless.entry(shard).or_default();
        *count = count.saturating_add(1);
        if *count == FRUITLESS_CUTS_MAX + 1 {
            *barren = barren.saturating_add(1);
        }
        *count <= most
    }

    /// A unit ended. A part that ran shows that rows of its shard, and of its set, differ: cuts are worth their
    /// while again.
    pub(super) fn note_end(&mut self, unit: u32, end: UnitState) {
        self.splits.ended.push(unit);
        if end == UnitState::Committed && self.children.is_beyond(unit) {
            self.splits.fruitless.remove(&self.children.root(unit));
            self.splits.barren.remove(&self.group_set(unit));
        }
    }

    /// Whether a part of a cut fails as all others did.
    fn is_last_to_fail(&self, unit: u32) -> bool {
        let parent = self.children.get(unit).map(|child| child.parent);
        let parts = parent.and_then(|parent| self.splits.parts.get(&parent));
        let failed =
            |part: &u32| matches!(self.unit(*part), Some(UnitState::Split | UnitState::Failed));
        parts.is_some_and(|parts| parts.iter().filter(|part| **part != unit).all(failed))
    }

    /// Cuts a shard into parts that tile its rows; returns their numbers.
    fn cut(&mut self, unit: u32, parts: &[(u64, u64)]) -> Option<Vec<u32>> {
        let work = self.work(unit);
        let added = parts.iter().map(|(start, end)| self.add_child(unit, *start, *end));
        let added: Vec<u32> = added.collect::<Option<_>>()?;
        self.leases.take_back(unit);
        self.set(unit, UnitState::Split);
        self.pace.waive(work);
        self.splits.parts.insert(unit, added.clone());
        Some(added)
    }

    /// Goes on where an earlier coordinator stood: rows it gave up are parts of their own, and so is
    /// what lies between them, where the store holds it (`kept`) and where it does not.
    pub(in crate::state) fn recut(
        &mut self,
        quarantined: Vec<Quarantined>,
        kept: &[(u32, u64, u64)],
    ) {
        let mut by_unit: BTreeMap<u32, BTreeMap<(u64, u64), String>> = BTreeMap::new();
        for Quarantined { unit, start, end, reason } in quarantined {
            by_unit.entry(unit).or_default().insert((start, end), reason);
        }
        for (unit, rows) in by_unit {
            let Some((start, end)) = self.rows(unit) else { continue };
            if self.unit(unit).is_none_or(UnitState::is_terminal) {
                continue;
            }
            let kept = kept.iter().filter(|(of, ..)| *of == unit).map(|(_, a, b)| (*a, *b));
            let parts = tiles((start, end), rows.keys().copied(), kept);
            let ranges: Vec<_> = parts.iter().map(|(range, _)| *range).collect();
            let added = self.cut(unit, &ranges).unwrap_or_default();
            for (part, (range, is_kept)) in added.into_iter().zip(&parts) {
                if let Some(reason) = rows.get(range) {
                    self.fail(part, reason.clone());
                } else if *is_kept {
                    self.commit(part);
                }
            }
        }
    }

    /// Gives up the parts of a shard that are not through. A shard is on record as given up once all its
    /// parts ended, so what is missing of it was given up too, or is gone from the store.
    pub(in crate::state) fn fail_parts(&mut self, unit: u32, reason: &str) {
        for part in self.splits.parts.get(&unit).cloned().unwrap_or_default() {
            self.fail(part, reason.to_owned());
        }
    }

    /// Ends shards all of whose parts ended; returns the units of the plan that failed so, and why.
    pub(in crate::state) fn close_splits(&mut self) -> Vec<(u32, String)> {
        let mut failed = Vec::new();
        while let Some(part) = self.splits.ended.pop() {
            let Some(parent) = self.children.get(part).map(|child| child.parent) else { continue };
            let parts = self.splits.parts.get(&parent).cloned().unwrap_or_default();
            let is_through = |part: &u32| self.unit(*part).is_some_and(UnitState::is_terminal);
            if self.unit(parent) != Some(UnitState::Split) || !parts.iter().all(is_through) {
                continue;
            }
            self.pace.reopen(self.work(parent));
            let reasons = parts.iter().filter_map(|part| self.why_failed(*part));
            let reasons: Vec<String> = reasons.collect();
            if reasons.is_empty() {
                self.commit(parent);
            } else {
                let reason = reasons.join("; ");
                if !self.children.is_beyond(parent) {
                    failed.push((parent, reason.clone()));
                }
                self.fail(parent, reason);
            }
        }
        failed
    }

    /// Why a part failed, naming its rows; `None` if it did not.
    fn why_failed(&self, part: u32) -> Option<String> {
        let reason = self.failed.reason(part)?;
        if self.splits.is_cut(part) {
            return Some(reason.to_owned());
        }
        let (start, end) = self.rows(part)?;
        let set = self.group_set(part).and_then(|set| self.plan.sets.get(set));
        let (set, model) = set.map_or(("?", "?"), |set| (set.id.as_str(), &set.model.name));
        Some(format!("examples {start}-{end} of set {set} by {model} are quarantined: {reason}"))
    }

    /// A shard that was cut is committed, by all its parts or by a late attempt at the whole: parts that
    /// are open need no more work, and no row is counted twice.
    pub(super) fn absorb_parts(&mut self, unit: u32) {
        let mut rest = self.splits.parts.get(&unit).cloned().unwrap_or_default();
        while let Some(part) = rest.pop() {
            match self.unit(part) {
                Some(UnitState::Committed) if !self.splits.is_cut(part) => {
                    let rows = self.rows(part).map_or(0, |(start, end)| end.saturating_sub(start));
                    self.rows_committed = self.rows_committed.saturating_sub(rows);
                }
                Some(UnitState::Failed) | None => {}
                Some(state) => {
                    rest.extend(self.splits.parts.get(&part).cloned().unwrap_or_default());
                    if !state.is_terminal() {
                        self.settle(part, UnitState::Committed);
                    }
                }
            }
        }
    }
}

/// Tiles `start..end`: rows that were given up as they are on record, between them what the store holds,
/// which is marked, and what it does not hold.
fn tiles(
    (start, end): (u64, u64),
    given_up: impl Iterator<Item = (u64, u64)>,
    kept: impl Iterator<Item = (u64, u64)> + Clone,
) -> Vec<((u64, u64), bool)> {
    let (mut tiles, mut position) = (Vec::new(), start);
    let within = given_up.filter(|(first, past)| first < past && *past <= end);
    for (first, past) in within.chain([(end, end)]) {
        if first < position {
            continue;
        }
        for (from, to) in kept.clone() {
            let (from, to) = (from.clamp(position, first), to.clamp(position, first));
            if from < to {
                tiles.push(((position, from), false));
                tiles.push(((from, to), true));
                position = to;
            }
        }
        tiles.push(((position, first), false));
        tiles.push(((first, past), false));
        position = past;
    }
    tiles.retain(|((first, past), _)| first < past);
    tiles
}
