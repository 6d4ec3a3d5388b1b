//! Pure: what a coordinator knows and decides. `apply(event, now)` changes the state and says what
//! to do about it.
//!
//! Leaves out: clocks, I/O, waiting.
//! Invariant: `apply` neither waits nor fails; generations strictly rise; a unit is granted only
//! when all its prerequisites are committed, and is committed at most once.

use crate::schedule::{self, Taste, UnitSet};
use crate::settings::Settings;
use glmeval_common::control::{Failure, JobPhase, JobStatus, LeaseKey};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{Generation, JobId, WorkerId};
use glmeval_common::unit::WorkUnit;
use std::collections::{BTreeMap, BTreeSet};

mod crowd;
mod doubt;
mod event;
mod grants;
mod job;
mod pace;
mod reports;
#[cfg(test)]
mod simulation;
mod status;
#[cfg(test)]
mod tests;
mod turns;
mod workers;

use crowd::Crowd;
pub use event::{Effect, Event};
use job::JobState;
pub use job::{Ended, Quarantined, UnitState};
pub use status::{LeaseView, WorkerView};
use turns::Turns;
use workers::{Hosts, Unfit, WorkerState};

/// All a coordinator knows.
#[derive(Clone, Debug)]
pub struct State {
    settings: Settings,
    epoch: u64,
    counter: u64,
    jobs: BTreeMap<JobId, JobState>,
    /// Jobs whose end was not told.
    live: BTreeSet<JobId>,
    workers: BTreeMap<WorkerId, WorkerState>,
    crowd: Crowd,
    /// Job served last; the turn goes on behind it.
    cursor: Option<JobId>,
    turns: Turns,
    hosts: Hosts,
    unfit: Unfit,
    /// Workers that lied, and how.
    refused: BTreeMap<WorkerId, String>,
}

