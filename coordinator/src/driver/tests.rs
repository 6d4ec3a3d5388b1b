//! Lying workers, over a store that is real and lies in memory.

use super::*;
use crate::plan::tests as plans;
use crate::stored_jobs::StoredJobs;
use glmeval_common::clock::ManualClock;
use glmeval_common::control::{
    Ask, Control, Failure, Grant, Heartbeat, JobPhase, LeaseKey, Outcome, Registration, Report,
};
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::layout;
use glmeval_common::plan::Plan;
use glmeval_common::store::embeddings::{ShardAttempt, ShardCommit, commit_shard, find_commit};
use glmeval_common::store::{Store, jobs};
use glmeval_common::unit::WorkUnit;
use std::collections::BTreeMap;

mod rates;
mod records;

/// A coordinator with a job whose data set is prepared.
struct World {
    store: Store,
    coordinator: Coordinator,
    plan: Plan,
}

impl World {
    async fn new() -> Self {
        let store = Store::memory();
        let plan = plans::planned(&plans::job(), 250);
        let manifest = layout::dataset_manifest_path(&plan.datasets[0].facts.id);
        store.create(&manifest, "{}".into()).await.unwrap();
        Self::over(store, plan).await
    }

    /// A job over a store, and two workers.
    async fn over(store: Store, plan: Plan) -> Self {
        let coordinator = Self::coordinator(&store).await;
        coordinator.submit("", plan.clone()).await.unwrap();
        let world = Self { store, coordinator, plan };
        for name in ["liar", "honest"] {
            world.register(name).await.unwrap();
        }
        world
    }

    /// The next coordinator over a store.
    async fn coordinator(store: &Store) -> Coordinator {
        Self::coordinator_at(store, Arc::default()).await
    }

    /// One whose time somebody else lets pass.
    async fn coordinator_at(store: &Store, clock: Arc<ManualClock>) -> Coordinator {
        let record = CoordinatorRecord {
            version: 1,
            token: "t".into(),
            address: None,
            program: "test".into(),
            started_unix_ms: 0,
        };
        let jobs: Arc<dyn JobStore> = Arc::new(StoredJobs::shared(store.clone()));
        let settings = Settings { fence_interval_ms: 0, ..Settings::default() };
        let all = Recovery::AllJobs;
        Coordinator::start("c", jobs, clock, settings, &record, all).await.unwrap()
    }

    async fn register(&self, name: &str) -> Result<()> {
        let registration = Registration {
            worker: WorkerId::new(name),
            host: format!("host-{name}"),
            numeric_classes: vec!["f32.cpu.1".into()],
            held: vec![],
            facts: glmeval_common::control::WorkerFacts::default(),
        };
        self.coordinator.register(registration).await.map(drop)
    }

    async fn ask(&self, name: &str, units_max: u32) -> Vec<Grant> {
        let ask = Ask { worker: WorkerId::new(name), units_max, wait_ms: 0, or_finished: true };
        self.coordinator.ask(ask).await.unwrap().grants
    }

    async fn report(&self, name: &str, lease: &LeaseKey) -> Result<()> {
        let (worker, lease) = (WorkerId::new(name), lease.clone());
        let report = Report {
            worker,
            lease,
            outcome: Outcome::Committed,
            seconds: 1.0,
            device_seconds: 1.0,
        };
        self.coordinator.report(report).await.map(drop)
    }

    fn attempt(&self, name: &str, grant: &Grant) -> ShardAttempt {
        let WorkUnit::Extract(unit) = &grant.work else { panic!("{:?} is no shard", grant.work) };
        ShardAttempt {
            set: unit.set.id.clone(),
            start: unit.start,
            end: unit.end,
            rows: unit.end - unit.start,
            attempt: Attempt::new(format!("attempt-of-{name}")),
            worker: WorkerId::new(name),
            generation: grant.lease.generation,
            seconds: 1.0,
        }
    }

