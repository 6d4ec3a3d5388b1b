//! What the workers of a world do: the same calls in the same order as the real agent makes.
//!
//! Leaves out: arithmetic, what a worker is (worker). Invariant: one unit runs at a time; one call is
//! under way at a time.

use super::faults::Broken;
use super::messages::Reply;
use super::shapes;
use super::store::{Commit, Put};
use super::worker::{Life, Run, Sent};
use super::world::{Happening, World};
use glmeval_common::control::{Failure, LeaseKey, Outcome};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::Generation;

/// How often a worker calls.
const BEAT_MS: u64 = 5_000;

impl World {
    /// Postpones what reaches a frozen worker; whether it may go on now.
    pub(super) fn is_awake(&mut self, worker: usize, happening: &Happening) -> bool {
        match self.workers[worker].life {
            Life::Alive => true,
            Life::Gone => false,
            Life::Frozen { until_ms } if until_ms <= self.now_ms => {
                self.workers[worker].life = Life::Alive;
                true
            }
            Life::Frozen { until_ms } => {
                self.at(until_ms, happening.clone());
                false
            }
        }
    }

    pub(super) fn beat(&mut self, worker: usize) {
        self.after(BEAT_MS, Happening::Beat { worker });
        let state = &mut self.workers[worker];
        (state.beat_due, state.ask_due) = (true, true);
        self.go_on(worker);
    }

    /// Starts a unit and makes the next call, if either is due.
    pub(super) fn go_on(&mut self, worker: usize) {
        self.start_next(worker);
        if self.workers[worker].call.is_none()
            && self.workers[worker].life == Life::Alive
            && let Some(message) = self.workers[worker].next_message()
        {
            self.call(worker, message);
        }
    }

    /// Nobody answered in time; the next beat tries again, perhaps elsewhere.
    pub(super) fn timeout(&mut self, worker: usize, call: u64) {
        if self.workers[worker].call == Some(call) {
            self.workers[worker].call = None;
            self.look_for_coordinator(worker);
        }
    }

    fn look_for_coordinator(&mut self, worker: usize) {
        if self.chance(500) || self.is_calm() {
            self.workers[worker].coordinator = self.coordinators.len() - 1;
        }
    }

    pub(super) fn take_reply(&mut self, worker: usize, call: u64, reply: Reply) {
        let state = &mut self.workers[worker];
        if state.call != Some(call) {
            return;
        }
        state.call = None;
        if reply.is_away || reply.epoch < state.epoch {
            self.look_for_coordinator(worker);
            return;
        }
        if reply.epoch > state.epoch {
            state.epoch = reply.epoch;
            state.registered = false;
        }
        if reply.is_refused {
            // A liar may try again, at another coordinator perhaps, while it runs what it has.
            if self.rng.below(4) == 0 {
                return self.leave(worker);
            }
            return self.look_for_coordinator(worker);
        }
        if reply.is_unknown {
            state.registered = false;
        } else {
            match state.last {
                Some(Sent::Register) => state.registered = true,
                Some(Sent::Report) => drop(state.reports.pop_front()),
                Some(Sent::Beat { leaving: true }) => return self.leave(worker),
                Some(Sent::Beat { .. }) => state.beat_due = false,
                Some(Sent::Ask) => state.ask_due = false,
                None => {}
            }
        }
        self.take_news(worker, reply);
        self.go_on(worker);
    }

    fn take_news(&mut self, worker: usize, reply: Reply) {
        let now_or_later = self.rng.below(2) == 0;
        let state = &mut self.workers[worker];
        for lease in &reply.revoked {
            let same = |other: &LeaseKey| (&other.job, other.unit) == (&lease.job, lease.unit);
            state.queue.retain(|queued| !same(queued));
            if let Some(run) = state.running.as_mut().filter(|run| same(&run.lease)) {
                run.revoked = true;
                if now_or_later {
                    state.running = None;
                }
            }
        }
        for renamed in &reply.renamed {
            let running = state.running.iter_mut().map(|run| &mut run.lease);
            let reported = state.reports.iter_mut().map(|(lease, ..)| lease);
            for lease in running.chain(&mut state.queue).chain(reported) {
                if *lease == renamed.from {
                    lease.generation = renamed.to;
                }
            }
        }
        state.queue.extend(reply.grants);
        if reply.drain {
            self.stop(worker, u64::MAX);
        }
    }

