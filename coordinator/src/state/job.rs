//! Pure: the units of one job, what state each is in and what opens when one ends.
//!
//! Leaves out: workers and time (state). Invariant: `set` is the only writer of a unit's state and
//! keeps counts, ready units and cooling units in step with it; failed never changes, and committed
//! only while its data is doubted.

use super::doubt::Doubts;
use super::pace::{Pace, work};
use crate::leases::Leases;
use crate::schedule::ReadyUnits;
use glmeval_common::control::{JobPhase, KindCounts};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::WorkerId;
use glmeval_common::plan::Plan;
use glmeval_common::unit::UnitKind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
        }
    }
}

/// Units that wait for one range of prerequisites. Many units share few ranges.
#[derive(Clone, Debug)]
struct Barrier {
    first: u32,
    past: u32,
    open: u32,
    dependants: Vec<u32>,
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
}

impl Failures {
    pub(super) fn count(&mut self, kind: ErrorKind, worker: WorkerId, now_ms: u64) {
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
            self.workers.insert(worker);
        }
        self.transient = 0;
    }
}

/// One job as a coordinator sees it.
#[derive(Clone, Debug)]
pub(super) struct JobState {
    pub(super) plan: Arc<Plan>,
    pub(super) ready: ReadyUnits,
    pub(super) leases: Leases,
    pub(super) failures: BTreeMap<u32, Failures>,
    /// Units given up, with the reason.
    pub(super) failed: BTreeMap<u32, String>,
    pub(super) cancelled: bool,
    pub(super) pace: Pace,
    pub(super) rows_total: u64,
    pub(super) rows_committed: u64,
    /// Whether its end was told.
    pub(super) over_told: bool,
    /// Whether a unit became ready since this was last cleared.
    pub(super) became_ready: bool,
    pub(super) doubts: Doubts,
    units: Vec<UnitState>,
    barriers: Vec<Barrier>,
    /// Index of the barrier over a range.
    barrier_over: BTreeMap<(u32, u32), usize>,
    counts: [[u64; 6]; 4],
    cooling: BTreeSet<(u64, u32)>,
}

