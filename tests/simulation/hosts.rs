//! The programs that run on simulated hosts: coordinators, their workers, and workers that need none.
//!
//! Leaves out: when they die (chaos), who wants jobs done (operator). Invariant: each program is put together as the command line does it, of the
//! product's own parts.

pub(crate) mod operator;

use crate::job;
use crate::network::{self, NAME, address_of, balanced, connections, discovered, following};
use crate::oracles;
use crate::runner::SimRunner;
use crate::store::Objects;
use crate::watched::Watched;
use crate::world::{HostClock, World, lock};
use async_trait::async_trait;
use glmeval_common::error::Result;
use glmeval_common::ids::WorkerId;
use glmeval_common::plan::Plan;
use glmeval_common::rng::random_token;
use glmeval_coordinator::{
    Coordinator, CoordinatorRecord, JobStore, Recovery, Settings, StoredJobs, Trust, service,
};
use glmeval_worker::agent::{
    Agent, AgentExit, AgentSettings, CommitCheck, PartitionWorker, stop_pair,
};
use std::sync::Arc;
use std::time::Duration;

/// What the names of hosts with partition workers begin with.
pub(crate) const PARTITION: &str = "wp";

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
    let control = match world.draw(0, 3) {
        0 => following(&world, store.clone(), &who),
        1 => balanced(&world, &who),
        _ => match discovered(&world, &store, &who).await {
            Ok(control) => control,
            Err(error) => {
                ends(&error.chain());
                return Ok(());
            }
        },
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
            lock(&world.orders).left.insert(host);
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

/// One life of a worker that needs no coordinator: its share of the first job, then what is left of it.
pub(crate) async fn partition(site: Site) -> turmoil::Result {
    let Site { world, objects, host } = site;
    let who = world.process(&host);
    let clock = HostClock::of(&world, &host);
    let store = network::store_of(&objects, &host, &who);
    let (stop, source) = stop_pair();
    lock(&world.orders).stops.insert(host.clone(), stop);
    let runner = SimRunner {
        world: Arc::clone(&world),
        store: store.clone(),
        clock: Arc::clone(&clock),
        host: host.clone(),
    };
    let (jobs, first) = (StoredJobs::shared(store), &world.jobs[0]);
    let outcome = async {
        jobs.put_job(first.toml, &first.plan).await?;
        let worker = PartitionWorker {
            plan: &first.plan,
            worker: WorkerId::new(&who),
            check: &Committed(jobs),
            runner: &runner,
            clock: clock.as_ref(),
            stop: source,
        };
        let index = host.strip_prefix(PARTITION).and_then(|number| number.parse().ok());
        worker.run(index.unwrap_or(0), 2).await
    };
    match outcome.await {
        Ok(outcome) if outcome.left == 0 => {
            world.note(&who, "leaves: its job is done");
            world.count("partitions done");
            lock(&world.orders).left.insert(host);
            oracles::whole(&world, &objects, first, &who).await;
        }
        ended => {
            let why = ended.err().map_or("work is left".to_owned(), |error| error.chain());
            world.note(&who, format!("ends: {why}"));
            lock(&world.orders).ended.insert(host);
        }
    }
    Ok(())
}

/// Commits as the store lists them.
struct Committed(StoredJobs);

#[async_trait]
impl CommitCheck for Committed {
    async fn committed(&self, plan: &Plan) -> Result<Vec<bool>> {
        self.0.committed(plan).await
    }
}
