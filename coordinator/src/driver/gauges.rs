//! Gauges, brought up to date from one overview when somebody asks for the metrics.
//!
//! Leaves out: counters and what the names mean (`telemetry`). Invariant: as there: no label is a unit or
//! a worker.

use super::overview::{JobView, Overview};
use glmeval_common::control::{KindCounts, WorkerPhase};
use metrics::gauge;

/// Sets every gauge to what `overview` says.
pub fn set_gauges(overview: &Overview) {
    let version = overview.coordinator.program.clone();
    gauge!("glmeval_build_info", "version" => version).set(1.0);
    gauge!("glmeval_coordinator_epoch").set(overview.coordinator.epoch as f64);
    for phase in WorkerPhase::ALL {
        let count = overview.workers_by_phase.get(&phase).copied().unwrap_or(0);
        gauge!("glmeval_workers", "state" => phase.name()).set(count as f64);
    }
    gauge!("glmeval_lease_age_seconds").set(overview.lease_age_seconds_max);
    gauge!("glmeval_stragglers").set(overview.stragglers as f64);
    gauge!("glmeval_worker_memory_bytes").set(overview.memory_bytes as f64);
    gauge!("glmeval_device_memory_used_bytes").set(overview.device_memory_bytes as f64);
    gauge!("glmeval_spool_bytes").set(overview.spool_bytes as f64);
    for view in &overview.jobs {
        job_gauges(view);
    }
}

fn job_gauges(view: &JobView) {
    let status = &view.status;
    let job = status.job.as_str().to_owned();
    let sum = |of: fn(&KindCounts) -> u64| status.kinds.iter().map(of).sum::<u64>() as f64;
    for (state, count) in [
        ("waiting", sum(|counts| counts.waiting)),
        ("ready", sum(|counts| counts.ready)),
        ("leased", sum(|counts| counts.leased)),
        ("cooling", sum(|counts| counts.cooling)),
        ("committed", sum(|counts| counts.committed)),
        ("failed", sum(|counts| counts.failed)),
    ] {
        gauge!("glmeval_units", "job" => job.clone(), "state" => state).set(count);
    }
    for phase in ["running", "finished", "finished-with-failures", "cancelled"] {
        let here = f64::from(u8::from(phase == status.phase.name()));
        let labels = [("job", job.clone()), ("name", status.name.clone()), ("phase", phase.into())];
        gauge!("glmeval_job_info", &labels).set(here);
    }
    let job_gauge = |name: &'static str, value: f64| gauge!(name, "job" => job.clone()).set(value);
    job_gauge("glmeval_quarantined_units", sum(|counts| counts.failed));
    job_gauge("glmeval_units_without_worker", status.units_without_worker as f64);
    job_gauge("glmeval_rows", status.rows as f64);
    job_gauge("glmeval_rows_done", status.rows_done as f64);
    job_gauge("glmeval_rows_per_second", status.rows_per_second);
    let left = if status.phase.is_over() { Some(0.0) } else { status.eta_seconds };
    job_gauge("glmeval_job_eta_seconds", left.unwrap_or(f64::NAN));
    let cost = &status.cost;
    for (fate, seconds) in [
        ("useful", cost.useful_seconds),
        ("duplicate", cost.duplicate_seconds),
        ("failed", cost.failed_seconds),
        ("handed-back", cost.handed_back_seconds),
        ("expired", cost.expired_seconds),
    ] {
        gauge!("glmeval_job_device_seconds", "job" => job.clone(), "fate" => fate).set(seconds);
    }
    if let (Some(spent), Some(currency)) = (cost.spent, cost.currency.clone()) {
        gauge!("glmeval_job_cost", "job" => job.clone(), "currency" => currency).set(spent);
    }
}
