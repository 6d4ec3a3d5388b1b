//! Pure: workers come, ask and beat.
//!
//! Leaves out: which unit of a job (schedule), how units end (reports).

use super::event::Effect;
use super::job::{JobState, UnitState};
use super::{State, Taste, WorkerState, schedule};
use crate::leases::Lease;
use glmeval_common::control::{LeaseKey, Progress, Renamed};
use glmeval_common::ids::{JobId, ModelId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// One in so many running units may run twice.
const RUNNING_PER_COPY_MIN: usize = 20;
/// Of the units that run longest, so many are looked at for a straggler.
const STRAGGLER_LOOKS_MAX: usize = 256;

/// Whether a worker is given more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Welcome,
    Draining,
}

impl State {
    pub(super) fn register(
        &mut self,
        worker: &WorkerId,
        host: String,
        numeric_classes: Vec<String>,
        now_ms: u64,
    ) {
        let fresh = WorkerState {
            host,
            numeric_classes,
            seen_ms: now_ms,
            job: None,
            unit: None,
            model: None,
            draining: false,
        };
        if let Some(before) = self.workers.insert(worker.clone(), fresh) {
            self.crowd.remove(&before);
        }
    }

    /// A worker announces all it holds: leases it does not name are free, named ones go on.
    pub(super) fn resume(
        &mut self,
        worker: &WorkerId,
        held: Vec<LeaseKey>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.end_unnamed(worker, held.iter(), |_| true);
        for lease in held {
            self.renew(worker, lease, now_ms, effects);
        }
    }

