//! The programs that run on simulated hosts: coordinators, workers and the operator who wants a job done.
//!
//! Leaves out: when they die (chaos). Invariant: each program is put together as the command line does it, of the
//! product's own parts.

use crate::network::{self, NAME, address_of, connections, discovered, following};
use crate::oracles;
use crate::runner::SimRunner;
use crate::store::Objects;
use crate::watched::Watched;
use crate::world::{HostClock, World, lock};
use crate::{job, world};
use glmeval_common::control::{Control, JobPhase};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::rng::random_token;
use glmeval_coordinator::{
    Coordinator, CoordinatorRecord, Recovery, Settings, StoredJobs, Trust, service,
};
use glmeval_worker::agent::{Agent, AgentExit, AgentSettings, stop_pair};
use std::sync::Arc;
use std::time::Duration;

/// What a simulated host is made of.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) host: String,
}

/// The product's settings in a third of their time, so that more happens in a second of simulation.
fn settings() -> Settings {
    Settings {
        lease_ttl_ms: 9_000,
        heartbeat_interval_ms: 1_500,
        fence_interval_ms: 2_000,
        backoff_ms_min: 1_000,
        backoff_ms_max: 20_000,
        ..Settings::default()
    }
}

/// One life of a coordinator. A start that fails is tried again, as an engine would.
pub(crate) async fn coordinator(site: Site) -> turmoil::Result {
    let Site { world, objects, host } = site;
    let who = world.process(&host);
    let connections = connections().await?;
    let clock = HostClock::of(&world, &host);
    let jobs = Arc::new(StoredJobs::shared(network::store_of(&objects, &host, &who)));
    let record = CoordinatorRecord {
        version: 1,
        token: random_token(),
        address: Some(address_of(&host)),
        program: who.clone(),
        started_unix_ms: clock.unix_ms(),
    };
    let coordinator = loop {
        let (jobs, clock) = (jobs.clone(), Arc::clone(&clock));
        let all = Recovery::AllJobs;
        match Coordinator::start(NAME, jobs, clock, settings(), &record, all).await {
            Ok(coordinator) => break coordinator,
            Err(error) => world.note(&who, format!("does not start: {}", error.chain())),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    oracles::claimed(&world, coordinator.epoch(), &who);
    let served = {
        let never = std::future::pending();
        service::serve_over(coordinator, connections, Trust::open(), never).await
    };
    let reason = served.err().map_or(String::new(), |error| error.chain());
    world.note(&who, format!("ends: {reason}"));
    world.count("coordinators fenced");
    Ok(())
}

/// One life of a worker.
pub(crate) async fn worker(site: Site) -> turmoil::Result {
    let Site { world, objects, host } = site;
    let who = world.process(&host);
    let clock = HostClock::of(&world, &host);
    let store = network::store_of(&objects, &host, &who);
    let ends = |reason: &str| {
        world.note(&who, format!("ends: {reason}"));
        lock(&world.orders).ended.insert(host.clone());
    };
    let control = if world.chance(0.5) {
        following(&world, store.clone(), &who)
    } else {
        match discovered(&world, &store, &who).await {
            Ok(control) => control,
            Err(error) => {
                ends(&error.chain());
                return Ok(());
            }
        }
    };
    let (stop, source) = stop_pair();
    lock(&world.orders).stops.insert(host.clone(), stop);
    let runner = SimRunner {
        world: Arc::clone(&world),
        store,
        clock: Arc::clone(&clock),
        host: host.clone(),
    };
    let watched = Arc::new(Watched::new(control, runner));
    let worker = WorkerId::new(&who);
    let mut settings = AgentSettings::new(worker, &host, vec![job::CLASS.to_owned()]);
    settings.detached_ms_max = 25_000;
    settings.until_idle = world.chance(0.3);
    match Agent::new(watched.clone(), watched, clock, settings, source).run().await {
        Ok(AgentExit::Finished) => {
            world.note(&who, "leaves: no work is left");
            oracles::all_committed(&world, &objects, &who).await;
        }
        Ok(AgentExit::WorkLeft) => ends("work is left"),
        Err(error) => {
            world.violation(format!("{who} gave up: {}", error.chain()));
            ends("gave up");
        }
    }
    Ok(())
}

/// Submits the job, watches it to its end and drains workers when told to.
pub(crate) async fn operator(site: Site) -> turmoil::Result {
    let Site { world, objects, host } = site;
    let store = network::store_of(&objects, &host, &host);
    let control = following(&world, store, &host);
    let job = loop {
        match control.submit("name = \"simulated\"", world.plan.clone()).await {
            Ok(job) => break job,
            Err(error) => world.note(&host, format!("cannot submit: {}", error.chain())),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    world.note(&host, "submitted");
    while !is_over(&world, &objects, &control, &job).await {
        let drains = std::mem::take(&mut world::lock(&world.orders).drains);
        for worker in drains {
            let drained = control.drain(&WorkerId::new(&worker)).await;
            world.note(&host, format!("drains {worker}: {}", drained.is_ok()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    oracles::at_the_end(&world, &objects).await;
    Ok(())
}

/// Looks at the job once.
async fn is_over(
    world: &Arc<World>,
    objects: &Arc<Objects>,
    control: &dyn Control,
    job: &JobId,
) -> bool {
    match control.status(job).await {
        Ok(status) => {
            oracles::status(world, objects, &status).await;
            if status.phase.is_over() && status.phase != JobPhase::Finished {
                world.violation(format!("the job ended as {status:?}"));
            }
            status.phase.is_over()
        }
        Err(error) => {
            if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Bug) {
                world.violation(format!("status is refused: {}", error.chain()));
            }
            world.note("op", format!("no status: {}", error.chain()));
            false
        }
    }
}
