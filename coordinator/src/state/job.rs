//! Pure: the units of one job, what state each is in and what opens when one ends.
//!
//! Leaves out: workers and time (state), which units are alike (schedule). Invariant: `set`, of one
//! unit, and `settle_idle`, of many, are the only writers of states and keep counts, idle and cooling
//! units in step; failed never changes, and committed only while its data is doubted. Nothing here takes
//! longer for a job of more units.

use super::doubt::Doubts;
use super::pace::{Pace, work_of};
use crate::leases::Leases;
use crate::schedule::{self, Group, Groups, UnitSet};
use glmeval_common::control::{JobPhase, KindCounts};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{Generation, ModelId, WorkerId};
use glmeval_common::job::JobSchedule;
use glmeval_common::plan::{Plan, PlannedUnit, UnitSpec};
use glmeval_common::unit::{UnitKind, WorkUnit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod children;
mod failed;
mod split;

use children::Children;
use failed::FailedUnits;
pub use split::Quarantined;
use split::Splits;
#[cfg(test)]
pub(super) use split::{BARREN_SHARDS_MAX, FRUITLESS_CUTS_MAX};

/// State of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// So many ranges of prerequisites are not through.
    Waiting {
        /// Ranges.
        open: u32,
    },
    /// Could start now.
    Ready,
    /// One or two workers hold a lease.
    Leased,
    /// Backing off.
    Cooling {
        /// When it becomes ready.
        until_ms: u64,
    },
    /// Cut into parts that are units of their own.
    Split,
    /// Its commit stands in the store.
    Committed,
    /// Given up.
    Failed,
}

impl UnitState {
    /// Whether nothing more will happen to the unit.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Committed | Self::Failed)
    }

    fn column(self) -> usize {
        match self {
            Self::Waiting { .. } => 0,
            Self::Ready => 1,
            Self::Leased => 2,
            Self::Cooling { .. } => 3,
            Self::Committed => 4,
            Self::Failed => 5,
            Self::Split => 6,
        }
    }
}

/// Failures of one unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    pub(super) deterministic: u32,
    /// In a row.
    pub(super) transient: u32,
    /// When the first of these was reported.
    pub(super) transient_since_ms: u64,
    /// Attempts that found what they read damaged.
    pub(super) corrupt: u32,
    /// Workers that fell silent while they ran it.
    pub(super) silenced: u32,
    /// Workers it failed on for good.
    pub(super) workers: BTreeSet<WorkerId>,
    /// Their machines.
    pub(super) hosts: BTreeSet<String>,
}

impl Failures {
    pub(super) fn count(&mut self, kind: ErrorKind, who: (WorkerId, Option<String>), now_ms: u64) {
        if kind == ErrorKind::Corrupt {
            self.corrupt += 1;
        } else if kind.is_transient() {
            if self.transient == 0 {
                self.transient_since_ms = now_ms;
            }
            self.transient += 1;
            return;
        } else {
            self.deterministic += 1;
            self.workers.insert(who.0);
            self.hosts.extend(who.1);
        }
        self.transient = 0;
    }
}

/// How a job and its units ended before this coordinator began.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Units given up, with their error chains.
    pub failed: BTreeMap<u32, String>,
    /// Rows of shards given up.
    pub quarantined: Vec<Quarantined>,
    /// What the store holds of these shards, as ranges of rows by unit.
    pub kept: Vec<(u32, u64, u64)>,
    /// Whether the user ended the job.
    pub cancelled: bool,
}

/// One job as a coordinator sees it.
///
/// A unit that nobody holds is idle in its group, one that is held has an entry in `held`, one that was
/// given up is in `failed`, and all others are committed: a unit costs bytes of its own only while
/// something is special about it.
#[derive(Clone, Debug)]
pub(super) struct JobState {
    pub(super) plan: Arc<Plan>,
    pub(super) groups: Groups,
    pub(super) children: Children,
    pub(super) leases: Leases,
    pub(super) failures: BTreeMap<u32, Failures>,
    /// Units given up, with the reason.
    pub(super) failed: FailedUnits,
    pub(super) cancelled: bool,
    pub(super) schedule: JobSchedule,
    /// Grants before this one were of an earlier round.
    pub(super) since: Generation,
    pub(super) splits: Splits,
    pub(super) pace: Pace,
    pub(super) rows_total: u64,
    pub(super) rows_committed: u64,
    /// Whether a unit became ready since this was last cleared.
    pub(super) became_ready: bool,
    pub(super) doubts: Doubts,
    /// Refused workers whose commits nobody looked at since.
    pub(super) suspects: BTreeSet<WorkerId>,
    /// Leased and cooling units.
    held: BTreeMap<u32, UnitState>,
    counts: [[u64; 7]; 4],
    cooling: BTreeSet<(u64, u32)>,
}

