//! What operators want to know and no decision needs: facts and health of workers, what became of
//! device time, how fast jobs go.
//!
//! Leaves out: leases and units (state), keeping it (snapshots). Invariant: a ledger that is lost changes no result; it never
//! grows with the number of units, and remembers a bounded number of workers that went.

use super::history::History;
use super::telemetry;
use crate::state::LeaseView;
use glmeval_common::control::{
    Health, JobCost, JobStatus, Outcome, Report, WorkerFacts, WorkerPhase,
};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::job::Prices;
use glmeval_common::store::jobs::{DeviceSeconds, Spent};
use glmeval_common::unit::WorkUnit;
use std::collections::{BTreeMap, BTreeSet};

/// Workers that went and are still shown.
const GONE_MAX: usize = 100;
/// Letters of a name that a worker tells of itself.
const NAME_LETTERS_MAX: usize = 80;
/// Operations times outcomes of a store.
const STORE_LINES_MAX: usize = 24;
/// Device kind of workers that tell none.
const KIND_DEFAULT: &str = "cpu";

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerLedger {
    pub(super) host: String,
    pub(super) facts: WorkerFacts,
    pub(super) health: Health,
    pub(super) leases_lost: u64,
    pub(super) seen_ms: u64,
    /// How it went, if it did.
    pub(super) gone: Option<WorkerPhase>,
}

/// One job.
#[derive(Clone, Debug, Default)]
struct JobLedger {
    prices: Option<Prices>,
    spent: Spent,
    history: Option<History>,
    /// W3C traceparent of the job's own span; empty without traces.
    trace: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    jobs: BTreeMap<JobId, JobLedger>,
    pub(super) workers: BTreeMap<WorkerId, WorkerLedger>,
}

impl Ledger {
    /// A job is there, with its prices.
    pub(super) fn price(&mut self, job: &JobId, prices: Option<Prices>) {
        self.jobs.entry(job.clone()).or_default().prices = prices;
    }

    /// A job was begun by an earlier coordinator, which counted so far.
    pub(super) fn go_on(&mut self, job: &JobId, spent: Spent) {
        self.jobs.entry(job.clone()).or_default().spent = spent;
    }

    /// What was spent on a job so far; attempts that run count once they end.
    pub(super) fn spent(&self, job: &JobId) -> Spent {
        self.jobs.get(job).map_or_else(Spent::default, |job| job.spent.clone())
    }

    /// The span of a job, as W3C writes it.
    pub(super) fn set_trace(&mut self, job: &JobId, traceparent: String) {
        self.jobs.entry(job.clone()).or_default().trace = traceparent;
    }

    /// The span of a job; empty without traces.
    pub(super) fn trace(&self, job: &JobId) -> &str {
        self.jobs.get(job).map_or("", |job| &job.trace)
    }

    /// A worker presented itself.
    pub(super) fn register(
        &mut self,
        worker: &WorkerId,
        host: String,
        facts: WorkerFacts,
        now_ms: u64,
    ) {
        let facts = bounded(facts);
        let known = self.workers.remove(worker);
        let (health, leases_lost) =
            known.map_or_else(Default::default, |known| (known.health, known.leases_lost));
        let entry = WorkerLedger { host, facts, health, leases_lost, seen_ms: now_ms, gone: None };
        self.workers.insert(worker.clone(), entry);
    }

    /// A worker lives, or says farewell.
    pub(super) fn heartbeat(
        &mut self,
        worker: &WorkerId,
        health: Health,
        leaving: bool,
        now_ms: u64,
    ) {
        let Some(known) = self.workers.get_mut(worker) else { return };
        let mut health = health;
        health.store.truncate(STORE_LINES_MAX);
        telemetry::add_health(kind_of(&known.facts), &known.health, &health);
        known.health = health;
        known.seen_ms = now_ms;
        known.gone = leaving.then_some(WorkerPhase::Left);
    }

    /// An attempt ended; `work` is its unit.
    pub(super) fn report(&mut self, report: &Report, work: Option<&WorkUnit>, now_ms: u64) {
        if let Some(worker) = self.workers.get_mut(&report.worker) {
            worker.seen_ms = now_ms;
        }
        telemetry::count_report(&report.outcome, report.seconds, work);
        let kind = self.kind(&report.worker);
        let spent = &mut self.jobs.entry(report.lease.job.clone()).or_default().spent;
        let fates = spent.kinds.entry(kind).or_default();
        let told = report.device_seconds;
        let seconds = if told.is_finite() { told.max(0.0) } else { 0.0 };
        match report.outcome {
            Outcome::Committed => fates.useful += seconds,
            Outcome::Lost => {
                fates.duplicate += seconds;
                spent.duplicates += 1;
            }
            Outcome::Failed { .. } => fates.failed += seconds,
            Outcome::HandedBack | Outcome::Unfit { .. } => {
                fates.handed_back += seconds;
                spent.leases_handed_back += 1;
            }
        }
    }

    /// Leases ended because their workers fell silent.
    pub(super) fn expired(&mut self, leases: &[LeaseView]) {
        telemetry::count_expired(leases.len() as u64);
        for view in leases {
            let kind = self.kind(&view.worker);
            if let Some(worker) = self.workers.get_mut(&view.worker) {
                worker.leases_lost += 1;
            }
            let job = self.jobs.entry(view.lease.job.clone()).or_default();
            job.spent.leases_expired += 1;
            let seconds = view.running_ms.unwrap_or(0) as f64 / 1_000.0;
            job.spent.kinds.entry(kind).or_default().expired += seconds;
        }
    }