    /// Commits a shard whose record `falsify` changes before it is written.
    async fn commit(&self, name: &str, grant: &Grant, falsify: impl FnOnce(&mut ShardCommit)) {
        let it = self.attempt(name, grant);
        let path = layout::shard_data_path(&it.set, it.start, it.end, &it.attempt);
        let object = self.store.put_data("shard", &path, "numbers".into()).await.unwrap();
        let path = layout::shard_commit_path(&it.set, it.start, it.end);
        let mut commit = ShardCommit {
            version: layout::FORMAT_VERSION,
            set: it.set,
            start: it.start,
            end: it.end,
            rows: it.rows,
            object,
            attempt: it.attempt,
            worker: it.worker,
            generation: it.generation,
            seconds: it.seconds,
        };
        falsify(&mut commit);
        self.store.create_record(&path, commit).await.unwrap();
    }

    /// The liar is refused with those words for good, and others hear of it.
    async fn check_refused(&self, told: Result<()>, words: &str) {
        let error = told.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "the worker exits with 42");
        assert!(error.chain().contains(words), "{}", error.chain());
        let (worker, health) = (WorkerId::new("liar"), Default::default());
        let heartbeat = Heartbeat { worker, held: vec![], leaving: false, health };
        let beat = self.coordinator.heartbeat(heartbeat).await.unwrap_err();
        assert_eq!(beat.kind(), ErrorKind::Invalid);
        assert_eq!(self.register("liar").await.unwrap_err().kind(), ErrorKind::Invalid);
        let status = self.coordinator.status(&self.plan.job).await.unwrap();
        assert_eq!(status.phase, JobPhase::Running);
        assert!(status.notices[0].starts_with("worker liar is refused"), "{:?}", status.notices);
    }

    /// The liar is refused; the honest worker does its unit.
    async fn check(&self, told: Result<()>, words: &str, lie: &Grant) {
        self.check_refused(told, words).await;
        let grants = self.ask("honest", 64).await;
        let grant =
            grants.iter().find(|grant| grant.lease.unit == lie.lease.unit).expect("granted");
        let attempt = self.attempt("honest", grant);
        commit_shard(&self.store, &attempt, "true numbers".into()).await.unwrap();
        self.report("honest", &grant.lease).await.unwrap();
        let stands = find_commit(&self.store, &attempt.set, attempt.start, attempt.end).await;
        assert_eq!(stands.unwrap().expect("committed").worker, WorkerId::new("honest"));
        let status = self.coordinator.status(&self.plan.job).await.unwrap();
        assert_eq!(status.rows_done, attempt.rows);
    }
}

#[tokio::test]
async fn a_commit_of_wrong_length_is_refused_and_replaced_by_the_next_revision() {
    let world = World::new().await;
    let grant = world.ask("liar", 1).await.remove(0);
    world.commit("liar", &grant, |commit| commit.object.bytes += 1).await;
    let told = world.report("liar", &grant.lease).await;
    world.check(told, "expected 8 bytes, found 7", &grant).await;
}

#[tokio::test]
async fn a_commit_of_wrong_digest_is_refused_and_replaced_by_the_next_revision() {
    let world = World::new().await;
    let grant = world.ask("liar", 1).await.remove(0);
    world.commit("liar", &grant, |commit| commit.object.sha256 = "0".repeat(64)).await;
    let told = world.report("liar", &grant.lease).await;
    world.check(told, "sha256", &grant).await;
}

#[tokio::test]
async fn a_commit_with_more_rows_or_of_another_object_is_refused() {
    let world = World::new().await;
    let grant = world.ask("liar", 1).await.remove(0);
    world.commit("liar", &grant, |commit| commit.rows += 1).await;
    let told = world.report("liar", &grant.lease).await;
    world.check(told, "rows: expected 100, found 101", &grant).await;
    let world = World::new().await;
    let grant = world.ask("liar", 1).await.remove(0);
    let plan = layout::plan_path(&world.plan.job);
    world.commit("liar", &grant, |commit| commit.object.path = plan).await;
    let told = world.report("liar", &grant.lease).await;
    world.check(told, "data object", &grant).await;
}