impl JobState {
    pub(super) fn new(
        plan: Arc<Plan>,
        committed: &[bool],
        ended: Ended,
        schedule: JobSchedule,
        since: Generation,
    ) -> Self {
        let units = plan.unit_count();
        let totals = plan.totals(0, units);
        let mut job = Self {
            groups: Groups::new(&plan),
            children: Children::behind(units),
            plan,
            leases: Leases::default(),
            failures: BTreeMap::new(),
            failed: FailedUnits::default(),
            cancelled: ended.cancelled,
            schedule,
            since,
            splits: Splits::default(),
            pace: Pace::new(work_of(units, totals.flops)),
            rows_total: totals.rows,
            rows_committed: 0,
            became_ready: false,
            doubts: Doubts::default(),
            suspects: BTreeSet::new(),
            held: BTreeMap::new(),
            counts: [[0; 7]; 4],
            cooling: BTreeSet::new(),
        };
        for group in job.groups.iter() {
            job.counts[row_of(group.kind())][group_state(group).column()] += group.idle_count();
            job.became_ready |= group.open() == 0;
        }
        let mut reports = Vec::new();
        for (first, past) in ranges_of(committed, units) {
            job.commit_recovered(first, past, &mut reports);
        }
        job.recut(ended.quarantined, &ended.kept);
        for (unit, reason) in ended.failed {
            job.fail_parts(unit, &reason);
            job.fail(unit, reason);
        }
        for unit in reports {
            // One made before all it tells of was through is out of date.
            if job.idle(unit) == UnitState::Ready {
                job.commit(unit);
            }
        }
        job
    }

    /// Commits idle units of the plan at once; reports are only noted.
    fn commit_recovered(&mut self, first: u32, past: u32, reports: &mut Vec<u32>) {
        let mut from = first;
        while from < past
            && let Some(group) = self.groups.of(from)
            && let Some(it) = self.groups.get(group)
        {
            let to = it.units().1.min(past);
            if it.kind() == UnitKind::Report {
                reports.extend(from..to);
            } else {
                self.settle_idle(group, (from, to), UnitState::Committed);
            }
            from = to;
        }
    }

    /// The group of a unit; `None` for a number that was never given.
    fn group_of(&self, unit: u32) -> Option<usize> {
        if unit < self.children.past() { self.groups.of(self.children.root(unit)) } else { None }
    }

    fn group(&self, unit: u32) -> Option<&Group> {
        self.groups.get(self.group_of(unit)?)
    }

