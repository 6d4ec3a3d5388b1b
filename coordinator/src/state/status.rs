//! Pure: where one job stands, from its state.
//!
//! Leaves out: who asks.

use super::job::JobState;
use glmeval_common::control::{JobStatus, UnitFailure};

const FAILURES_SHOWN_MAX: usize = 100;

pub(super) fn status(job: &JobState, now_ms: u64) -> JobStatus {
    let (mut rows_running, mut rows_per_second) = (0_u64, 0.0);
    for (unit, leases) in job.leases.iter() {
        if let Some((start, end)) = job.rows(unit) {
            let done = leases.iter().map(|lease| lease.rows_done).max().unwrap_or(0);
            rows_running += done.min(end.saturating_sub(start));
            rows_per_second += leases.iter().map(|lease| lease.rows_per_second).sum::<f64>();
        }
    }
    let failures = job.failed.iter().take(FAILURES_SHOWN_MAX).map(|(unit, reason)| UnitFailure {
        unit,
        label: job.work_unit(unit).map_or(String::new(), |work| work.label()),
        reason: reason.to_owned(),
    });
    JobStatus {
        job: job.plan.job.clone(),
        name: job.plan.name.clone(),
        phase: job.phase(),
        kinds: job.counts(),
        rows: job.rows_total,
        rows_done: job.rows_committed.saturating_add(rows_running),
        rows_per_second,
        workers: job.leases.worker_count() as u64,
        eta_seconds: job.pace.eta_seconds(now_ms),
        failures: failures.collect(),
    }
}
