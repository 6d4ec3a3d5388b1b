//! Pure: how attempts end, and what becomes of the unit.
//!
//! Leaves out: grants. Invariant: a commit counts whoever reports it and however late, unless it is
//! doubted or the store says otherwise; a failure counts only under a lease that is still alive. A
//! failure of all rows is never cut, and what is a worker's own fault counts against no unit.

use super::State;
use super::event::Effect;
use super::job::{Failures, JobState, Quarantined, UnitState};
use crate::evidence::Evidence;
use glmeval_common::control::{Failure, LeaseKey, Outcome};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{Generation, JobId, WorkerId};
use glmeval_common::unit::UnitKind;
use std::collections::BTreeSet;

/// An attempt that ended.
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) lease: LeaseKey,
    pub(super) outcome: Outcome,
    pub(super) ran_ms: u64,
    /// What the store says of a commit.
    pub(super) evidence: Evidence,
}

impl State {
    pub(super) fn report(&mut self, ended: Ended, now_ms: u64, effects: &mut Vec<Effect>) {
        if let Some(reason) = self.refusal(&ended.worker) {
            return effects.push(Effect::RefuseCaller(reason.to_owned()));
        }
        if matches!(ended.outcome, Outcome::Committed | Outcome::Lost)
            && let Some(lie) = self.lie(&ended)
        {
            self.take_back(&ended);
            return self.refuse(&ended.worker, lie, effects);
        }
        let mut who = (String::new(), None);
        if let Some(worker) = self.workers.get_mut(&ended.worker) {
            worker.seen_ms = now_ms;
            worker.vouched |= matches!(ended.evidence, Evidence::Sound(_));
            who = (worker.device.clone(), Some(worker.host.clone()));
        }
        let (device, host) = who;
        let Some(job) = self.jobs.get_mut(&ended.lease.job) else { return };
        if job.children.is_beyond(ended.lease.unit) && !job.knows(ended.lease.generation) {
            return;
        }
        let unit = ended.lease.unit;
        let lease = job.leases.end(unit, &ended.worker, ended.lease.generation);
        match ended.outcome {
            // Someone doubts what an earlier attempt committed, so its word is not enough.
            Outcome::Committed | Outcome::Lost if lease.is_none() && job.doubts.is_open(unit) => {}
            Outcome::Committed | Outcome::Lost => {
                // What stands is wrong and another's: whoever gets the unit next looks at it.
                if ended.evidence == Evidence::Absent {
                    return job.release(unit);
                }
                if let Evidence::Bad { reason, is_covered: false, .. } = ended.evidence {
                    let failures = job.failures.entry(unit).or_default();
                    failures.corrupt += 1;
                    if failures.corrupt >= self.settings.corrupt_failures_max {
                        let why = Failure::new(ErrorKind::Corrupt, reason);
                        return self.give_up(&ended.lease.job, unit, why, effects);
                    }
                    return job.release(unit);
                }
                if lease.is_some() {
                    job.pace.record(job.kind_row(unit), &device, job.work(unit), ended.ran_ms);
                }
                let failed = job.failures.get(&unit).map(|failures| failures.hosts.clone());
                job.doubts.settle(unit, ended.lease.generation);
                let is_news = job.commit(unit);
                if let Some(host) = host.filter(|_| is_news && lease.is_some()) {
                    self.succeeded((&ended.worker, &host), &failed.unwrap_or_default(), effects);
                }
            }
            Outcome::HandedBack => job.release(unit),
            Outcome::Unfit { chain } => {
                job.release(unit);
                self.is_unfit(&ended.worker, chain);
            }
            Outcome::Failed(failure) if lease.is_some() => {
                let kind = job.kind_of_failure(unit, failure.kind);
                if !kind.is_transient()
                    && let Some(host) = &host
                {
                    self.hosts.ended(host);
                }
                let who = (ended.worker, host);
                job.failures.entry(unit).or_default().count(kind, who, now_ms);
                let failure = Failure { kind, ..failure };
                self.after_failure(&ended.lease, failure, now_ms, effects);
            }
            Outcome::Failed(_) => {}
        }
    }

    /// A unit whose commit turned out to be wrong after it was believed is looked at again.
    fn take_back(&mut self, ended: &Ended) {
        let unit = ended.lease.unit;
        if let Some(job) = self.jobs.get_mut(&ended.lease.job)
            && matches!(ended.evidence, Evidence::Bad { is_covered: false, .. })
            && job.unit(unit) == Some(UnitState::Committed)
        {
            job.doubts.open(unit);
            job.uncommit(unit);
        }
    }

    /// A worker cannot do what it was given: it gets no more, whether it leaves or not.
    fn is_unfit(&mut self, worker: &WorkerId, reason: String) {
        if let Some(known) = self.workers.get_mut(worker) {
            known.draining = true;
            self.unfit.note(&known.host, reason);
        }
    }

    /// A unit ran on `host`: machines it had failed on are to blame.
    fn succeeded(
        &mut self,
        (worker, host): (&WorkerId, &str),
        failed: &BTreeSet<String>,
        effects: &mut Vec<Effect>,
    ) {
        // One that is unfit for a unit may finish others before it leaves.
        if self.workers.get(worker).is_some_and(|worker| !worker.draining) {
            self.unfit.forget(host);
        }
        self.hosts.ended(host);
        for (sick, why) in self.hosts.succeeded(host, failed, self.settings.host_blames_max) {
            self.drain_host(&sick, why, effects);
        }
    }

