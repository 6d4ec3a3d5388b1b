//! Pure: how attempts end, and what becomes of the unit.
//!
//! Leaves out: grants. Invariant: a commit counts whoever reports it and however late; a failure
//! counts only under a lease that is still alive.

use super::State;
use super::event::Effect;
use super::job::{UnitState, kind_row};
use super::pace::work;
use glmeval_common::control::{LeaseKey, Outcome};
use glmeval_common::ids::WorkerId;

/// An attempt that ended.
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) lease: LeaseKey,
    pub(super) outcome: Outcome,
    pub(super) ran_ms: u64,
}

impl State {
    pub(super) fn report(&mut self, ended: Ended, now_ms: u64, effects: &mut Vec<Effect>) {
        if let Some(worker) = self.workers.get_mut(&ended.worker) {
            worker.seen_ms = now_ms;
        }
        let Some(job) = self.jobs.get_mut(&ended.lease.job) else { return };
        let unit = ended.lease.unit;
        let lease = job.leases.end(unit, &ended.worker, ended.lease.generation);
        match ended.outcome {
            Outcome::Committed | Outcome::Lost => {
                if lease.is_some()
                    && let Some(planned) = job.plan.units.get(unit as usize)
                {
                    let (kind, work) = (kind_row(&job.plan, unit), work(planned.flops));
                    job.pace.record(kind, work, ended.ran_ms);
                }
                job.commit(unit);
            }
            Outcome::HandedBack => job.release(unit),
            Outcome::Failed { transient, chain } if lease.is_some() => {
                let failures = job.failures.entry(unit).or_default();
                if transient {
                    failures.transient += 1;
                } else {
                    failures.deterministic += 1;
                    failures.workers.insert(ended.worker);
                }
                self.after_failure(&ended.lease, transient, chain, now_ms, effects);
            }
            Outcome::Failed { .. } => {}
        }
    }

    /// Backs off, tries elsewhere or gives up.
    fn after_failure(
        &mut self,
        lease: &LeaseKey,
        transient: bool,
        chain: String,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get(&lease.job) else { return };
        let Some(failures) = job.failures.get(&lease.unit) else { return };
        let able = self.able(job, lease.unit).take(self.settings.failed_workers_min as usize);
        let workers_min = able.count();
        let hopeless = failures.deterministic >= self.settings.unit_failures_max
            && failures.workers.len() >= workers_min;
        let transient_count = failures.transient;
        if hopeless || transient_count >= self.settings.transient_failures_max {
            self.give_up(lease, chain, effects);
            return;
        }
        let until_ms = now_ms.saturating_add(self.backoff_ms(transient_count, lease.unit));
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        job.release(lease.unit);
        if transient && job.unit(lease.unit) == Some(UnitState::Ready) {
            job.set(lease.unit, UnitState::Cooling { until_ms });
        }
    }

    /// Splitting a shard down to the row at fault attaches here.
    fn give_up(&mut self, lease: &LeaseKey, reason: String, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        if job.unit(lease.unit).is_none_or(UnitState::is_terminal) {
            return;
        }
        job.fail(lease.unit, reason.clone());
        let (job, unit) = (lease.job.clone(), lease.unit);
        effects.push(Effect::RecordFailed { job, unit, reason });
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