#[tokio::test]
async fn a_report_of_a_foreign_unit_is_refused() {
    let world = World::new().await;
    let own = world.ask("liar", 1).await.remove(0);
    let foreign = world.ask("honest", 1).await.remove(0);
    let told = world.report("liar", &foreign.lease).await;
    world.check(told, "which was not its own", &own).await;
}

#[tokio::test]
async fn a_commit_or_a_report_under_an_old_generation_is_refused() {
    let world = World::new().await;
    let first = world.ask("honest", 1).await.remove(0);
    let second = world.ask("liar", 1).await.remove(0);
    let old = first.lease.generation;
    world.commit("liar", &second, |commit| commit.generation = old).await;
    let told = world.report("liar", &second.lease).await;
    assert!(told.unwrap_err().chain().contains("under 1.0, which was not its own"));
    let world = World::new().await;
    world.ask("honest", 1).await;
    let grant = world.ask("liar", 1).await.remove(0);
    let generation = Generation { epoch: 1, counter: 0 };
    let told = world.report("liar", &LeaseKey { generation, ..grant.lease.clone() }).await;
    world.check(told, "which was not its own", &grant).await;
}

#[tokio::test]
async fn a_report_of_what_was_never_committed_is_refused() {
    let world = World::new().await;
    let grant = world.ask("liar", 1).await.remove(0);
    let told = world.report("liar", &grant.lease).await;
    world.check(told, "no commit of it stands", &grant).await;
}

/// Units that a worker is given now, by number.
async fn by_unit(world: &World, name: &str) -> BTreeMap<u32, Grant> {
    let grants = world.ask(name, 64).await.into_iter();
    grants.map(|grant| (grant.lease.unit, grant)).collect()
}

/// Does the unit as it should be done.
async fn work(world: &World, name: &str, grant: &Grant) {
    let attempt = world.attempt(name, grant);
    commit_shard(&world.store, &attempt, "true numbers".into()).await.unwrap();
    world.report(name, &grant.lease).await.unwrap();
}

/// A liar has committed unit 1 well and unit 2 wrongly and told nobody; the coordinator that came since
/// believes both.
async fn believed() -> (World, BTreeMap<u32, Grant>) {
    let mut world = World::new().await;
    let grants = by_unit(&world, "liar").await;
    world.commit("liar", &grants[&1], |_| {}).await;
    world.commit("liar", &grants[&2], |it| it.object.sha256 = "0".repeat(64)).await;
    world.coordinator = World::coordinator(&world.store).await;
    for name in ["liar", "honest"] {
        world.register(name).await.unwrap();
    }
    (world, grants)
}

impl World {
    fn committed(&self) -> Vec<(u32, u32)> {
        let units = lock(&self.coordinator.inner.state).committed_units(&self.plan.job);
        units.expect("known").1.ranges().collect()
    }