impl State {
    /// Knows nothing yet.
    pub fn new(epoch: u64, settings: Settings) -> Self {
        Self {
            settings,
            epoch,
            counter: 0,
            jobs: BTreeMap::new(),
            live: BTreeSet::new(),
            workers: BTreeMap::new(),
            crowd: Crowd::default(),
            cursor: None,
            turns: Turns::default(),
            hosts: Hosts::default(),
            unfit: Unfit::default(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes note of what happened at `now_ms` of this machine's clock.
    pub fn apply(&mut self, event: Event, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Submit { plan, committed, ended, schedule } => {
                if self.jobs.get(&plan.job).is_none_or(|job| job.phase().is_over()) {
                    let (id, since) = (plan.job.clone(), self.generation());
                    let mut job = JobState::new(plan, &committed, ended, schedule, since);
                    job.suspect(self.refused.keys());
                    self.live.insert(id.clone());
                    self.jobs.insert(id, job);
                }
            }
            Event::Register { worker, .. } if self.refusal(&worker).is_some() => {
                self.saw(&worker, now_ms, &mut effects);
            }
            Event::Register { worker, host, numeric_classes, device, held } => {
                self.register(&worker, (host, device), numeric_classes, now_ms);
                self.resume(&worker, held, now_ms, &mut effects);
            }
            Event::Ask { worker, units_max } => self.ask(&worker, units_max, now_ms, &mut effects),
            Event::Heartbeat { worker, leaving: true, .. } => self.leave(&worker),
            Event::Heartbeat { worker, held, .. } => {
                self.heartbeat(&worker, held, now_ms, &mut effects);
            }
            Event::Report { worker, lease, outcome, ran_ms, evidence } => {
                let report = reports::Ended { worker, lease, outcome, ran_ms, evidence };
                self.report(report, now_ms, &mut effects);
            }
            Event::Refuse { worker, reason } => self.refuse_known(&worker, reason),
            Event::Looked { job, workers, wrong } => self.looked(&job, &workers, &wrong),
            Event::Cancel { job } => self.cancel(&job),
            Event::Drain { worker } => self.drain(&worker, &mut effects),
            Event::Tick => self.tick(now_ms, &mut effects),
        }
        self.tell(&mut effects);
        effects
    }

    /// Adds what every event may lead to: new work, jobs that are over.
    fn tell(&mut self, effects: &mut Vec<Effect>) {
        let mut work_ready = false;
        let jobs = &mut self.jobs;
        self.live.retain(|id| {
            let Some(job) = jobs.get_mut(id) else { return false };
            for (unit, reason) in job.close_splits() {
                let why = Failure::new(ErrorKind::Invalid, reason);
                effects.push(Effect::RecordFailed { job: id.clone(), unit, why });
            }
            work_ready |= std::mem::take(&mut job.became_ready);
            let is_over = job.phase().is_over();
            if is_over {
                self.turns.forget(id);
                effects.push(Effect::JobOver(id.clone()));
            }
            !is_over
        });
        if work_ready {
            effects.push(Effect::WorkReady);
        }
    }

    /// Drains the worker of this name, or all that run on a host of this name.
    fn drain(&mut self, name: &WorkerId, effects: &mut Vec<Effect>) {
        let mut known = false;
        for (id, worker) in &mut self.workers {
            if id == name || worker.host == name.as_str() {
                worker.draining = true;
                known = true;
            }
        }
        if !known {
            effects.push(Effect::UnknownCaller);
        }
    }

    fn cancel(&mut self, job: &JobId) {
        let Some(job) = self.jobs.get_mut(job) else { return };
        if !job.phase().is_over() {
            job.cancelled = true;
            for unit in job.leases.end_all() {
                job.release(unit);
            }
        }
    }

    fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let ttl_ms = self.settings.lease_ttl_ms;
        let in_hand = self.in_hand_of_silent(now_ms);
        for id in &self.live {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            if let Some(until_ms) = now_ms.checked_sub(ttl_ms) {
                for unit in job.leases.end_silent(until_ms) {
                    job.release(unit);
                }
            }
            job.warm(now_ms);
        }
        self.workers.retain(|_, worker| {
            let lives = now_ms.saturating_sub(worker.seen_ms) < ttl_ms;
            if !lives {
                self.crowd.remove(worker);
            }
            lives
        });
        for (job, unit) in in_hand {
            self.silenced(&job, unit, effects);
        }
    }

    /// What workers that fall silent now had in hand: of all they hold, what they got first.
    fn in_hand_of_silent(&self, now_ms: u64) -> Vec<(JobId, u32)> {
        let is_silent = |worker: &WorkerState| {
            now_ms.saturating_sub(worker.seen_ms) >= self.settings.lease_ttl_ms
        };
        let silent = self.workers.iter().filter(|(_, worker)| is_silent(worker));
        let first = silent.filter_map(|(worker, _)| {
            let live = self.live.iter().filter_map(|id| Some((id, self.jobs.get(id)?)));
            let held = live.flat_map(|(id, job)| {
                job.leases.of_worker(worker).map(move |(unit, lease)| (lease.generation, id, unit))
            });
            held.min()
        });
        first.map(|(_, job, unit)| (job.clone(), unit)).collect()
    }

    fn leave(&mut self, worker: &WorkerId) {
        if let Some(worker) = self.workers.remove(worker) {
            self.crowd.remove(&worker);
        }
        for id in &self.live {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            for unit in job.leases.end_worker(worker) {
                job.release(unit);
            }
        }
    }

    /// The next grant's.
    fn generation(&self) -> Generation {
        Generation { epoch: self.epoch, counter: self.counter }
    }

    fn next_generation(&mut self) -> Generation {
        let generation = self.generation();
        self.counter += 1;
        generation
    }

    /// The self-contained form of a leased unit.
    pub fn work_unit(&self, lease: &LeaseKey) -> Option<WorkUnit> {
        self.jobs.get(&lease.job)?.work_unit(lease.unit)
    }

    /// Whether there is a job and every job is over.
    pub fn finished(&self) -> bool {
        !self.jobs.is_empty() && self.live.is_empty()
    }

    /// Per job: its id, committed units, and whether it is over.
    pub fn commits(&self) -> Vec<(JobId, u64, bool)> {
        let jobs = self.jobs.iter();
        jobs.map(|(id, job)| (id.clone(), job.committed_count(), job.phase().is_over())).collect()
    }

    /// Units of a job's plan, and which of them are committed.
    pub fn committed_units(&self, job: &JobId) -> Option<(u32, UnitSet)> {
        let job = self.jobs.get(job)?;
        Some((job.plan.unit_count(), job.committed_units()))
    }

    /// Life of a job.
    pub fn phase(&self, job: &JobId) -> Option<JobPhase> {
        Some(self.jobs.get(job)?.phase())
    }

    /// State of a unit.
    pub fn unit(&self, job: &JobId, unit: u32) -> Option<UnitState> {
        self.jobs.get(job)?.unit(unit)
    }

    /// Where a job stands.
    pub fn status(&self, job: &JobId, now_ms: u64) -> Option<JobStatus> {
        Some(status::status(self.jobs.get(job)?, (&self.hands(), self.notices()), now_ms))
    }

    /// Where every job stands.
    pub fn statuses(&self, now_ms: u64) -> Vec<JobStatus> {
        let hands = self.hands();
        let status = |job| status::status(job, (&hands, self.notices()), now_ms);
        self.jobs.values().map(status).collect()
    }
}
