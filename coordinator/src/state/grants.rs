//! Pure: workers come, ask and beat.
//!
//! Leaves out: which unit of a job (schedule), how units end (reports).

use super::event::Effect;
use super::job::{JobState, UnitState};
use super::{State, Taste, WorkerState, schedule};
use crate::leases::Lease;
use glmeval_common::control::{LeaseKey, Progress, Renamed};
use glmeval_common::ids::{JobId, ModelId, WorkerId};
use glmeval_common::unit::UnitKind;
use std::collections::BTreeSet;

/// One in so many running units may run twice.
const RUNNING_PER_COPY_MIN: usize = 20;
/// Time of a unit before one of its stage has ended.
const UNIT_MS_GUESS: f64 = 10_000.0;
/// Of the units that run longest, so many are looked at for a straggler.
const STRAGGLER_LOOKS_MAX: usize = 256;

/// Whether a worker is given more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Welcome,
    Draining,
}

impl State {
    pub(super) fn register(
        &mut self,
        worker: &WorkerId,
        (host, device): (String, String),
        numeric_classes: Vec<String>,
        now_ms: u64,
    ) {
        let is_ill = self.hosts.is_drained(&host) && self.has_stand_in(&host, &numeric_classes);
        let fresh = WorkerState {
            host,
            numeric_classes,
            device,
            seen_ms: now_ms,
            job: None,
            unit: None,
            model: None,
            draining: is_ill,
            vouched: false,
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
                job.leases.note_held(lease.unit, worker, lease.generation);
                effects.push(Effect::Rename(Renamed { from: lease, to: generation }));
            }
            return;
        }
        if job.children.is_beyond(lease.unit) && !job.knows(lease.generation) {
            effects.push(Effect::Revoke(lease));
            return;
        }
        let fits = class.is_some_and(|class| job.class_matches(lease.unit, &class));
        match job.unit(lease.unit) {
            Some(UnitState::Ready) if fits => {
                if let Some(failures) = job.failures.get_mut(&lease.unit) {
                    // It was not the unit that silenced this worker.
                    failures.silenced = failures.silenced.saturating_sub(1);
                }
                job.leases.note_held(lease.unit, worker, lease.generation);
                let to = self.grant(worker, &lease.job, lease.unit, now_ms);
                effects.push(Effect::Rename(Renamed { from: lease, to: to.generation }));
            }
            // Someone else runs it too by now; the first commit decides.
            Some(UnitState::Leased) => {}
            _ => effects.push(Effect::Revoke(lease)),
        }
    }

    /// Notes a sign of life; `None` = the coordinator does not know the worker.
    pub(super) fn saw(
        &mut self,
        worker: &WorkerId,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<Standing> {
        if let Some(reason) = self.refusal(worker) {
            effects.push(Effect::RefuseCaller(reason.to_owned()));
            return None;
        }
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
                // Its work is done: no straggler, however long the store is away.
                job.leases.pause(key.unit, worker, key.generation);
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
            let device = self.workers.get(worker).map_or("", |worker| worker.device.as_str());
            let ms = job.pace.expected_ms(job.kind_row(unit), device, job.work(unit));
            let slack_ms = self.settings.turn_ms as f64 * self.workers.len() as f64;
            self.turns.charge(id, ms.unwrap_or(UNIT_MS_GUESS), job.schedule.weight, slack_ms);
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
        let able = live.filter(|(_, job)| job.groups.has_ready() && job.has_room_for(worker));
        let others_with = |model: &ModelId| {
            self.crowd.with_model(model) - u64::from(known.model.as_ref() == Some(model))
        };
        let slack_ms = self.settings.turn_ms as f64 * self.workers.len() as f64;
        let able = able.map(|(id, _)| id.clone());
        let order = self.turns.order(able, known.job.as_ref(), self.cursor.as_ref(), slack_ms);
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

    /// A unit goes to a worker it failed on only if it failed on all that can run it, and to a machine
    /// it failed on only if it failed on all these.
    pub(super) fn may_run(&self, job: &JobState, unit: u32, worker: &WorkerId) -> bool {
        // A report tells of nothing that nobody looked at.
        if !job.suspects.is_empty() && job.plan.kind(unit) == Some(UnitKind::Report) {
            return false;
        }
        let Some(failures) = job.failures.get(&unit) else { return true };
        let host = |worker: &WorkerId| self.workers.get(worker).map(|worker| &worker.host);
        let was_on_host = |worker| host(worker).is_some_and(|host| failures.hosts.contains(host));
        if was_on_host(worker) && !self.able(job, unit).all(was_on_host) {
            return false;
        }
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
        let live = || self.live.iter().filter_map(|id| Some((id, self.jobs.get(id)?)));
        let running: usize = live().map(|(_, job)| job.leases.len()).sum();
        let copies: usize = live().map(|(_, job)| job.leases.copies()).sum();
        if copies >= (running / RUNNING_PER_COPY_MIN).max(1) {
            return None;
        }
        let has_room = |(_, job): &(&JobId, &JobState)| job.has_room_for(worker);
        live().filter(|(_, job)| !job.phase().is_over()).filter(has_room).find_map(|(id, job)| {
            let limits = job.pace.straggler_limits(self.settings.straggler_units_min);
            let late = |unit: u32, started_ms: u64, lease: &Lease| {
                let device = self.workers.get(&lease.worker).map_or("", |worker| &worker.device);
                let limit_ms = limits.of(job.kind_row(unit), device, job.work(unit));
                limit_ms.is_some_and(|limit_ms| now_ms.saturating_sub(started_ms) > limit_ms)
            };
            let elsewhere = |lease: &Lease| {
                let host = self.workers.get(&lease.worker).map(|worker| &worker.host);
                lease.worker != *worker && host != Some(&known.host)
            };
            let running = job.leases.longest_running().take(STRAGGLER_LOOKS_MAX);
            let mut late = running.filter(|(started_ms, unit, it)| late(*unit, *started_ms, it));
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
