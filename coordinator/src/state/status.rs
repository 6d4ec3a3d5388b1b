//! Pure: where one job stands, and what operators see of leases and workers, from the state.
//!
//! Leaves out: who asks; what no decision needs (driver's ledger).

use super::job::JobState;
use super::workers::Hands;
use super::{State, WorkerState};
use crate::leases::Lease;
use glmeval_common::control::{JobCost, JobStatus, LeaseKey, UnitFailure};
use glmeval_common::ids::{JobId, ModelId, WorkerId};
use glmeval_common::plan::Plan;
use std::sync::Arc;

const FAILURES_SHOWN_MAX: usize = 100;

/// Where a job stands; how fast it goes and what it cost is for the driver to add, which looks at it now and then.
pub(super) fn status(
    job: &JobState,
    (hands, notices): (&Hands<'_>, Vec<String>),
    now_ms: u64,
) -> JobStatus {
    let unserved = hands.unserved(job);
    let mut rows_running = 0_u64;
    for (unit, leases) in job.leases.iter() {
        if let Some((start, end)) = job.rows(unit) {
            let done = leases.iter().map(|lease| lease.rows_done).max().unwrap_or(0);
            rows_running += done.min(end.saturating_sub(start));
        }
    }
    // Parts that were cut in turn say no more than their parts.
    let told = job
        .failed
        .iter()
        .filter(|(unit, _)| !(job.children.is_beyond(*unit) && job.splits.is_cut(*unit)));
    let failures = told.take(FAILURES_SHOWN_MAX).map(|(unit, reason)| UnitFailure {
        unit,
        label: job.work_unit(unit).map_or(String::new(), |work| work.label()),
        reason: reason.to_owned(),
        rows: job.rows(unit),
        part_of: job.children.get(unit).map(|part| part.root),
        behind: job.inputs(unit).into_iter().find_map(|units| job.failed.first_in(units)),
    });
    JobStatus {
        job: job.plan.job.clone(),
        name: job.plan.name.clone(),
        phase: job.phase(),
        kinds: job.counts(),
        rows: job.rows_total,
        rows_done: job.rows_committed.saturating_add(rows_running),
        rows_per_second: 0.0,
        workers: job.leases.worker_count() as u64,
        eta_seconds: job.pace.eta_seconds(now_ms),
        failures: failures.collect(),
        units_without_worker: unserved.units,
        cost: JobCost::default(),
        notices: unserved.notices.into_iter().chain(notices).collect(),
    }
}

/// A lease as operators see it.
#[derive(Clone, Debug)]
pub struct LeaseView {
    /// Which.
    pub lease: LeaseKey,
    /// Who holds it.
    pub worker: WorkerId,
    /// Milliseconds since a heartbeat first said that it runs; `None` while it waits in a queue.
    pub running_ms: Option<u64>,
    /// Rows per second, as last told.
    pub rows_per_second: f64,
}

/// A worker as the state knows it.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// Its name.
    pub worker: &'a WorkerId,
    /// Its machine.
    pub host: &'a str,
    /// gLM in its memory.
    pub model: Option<&'a ModelId>,
    /// It was told to leave.
    pub draining: bool,
    /// Milliseconds since it was last heard of.
    pub seen_ms_ago: u64,
}

impl State {
    /// Every lease that `picks` agrees to.
    fn views(&self, now_ms: u64, picks: impl Fn(&JobId, &Lease) -> bool) -> Vec<LeaseView> {
        let jobs = self.jobs.iter().flat_map(|(id, job)| {
            let units = job.leases.iter();
            units.flat_map(move |(unit, leases)| leases.iter().map(move |lease| (id, unit, lease)))
        });
        let views =
            jobs.filter(|(id, _, lease)| picks(id, lease)).map(|(id, unit, lease)| LeaseView {
                lease: LeaseKey { job: id.clone(), unit, generation: lease.generation },
                worker: lease.worker.clone(),
                running_ms: lease.started_ms.map(|start| now_ms.saturating_sub(start)),
                rows_per_second: lease.rows_per_second,
            });
        views.collect()
    }

    /// Every lease.
    pub fn leases(&self, now_ms: u64) -> Vec<LeaseView> {
        self.views(now_ms, |_, _| true)
    }

    /// Every lease of one job.
    pub fn leases_of(&self, job: &JobId, now_ms: u64) -> Vec<LeaseView> {
        self.views(now_ms, |id, _| id == job)
    }

    /// Leases that end with a tick at `now_ms`, because their worker fell silent.
    pub fn expiring(&self, now_ms: u64) -> Vec<LeaseView> {
        let ttl_ms = self.settings.lease_ttl_ms;
        self.views(now_ms, |_, lease| now_ms.saturating_sub(lease.renewed_ms) >= ttl_ms)
    }

    /// Whether a lease runs far longer than its kind does.
    pub fn is_straggler(&self, view: &LeaseView) -> bool {
        let Some(job) = self.jobs.get(&view.lease.job) else { return false };
        let unit = view.lease.unit;
        let limits = job.pace.straggler_limits(self.settings.straggler_units_min);
        let device = self.workers.get(&view.worker).map_or("", |worker| &worker.device);
        let limit_ms = limits.of(job.kind_row(unit), device, job.work(unit));
        limit_ms.zip(view.running_ms).is_some_and(|(limit_ms, age_ms)| age_ms > limit_ms)
    }

    /// Every worker.
    pub fn worker_views(&self, now_ms: u64) -> impl Iterator<Item = WorkerView<'_>> {
        let view = move |(id, worker)| {
            let (worker, state): (_, &WorkerState) = (id, worker);
            WorkerView {
                worker,
                host: &state.host,
                model: state.model.as_ref(),
                draining: state.draining,
                seen_ms_ago: now_ms.saturating_sub(state.seen_ms),
            }
        };
        self.workers.iter().map(view)
    }

    /// The plan of every job.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.jobs.values().map(|job| &job.plan)
    }
}