    /// What a unit is, of the plan or beyond it.
    pub(super) fn planned(&self, unit: u32) -> Option<PlannedUnit<'_>> {
        let Some(child) = self.children.get(unit) else { return self.plan.unit(unit) };
        let mut planned = self.plan.unit(child.root)?;
        if let UnitSpec::Extract { start, end, .. } = &mut planned.spec {
            let share = (child.end - child.start) as f64 / (*end - *start).max(1) as f64;
            (*start, *end) = (child.start, child.end);
            planned.flops *= share;
            planned.bytes = (planned.bytes as f64 * share) as u64;
        }
        Some(planned)
    }

    /// The self-contained form of a unit, of the plan or beyond it.
    pub(super) fn work_unit(&self, unit: u32) -> Option<WorkUnit> {
        self.plan.self_contained(self.planned(unit)?.spec)
    }

    /// Rows of a shard; `None` for other units.
    pub(super) fn rows(&self, unit: u32) -> Option<(u64, u64)> {
        match self.planned(unit)?.spec {
            UnitSpec::Extract { start, end, .. } => Some((start, end)),
            _ => None,
        }
    }

    /// Work of a unit, as its pace counts it.
    pub(super) fn work(&self, unit: u32) -> f64 {
        work_of(1, self.planned(unit).map_or(0.0, |planned| planned.flops))
    }

    /// Index of a unit's stage in [`UnitKind::ALL`].
    pub(super) fn kind_row(&self, unit: u32) -> usize {
        self.group(unit).map_or(0, |group| row_of(group.kind()))
    }

    /// Whether a worker of those numeric classes can run a unit.
    pub(super) fn class_matches(&self, unit: u32, numeric_classes: &[String]) -> bool {
        let matches = |group| schedule::class_matches(&self.plan, group, numeric_classes);
        self.group(unit).is_some_and(matches)
    }

    /// The gLM a unit brings into memory.
    pub(super) fn model_of(&self, unit: u32) -> Option<&ModelId> {
        schedule::model_of(&self.plan, self.group(unit)?)
    }

    /// Index of the set a unit fills; `None` for other stages.
    pub(super) fn group_set(&self, unit: u32) -> Option<usize> {
        self.group(unit)?.set()
    }

    /// Whether a grant was made for this round of the job by this coordinator: only then do numbers
    /// beyond the plan mean the same parts.
    pub(super) fn knows(&self, generation: Generation) -> bool {
        generation.epoch == self.since.epoch && generation >= self.since
    }

    /// Whether a worker may get units: all may, unless the job has as many as it wants.
    pub(super) fn has_room_for(&self, worker: &WorkerId) -> bool {
        let workers = self.leases.worker_count();
        let fits = |most: u32| workers < most as usize;
        self.schedule.workers_max.is_none_or(fits) || self.leases.of_worker(worker).next().is_some()
    }

    /// Ranges of the units that `unit` reads.
    pub(super) fn inputs(&self, unit: u32) -> Vec<(u32, u32)> {
        self.group(unit).map_or(Vec::new(), |group| group.inputs().to_vec())
    }

    /// State of a unit that nobody holds and that is not through.
    pub(super) fn idle(&self, unit: u32) -> UnitState {
        self.group(unit).map_or(UnitState::Ready, group_state)
    }

    /// Units there are, parts included.
    #[cfg(test)]
    pub(super) fn unit_count(&self) -> u32 {
        self.children.past()
    }

    /// State of a unit; `None` past the end.
    pub(super) fn unit(&self, unit: u32) -> Option<UnitState> {
        let group = self.group(unit)?;
        if group.is_idle(unit) {
            return Some(group_state(group));
        }
        Some(match self.held.get(&unit) {
            Some(state) => *state,
            None if self.failed.reason(unit).is_some() => UnitState::Failed,
            None => UnitState::Committed,
        })
    }

    /// Changes the state of a unit that exists; one that becomes ready or waiting is whichever its
    /// prerequisites say.
    pub(super) fn set(&mut self, unit: u32, new: UnitState) {
        let (Some(group), Some(old)) = (self.group_of(unit), self.unit(unit)) else { return };
        let row = self.kind_row(unit);
        match old {
            UnitState::Waiting { .. } | UnitState::Ready => {
                self.groups.remove_idle(group, unit, unit + 1);
            }
            UnitState::Cooling { until_ms } => {
                self.cooling.remove(&(until_ms, unit));
                self.held.remove(&unit);
            }
            _ => drop(self.held.remove(&unit)),
        }
        self.counts[row][old.column()] -= 1;
        let mut column = new.column();
        match new {
            UnitState::Waiting { .. } | UnitState::Ready => {
                let failures = self.failures.get(&unit);
                let tried = failures.is_some_and(|failures| !failures.workers.is_empty());
                self.groups.add_idle(group, unit, tried);
                let state = self.idle(unit);
                self.became_ready |= state == UnitState::Ready;
                column = state.column();
            }
            UnitState::Cooling { until_ms } => {
                self.cooling.insert((until_ms, unit));
                self.held.insert(unit, new);
            }
            UnitState::Leased | UnitState::Split => drop(self.held.insert(unit, new)),
            UnitState::Committed | UnitState::Failed => {}
        }
        self.counts[row][column] += 1;
    }

    /// Adds rows `start..end` of the shard `parent` as a unit beyond the plan and returns its number;
    /// `None` if `parent` has no such rows. What becomes of `parent` is the caller's.
    pub(super) fn add_child(&mut self, parent: u32, start: u64, end: u64) -> Option<u32> {
        let (first, past) = self.rows(parent)?;
        if start < first || end > past || start >= end {
            return None;
        }
        let unit = self.children.push(parent, start, end)?;
        let group = self.group_of(unit)?;
        self.groups.add_idle(group, unit, false);
        let state = self.idle(unit);
        self.became_ready |= state == UnitState::Ready;
        self.counts[self.kind_row(unit)][state.column()] += 1;
        self.pace.reopen(self.work(unit));
        Some(unit)
    }

    /// Puts a unit whose last lease ended back.
    pub(super) fn release(&mut self, unit: u32) {
        if self.unit(unit) == Some(UnitState::Leased) && self.leases.of_unit(unit).is_empty() {
            self.set(unit, self.idle(unit));
        }
    }

    /// Makes units ready whose back-off is over.
    pub(super) fn warm(&mut self, now_ms: u64) {
        while let Some((until_ms, unit)) = self.cooling.first().copied() {
            if until_ms > now_ms {
                break;
            }
            self.set(unit, self.idle(unit));
        }
    }

    /// A commit stands in the store; `false` if the unit was terminal already.
    pub(super) fn commit(&mut self, unit: u32) -> bool {
        if self.unit(unit).is_none_or(UnitState::is_terminal) {
            return false;
        }
        if self.unit(unit) == Some(UnitState::Split) {
            self.absorb_parts(unit);
        }
        if let Some((start, end)) = self.rows(unit) {
            self.rows_committed = self.rows_committed.saturating_add(end.saturating_sub(start));
        }
        self.settle(unit, UnitState::Committed);
        true
    }

    /// Gives a unit up, and with it all that needs it but the report.
    pub(super) fn fail(&mut self, unit: u32, reason: String) {
        if self.unit(unit).is_none_or(UnitState::is_terminal) {
            return;
        }
        let Some(group) = self.group_of(unit) else { return };
        // What waits for rows that are given up says which.
        let named =
            self.splits.is_cut(unit).then(|| format!("prerequisite {unit} failed: {reason}"));
        self.fail_one(unit, reason);
        let mut through = vec![(group, unit, unit + 1)];
        while let Some((group, first, past)) = through.pop() {
            for dependant in self.groups.dependants(group, (first, past)) {
                let kind = self.groups.get(dependant).map(Group::kind);
                if kind != Some(UnitKind::Report) {
                    let reason = format!("prerequisite {first} failed");
                    let reason = named.clone().unwrap_or(reason);
                    let doomed = self.fail_group(dependant, &reason);
                    through.extend(doomed.into_iter().map(|(a, b)| (dependant, a, b)));
                }
            }
        }
    }

    fn fail_one(&mut self, unit: u32, reason: String) {
        self.settle(unit, UnitState::Failed);
        self.failed.insert(unit, unit + 1, reason);
    }

    /// Gives up every unit of a group that is not through; returns which.
    fn fail_group(&mut self, group: usize, reason: &str) -> Vec<(u32, u32)> {
        let Some((first, past)) = self.groups.get(group).map(Group::units) else {
            return Vec::new();
        };
        let mut doomed = self.settle_idle(group, (0, u32::MAX), UnitState::Failed);
        for (first, past) in &doomed {
            self.failed.insert(*first, *past, reason.to_owned());
        }
        let behind = self.held.range(self.plan.unit_count()..).map(|(unit, _)| *unit);
        let behind = behind.filter(|unit| self.group_of(*unit) == Some(group));
        let held: Vec<u32> =
            self.held.range(first..past).map(|(unit, _)| *unit).chain(behind).collect();
        for unit in held {
            self.fail_one(unit, reason.to_owned());
            doomed.push((unit, unit + 1));
        }
        doomed
    }

    /// Ends a unit and lowers the barriers over it.
    fn settle(&mut self, unit: u32, end: UnitState) {
        let Some(group) = self.group_of(unit) else { return };
        self.leases.end_unit(unit);
        self.set(unit, end);
        self.note_end(unit, end);
        self.pace.settle(self.work(unit));
        let opened = self.groups.lower(group, (unit, unit + 1));
        self.note_opened(&opened);
    }

    /// Ends the idle units among `units`, which are of `group`, at once; returns which these were.
    fn settle_idle(&mut self, group: usize, units: (u32, u32), end: UnitState) -> Vec<(u32, u32)> {
        let Some(it) = self.groups.get(group) else { return Vec::new() };
        let (row, column) = (row_of(it.kind()), group_state(it).column());
        let ended = self.groups.remove_idle(group, units.0, units.1);
        for &(first, past) in &ended {
            let count = u64::from(past - first);
            self.counts[row][column] -= count;
            self.counts[row][end.column()] += count;
            let planned = self.plan.totals(first, past);
            let children = (first.max(self.plan.unit_count())..past).map(|unit| self.work(unit));
            let work =
                work_of(past.min(self.plan.unit_count()).saturating_sub(first), planned.flops);
            self.pace.settle(work + children.sum::<f64>());
            if end == UnitState::Committed {
                self.rows_committed = self.rows_committed.saturating_add(planned.rows);
            }
            let opened = self.groups.lower(group, (first, past));
            self.note_opened(&opened);
        }
        ended
    }

    /// Groups wait for nothing any more.
    fn note_opened(&mut self, opened: &[usize]) {
        for group in opened.iter().filter_map(|index| self.groups.get(*index)) {
            let (row, idle) = (&mut self.counts[row_of(group.kind())], group.idle_count());
            row[0] -= idle;
            row[1] += idle;
            self.became_ready |= idle > 0;
        }
    }

    /// Takes a committed unit back and raises the barriers over it. Units that run on go on.
    pub(super) fn uncommit(&mut self, unit: u32) {
        let Some(group) = self.group_of(unit) else { return };
        if self.unit(unit) != Some(UnitState::Committed) {
            return;
        }
        if let Some((start, end)) = self.rows(unit) {
            self.rows_committed = self.rows_committed.saturating_sub(end.saturating_sub(start));
        }
        self.pace.reopen(self.work(unit));
        self.set(unit, self.idle(unit));
        for closed in self.groups.raise(group, unit) {
            if let Some(group) = self.groups.get(closed) {
                let (row, idle) = (&mut self.counts[row_of(group.kind())], group.idle_count());
                row[1] -= idle;
                row[0] += idle;
            }
        }
    }

    /// Where the job stands. One that is complete is finished although it was cancelled: its last commit may come
    /// while the cancellation is written down, and whoever reads the store later must say the same.
    pub(super) fn phase(&self) -> JobPhase {
        let column = |column: usize| self.counts.iter().map(|row| row[column]).sum::<u64>();
        let is_open = !self.suspects.is_empty() || (0..4).chain([6]).any(|it| column(it) > 0);
        if self.cancelled && (is_open || column(5) > 0) {
            JobPhase::Cancelled
        } else if is_open {
            JobPhase::Running
        } else if column(5) > 0 {
            JobPhase::FinishedWithFailures
        } else {
            JobPhase::Finished
        }
    }

    /// Units that are committed.
    pub(super) fn committed_count(&self) -> u64 {
        self.counts.iter().map(|row| row[UnitState::Committed.column()]).sum()
    }

    /// Units of the plan that are committed. Takes as long as there are ranges of them.
    pub(super) fn committed_units(&self) -> UnitSet {
        let mut units = UnitSet::range(0, self.plan.unit_count());
        for (first, past) in self.groups.iter().flat_map(Group::idle_ranges) {
            units.remove(first, past);
        }
        for unit in self.held.keys() {
            units.remove(*unit, *unit + 1);
        }
        for (first, past) in self.failed.ranges() {
            units.remove(first, past);
        }
        units
    }

    pub(super) fn counts(&self) -> Vec<KindCounts> {
        let counts = UnitKind::ALL.iter().zip(&self.counts).map(|(kind, row)| {
            let [waiting, ready, leased, cooling, committed, failed, _cut] = *row;
            KindCounts { kind: *kind, waiting, ready, leased, cooling, committed, failed }
        });
        counts.collect()
    }
}

/// State of the idle units of a group.
fn group_state(group: &Group) -> UnitState {
    match group.open() {
        0 => UnitState::Ready,
        open => UnitState::Waiting { open },
    }
}

/// Index of a stage in [`UnitKind::ALL`].
fn row_of(kind: UnitKind) -> usize {
    UnitKind::ALL.iter().position(|known| *known == kind).unwrap_or(0)
}

/// Ranges of the units below `units` that are committed.
fn ranges_of(committed: &[bool], units: u32) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for (unit, _) in (0..units).zip(committed).filter(|(_, committed)| **committed) {
        match ranges.last_mut() {
            Some((_, past)) if *past == unit => *past += 1,
            _ => ranges.push((unit, unit + 1)),
        }
    }
    ranges
}
