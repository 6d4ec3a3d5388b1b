//! Pure: workers come, ask and beat.
//!
//! Leaves out: which unit of a job (schedule), how units end (reports).

use super::event::Effect;
use super::job::{JobState, UnitState, kind_row};
use super::pace::work;
use super::{State, Taste, WorkerState, schedule};
use crate::leases::Lease;
use glmeval_common::control::{LeaseKey, Progress, Renamed};
use glmeval_common::ids::{JobId, ModelId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// One in so many running units may run twice.
const RUNNING_PER_COPY_MIN: usize = 20;

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
        self.workers.insert(worker.clone(), fresh);
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
        for (id, job) in &mut self.jobs {
            let ended: Vec<_> = job
                .leases
                .iter()
                .filter(|(unit, _)| !named.contains(&(id, *unit)))
                .flat_map(|(unit, leases)| leases.iter().map(move |lease| (unit, lease)))
                .filter(|(_, lease)| lease.worker == *worker && ends(lease))
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
            if let Some(known) = job.leases.get_mut(lease.unit, worker, generation) {
                known.renewed_ms = now_ms;
            }
            if generation != lease.generation {
                effects.push(Effect::Rename(Renamed { from: lease, to: generation }));
            }
            return;
        }
        let fits =
            class.is_some_and(|class| schedule::class_matches(&job.plan, lease.unit, &class));
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
            if let Some(lease) = job.leases.get_mut(key.unit, worker, key.generation) {
                if progress.running {
                    lease.started_ms.get_or_insert(now_ms);
                }
                lease.rows_done = progress.rows_done;
                lease.rows_per_second = Some(progress.rows_per_second)
                    .filter(|rate| rate.is_finite() && *rate >= 0.0)
                    .unwrap_or(0.0);
            }
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
                worker.job = Some(id.clone());
                worker.unit = Some(unit);
                if let Some(model) = schedule::model_of(&job.plan, unit) {
                    worker.model = Some(model.clone());
                }
            }
        }
        self.cursor = Some(id.clone());
        LeaseKey { job: id.clone(), unit, generation }
    }

    /// The next ready unit for a worker, over all jobs.
    fn pick(&self, worker: &WorkerId) -> Option<(JobId, u32)> {
        let known = self.workers.get(worker)?;
        let mut workers_by_job: BTreeMap<JobId, u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.phase().is_over() && !job.ready.is_empty())
            .map(|(id, _)| (id.clone(), 0))
            .collect();
        let mut workers_by_model: BTreeMap<ModelId, u64> = BTreeMap::new();
        for (other, state) in &self.workers {
            if let Some(count) = state.job.as_ref().and_then(|job| workers_by_job.get_mut(job)) {
                *count += 1;
            }
            if let Some(model) = state.model.as_ref().filter(|_| other != worker) {
                *workers_by_model.entry(model.clone()).or_default() += 1;
            }
        }
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
            let unit = job.ready.pick(&job.plan, taste, &workers_by_model, may_run)?;
            Some((id, unit))
        })
    }

    /// A unit goes to a worker it failed on only if it failed on all that can run it.
    pub(super) fn may_run(&self, job: &JobState, unit: u32, worker: &WorkerId) -> bool {
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
                !worker.draining
                    && schedule::class_matches(&job.plan, unit, &worker.numeric_classes)
            })
            .map(|(id, _)| id)
    }

    /// A unit that runs far too long elsewhere, when nothing else is left to do.
    fn straggler(&self, worker: &WorkerId, now_ms: u64) -> Option<(JobId, u32)> {
        let known = self.workers.get(worker)?;
        self.jobs.iter().filter(|(_, job)| !job.phase().is_over()).find_map(|(id, job)| {
            let copies = job.leases.iter().filter(|(_, leases)| leases.len() > 1).count();
            if copies >= job.leases.len().div_ceil(RUNNING_PER_COPY_MIN) {
                return None;
            }
            let late = |unit: u32, lease: &Lease| {
                let flops = job.plan.units.get(unit as usize).map_or(0.0, |unit| unit.flops);
                let kind = kind_row(&job.plan, unit);
                let least = self.settings.straggler_units_min;
                let limit_ms = job.pace.straggler_ms(kind, work(flops), least);
                let age_ms = lease.started_ms.map(|start| now_ms.saturating_sub(start));
                limit_ms.zip(age_ms).is_some_and(|(limit_ms, age_ms)| age_ms > limit_ms)
            };
            let elsewhere = |lease: &Lease| {
                let host = self.workers.get(&lease.worker).map(|worker| &worker.host);
                lease.worker != *worker && host != Some(&known.host)
            };
            let found = job.leases.iter().find(|(unit, leases)| {
                let [lease] = leases else { return false };
                elsewhere(lease)
                    && late(*unit, lease)
                    && job.idle(*unit) == UnitState::Ready
                    && schedule::class_matches(&job.plan, *unit, &known.numeric_classes)
                    && self.may_run(job, *unit, worker)
            })?;
            Some((id.clone(), found.0))
        })
    }
}