    /// Ends the leases of a worker on units that it does not name, where `ends` agrees.
    fn end_unnamed<'a>(
        &mut self,
        worker: &WorkerId,
        named: impl Iterator<Item = &'a LeaseKey>,
        ends: impl Fn(&Lease) -> bool,
    ) {
        let named: BTreeSet<_> = named.map(|lease| (&lease.job, lease.unit)).collect();
        for id in &self.live {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            let ended: Vec<_> = job
                .leases
                .of_worker(worker)
                .filter(|(unit, lease)| !named.contains(&(id, *unit)) && ends(lease))
                .map(|(unit, lease)| (unit, lease.generation))
                .collect();
            for (unit, generation) in ended {
                job.leases.end(unit, worker, generation);
                job.release(unit);
            }
        }
    }

    /// Keeps a lease alive; one that expired goes on if nobody else has the unit.
    fn renew(
        &mut self,
        worker: &WorkerId,
        lease: LeaseKey,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let class = self.workers.get(worker).map(|worker| worker.numeric_classes.clone());
        let Some(job) = self.jobs.get_mut(&lease.job).filter(|job| !job.phase().is_over()) else {
            effects.push(Effect::Revoke(lease));
            return;
        };
        let known = job.leases.of_unit(lease.unit).iter().find(|known| known.worker == *worker);
        let known = known.map(|known| known.generation);
        if let Some(generation) = known {
            job.leases.renew(lease.unit, worker, generation, now_ms);
            if generation != lease.generation {
                effects.push(Effect::Rename(Renamed { from: lease, to: generation }));
            }
            return;
        }
        let fits = class.is_some_and(|class| job.class_matches(lease.unit, &class));
        match job.unit(lease.unit) {
            Some(UnitState::Ready) if fits => {
                if let Some(failures) = job.failures.get_mut(&lease.unit) {
                    // It was not the unit that silenced this worker.
                    failures.silenced = failures.silenced.saturating_sub(1);
                }
                let to = self.grant(worker, &lease.job, lease.unit, now_ms);
                effects.push(Effect::Rename(Renamed { from: lease, to: to.generation }));
            }
            // Someone else runs it too by now; the first commit decides.
            Some(UnitState::Leased) => {}
            _ => effects.push(Effect::Revoke(lease)),
        }
    }

    /// Notes a sign of life; `None` = the coordinator does not know the worker.
    fn saw(
        &mut self,
        worker: &WorkerId,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<Standing> {
        let Some(known) = self.workers.get_mut(worker) else {
            effects.push(Effect::UnknownCaller);
            return None;
        };
        known.seen_ms = now_ms;
        if known.draining {
            effects.push(Effect::DrainCaller);
            return Some(Standing::Draining);
        }
        Some(Standing::Welcome)
    }

    pub(super) fn heartbeat(
        &mut self,
        worker: &WorkerId,
        held: Vec<Progress>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.saw(worker, now_ms, effects).is_none() {
            return;
        }
        // The answer that granted the rest was lost; one that is under way may still arrive.
        let interval_ms = self.settings.heartbeat_interval_ms;
        let is_lost = |lease: &Lease| now_ms.saturating_sub(lease.granted_ms) > interval_ms;
        self.end_unnamed(worker, held.iter().map(|progress| &progress.lease), is_lost);
        for progress in held {
            let key = progress.lease.clone();
            self.renew(worker, progress.lease, now_ms, effects);
            let Some(job) = self.jobs.get_mut(&key.job) else { continue };
            if progress.waiting_for_store {
                job.leases.wait(key.unit, worker, key.generation);
            } else if progress.running {
                job.leases.start(key.unit, worker, key.generation, now_ms);
            }
            let done = (progress.rows_done, progress.rows_per_second);
            job.leases.progress(key.unit, worker, key.generation, done);
        }
    }

    pub(super) fn ask(
        &mut self,
        worker: &WorkerId,
        units_max: u32,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.saw(worker, now_ms, effects) != Some(Standing::Welcome) {
            return;
        }
        let mut granted = 0;
        while granted < units_max.min(self.settings.grants_per_ask_max) {
            let Some((job, unit)) = self.pick(worker) else { break };
            let lease = self.grant(worker, &job, unit, now_ms);
            effects.push(Effect::Grant(lease));
            granted += 1;
        }
        if granted == 0
            && units_max > 0
            && let Some((job, unit)) = self.straggler(worker, now_ms)
        {
            let lease = self.grant(worker, &job, unit, now_ms);
            effects.push(Effect::Grant(lease));
        }
    }

    /// Grants a unit that is ready, or already leased to another worker.
    fn grant(&mut self, worker: &WorkerId, id: &JobId, unit: u32, now_ms: u64) -> LeaseKey {
        let generation = self.next_generation();
        if let Some(job) = self.jobs.get_mut(id) {
            job.leases.grant(unit, worker.clone(), generation, now_ms);
            job.set(unit, UnitState::Leased);
            job.pace.start(now_ms);
            if let Some(worker) = self.workers.get_mut(worker) {
                self.crowd.remove(worker);
                worker.job = Some(id.clone());
                worker.unit = Some(unit);
                if let Some(model) = job.model_of(unit) {
                    worker.model = Some(model.clone());
                }
                self.crowd.add(worker);
            }
        }
        self.cursor = Some(id.clone());
        LeaseKey { job: id.clone(), unit, generation }
    }

    /// The next ready unit for a worker, over all jobs.
    fn pick(&self, worker: &WorkerId) -> Option<(JobId, u32)> {
        let known = self.workers.get(worker)?;
        let live = self.live.iter().filter_map(|id| Some((id, self.jobs.get(id)?)));
        let workers_by_job: BTreeMap<JobId, u64> = live
            .filter(|(_, job)| job.groups.has_ready())
            .map(|(id, _)| (id.clone(), self.crowd.at_job(id)))
            .collect();
        let others_with = |model: &ModelId| {
            self.crowd.with_model(model) - u64::from(known.model.as_ref() == Some(model))
        };
        let order = schedule::job_order(
            known.job.as_ref(),
            &workers_by_job,
            self.workers.len() as u64,
            self.cursor.as_ref(),
        );
        order.into_iter().find_map(|id| {
            let job = self.jobs.get(&id)?;
            let taste = Taste {
                numeric_classes: &known.numeric_classes,
                model: known.model.as_ref(),
                last: known.unit.filter(|_| known.job.as_ref() == Some(&id)),
            };
            let may_run = |unit| self.may_run(job, unit, worker);
            let unit = schedule::pick((&job.plan, &job.groups), taste, others_with, may_run)?;
            Some((id, unit))
        })
    }

    /// A unit goes to a worker it failed on only if it failed on all that can run it.
    fn may_run(&self, job: &JobState, unit: u32, worker: &WorkerId) -> bool {
        let Some(failures) = job.failures.get(&unit) else { return true };
        !failures.workers.contains(worker)
            || self.able(job, unit).all(|able| failures.workers.contains(able))
    }

    /// Workers that could run a unit.
    pub(super) fn able<'a>(
        &'a self,
        job: &'a JobState,
        unit: u32,
    ) -> impl Iterator<Item = &'a WorkerId> {
        self.workers
            .iter()
            .filter(move |(_, worker)| {
                !worker.draining && job.class_matches(unit, &worker.numeric_classes)
            })
            .map(|(id, _)| id)
    }

    /// A unit that runs far too long elsewhere, when nothing else is left to do; of those that run
    /// longest, only so many are looked at.
    fn straggler(&self, worker: &WorkerId, now_ms: u64) -> Option<(JobId, u32)> {
        let known = self.workers.get(worker)?;
        let live = self.live.iter().filter_map(|id| Some((id, self.jobs.get(id)?)));
        live.filter(|(_, job)| !job.phase().is_over()).find_map(|(id, job)| {
            if job.leases.copies() >= job.leases.len().div_ceil(RUNNING_PER_COPY_MIN) {
                return None;
            }
            let limits = job.pace.straggler_limits(self.settings.straggler_units_min);
            let late = |unit: u32, started_ms: u64| {
                let limit_ms = limits.of(job.kind_row(unit), job.work(unit));
                limit_ms.is_some_and(|limit_ms| now_ms.saturating_sub(started_ms) > limit_ms)
            };
            let elsewhere = |lease: &Lease| {
                let host = self.workers.get(&lease.worker).map(|worker| &worker.host);
                lease.worker != *worker && host != Some(&known.host)
            };
            let running = job.leases.longest_running().take(STRAGGLER_LOOKS_MAX);
            let mut late = running.filter(|(started_ms, unit, _)| late(*unit, *started_ms));
            let found = late.find(|(_, unit, lease)| {
                elsewhere(lease)
                    && job.idle(*unit) == UnitState::Ready
                    && job.class_matches(*unit, &known.numeric_classes)
                    && self.may_run(job, *unit, worker)
            })?;
            Some((id.clone(), found.1))
        })
    }
}