    /// `present` are the workers the state still knows: others that said no farewell are lost.
    pub(super) fn keep(&mut self, present: &BTreeSet<&WorkerId>) {
        for (worker, known) in &mut self.workers {
            if known.gone.is_none() && !present.contains(worker) {
                known.gone = Some(WorkerPhase::Lost);
            }
        }
        let mut gone: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, known)| known.gone.is_some())
            .map(|(worker, known)| (known.seen_ms, worker.clone()))
            .collect();
        gone.sort_unstable();
        for (_, worker) in gone.iter().take(gone.len().saturating_sub(GONE_MAX)) {
            self.workers.remove(worker);
        }
    }

    /// Takes note of how fast a job that runs goes.
    pub(super) fn sample(&mut self, status: &JobStatus, now_ms: u64) {
        let ended = status.kinds.iter().map(|counts| counts.committed + counts.failed).sum();
        let job = self.jobs.entry(status.job.clone()).or_default();
        let history = job.history.get_or_insert_with(|| History::new(now_ms, ended));
        history.sample(now_ms, status.rows_done, ended);
    }

    /// How fast a job went.
    pub(super) fn history(&self, job: &JobId) -> Option<&History> {
        self.jobs.get(job)?.history.as_ref()
    }

    /// Adds to a status what the ledger knows: how fast the job goes, and what it cost; `leases` as for
    /// [`Self::cost`].
    pub(super) fn complete(&self, status: &mut JobStatus, leases: &[LeaseView]) {
        // Units may be shorter than the time between two signs of life, which would tell of their rates.
        let told = self.history(&status.job).map_or(0.0, |history| history.rows_per_second);
        status.rows_per_second = if status.phase.is_over() { 0.0 } else { told };
        status.cost = self.cost(status, leases);
    }

    /// Kind of a worker's device.
    pub(super) fn kind(&self, worker: &WorkerId) -> String {
        self.workers.get(worker).map_or(KIND_DEFAULT, |worker| kind_of(&worker.facts)).to_owned()
    }

    /// Device time of a job and its price; `leases` are all leases of the moment.
    pub(super) fn cost(&self, status: &JobStatus, leases: &[LeaseView]) -> JobCost {
        let Some(job) = self.jobs.get(&status.job) else { return JobCost::default() };
        let mut running: BTreeMap<String, (f64, BTreeSet<&WorkerId>)> = BTreeMap::new();
        for view in leases.iter().filter(|view| view.lease.job == status.job) {
            let Some(running_ms) = view.running_ms else { continue };
            let (seconds, workers) = running.entry(self.kind(&view.worker)).or_default();
            *seconds += running_ms as f64 / 1_000.0;
            workers.insert(&view.worker);
        }
        let spent = &job.spent;
        let sum = |of: fn(&DeviceSeconds) -> f64| spent.kinds.values().map(of).sum::<f64>();
        let mut cost = JobCost {
            useful_seconds: sum(|fates| fates.useful),
            duplicate_seconds: sum(|fates| fates.duplicate),
            failed_seconds: sum(|fates| fates.failed),
            handed_back_seconds: sum(|fates| fates.handed_back),
            expired_seconds: sum(|fates| fates.expired),
            leases_expired: spent.leases_expired,
            leases_handed_back: spent.leases_handed_back,
            duplicates: spent.duplicates,
            ..JobCost::default()
        };
        let Some(prices) = &job.prices else { return cost };
        cost.currency = Some(prices.currency.clone());
        let ended = spent.kinds.iter().map(|(kind, fates)| prices.seconds(kind, fates.total()));
        let running_price =
            running.iter().map(|(kind, (seconds, _))| prices.seconds(kind, *seconds));
        cost.spent = ended.chain(running_price).sum();
        let per_hour: Option<f64> = running
            .iter()
            .map(|(kind, (_, workers))| Some(prices.hour(kind)? * workers.len() as f64))
            .sum();
        cost.estimated_total = if status.phase.is_over() {
            cost.spent
        } else {
            let left_hours = status.eta_seconds.map(|seconds| seconds / 3_600.0);
            cost.spent
                .zip(per_hour.zip(left_hours))
                .map(|(spent, (hour, left))| spent + hour * left)
        };
        cost
    }
}

/// What a worker says of itself, cut to what may be kept and become a label.
fn bounded(facts: WorkerFacts) -> WorkerFacts {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let cut = |text: &str| text.chars().take(NAME_LETTERS_MAX).collect::<String>();
    let is_plain =
        facts.device_kind.len() <= NAME_LETTERS_MAX && facts.device_kind.chars().all(plain);
    WorkerFacts {
        device_kind: if is_plain { facts.device_kind } else { "other".to_owned() },
        device: cut(&facts.device),
        threads: facts.threads,
        program: cut(&facts.program),
    }
}

fn kind_of(facts: &WorkerFacts) -> &str {
    if facts.device_kind.is_empty() { KIND_DEFAULT } else { &facts.device_kind }
}
