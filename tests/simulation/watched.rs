//! A worker's two sides with an observer in between: what its coordinator says and what it runs.
//!
//! Invariant: passes everything on as it is.

use crate::runner::SimRunner;
use crate::world::{World, lock};
use async_trait::async_trait;
use futures::stream::BoxStream;
use glmeval_common::control::{
    Ask, Control, Grants, Heartbeat, HeartbeatReply, JobStatus, Registered, Registration, Report,
    ReportReply,
};
use glmeval_common::error::Result;
use glmeval_common::ids::{Attempt, Generation, JobId, WorkerId};
use glmeval_common::plan::Plan;
use glmeval_common::unit::WorkUnit;
use glmeval_common::wire::GrpcControl;
use glmeval_worker::agent::{RunContext, UnitOutcome, UnitRunner};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What was seen of one worker.
#[derive(Default)]
struct Seen {
    /// Highest epoch that answered.
    epoch: u64,
    /// Grants of coordinators that were replaced by then.
    stale: BTreeSet<Generation>,
}

/// One worker process under observation.
pub(crate) struct Watched {
    control: GrpcControl,
    runner: SimRunner,
    seen: Mutex<Seen>,
}

impl Watched {
    pub(crate) fn new(control: GrpcControl, runner: SimRunner) -> Self {
        Self { control, runner, seen: Mutex::default() }
    }

    fn world(&self) -> &Arc<World> {
        &self.runner.world
    }

    /// Notes who answered; whether that coordinator was the newest this worker had heard of.
    fn heard<T>(&self, worker: &WorkerId, what: &str, epoch: Result<u64, &T>) -> bool
    where
        T: std::fmt::Display,
    {
        let epoch = match epoch {
            Ok(epoch) => epoch,
            Err(error) => {
                self.world().note(worker.as_str(), format!("{what}: {error}"));
                return false;
            }
        };
        let mut seen = lock(&self.seen);
        if epoch > seen.epoch {
            self.world().note(worker.as_str(), format!("{what}: meets epoch {epoch}"));
        }
        let is_newest = epoch >= seen.epoch;
        seen.epoch = seen.epoch.max(epoch);
        if !is_newest {
            self.world().count("stale answers");
        }
        is_newest
    }
}

#[async_trait]
impl Control for Watched {
    async fn register(&self, registration: Registration) -> Result<Registered> {
        let worker = registration.worker.clone();
        let reply = self.control.register(registration).await;
        self.heard(&worker, "register", reply.as_ref().map(|reply| reply.epoch));
        reply
    }

    async fn ask(&self, ask: Ask) -> Result<Grants> {
        let (worker, asked_ms) = (ask.worker.clone(), self.world().now_ms());
        let reply = self.control.ask(ask).await;
        let is_newest = self.heard(&worker, "ask", reply.as_ref().map(|reply| reply.epoch));
        for grant in reply.iter().flat_map(|reply| &reply.grants) {
            let generation = grant.lease.generation;
            let text = format!("granted {} as {generation}", grant.work.label());
            self.world().note(worker.as_str(), text);
            if !is_newest {
                lock(&self.seen).stale.insert(generation);
            }
            let withdrawn = lock(&self.world().ledger).withdrawn.get(&grant.lease.job).copied();
            if withdrawn.is_some_and(|(at_ms, epoch)| asked_ms > at_ms && generation.epoch >= epoch)
            {
                let unit = grant.work.label();
                self.world()
                    .violation(format!("{unit} of a cancelled job granted as {generation}"));
            }
        }
        reply
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply> {
        let worker = heartbeat.worker.clone();
        let reply = self.control.heartbeat(heartbeat).await;
        self.heard(&worker, "heartbeat", reply.as_ref().map(|reply| reply.epoch));
        reply
    }

    async fn report(&self, report: Report) -> Result<ReportReply> {
        let worker = report.worker.clone();
        let reply = self.control.report(report).await;
        self.heard(&worker, "report", reply.as_ref().map(|reply| reply.epoch));
        reply
    }

    async fn submit(&self, job_toml: &str, plan: Plan) -> Result<JobId> {
        self.control.submit(job_toml, plan).await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus> {
        self.control.status(job).await
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        self.control.jobs().await
    }

    async fn cancel(&self, job: &JobId) -> Result<()> {
        self.control.cancel(job).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        self.control.drain(worker).await
    }

    async fn watch(&self, job: &JobId) -> Result<BoxStream<'static, Result<JobStatus>>> {
        self.control.watch(job).await
    }
}

#[async_trait]
impl UnitRunner for Watched {
    async fn run(
        &self,
        unit: &WorkUnit,
        attempt: &Attempt,
        context: &RunContext,
    ) -> Result<UnitOutcome> {
        if lock(&self.seen).stale.contains(&context.generation) {
            let (worker, generation) = (&context.worker, context.generation);
            self.world().violation(format!("{worker} obeys the replaced {generation}"));
        }
        self.runner.run(unit, attempt, context).await
    }
}