    /// Hands back what has not begun; what runs may run for `grace_ms`.
    pub(super) fn stop(&mut self, worker: usize, grace_ms: u64) {
        let state = &mut self.workers[worker];
        if state.stopping || state.life == Life::Gone {
            return;
        }
        state.stopping = true;
        for lease in std::mem::take(&mut state.queue) {
            state.reports.push_back((lease, Outcome::HandedBack, 0));
        }
        if let Some(run) = &state.running
            && grace_ms < u64::MAX
        {
            let number = run.number;
            self.after(grace_ms, Happening::Grace { worker, number });
        }
        self.go_on(worker);
    }

    /// The grace is over.
    pub(super) fn grace(&mut self, worker: usize, number: u64) {
        let state = &mut self.workers[worker];
        if let Some(run) = state.running.take_if(|run| run.number == number) {
            state.reports.push_back((run.lease, Outcome::HandedBack, 0));
            self.go_on(worker);
        }
    }

    fn start_next(&mut self, worker: usize) {
        let now_ms = self.now_ms;
        let state = &mut self.workers[worker];
        if state.running.is_some() {
            return;
        }
        let Some(lease) = state.queue.pop_front() else { return };
        self.runs += 1;
        let number = self.runs;
        let generation = lease.generation;
        state.running = Some(Run {
            number,
            lease,
            generation,
            began_ms: now_ms,
            revoked: false,
            tries: 0,
            is_unclear: false,
        });
        let slowness = state.slowness;
        let ms = (3_000 + self.rng.below(17_000)) * slowness / 100;
        // Now and then a unit takes ten times as long as its like.
        let ms = if self.chance(self.faults.straggles) { ms * 10 } else { ms };
        self.after(ms, Happening::Computed { worker, number });
    }

    /// The arithmetic of a unit is done: it failed, or its result goes to the store.
    pub(super) fn computed(&mut self, worker: usize, number: u64) {
        let Some(run) = self.workers[worker].running.clone() else { return };
        if run.number != number {
            return;
        }
        let Some(unit) = self.unit(&run.lease).cloned() else { return };
        if run.tries == 0 && self.lies(worker, &run, unit.key) {
            return;
        }
        if self.store.is_away(self.now_ms) {
            return self.try_later(worker, number);
        }
        let outcome = if run.is_unclear {
            self.read_back(&run, worker, unit.key)
        } else if let Some(failure) = self.failure(worker, &run, &unit) {
            Some(failure)
        } else {
            self.write(worker, &run, unit.key)
        };
        match outcome {
            Some(outcome) => self.ended(worker, outcome),
            None => self.try_later(worker, number),
        }
    }

    fn try_later(&mut self, worker: usize, number: u64) {
        let Some(run) = &mut self.workers[worker].running else { return };
        run.tries += 1;
        // An attempt whose create may have come through is read back for as long as it takes.
        if run.tries > 5 && !run.is_unclear {
            return self.ended(worker, failed(ErrorKind::Unavailable));
        }
        self.after(2_000, Happening::Computed { worker, number });
    }

