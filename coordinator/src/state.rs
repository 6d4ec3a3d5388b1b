//! Pure: what a coordinator knows and decides. `apply(event, now)` changes the state and says what
//! to do about it.
//!
//! Leaves out: clocks, I/O, waiting. Splitting and quarantine of failing units attach in `give_up`.
//! Invariant: `apply` neither waits nor fails; generations strictly rise; a unit is granted only
//! when all its prerequisites are committed, and is committed at most once.

use crate::schedule::{self, Taste, UnitSet};
use crate::settings::Settings;
use glmeval_common::control::{JobPhase, JobStatus, LeaseKey};
use glmeval_common::ids::{Generation, JobId, ModelId, WorkerId};
use glmeval_common::unit::WorkUnit;
use std::collections::{BTreeMap, BTreeSet};

mod crowd;
mod doubt;
mod event;
mod grants;
mod job;
mod pace;
mod reports;
mod status;
#[cfg(test)]
mod tests;

use crowd::Crowd;
pub use event::{Effect, Event};
use job::JobState;
pub use job::UnitState;

/// One worker as a coordinator sees it.
#[derive(Clone, Debug)]
struct WorkerState {
    host: String,
    numeric_classes: Vec<String>,
    seen_ms: u64,
    /// What it got last.
    job: Option<JobId>,
    unit: Option<u32>,
    /// gLM in its memory.
    model: Option<ModelId>,
    draining: bool,
}

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
        }
    }

    /// Takes note of what happened at `now_ms` of this machine's clock.
    pub fn apply(&mut self, event: Event, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Submit { plan, committed, failed, cancelled } => {
                if self.jobs.get(&plan.job).is_none_or(|job| job.phase().is_over()) {
                    let id = plan.job.clone();
                    self.live.insert(id.clone());
                    self.jobs.insert(id, JobState::new(plan, &committed, failed, cancelled));
                }
            }
            Event::Register { worker, host, numeric_classes, held } => {
                self.register(&worker, host, numeric_classes, now_ms);
                self.resume(&worker, held, now_ms, &mut effects);
            }
            Event::Ask { worker, units_max } => self.ask(&worker, units_max, now_ms, &mut effects),
            Event::Heartbeat { worker, leaving: true, .. } => self.leave(&worker),
            Event::Heartbeat { worker, held, .. } => {
                self.heartbeat(&worker, held, now_ms, &mut effects);
            }
            Event::Report { worker, lease, outcome, ran_ms } => {
                let report = reports::Ended { worker, lease, outcome, ran_ms };
                self.report(report, now_ms, &mut effects);
            }
            Event::Cancel { job } => self.cancel(&job),
            Event::Drain { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.draining = true;
                }
            }
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
            work_ready |= std::mem::take(&mut job.became_ready);
            let is_over = job.phase().is_over();
            if is_over {
                effects.push(Effect::JobOver(id.clone()));
            }
            !is_over
        });
        if work_ready {
            effects.push(Effect::WorkReady);
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

    fn next_generation(&mut self) -> Generation {
        let generation = Generation { epoch: self.epoch, counter: self.counter };
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
        Some(status::status(self.jobs.get(job)?, now_ms))
    }

    /// Where every job stands.
    pub fn statuses(&self, now_ms: u64) -> Vec<JobStatus> {
        self.jobs.values().map(|job| status::status(job, now_ms)).collect()
    }
}
