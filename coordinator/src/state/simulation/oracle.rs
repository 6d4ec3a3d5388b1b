//! What must hold in every world, after every step and at its end.
//!
//! Leaves out: how worlds go. Invariant: an oracle reads and never changes anything.

use super::shapes::SimUnit;
use super::store::Key;
use super::worker::{Life, Run};
use super::world::World;
use crate::state::UnitState;
use glmeval_common::control::{JobPhase, LeaseKey, Renamed};
use glmeval_common::ids::Generation;
use glmeval_common::plan::UnitSpec;
use std::collections::BTreeSet;

impl World {
    /// A grant has a number of its own, above all of its epoch, and all it reads is committed.
    pub(super) fn check_grant(&mut self, coordinator: usize, worker: usize, lease: &LeaseKey) {
        self.rises(lease.generation);
        let state = &self.coordinators[coordinator].state;
        let job = &state.jobs[&lease.job];
        assert!(!job.phase().is_over(), "{lease:?} of a job that is over");
        let refused = self.store.refused.get(&self.workers[worker].id);
        let began_ms = self.coordinators[coordinator].began_ms;
        let is_known = refused.is_some_and(|(_, at_ms)| *at_ms <= began_ms);
        assert!(!is_known, "{lease:?} for a worker that was refused before");
        let classes = &self.workers[worker].numeric_classes;
        assert!(job.class_matches(lease.unit, classes), "{lease:?}: class");
        let is_report = job.planned(lease.unit).is_some_and(|unit| unit.spec == UnitSpec::Report);
        for input in job.inputs(lease.unit).into_iter().flat_map(|(first, past)| first..past) {
            let found = job.unit(input);
            let told_of = is_report && found == Some(UnitState::Failed);
            assert!(told_of || found == Some(UnitState::Committed), "{lease:?}: {input} {found:?}");
        }
        let held = job.leases.of_unit(lease.unit);
        assert!(held.len() <= 2, "{lease:?} thrice");
        if let [one, two] = held {
            let host = |worker| state.workers.get(worker).map(|worker| &worker.host);
            assert_ne!(host(&one.worker), host(&two.worker), "{lease:?} twice on one host");
        }
    }

    pub(super) fn check_rename(&mut self, renamed: &Renamed) {
        let same_epoch = renamed.from.generation.epoch == renamed.to.epoch;
        assert!(!same_epoch || renamed.to > renamed.from.generation, "{renamed:?} falls");
        if !self.generations.contains(&renamed.to) {
            self.rises(renamed.to);
        }
    }

    /// Only those are refused that lied.
    pub(super) fn check_refusal(&self, worker: usize, reason: &str) {
        let is_liar = self.faults.liar == Some(worker) && self.has_lied;
        assert!(is_liar, "{} is honest: {reason}", self.workers[worker].id);
    }

    fn rises(&mut self, generation: Generation) {
        assert!(self.generations.insert(generation), "{generation} was given twice");
        let highest = self.highest.entry(generation.epoch).or_insert(generation);
        assert!(generation >= *highest, "{generation} after {highest}");
        *highest = generation;
    }

    /// A worker that asked and got nothing is not needed: no unit is ready that it could run.
    pub(super) fn check_idle(&self, coordinator: usize, worker: usize) {
        let state = &self.coordinators[coordinator].state;
        let this = &self.workers[worker];
        for (id, job) in state.jobs.iter().filter(|(_, job)| !job.phase().is_over()) {
            if !job.has_room_for(&this.id) {
                continue;
            }
            for unit in 0..job.unit_count() {
                let starves = job.unit(unit) == Some(UnitState::Ready)
                    && job.class_matches(unit, &this.numeric_classes)
                    && state.may_run(job, unit, &this.id);
                assert!(!starves, "{} idles while unit {unit} of {id} is ready", this.id);
            }
        }
    }

    /// States and leases agree, and the machine calls nothing committed that the store lacks.
    pub(super) fn check_state(&self, coordinator: usize) {
        for (id, job) in &self.coordinators[coordinator].state.jobs {
            let shape = &super::shapes::ALL[self.job_of(id)];
            for (unit, known) in (0_u32..).zip(&shape.units) {
                let state = job.unit(unit);
                let leased = state == Some(UnitState::Leased);
                assert_eq!(leased, !job.leases.of_unit(unit).is_empty(), "{unit}: {state:?}");
                let stands = state != Some(UnitState::Committed) || self.store.holds(known.key).0;
                assert!(stands, "unit {unit} of {id} is not in the store");
            }
        }
    }

    /// What a unit reads when it runs; a unit that runs has all it reads.
    pub(super) fn inputs_are_sound(&self, run: &Run, unit: &SimUnit) -> bool {
        let shape = &super::shapes::ALL[self.job_of(&run.lease.job)];
        let inputs = unit.inputs.iter().flat_map(|(first, past)| *first..*past);
        let mut is_sound = true;
        for input in inputs {
            let (stands, sound) = self.store.holds(shape.units[input as usize].key);
            assert!(stands || unit.is_report, "{:?} runs before {input}", run.lease);
            is_sound &= sound || !stands;
        }
        is_sound
    }

    pub(super) fn is_poisoned(&self, (dataset, start, end): (usize, u64, u64)) -> bool {
        self.poison.range((dataset, start)..(dataset, end)).next().is_some()
    }