    /// Backs off, tries elsewhere, has inputs looked at again, cuts, or gives up.
    fn after_failure(
        &mut self,
        lease: &LeaseKey,
        failure: Failure,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let kind = failure.kind;
        let is_whole = failure.of_all_rows && !kind.is_transient();
        let Some(job) = self.jobs.get(&lease.job) else { return };
        let Some(failures) = job.failures.get(&lease.unit) else { return };
        if is_whole && self.fails_everywhere(job, lease.unit, (failures, 1)) {
            return self.give_up(&lease.job, lease.unit, failure, effects);
        }
        let failures_min = self.settings.unit_failures_max;
        if self.fails_everywhere(job, lease.unit, (failures, failures_min)) {
            return self.cut_or_quarantine(lease, failure, effects);
        }
        if self.is_hopeless(failures, now_ms) {
            self.give_up(&lease.job, lease.unit, failure, effects);
            return;
        }
        let until_ms = now_ms.saturating_add(self.backoff_ms(failures.transient, lease.unit));
        let doubts_max = self.settings.corrupt_failures_max;
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        let waits = match kind {
            ErrorKind::Corrupt => !job.doubt_inputs(lease.unit, lease.generation, doubts_max),
            kind => kind.is_transient(),
        };
        job.release(lease.unit);
        if waits && job.unit(lease.unit) == Some(UnitState::Ready) {
            job.set(lease.unit, UnitState::Cooling { until_ms });
        }
    }

    /// A unit that fails for good, often enough and on several workers and machines, where there are.
    fn fails_everywhere(
        &self,
        job: &JobState,
        unit: u32,
        (failures, failures_min): (&Failures, u32),
    ) -> bool {
        let settings = &self.settings;
        if failures.deterministic < failures_min {
            return false;
        }
        // Up to the number that is asked for: there may be thousands of workers.
        let places_min = settings.failed_workers_min as usize;
        let workers_min = self.able(job, unit).take(places_min).count();
        let mut hosts = BTreeSet::new();
        for worker in self.able(job, unit).filter_map(|id| self.workers.get(id)) {
            hosts.insert(&worker.host);
            if hosts.len() >= places_min {
                break;
            }
        }
        failures.workers.len() >= workers_min && failures.hosts.len() >= hosts.len()
    }

    fn is_hopeless(&self, failures: &Failures, now_ms: u64) -> bool {
        let settings = &self.settings;
        let failed_long = failures.transient >= settings.transient_failures_max
            && now_ms.saturating_sub(failures.transient_since_ms) >= settings.transient_ms_max;
        failed_long || failures.corrupt >= settings.corrupt_failures_max
    }

    /// A shard goes on in halves; a row that is left is given up by itself, anything else as it is.
    fn cut_or_quarantine(&mut self, lease: &LeaseKey, why: Failure, effects: &mut Vec<Effect>) {
        let (id, unit) = (&lease.job, lease.unit);
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.split(unit) {
            return;
        }
        self.give_up(id, unit, why, effects);
    }

    /// A worker fell silent while it ran the unit: one is an accident, many are the unit's doing.
    pub(super) fn silenced(&mut self, job: &JobId, unit: u32, effects: &mut Vec<Effect>) {
        let Some(failures) = self.jobs.get_mut(job).map(|job| job.failures.entry(unit)) else {
            return;
        };
        let failures = failures.or_default();
        failures.silenced += 1;
        let count = failures.silenced;
        if count >= self.settings.silenced_workers_max {
            let reason = format!("{count} workers fell silent while they ran it");
            self.give_up(job, unit, Failure::new(ErrorKind::Unavailable, reason), effects);
        }
    }

    fn give_up(&mut self, id: &JobId, unit: u32, why: Failure, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.unit(unit).is_none_or(UnitState::is_terminal) {
            return;
        }
        let part = job.children.get(unit);
        job.fail(unit, why.chain.clone());
        let job = id.clone();
        effects.push(match part {
            None => Effect::RecordFailed { job, unit, why },
            Some(child) => {
                let (unit, start, end) = (child.root, child.start, child.end);
                let rows = Quarantined { unit, start, end, reason: why.chain };
                Effect::RecordQuarantined { job, rows, kind: why.kind }
            }
        });
    }

    /// Doubles with each failure; units differ by up to a quarter, so that they do not all come
    /// back at once.
    fn backoff_ms(&self, failures: u32, unit: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let base = self.settings.backoff_ms_min.saturating_mul(1 << doublings);
        let base = base.min(self.settings.backoff_ms_max);
        let spread = u64::from(unit.wrapping_mul(0x9E37_79B9) >> 16) * (base / 4) / 65_536;
        base.saturating_add(spread)
    }
}

impl JobState {
    /// A fit reads what is committed and nothing else: an object that is not there is damage.
    fn kind_of_failure(&self, unit: u32, kind: ErrorKind) -> ErrorKind {
        let is_fit = self.plan.kind(unit) == Some(UnitKind::Fit);
        if is_fit && kind == ErrorKind::NotFound { ErrorKind::Corrupt } else { kind }
    }

    /// Takes back the units that `unit` reads, since its attempt `reader` found damage.
    ///
    /// Returns whether that or an earlier look can have changed anything for `unit`.
    fn doubt_inputs(&mut self, unit: u32, reader: Generation, times_max: u32) -> bool {
        let mut news = false;
        for input in self.inputs(unit).into_iter().flat_map(|(first, past)| first..past) {
            let is_committed = self.unit(input) == Some(UnitState::Committed);
            if is_committed && self.doubts.may_open(input, reader, times_max) {
                self.doubts.open(input);
                self.uncommit(input);
            }
            news |= self.doubts.is_open(input) || self.doubts.is_settled_since(input, reader);
        }
        news
    }
}
