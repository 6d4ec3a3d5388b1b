//! The coordinator as a [`Control`]: one method, one event.
//!
//! Leaves out: decisions. Invariant: a job is in the store before anyone is told its id, and a
//! cancellation before it is obeyed; of both, the coordinator that answers is the newest there is.

use super::{Coordinator, lock, telemetry};
use crate::evidence::Evidence;
use crate::plan;
use crate::state::{Effect, Ended, Event, State};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use glmeval_common::control::{
    Ask, Control, Grant, Grants, Heartbeat, HeartbeatReply, JobPhase, JobStatus, LeaseKey, Outcome,
    Registered, Registration, Renamed, Report, ReportReply, WorkerStatus,
};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::job::JobSchedule;
use glmeval_common::plan::{Plan, UnitSpec};
use glmeval_common::trace;
use std::sync::Arc;
use std::time::Duration;

/// Effects sorted by what the caller is told.
#[derive(Default)]
struct Told {
    leases: Vec<LeaseKey>,
    renamed: Vec<Renamed>,
    revoked: Vec<LeaseKey>,
    drain: bool,
}

/// # Errors
/// `NotFound` when the worker has to register first.
fn told(worker: &WorkerId, effects: Vec<Effect>) -> Result<Told> {
    let mut told = Told::default();
    for effect in effects {
        match effect {
            Effect::Grant(lease) => told.leases.push(lease),
            Effect::Rename(renamed) => told.renamed.push(renamed),
            Effect::Revoke(lease) => told.revoked.push(lease),
            Effect::DrainCaller => told.drain = true,
            Effect::UnknownCaller => {
                return Err(Error::not_found(format!("worker {worker} is not registered")));
            }
            Effect::RefuseCaller(reason) => {
                let message = format!("worker {worker} is refused for good: it {reason}");
                return Err(Error::invalid(message));
            }
            // The driver has seen to these.
            _ => {}
        }
    }
    Ok(told)
}

impl Coordinator {
    fn read<T>(&self, read: impl FnOnce(&State, u64) -> T) -> T {
        let now_ms = self.inner.clock.now_ms();
        read(&lock(&self.inner.state), now_ms)
    }

    fn finished(&self) -> bool {
        self.read(|state, _| state.finished())
    }

    fn ask_once(&self, ask: &Ask) -> Result<Grants> {
        self.serving()?;
        // Asking stays a sign of life.
        let units_max = if self.grants() { ask.units_max } else { 0 };
        let event = Event::Ask { worker: ask.worker.clone(), units_max };
        let told = told(&ask.worker, self.apply(event))?;
        let mut grants = self.read(|state, _| {
            let grants = told.leases.into_iter().filter_map(|lease| {
                let work = state.work_unit(&lease)?;
                Some(Grant { lease, work, trace: String::new() })
            });
            grants.collect::<Vec<_>>()
        });
        for grant in &mut grants {
            grant.trace = self.lease_trace(&ask.worker, grant);
        }
        telemetry::count_grants(grants.len() as u64);
        Ok(Grants { epoch: self.epoch(), grants, finished: self.finished() })
    }

    /// Where every job stands; also once it is closed.
    pub fn statuses(&self) -> Vec<JobStatus> {
        self.read(State::statuses)
    }

    /// Waits until it knows a job and every job is over.
    pub async fn idle(&self) {
        let mut news = self.inner.news.subscribe();
        news.mark_changed();
        while news.changed().await.is_ok() && !self.finished() {}
    }

    /// A trace of its own for each lease, linked to the job's; what follows at the worker hangs below.
    fn lease_trace(&self, worker: &WorkerId, grant: &Grant) -> String {
        let LeaseKey { job, unit, generation } = &grant.lease;
        let kind = grant.work.kind().name();
        let span =
            tracing::info_span!(parent: None, "lease", %job, unit, %generation, %worker, kind);
        trace::link(&span, lock(&self.inner.ledger).trace(job));
        span.in_scope(|| tracing::debug!("unit granted"));
        trace::traceparent(&span)
    }

    /// What the store says of a unit that is reported as committed. A store that is away answers
    /// nothing, and the worker reports again.
    async fn evidence(
        &self,
        worker: &WorkerId,
        lease: &LeaseKey,
        outcome: &Outcome,
    ) -> Result<Evidence> {
        let is_claim = matches!(outcome, Outcome::Committed | Outcome::Lost);
        let unit = self.read(|state, _| {
            let unit = state.work_unit(lease).filter(|_| is_claim);
            unit.map(|unit| (unit, state.wants_digest(worker, lease)))
        });
        match unit {
            Some((unit, digest)) => {
                // The worker waits for this answer between two signs of life.
                let patience = Duration::from_millis(self.inner.settings.lease_ttl_ms / 2);
                let looked = self.inner.store.evidence(&unit, digest);
                let looked = tokio::time::timeout(patience, looked).await;
                looked.unwrap_or_else(|_| Err(Error::unavailable("the store does not answer")))
            }
            None => Ok(Evidence::Unasked),
        }
    }

    fn status_now(&self, job: &JobId) -> Result<JobStatus> {
        self.serving()?;
        let status = self.read(|state, now_ms| state.status(job, now_ms));
        let status = status.ok_or_else(|| Error::not_found(format!("job {job} is not known")))?;
        Ok(self.completed(status))
    }
}