    /// Whether calm has come, everything was submitted, and every job is over.
    pub(super) fn is_over(&self) -> bool {
        let newest = self.newest();
        let all_known = self.jobs.keys().all(|job| self.store.jobs.contains_key(job));
        self.is_calm() && newest.is_serving && all_known && newest.state.finished()
    }

    pub(super) fn where_jobs_stand(&self) -> String {
        let alive = self.workers.iter().filter(|worker| worker.life != Life::Gone).count();
        format!("{alive} workers, {:?}", self.newest().state.statuses(0))
    }

    /// Every row is committed once or poisoned, and every job says so.
    pub(super) fn check_end(&self) {
        let newest = self.newest();
        let attempts = self.store.commits.values().map(Vec::len).sum::<usize>();
        assert_eq!(self.store.attempts().len(), attempts, "an attempt won twice");
        for revisions in self.store.commits.values() {
            let before = revisions.iter().rev().skip(1);
            assert!(before.clone().all(|commit| commit.is_damaged), "replaced without need");
        }
        for (job, shape) in &self.jobs {
            let phase = newest.state.phase(&shape.plan.job).expect("it was submitted");
            // Its last commit may have come while its cancellation was written down.
            if self.store.jobs[job] && phase != JobPhase::Finished {
                assert_eq!(phase, JobPhase::Cancelled);
                continue;
            }
            let doomed = self.doomed(shape);
            for (unit, known) in (0_u32..).zip(&shape.units) {
                let state = newest.state.unit(&shape.plan.job, unit).expect("it is planned");
                if state == UnitState::Committed {
                    assert!(self.store.holds(known.key).0, "{unit} is not there");
                    self.check_lies(known);
                    continue;
                }
                assert_eq!(state, UnitState::Failed, "unit {unit} of {job}");
                let blamed = doomed.contains(&unit) || self.faults.sick_host.is_some();
                assert!(blamed, "unit {unit} of {job} failed: {}", self.where_jobs_stand());
            }
            let failed = newest.state.status(&shape.plan.job, 0).expect("it is known").failures;
            if self.faults.sick_host.is_none() {
                self.check_rows(*job, shape);
            }
            let expected =
                if failed.is_empty() { JobPhase::Finished } else { JobPhase::FinishedWithFailures };
            assert_eq!(phase, expected);
        }
    }

    /// Nothing that a liar made counts as committed once it is refused.
    fn check_lies(&self, unit: &SimUnit) {
        let Some((_, start, end)) = unit.rows.filter(|_| !self.store.refused.is_empty()) else {
            return;
        };
        let lied: Vec<_> = (start..end).filter(|row| self.is_lied(unit.key, *row)).collect();
        assert!(lied.is_empty(), "rows {lied:?} of {:?} are a liar's", unit.key);
    }

    /// Exactly the poisoned rows of a job are quarantined, and all others are committed.
    ///
    /// What a liar committed and no coordinator was told of is believed by the next one until
    /// somebody reads it, or until the liar is refused.
    fn check_rows(&self, job: usize, shape: &super::shapes::Shape) {
        let given_up: BTreeSet<u64> =
            self.quarantined(job).iter().flat_map(|rows| rows.start..rows.end).collect();
        let mut poisoned = BTreeSet::new();
        for unit in &shape.units {
            let (Some((dataset, start, end)), Key::Shard { set, .. }) = (unit.rows, unit.key)
            else {
                continue;
            };
            let rows = (start..end).filter(|row| self.poison.contains(&(dataset, *row)));
            poisoned.extend(rows);
            for row in (start..end).filter(|row| !given_up.contains(row)) {
                let key = Key::Shard { set, start: row, end: row + 1 };
                assert!(self.store.holds(key).0, "row {row} of {job} is lost");
            }
        }
        let is_refused = !self.store.refused.is_empty();
        let is_believed = |row: &u64| {
            self.coordinators.len() > 1
                && !is_refused
                && shape.units.iter().any(|unit| self.is_lied(unit.key, *row))
        };
        let missed: Vec<_> =
            poisoned.difference(&given_up).filter(|row| !is_believed(row)).collect();
        assert!(missed.is_empty(), "gave up {given_up:?} for {poisoned:?}");
        assert!(given_up.is_subset(&poisoned), "gave up {given_up:?} for {poisoned:?}");
    }

    /// Whether a row of a unit's set is held by what a liar committed, and by nothing else.
    pub(super) fn is_lied(&self, unit: Key, row: u64) -> bool {
        let Key::Shard { set: wanted, .. } = unit else { return false };
        let holding = self.store.commits.iter().filter_map(|(key, commits)| {
            let Key::Shard { set, start, end } = *key else { return None };
            let holds = set == wanted && (start..end).contains(&row);
            holds.then(|| commits.last().is_some_and(|commit| commit.is_lie))
        });
        let holding: Vec<bool> = holding.collect();
        !holding.is_empty() && holding.into_iter().all(|is_lie| is_lie)
    }

    /// Units that read poisoned rows, and those behind them.
    fn doomed(&self, shape: &super::shapes::Shape) -> BTreeSet<u32> {
        let mut doomed = BTreeSet::new();
        for (unit, known) in (0_u32..).zip(&shape.units) {
            let mut inputs = known.inputs.iter().flat_map(|(first, past)| *first..*past);
            let poisoned = known.rows.is_some_and(|rows| self.is_poisoned(rows));
            if poisoned || (!known.is_report && inputs.any(|input| doomed.contains(&input))) {
                doomed.insert(unit);
            }
        }
        doomed
    }
}
