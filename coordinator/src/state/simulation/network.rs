//! Calls between workers and coordinators: slow, lost, doubled, overtaking one another.
//!
//! Leaves out: what a coordinator decides. Invariant: a call has one answer at most that its caller
//! still waits for; all others are dropped.

use super::faults::Broken;
use super::messages::{Message, Reply};
use super::store::Key;
use super::world::{Happening, World};
use crate::evidence::Evidence;
use crate::state::{Effect, Event};
use glmeval_common::control::{LeaseKey, Outcome};

/// Longest a caller waits.
const TIMEOUT_MS: u64 = 10_000;

impl World {
    /// Sends a call of worker `worker` to the coordinator it talks to.
    pub(super) fn call(&mut self, worker: usize, message: Message) {
        self.calls += 1;
        let call = self.calls;
        self.workers[worker].call = Some(call);
        let coordinator = self.workers[worker].coordinator;
        self.after(TIMEOUT_MS, Happening::Timeout { worker, call });
        if self.is_cut(worker) || self.chance(self.faults.lost) {
            return;
        }
        if self.chance(self.faults.doubled) {
            let delay_ms = self.delay_ms();
            let copy = message.clone();
            self.after(delay_ms, Happening::Call { coordinator, worker, call, message: copy });
        }
        let delay_ms = self.delay_ms();
        self.after(delay_ms, Happening::Call { coordinator, worker, call, message });
    }

    fn is_cut(&self, worker: usize) -> bool {
        self.now_ms < self.workers[worker].cut_until_ms
    }

    /// Mostly quick; now and then so slow that later calls overtake it.
    fn delay_ms(&mut self) -> u64 {
        let slow = self.chance(self.faults.slow);
        if slow { self.rng.below(20_000) } else { 1 + self.rng.below(50) }
    }

    /// A call arrives.
    pub(super) fn take_call(
        &mut self,
        coordinator: usize,
        worker: usize,
        call: u64,
        message: Message,
    ) {
        let reply = self.answer(coordinator, worker, message);
        if self.is_cut(worker) || self.chance(self.faults.lost) {
            return;
        }
        let delay_ms = self.delay_ms();
        self.after(delay_ms, Happening::Reply { worker, call, reply });
    }

    /// What the store says of a unit as the coordinator numbers them.
    fn evidence(&self, coordinator: usize, lease: &LeaseKey, is_claim: bool) -> Evidence {
        let job = self.coordinators[coordinator].state.jobs.get(&lease.job);
        let Some(job) = job.filter(|_| is_claim) else { return Evidence::Unasked };
        if job.unit(lease.unit).is_none() {
            return Evidence::Unasked;
        }
        let root = job.children.root(lease.unit);
        let mut key = super::shapes::ALL[self.job_of(&lease.job)].units[root as usize].key;
        if let (Key::Shard { start, end, .. }, Some(rows)) = (&mut key, job.rows(lease.unit)) {
            (*start, *end) = rows;
        }
        self.store.evidence(key, |worker| self.workers[worker].id.clone())
    }

    /// Parts of shards are known by the grant that named them.
    fn note_part(&mut self, coordinator: usize, lease: &LeaseKey) {
        let shape = &super::shapes::ALL[self.job_of(&lease.job)];
        if (lease.unit as usize) < shape.units.len() {
            return;
        }
        let job = &self.coordinators[coordinator].state.jobs[&lease.job];
        let root = &shape.units[job.children.root(lease.unit) as usize];
        let (start, end) = job.rows(lease.unit).expect("a part of a shard has rows");
        let mut part = root.clone();
        if let Key::Shard { set, .. } = root.key {
            part.key = Key::Shard { set, start, end };
        }
        part.rows = root.rows.map(|(dataset, ..)| (dataset, start, end));
        self.parts.insert(lease.generation, part);
    }

    /// What the driver of a coordinator does with a call.
    fn answer(&mut self, coordinator: usize, worker: usize, message: Message) -> Reply {
        let away = Reply { is_away: true, ..Reply::default() };
        if !self.coordinators[coordinator].is_serving {
            return away;
        }
        let id = self.workers[worker].id.clone();
        let asked = matches!(message, Message::Ask { .. });
        let event = match message {
            Message::Register { held } => {
                let host = format!("host-{}", self.workers[worker].host);
                let numeric_classes = self.workers[worker].numeric_classes.clone();
                let device =
                    if self.workers[worker].host.is_multiple_of(3) { "gpu" } else { "cpu" }.into();
                Event::Register { worker: id, host, numeric_classes, device, held }
            }
            Message::Ask { .. } if self.breaks(Broken::NothingGranted) => {
                Event::Ask { worker: id, units_max: 0 }
            }
            Message::Ask { units_max } => Event::Ask { worker: id, units_max },
            Message::Beat { held, leaving } => Event::Heartbeat { worker: id, held, leaving },
            Message::Report { lease, outcome, ran_ms } => {
                // A store that is away says nothing, and the worker reports again.
                let is_claim = matches!(outcome, Outcome::Committed | Outcome::Lost);
                if is_claim && self.store.is_away(self.now_ms) {
                    return away;
                }
                let evidence = self.evidence(coordinator, &lease, is_claim);
                Event::Report { worker: id, lease, outcome, ran_ms, evidence }
            }
        };
        let effects = self.apply(coordinator, event);
        let mut reply = Reply { epoch: self.coordinators[coordinator].epoch, ..Reply::default() };
        for effect in effects {
            match effect {
                Effect::Grant(lease) => {
                    self.check_grant(coordinator, worker, &lease);
                    self.note_part(coordinator, &lease);
                    reply.grants.push(lease);
                }
                Effect::Rename(renamed) => {
                    self.check_rename(&renamed);
                    if let Some(part) = self.parts.get(&renamed.from.generation).cloned() {
                        self.parts.insert(renamed.to, part);
                    }
                    reply.renamed.push(renamed);
                }
                Effect::Revoke(lease) => reply.revoked.push(lease),
                Effect::DrainCaller => reply.drain = true,
                Effect::UnknownCaller => reply.is_unknown = true,
                Effect::RefuseCaller(_) => reply.is_refused = true,
                Effect::Refused { reason, .. } => self.check_refusal(worker, &reason),
                _ => {}
            }
        }
        if asked
            && reply.grants.is_empty()
            && !reply.drain
            && !reply.is_unknown
            && !reply.is_refused
        {
            self.check_idle(coordinator, worker);
        }
        reply
    }
}