#[async_trait]
impl Control for Coordinator {
    async fn register(&self, registration: Registration) -> Result<Registered> {
        self.serving()?;
        let Registration { worker, host, numeric_classes, held, facts } = registration;
        let now_ms = self.inner.clock.now_ms();
        let device = facts.device_kind.clone();
        lock(&self.inner.ledger).register(&worker, host.clone(), facts, now_ms);

        let event = Event::Register { worker: worker.clone(), host, numeric_classes, device, held };
        let told = told(&worker, self.apply(event))?;
        Ok(Registered {
            epoch: self.epoch(),
            lease_ttl_ms: self.inner.settings.lease_ttl_ms,
            heartbeat_interval_ms: self.inner.settings.heartbeat_interval_ms,
            renamed: told.renamed,
            revoked: told.revoked,
        })
    }

    async fn ask(&self, ask: Ask) -> Result<Grants> {
        let wait_ms = ask.wait_ms.min(self.inner.settings.heartbeat_interval_ms);
        let wait = tokio::time::sleep(Duration::from_millis(wait_ms));
        tokio::pin!(wait);
        loop {
            let work = self.inner.work.notified();
            tokio::pin!(work);
            // In line before it looks: what becomes ready in between wakes it.
            work.as_mut().enable();
            let grants = self.ask_once(&ask)?;
            let over = ask.or_finished && grants.finished;
            if !grants.grants.is_empty() || over || ask.units_max == 0 {
                return Ok(grants);
            }
            tokio::select! {
                biased;
                () = &mut wait => return Ok(grants),
                () = work => {}
            }
        }
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply> {
        self.serving()?;
        let Heartbeat { worker, held, leaving, health } = heartbeat;
        let now_ms = self.inner.clock.now_ms();
        lock(&self.inner.ledger).heartbeat(&worker, health, leaving, now_ms);
        let event = Event::Heartbeat { worker: worker.clone(), held, leaving };
        let told = told(&worker, self.apply(event))?;
        Ok(HeartbeatReply {
            epoch: self.epoch(),
            revoked: told.revoked,
            renamed: told.renamed,
            drain: told.drain,
            finished: self.finished(),
        })
    }

    async fn report(&self, report: Report) -> Result<ReportReply> {
        self.serving()?;
        let work = self.read(|state, _| state.work_unit(&report.lease));
        let now_ms = self.inner.clock.now_ms();
        lock(&self.inner.ledger).report(&report, work.as_ref(), now_ms);
        let Report { worker, lease, outcome, seconds, .. } = report;
        // The cast saturates and turns NaN to 0; a worker's nonsense only bends the estimates.
        let ran_ms = (seconds * 1_000.0) as u64;
        if let Outcome::Unfit { chain } = &outcome {
            let unit = lease.unit;
            tracing::warn!(%worker, unit, reason = chain, "a worker is unfit for a unit and leaves");
        }
        let evidence = self.evidence(&worker, &lease, &outcome).await?;
        let who = worker.clone();
        let effects = self.apply(Event::Report { worker, lease, outcome, ran_ms, evidence });
        self.write_records().await;
        told(&who, effects)?;
        Ok(ReportReply { epoch: self.epoch() })
    }

    async fn submit(&self, job_toml: &str, plan: Plan) -> Result<JobId> {
        self.serving()?;
        plan::verify(&plan)?;
        let schedule = JobSchedule::of_toml(job_toml, "job file")?;
        let job = plan.job.clone();
        if self.read(|state, _| state.phase(&job)) == Some(JobPhase::Running) {
            return self.still_newest().await.map(|()| job);
        }
        self.inner.store.put_job(job_toml, &plan).await?;
        let round = self.inner.store.resume(&job).await?;
        self.still_newest().await?;
        self.forget_records(&job).await;
        let mut committed = self.inner.store.committed(&plan).await?;
        // A report is no content of its id: whoever asks for the job again has it checked again.
        for (unit, committed) in plan.units().zip(&mut committed) {
            *committed &= unit.spec != UnitSpec::Report;
        }
        self.price(&job, job_toml);
        let span = tracing::info_span!(parent: None, "job", %job, name = plan.name);
        span.in_scope(|| tracing::info!(units = plan.unit_count(), "job submitted"));
        lock(&self.inner.ledger).set_trace(&job, trace::traceparent(&span));
        let (plan, ended) = (Arc::new(plan), Ended::default());
        lock(&self.inner.rounds).insert(job.clone(), round);
        self.apply(Event::Submit { plan, committed, ended, schedule });
        Ok(job)
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus> {
        self.status_now(job)
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        self.serving()?;
        let statuses = self.read(|state, now_ms| state.statuses(now_ms));
        Ok(statuses.into_iter().map(|status| self.completed(status)).collect())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        self.serving()?;
        Ok(self.worker_statuses())
    }

    async fn cancel(&self, job: &JobId) -> Result<()> {
        let status = self.status_now(job)?;
        if !status.phase.is_over() {
            self.inner.store.record_cancelled(job, self.round(job)).await?;
            self.still_newest().await?;
            self.apply(Event::Cancel { job: job.clone() });
        }
        Ok(())
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        self.serving()?;
        told(worker, self.apply(Event::Drain { worker: worker.clone() })).map(drop)
    }

    async fn watch(&self, job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
        self.status_now(job)?;
        let mut news = self.inner.news.subscribe();
        news.mark_changed();
        let start = Some((self.clone(), job.clone(), news));
        let stream = futures::stream::unfold(start, |state| async move {
            let (coordinator, job, mut news) = state?;
            news.changed().await.ok()?;
            let status = coordinator.status_now(&job);
            let goes_on = status.as_ref().is_ok_and(|status| !status.phase.is_over());
            Some((status, goes_on.then_some((coordinator, job, news))))
        });
        Ok(stream.boxed())
    }
}
