//! The operator: submits the jobs, cancels one, submits it again, drains workers, and looks how the jobs fare.
//!
//! Leaves out: what must hold (oracles). Invariant: what was not confirmed is asked for again.

use crate::hosts::Site;
use crate::job::{Fate, SimJob};
use crate::network::{self, following};
use crate::oracles;
use crate::world::lock;
use glmeval_common::control::{Control, JobPhase};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::wire::GrpcControl;
use std::time::Duration;

/// A job on its way.
struct Followed<'a> {
    job: &'a SimJob,
    fate: Fate,
    /// When it was found cancelled.
    withdrawn_ms: Option<u64>,
    is_over: bool,
}

/// Submits the jobs and sees them through to their ends.
pub(crate) async fn operator(site: Site) -> turmoil::Result {
    let store = network::store_of(&site.objects, &site.host, &site.host);
    let control = following(&site.world, store, &site.host);
    let mut followed = Vec::new();
    for job in &site.world.jobs {
        submit(&site, &control, job).await;
        start_again(&site);
        followed.push(Followed { job, fate: job.fate, withdrawn_ms: None, is_over: false });
    }
    while !followed.iter().all(Followed::is_through) {
        let drains = std::mem::take(&mut lock(&site.world.orders).drains);
        for worker in drains {
            let drained = control.drain(&WorkerId::new(&worker)).await;
            site.world.note(&site.host, format!("drains {worker}: {}", drained.is_ok()));
        }
        for job in &mut followed {
            job.look(&site, &control).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let finished: Vec<bool> = followed.iter().map(|job| job.is_over).collect();
    oracles::at_the_end(&site.world, &site.objects, &finished).await;
    Ok(())
}

async fn submit(site: &Site, control: &GrpcControl, job: &SimJob) {
    let (world, host) = (&site.world, &site.host);
    while let Err(error) = control.submit(job.toml, job.plan.clone()).await {
        world.note(host, format!("cannot submit: {}", error.chain()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.note(host, format!("submitted {}", job.plan.name));
}

/// Whoever left for want of work comes back for a new job, as in a new array.
fn start_again(site: &Site) {
    let mut orders = lock(&site.world.orders);
    let left = std::mem::take(&mut orders.left);
    orders.ended.extend(left);
}

impl Followed<'_> {
    fn id(&self) -> &JobId {
        &self.job.plan.job
    }

    /// Whether nothing more is wanted of it.
    fn is_through(&self) -> bool {
        self.is_over || (self.withdrawn_ms.is_some() && matches!(self.fate, Fate::Cancelled { .. }))
    }

    /// Cancels it or submits it again when the time has come, and looks at its status.
    async fn look(&mut self, site: &Site, control: &GrpcControl) {
        let now_ms = site.world.now_ms();
        match (self.fate, self.withdrawn_ms) {
            (Fate::Cancelled { at_ms } | Fate::Resumed { at_ms, .. }, None)
                if now_ms >= at_ms && !self.is_over =>
            {
                self.cancel(site, control).await;
            }
            (Fate::Resumed { after_ms, .. }, Some(since_ms)) if now_ms >= since_ms + after_ms => {
                self.resume(site, control).await;
            }
            _ => self.check_status(site, control).await,
        }
    }

    async fn cancel(&mut self, site: &Site, control: &GrpcControl) {
        let world = &site.world;
        if let Err(error) = control.cancel(self.id()).await {
            return world.note(&site.host, format!("cannot cancel: {}", error.chain()));
        }
        let status = control.status(self.id()).await;
        // It may have ended before; and who cannot see whether asks again.
        let Ok(status) = status else { return };
        if status.phase == JobPhase::Finished {
            self.fate = Fate::Kept;
            return self.check_status(site, control).await;
        }
        world.count("cancelled jobs");
        world.note(&site.host, format!("cancelled {}", self.job.plan.name));
        let mut ledger = lock(&world.ledger);
        let epoch = ledger.epochs.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        ledger.withdrawn.insert(self.id().clone(), (world.now_ms(), epoch));
        self.withdrawn_ms = Some(world.now_ms());
    }

    /// Submits it again.
    async fn resume(&mut self, site: &Site, control: &GrpcControl) {
        lock(&site.world.ledger).withdrawn.remove(self.id());
        submit(site, control, self.job).await;
        site.world.count("jobs submitted again");
        (self.fate, self.withdrawn_ms) = (Fate::Kept, None);
        start_again(site);
    }

    async fn check_status(&mut self, site: &Site, control: &GrpcControl) {
        let Site { world, objects, host } = site;
        let status = match control.status(self.id()).await {
            Ok(status) => status,
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Bug) {
                    world.violation(format!("status is refused: {}", error.chain()));
                }
                return world.note(host, format!("no status: {}", error.chain()));
            }
        };
        oracles::status(world, objects, self.job, &status).await;
        let leased: u64 = status.kinds.iter().map(|kind| kind.leased).sum();
        // Its last commits may come after the cancellation.
        let is_expected = match status.phase {
            JobPhase::Finished => true,
            JobPhase::Cancelled => self.withdrawn_ms.is_some() && leased == 0,
            JobPhase::Running => self.withdrawn_ms.is_none(),
            JobPhase::FinishedWithFailures => false,
        };
        if !is_expected {
            world.violation(format!("{}: not {status:?}", self.job.plan.name));
        }
        self.is_over |= status.phase == JobPhase::Finished;
    }
}
