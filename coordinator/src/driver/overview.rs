//! All that operators see at one moment: jobs, workers, losses, rates.
//!
//! Leaves out: showing it (`dashboard`, `telemetry`). Invariant: made under one short lock, and bounded
//! whatever the size of the cluster.

use super::history::History;
use super::ledger::Ledger;
use super::{Coordinator, lock};
use crate::state::{LeaseView, State};
use glmeval_common::control::{JobStatus, WorkerFacts, WorkerPhase, WorkerStatus};
use glmeval_common::ids::{ModelId, WorkerId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Notice of a coordinator that grants nothing.
const STORE_AWAY: &str =
    "the store does not answer the coordinator: no unit is granted until it does";
/// Workers shown at most; counts cover all of them.
const WORKERS_SHOWN_MAX: usize = 500;
/// Jobs shown at most: those that run first.
const JOBS_SHOWN_MAX: usize = 100;

/// The coordinator itself.
#[derive(Clone, Debug, Serialize)]
pub struct CoordinatorView {
    /// Its name.
    pub name: String,
    /// Its epoch.
    pub epoch: u64,
    /// Version of its program.
    pub program: String,
    /// Seconds since it claimed its epoch.
    pub uptime_seconds: f64,
    /// Milliseconds since 1970, for people.
    pub unix_ms: u64,
}

/// One job, and how fast it went.
#[derive(Clone, Debug, Serialize)]
pub struct JobView {
    /// Where it stands.
    #[serde(flatten)]
    pub status: JobStatus,
    /// Its rates; `None` in the first moment.
    pub history: Option<History>,
    /// Useful by leased seconds.
    pub efficiency: Option<f64>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// The coordinator.
    pub coordinator: CoordinatorView,
    /// Jobs, running ones first; the first hundred.
    pub jobs: Vec<JobView>,
    /// How many jobs there are.
    pub jobs_total: usize,
    /// Workers, those in trouble first; the first five hundred.
    pub workers: Vec<WorkerStatus>,
    /// How many workers there are by phase, those that went lately included.
    pub workers_by_phase: BTreeMap<WorkerPhase, u64>,
    /// Age of the oldest running lease in seconds; 0 without one.
    pub lease_age_seconds_max: f64,
    /// Running units that take far longer than their kind, of the workers shown.
    pub stragglers: u64,
    /// Memory of all workers.
    pub memory_bytes: u64,
    /// Device memory of all workers.
    pub device_memory_bytes: u64,
    /// Bytes on workers' disks that wait for the store.
    pub spool_bytes: u64,
}

impl Coordinator {
    /// What operators see now.
    pub fn overview(&self) -> Overview {
        let now_ms = self.inner.clock.now_ms();
        let uptime_ms = now_ms.saturating_sub(self.inner.started_ms);
        let coordinator = CoordinatorView {
            name: self.inner.name.clone(),
            epoch: self.epoch(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: uptime_ms as f64 / 1_000.0,
            unix_ms: self.inner.clock.unix_ms(),
        };
        let state = lock(&self.inner.state);
        let ledger = lock(&self.inner.ledger);
        let leases = state.leases(now_ms);
        let jobs = jobs(&state, &ledger, &leases, now_ms);
        let jobs_total = jobs.len();
        let workers = workers(&state, &ledger, &leases, now_ms);
        let mut overview = Overview {
            coordinator,
            jobs: jobs.into_iter().take(JOBS_SHOWN_MAX).collect(),
            jobs_total,
            workers: Vec::new(),
            workers_by_phase: BTreeMap::new(),
            lease_age_seconds_max: 0.0,
            stragglers: 0,
            memory_bytes: 0,
            device_memory_bytes: 0,
            spool_bytes: 0,
        };
        let oldest = leases.iter().filter_map(|view| view.running_ms).max().unwrap_or(0);
        overview.lease_age_seconds_max = oldest as f64 / 1_000.0;
        for worker in &workers {
            *overview.workers_by_phase.entry(worker.phase).or_default() += 1;
            if !worker.phase.is_gone() {
                overview.stragglers += u64::from(worker.is_straggler);
                overview.memory_bytes += worker.health.memory_bytes;
                overview.device_memory_bytes += worker.health.device_memory_bytes;
                overview.spool_bytes += worker.health.spool_bytes;
            }
        }
        overview.workers = workers.into_iter().take(WORKERS_SHOWN_MAX).collect();
        overview
    }

    /// Every worker, those in trouble first.
    pub(super) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let now_ms = self.inner.clock.now_ms();
        let state = lock(&self.inner.state);
        let ledger = lock(&self.inner.ledger);
        workers(&state, &ledger, &state.leases(now_ms), now_ms)
    }

    /// Adds what the ledger and the driver know to a status.
    pub(super) fn completed(&self, mut status: JobStatus) -> JobStatus {
        let now_ms = self.inner.clock.now_ms();
        let leases = lock(&self.inner.state).leases_of(&status.job, now_ms);
        lock(&self.inner.ledger).complete(&mut status, &leases);
        if !status.phase.is_over() && self.inner.store_away.load(Ordering::Relaxed) {
            status.notices.insert(0, STORE_AWAY.to_owned());
        }
        status
    }
}

fn jobs(state: &State, ledger: &Ledger, leases: &[LeaseView], now_ms: u64) -> Vec<JobView> {
    let mut statuses = state.statuses(now_ms);
    statuses.sort_by_key(|status| status.phase.is_over());
    let views = statuses.into_iter().map(|mut status| {
        ledger.complete(&mut status, leases);
        let efficiency = status.cost.efficiency();
        let history = ledger.history(&status.job).cloned();
        JobView { status, history, efficiency }
    });
    views.collect()
}

fn workers(state: &State, ledger: &Ledger, leases: &[LeaseView], now_ms: u64) -> Vec<WorkerStatus> {
    let mut held: BTreeMap<&WorkerId, Vec<&LeaseView>> = BTreeMap::new();
    for view in leases {
        held.entry(&view.worker).or_default().push(view);
    }
    let mut workers: Vec<_> = state
        .worker_views(now_ms)
        .map(|view| {
            let mut status = blank(view.worker, ledger, view.seen_ms_ago);
            view.host.clone_into(&mut status.host);
            status.model = view.model.and_then(|model| model_name(state, model));
            let held = held.get(view.worker).map_or(&[][..], Vec::as_slice);
            status.held = u32::try_from(held.len()).unwrap_or(u32::MAX);
            let running = held.iter().find(|lease| lease.running_ms.is_some());
            if let Some(running) = running {
                show_unit(state, running, &mut status);
            }
            status.phase = match (view.draining, running) {
                (true, _) => WorkerPhase::Draining,
                (false, Some(_)) => WorkerPhase::Working,
                (false, None) => WorkerPhase::Idle,
            };
            status
        })
        .collect();
    let gone = ledger.workers.iter().filter(|(_, known)| known.gone.is_some());
    workers.extend(
        gone.map(|(worker, known)| blank(worker, ledger, now_ms.saturating_sub(known.seen_ms))),
    );
    workers.sort_by(|a, b| {
        let order = |worker: &WorkerStatus| {
            (worker.phase.is_gone(), !worker.is_straggler, worker.leases_lost == 0)
        };
        (order(a), &a.host, &a.worker).cmp(&(order(b), &b.host, &b.worker))
    });
    workers
}

/// A worker of which only the ledger tells.
fn blank(worker: &WorkerId, ledger: &Ledger, seen_ms_ago: u64) -> WorkerStatus {
    let known = ledger.workers.get(worker);
    WorkerStatus {
        worker: worker.clone(),
        host: known.map_or(String::new(), |known| known.host.clone()),
        facts: known.map_or_else(WorkerFacts::default, |known| known.facts.clone()),
        phase: known.and_then(|known| known.gone).unwrap_or(WorkerPhase::Idle),
        model: None,
        job: None,
        unit: None,
        unit_seconds: None,
        is_straggler: false,
        rows_per_second: 0.0,
        held: 0,
        leases_lost: known.map_or(0, |known| known.leases_lost),
        seen_ms_ago,
        health: known.map_or_else(Default::default, |known| known.health.clone()),
    }
}

fn show_unit(state: &State, running: &LeaseView, status: &mut WorkerStatus) {
    let work = state.work_unit(&running.lease);
    status.job = Some(running.lease.job.clone());
    status.unit = work.map(|work| work.label());
    status.unit_seconds = running.running_ms.map(|ms| ms as f64 / 1_000.0);
    status.rows_per_second = running.rows_per_second;
    status.is_straggler = state.is_straggler(running);
}

fn model_name(state: &State, model: &ModelId) -> Option<String> {
    let mut plans = state.plans();
    plans.find_map(|plan| {
        let known = plan.models.iter().find(|known| known.model.id == *model)?;
        Some(known.model.name.clone())
    })
}
