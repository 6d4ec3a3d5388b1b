//! A worker of a world: what it holds, and what it says next.
//!
//! Leaves out: when it says it (agent).

use super::messages::Message;
use glmeval_common::control::{LeaseKey, Outcome, Progress};
use glmeval_common::ids::{Generation, WorkerId};
use std::collections::VecDeque;

/// Units held beyond the one that runs.
const PREFETCH: usize = 2;

/// Whether a worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Stopped by the machine; goes on later as if nothing had been.
    Frozen {
        until_ms: u64,
    },
    Gone,
}

/// The unit in hand.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Tells this run from earlier ones.
    pub(super) number: u64,
    pub(super) lease: LeaseKey,
    /// As it was when the run began; a commit names this one.
    pub(super) generation: Generation,
    pub(super) began_ms: u64,
    pub(super) revoked: bool,
    /// Attempts at reaching the store.
    pub(super) tries: u32,
    /// Its create was answered unclearly.
    pub(super) is_unclear: bool,
}

/// One worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) host: usize,
    pub(super) numeric_classes: Vec<String>,
    pub(super) life: Life,
    pub(super) coordinator: usize,
    pub(super) epoch: u64,
    pub(super) registered: bool,
    pub(super) queue: VecDeque<LeaseKey>,
    pub(super) running: Option<Run>,
    pub(super) reports: VecDeque<(LeaseKey, Outcome, u64)>,
    pub(super) call: Option<u64>,
    pub(super) cut_until_ms: u64,
    /// Takes no more units; leaves when nothing is in hand.
    pub(super) stopping: bool,
    /// Slower machines take longer, in percent.
    pub(super) slowness: u64,
    pub(super) beat_due: bool,
    pub(super) ask_due: bool,
    pub(super) last: Option<Sent>,
}

/// What the call under way was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Register,
    Report,
    Beat { leaving: bool },
    Ask,
}

impl Worker {
    pub(super) fn new(number: usize, host: usize, coordinator: usize, slowness: u64) -> Self {
        let classes = ["f32.cpu.1", "bf16.cpu.1"];
        Self {
            id: WorkerId::new(format!("w{number}")),
            host,
            // Every second host computes both classes, the others one.
            numeric_classes: classes[..1 + host % 2].iter().map(|&class| class.into()).collect(),
            life: Life::Alive,
            coordinator,
            epoch: 0,
            registered: false,
            queue: VecDeque::new(),
            running: None,
            reports: VecDeque::new(),
            call: None,
            cut_until_ms: 0,
            stopping: false,
            slowness,
            beat_due: true,
            ask_due: true,
            last: None,
        }
    }

    pub(super) fn held(&self) -> Vec<Progress> {
        let progress = |lease: &LeaseKey, running: bool| Progress {
            waiting_for_store: false,
            lease: lease.clone(),
            running,
            rows_done: u64::from(running),
            rows_per_second: 1.0,
        };
        let running = self.running.iter().filter(|run| !run.revoked);
        let running = running.map(|run| progress(&run.lease, true));
        let queued = self.queue.iter().map(|lease| progress(lease, false));
        let reported = self.reports.iter().map(|(lease, ..)| progress(lease, false));
        running.chain(queued).chain(reported).collect()
    }

    /// The next call of this round, if one is due.
    pub(super) fn next_message(&mut self) -> Option<Message> {
        let (sent, message) = if !self.registered {
            let held = self.held().into_iter().map(|progress| progress.lease).collect();
            (Sent::Register, Message::Register { held })
        } else if let Some((lease, outcome, ran_ms)) = self.reports.front().cloned() {
            (Sent::Report, Message::Report { lease, outcome, ran_ms })
        } else if self.beat_due || (self.stopping && self.running.is_none()) {
            let leaving = self.stopping && self.running.is_none();
            (Sent::Beat { leaving }, Message::Beat { held: self.held(), leaving })
        } else if self.ask_due && !self.stopping && self.queue.len() < PREFETCH {
            let room = PREFETCH - self.queue.len() + usize::from(self.running.is_none());
            (Sent::Ask, Message::Ask { units_max: room as u32 })
        } else {
            return None;
        };
        self.last = Some(sent);
        Some(message)
    }
}