    /// The honest worker does what is left of the shards.
    async fn finish_shards(&self, units: &[u32]) {
        let mut grants = by_unit(self, "honest").await;
        grants.retain(|unit, _| *unit < 4);
        assert_eq!(grants.keys().copied().collect::<Vec<_>>(), units);
        for grant in grants.values() {
            work(self, "honest", grant).await;
        }
        for unit in 1..4 {
            let Some(WorkUnit::Extract(it)) = self.plan.work_unit(unit) else { panic!("a shard") };
            let commit = find_commit(&self.store, &it.set.id, it.start, it.end).await.unwrap();
            self.store.get_verified(&commit.expect("committed").object).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_liar_committed_before_it_was_refused_is_looked_at_and_made_again() {
    let (world, _) = believed().await;
    assert_eq!(world.committed(), [(0, 3)], "a listing reads no digest");
    let grants = by_unit(&world, "liar").await;
    world.report("liar", &grants[&3].lease).await.unwrap_err();
    assert_eq!(world.committed(), [(0, 3)], "nobody has looked yet");
    world.coordinator.look_at_suspects().await;
    assert_eq!(world.committed(), [(0, 2)], "what is sound stays");
    world.finish_shards(&[2, 3]).await;
    assert!(lock(&world.coordinator.inner.state).suspects().is_empty());
}

#[tokio::test]
async fn the_next_coordinator_knows_who_was_refused_and_looks_at_what_they_committed() {
    let (mut world, _) = believed().await;
    let grants = by_unit(&world, "liar").await;
    world.report("liar", &grants[&3].lease).await.unwrap_err();
    // It is gone before it could look.
    world.coordinator = World::coordinator(&world.store).await;
    assert_eq!(world.coordinator.epoch(), 3, "a refusal is no epoch");
    let refused = world.register("liar").await.unwrap_err();
    assert!(refused.chain().contains("no commit of it stands"), "{}", refused.chain());
    world.register("honest").await.unwrap();
    world.coordinator.look_at_suspects().await;
    world.finish_shards(&[2, 3]).await;
}

#[tokio::test]
async fn a_refusal_by_a_coordinator_that_is_not_fenced_yet_is_heard_of() {
    let (mut world, grants) = believed().await;
    let late = World::coordinator(&world.store).await;
    let early = std::mem::replace(&mut world.coordinator, late);
    world.register("liar").await.unwrap();
    let told = Report {
        worker: WorkerId::new("liar"),
        lease: LeaseKey {
            generation: Generation { epoch: 2, counter: 99 },
            ..grants[&3].lease.clone()
        },
        outcome: Outcome::Committed,
        seconds: 1.0,
        device_seconds: 1.0,
    };
    early.report(told).await.unwrap_err();
    assert_eq!(world.ask("liar", 1).await.len(), 1, "not heard of yet");
    world.coordinator.look_for_refusals().await;
    assert_eq!(world.register("liar").await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(lock(&world.coordinator.inner.state).suspects().len(), 1);
}

#[tokio::test]
async fn what_a_replaced_coordinator_gives_up_is_no_part_of_the_next_round() {
    let world = World::new().await;
    let next = World::coordinator(&world.store).await;
    next.cancel(&world.plan.job).await.unwrap();
    next.submit("", world.plan.clone()).await.unwrap();
    // The one before has not noticed yet, and its fits fail on every worker.
    for name in ["honest", "liar"].into_iter().cycle().take(12) {
        for grant in world.ask(name, 64).await {
            if grant.lease.unit < 4 {
                work(&world, name, &grant).await;
                continue;
            }
            let outcome = Outcome::Failed(Failure::new(ErrorKind::Invalid, "no targets"));
            let (worker, lease) = (WorkerId::new(name), grant.lease);
            let report = Report { worker, lease, outcome, seconds: 1.0, device_seconds: 1.0 };
            world.coordinator.report(report).await.unwrap();
        }
    }
    let status = world.coordinator.status(&world.plan.job).await.unwrap();
    assert!(!status.failures.is_empty(), "{status:?}");
    let written = world.store.list(&layout::failed_units_prefix(&world.plan.job)).await.unwrap();
    assert!(!written.is_empty());
    let last = World::coordinator(&world.store).await;
    let status = last.status(&world.plan.job).await.unwrap();
    assert_eq!((status.phase, status.failures), (JobPhase::Running, vec![]));
    // Nor does cancelling what it knows of end the round that was opened since.
    let round = world.coordinator.round(&world.plan.job);
    world.coordinator.inner.store.record_cancelled(&world.plan.job, round).await.unwrap();
    assert_eq!((round, jobs::round(&world.store, &world.plan.job).await.unwrap()), (0, 1));
    assert_eq!(jobs::cancelled(&world.store, &world.plan.job).await.unwrap(), None);
}
