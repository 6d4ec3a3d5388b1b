//! Calls between workers and coordinators: slow, lost, doubled, overtaking one another.
//!
//! Leaves out: what a coordinator decides. Invariant: a call has one answer at most that its caller
//! still waits for; all others are dropped.

use super::world::{Happening, World};
use crate::state::{Effect, Event};
use glmeval_common::control::{LeaseKey, Outcome, Progress, Renamed};

/// What a worker asks of a coordinator.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Register { held: Vec<LeaseKey> },
    Ask { units_max: u32 },
    Beat { held: Vec<Progress>, leaving: bool },
    Report { lease: LeaseKey, outcome: Outcome, ran_ms: u64 },
}

/// What it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) epoch: u64,
    pub(super) grants: Vec<LeaseKey>,
    pub(super) renamed: Vec<Renamed>,
    pub(super) revoked: Vec<LeaseKey>,
    pub(super) drain: bool,
    /// Register first.
    pub(super) is_unknown: bool,
    /// Nobody answers: the coordinator is gone, fenced or cannot read the store.
    pub(super) is_away: bool,
}

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
                Event::Register { worker: id, host, numeric_classes, held }
            }
            Message::Ask { units_max } => Event::Ask { worker: id, units_max },
            Message::Beat { held, leaving } => Event::Heartbeat { worker: id, held, leaving },
            Message::Report { lease, outcome, ran_ms } => {
                Event::Report { worker: id, lease, outcome, ran_ms }
            }
        };
        let effects = self.apply(coordinator, event);
        let mut reply = Reply { epoch: self.coordinators[coordinator].epoch, ..Reply::default() };
        for effect in effects {
            match effect {
                Effect::Grant(lease) => {
                    self.check_grant(coordinator, worker, &lease);
                    reply.grants.push(lease);
                }
                Effect::Rename(renamed) => {
                    self.check_rename(&renamed);
                    reply.renamed.push(renamed);
                }
                Effect::Revoke(lease) => reply.revoked.push(lease),
                Effect::DrainCaller => reply.drain = true,
                Effect::UnknownCaller => reply.is_unknown = true,
                _ => {}
            }
        }
        if asked && reply.grants.is_empty() && !reply.drain && !reply.is_unknown {
            self.check_idle(coordinator, worker);
        }
        reply
    }
}