    /// What a liar does instead of its work, if it lies this time.
    fn lies(&mut self, worker: usize, run: &Run, key: super::store::Key) -> bool {
        if self.faults.liar != Some(worker) || !self.chance(300) || self.store.is_away(self.now_ms)
        {
            return false;
        }
        self.has_lied = true;
        let (_, is_sound) = self.store.holds(key);
        let (attempt, generation) = (run.number, run.generation);
        match self.rng.below(3) {
            // Says that it did what it did not.
            0 => self.ended(worker, Outcome::Committed),
            // Commits what is wrong.
            1 if !is_sound => {
                let (is_damaged, is_lie) = (true, true);
                let commit = Commit { attempt, worker, generation, is_damaged, is_lie };
                self.store.create(key, commit, self.now_ms, &mut self.rng);
                self.ended(worker, Outcome::Committed);
            }
            // Names a lease of someone else.
            _ => {
                let counter = generation.counter.saturating_sub(1 + self.rng.below(3));
                let lease = LeaseKey {
                    generation: Generation { counter, ..generation },
                    ..run.lease.clone()
                };
                if let Some(run) = &mut self.workers[worker].running {
                    run.lease = lease;
                }
                self.ended(worker, Outcome::Committed);
            }
        }
        true
    }

    fn failure(&mut self, worker: usize, run: &Run, unit: &shapes::SimUnit) -> Option<Outcome> {
        let (_, is_sound) = self.store.holds(unit.key);
        if is_sound {
            return None;
        }
        if !self.inputs_are_sound(run, unit) {
            return Some(failed(ErrorKind::Corrupt));
        }
        if unit.rows.is_some_and(|rows| self.is_poisoned(rows)) {
            return Some(failed(ErrorKind::Invalid));
        }
        let is_sick = self.faults.sick_host == Some(self.workers[worker].host);
        if is_sick && self.rng.below(2) == 0 {
            return Some(failed(ErrorKind::Bug));
        }
        self.chance(self.faults.transient).then(|| failed(ErrorKind::Unavailable))
    }

    fn write(&mut self, worker: usize, run: &Run, key: super::store::Key) -> Option<Outcome> {
        let (_, is_sound) = self.store.holds(key);
        if is_sound && !self.breaks(Broken::CommitReplaced) {
            return Some(Outcome::Lost);
        }
        let generation = run.generation;
        let (attempt, is_damaged, is_lie) = (run.number, false, false);
        let commit = Commit { attempt, worker, generation, is_damaged, is_lie };
        if self.breaks(Broken::CommitReplaced)
            && let Some(standing) = self.store.commits.get_mut(&key)
        {
            standing.push(commit.clone());
        }
        match self.store.create(key, commit, self.now_ms, &mut self.rng) {
            Put::Won => Some(Outcome::Committed),
            Put::Lost => Some(Outcome::Lost),
            Put::Away => None,
            Put::Unclear => {
                if let Some(run) = &mut self.workers[worker].running {
                    run.is_unclear = true;
                }
                None
            }
        }
    }

    /// Same attempt = won, another = lost, nothing = not settled.
    fn read_back(&mut self, run: &Run, worker: usize, key: super::store::Key) -> Option<Outcome> {
        let revisions = self.store.commits.get(&key);
        if revisions.into_iter().flatten().any(|commit| commit.attempt == run.number) {
            return Some(Outcome::Committed);
        }
        match self.store.newest(key) {
            Some(commit) if !commit.is_damaged => Some(Outcome::Lost),
            _ => self.write(worker, run, key),
        }
    }

    fn ended(&mut self, worker: usize, outcome: Outcome) {
        let now_ms = self.now_ms;
        let state = &mut self.workers[worker];
        let Some(run) = state.running.take() else { return };
        let is_failure = matches!(outcome, Outcome::Failed { .. });
        if run.revoked && is_failure {
            return self.go_on(worker);
        }
        state.reports.push_back((run.lease, outcome, now_ms.saturating_sub(run.began_ms)));
        (state.beat_due, state.ask_due) = (true, true);
        self.go_on(worker);
    }

    /// The process ends; the engine starts another in its place.
    pub(super) fn leave(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        if state.life == Life::Gone {
            return;
        }
        state.life = Life::Gone;
        state.running = None;
        state.queue.clear();
        let host = state.host;
        let ms = 2_000 + self.rng.below(30_000);
        self.after(ms, Happening::Start { host });
    }
}

fn failed(kind: ErrorKind) -> Outcome {
    Outcome::Failed(Failure::new(kind, format!("{kind:?}")))
}