impl JobState {
    pub(super) fn new(
        plan: Arc<Plan>,
        committed: &[bool],
        failed: BTreeMap<u32, String>,
        cancelled: bool,
    ) -> Self {
        let work_left = plan.units.iter().map(|unit| work(unit.flops)).sum();
        let mut job = Self {
            units: vec![UnitState::Waiting { open: 0 }; plan.units.len()],
            plan,
            ready: ReadyUnits::default(),
            leases: Leases::default(),
            failures: BTreeMap::new(),
            failed: BTreeMap::new(),
            cancelled,
            pace: Pace::new(work_left),
            rows_total: 0,
            rows_committed: 0,
            over_told: false,
            became_ready: false,
            doubts: Doubts::default(),
            barriers: Vec::new(),
            barrier_over: BTreeMap::new(),
            counts: [[0; 6]; 4],
            cooling: BTreeSet::new(),
        };
        job.raise_barriers();
        let shards = (0..job.units.len() as u32).filter_map(|unit| job.rows(unit));
        job.rows_total =
            shards.fold(0, |sum, (start, end)| sum.saturating_add(end.saturating_sub(start)));
        let committed = (0_u32..).zip(committed).filter(|(_, committed)| **committed);
        let (reports, others): (Vec<u32>, Vec<u32>) =
            committed.map(|(unit, _)| unit).partition(|unit| job.is_report(*unit));
        for unit in others {
            job.commit(unit);
        }
        for (unit, reason) in failed {
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

    /// Turns every unit's prerequisites into barriers and opens those that wait for nothing.
    fn raise_barriers(&mut self) {
        let plan = Arc::clone(&self.plan);
        for index in 0..self.units.len() as u32 {
            let ranges = self.inputs(index);
            for range in &ranges {
                let barrier = *self.barrier_over.entry(*range).or_insert_with(|| {
                    let (first, past) = *range;
                    let open = past - first;
                    self.barriers.push(Barrier { first, past, open, dependants: Vec::new() });
                    self.barriers.len() - 1
                });
                self.barriers[barrier].dependants.push(index);
            }
            let state = UnitState::Waiting { open: ranges.len() as u32 };
            self.units[index as usize] = state;
            self.counts[kind_row(&plan, index)][state.column()] += 1;
            if ranges.is_empty() {
                self.set(index, UnitState::Ready);
            }
        }
    }

    /// Ranges of the units that `unit` reads.
    pub(super) fn inputs(&self, unit: u32) -> BTreeSet<(u32, u32)> {
        let planned = self.plan.units.get(unit as usize);
        let ranges = planned.map_or(&[][..], |planned| &planned.prerequisites);
        // A range may only point back; a plan that says otherwise was refused, or is cut here.
        let ranges = ranges.iter().map(|(first, past)| (*first, (*past).min(unit)));
        ranges.filter(|(first, past)| first < past).collect()
    }

    /// State of a unit that nobody holds and that is not through.
    pub(super) fn idle(&self, unit: u32) -> UnitState {
        let is_open = |range: &(u32, u32)| {
            let barrier = self.barrier_over.get(range).and_then(|index| self.barriers.get(*index));
            barrier.is_some_and(|barrier| barrier.open > 0)
        };
        match self.inputs(unit).iter().filter(|range| is_open(range)).count() {
            0 => UnitState::Ready,
            open => UnitState::Waiting { open: open as u32 },
        }
    }

    fn is_report(&self, unit: u32) -> bool {
        self.plan.kind(unit) == Some(UnitKind::Report)
    }

    /// Units there are.
    pub(super) fn unit_count(&self) -> u32 {
        self.units.len() as u32
    }

    /// State of a unit; `None` past the end.
    pub(super) fn unit(&self, unit: u32) -> Option<UnitState> {
        self.units.get(unit as usize).copied()
    }

    /// Changes the state of a unit that exists.
    pub(super) fn set(&mut self, unit: u32, new: UnitState) {
        let Some(state) = self.units.get_mut(unit as usize) else { return };
        let old = std::mem::replace(state, new);
        let row = &mut self.counts[kind_row(&self.plan, unit)];
        row[old.column()] -= 1;
        row[new.column()] += 1;
        match old {
            UnitState::Ready => self.ready.remove(&self.plan, unit),
            UnitState::Cooling { until_ms } => {
                self.cooling.remove(&(until_ms, unit));
            }
            _ => {}
        }
        match new {
            UnitState::Ready => {
                self.ready.insert(&self.plan, unit);
                self.became_ready = true;
            }
            UnitState::Cooling { until_ms } => {
                self.cooling.insert((until_ms, unit));
            }
            _ => {}
        }
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
        if let Some((start, end)) = self.rows(unit) {
            self.rows_committed = self.rows_committed.saturating_add(end.saturating_sub(start));
        }
        self.settle(unit, UnitState::Committed);
        true
    }

    /// Gives a unit up, and with it all that needs it but the report.
    pub(super) fn fail(&mut self, unit: u32, reason: String) {
        let mut doomed = vec![(unit, reason)];
        while let Some((unit, reason)) = doomed.pop() {
            if self.unit(unit).is_none_or(UnitState::is_terminal) {
                continue;
            }
            self.failed.insert(unit, reason);
            self.settle(unit, UnitState::Failed);
            for barrier in self.barriers.iter().filter(|b| b.first <= unit && unit < b.past) {
                let dependants = barrier.dependants.iter();
                doomed.extend(
                    dependants
                        .filter(|unit| !self.is_report(**unit))
                        .map(|dependant| (*dependant, format!("prerequisite {unit} failed"))),
                );
            }
        }
    }

    /// Ends a unit and lowers the barriers over it.
    fn settle(&mut self, unit: u32, end: UnitState) {
        self.leases.end_unit(unit);
        self.set(unit, end);
        let flops = self.plan.units.get(unit as usize).map_or(0.0, |unit| unit.flops);
        self.pace.settle(work(flops));
        let mut opened = Vec::new();
        for barrier in self.barriers.iter_mut().filter(|b| b.first <= unit && unit < b.past) {
            barrier.open = barrier.open.saturating_sub(1);
            if barrier.open == 0 {
                opened.extend_from_slice(&barrier.dependants);
            }
        }
        for dependant in opened {
            if let Some(UnitState::Waiting { .. }) = self.unit(dependant) {
                self.set(dependant, self.idle(dependant));
            }
        }
    }

    /// Takes a committed unit back and raises the barriers over it. Units that run on go on.
    pub(super) fn uncommit(&mut self, unit: u32) {
        if self.unit(unit) != Some(UnitState::Committed) {
            return;
        }
        if let Some((start, end)) = self.rows(unit) {
            self.rows_committed = self.rows_committed.saturating_sub(end.saturating_sub(start));
        }
        let flops = self.plan.units.get(unit as usize).map_or(0.0, |unit| unit.flops);
        self.pace.reopen(work(flops));
        self.set(unit, self.idle(unit));
        let mut closed = Vec::new();
        for barrier in self.barriers.iter_mut().filter(|b| b.first <= unit && unit < b.past) {
            if barrier.open == 0 {
                closed.extend_from_slice(&barrier.dependants);
            }
            barrier.open += 1;
        }
        for dependant in closed {
            if let Some(UnitState::Waiting { .. } | UnitState::Ready) = self.unit(dependant) {
                self.set(dependant, self.idle(dependant));
            }
        }
    }

    /// Rows of a shard; `None` for other units.
    pub(super) fn rows(&self, unit: u32) -> Option<(u64, u64)> {
        match self.plan.units.get(unit as usize)?.spec {
            glmeval_common::plan::UnitSpec::Extract { start, end, .. } => Some((start, end)),
            _ => None,
        }
    }

    pub(super) fn phase(&self) -> JobPhase {
        let column = |column: usize| self.counts.iter().map(|row| row[column]).sum::<u64>();
        if self.cancelled {
            JobPhase::Cancelled
        } else if column(4) + column(5) < self.units.len() as u64 {
            JobPhase::Running
        } else if column(5) > 0 {
            JobPhase::FinishedWithFailures
        } else {
            JobPhase::Finished
        }
    }

    pub(super) fn counts(&self) -> Vec<KindCounts> {
        let counts = UnitKind::ALL.iter().zip(&self.counts).map(|(kind, row)| {
            let [waiting, ready, leased, cooling, committed, failed] = *row;
            KindCounts { kind: *kind, waiting, ready, leased, cooling, committed, failed }
        });
        counts.collect()
    }
}

/// Index of a unit's stage in [`UnitKind::ALL`].
pub(super) fn kind_row(plan: &Plan, unit: u32) -> usize {
    let kind = plan.kind(unit);
    UnitKind::ALL.iter().position(|known| Some(*known) == kind).unwrap_or(0)
}
