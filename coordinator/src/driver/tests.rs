//! Lying workers, over a store that is real and lies in memory.

use super::*;
use crate::plan::tests as plans;
use crate::stored_jobs::StoredJobs;
use glmeval_common::clock::ManualClock;
use glmeval_common::control::{
    Ask, Control, Grant, Heartbeat, JobPhase, LeaseKey, Outcome, Registration, Report,
};
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::layout;
use glmeval_common::plan::Plan;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{ShardAttempt, ShardCommit, commit_shard, find_commit};
use glmeval_common::unit::WorkUnit;

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
        let record = CoordinatorRecord {
            version: 1,
            token: "t".into(),
            address: None,
            program: "test".into(),
            started_unix_ms: 0,
        };
        let jobs: Arc<dyn JobStore> = Arc::new(StoredJobs::embedded(store.clone()));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let (settings, none) = (Settings::default(), Recovery::SubmittedOnly);
        let coordinator = Coordinator::start("c", jobs, clock, settings, &record, none).await;
        let coordinator = coordinator.unwrap();
        coordinator.submit("", plan.clone()).await.unwrap();
        let world = Self { store, coordinator, plan };
        for name in ["liar", "honest"] {
            world.register(name).await.unwrap();
        }
        world
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
        let report = Report { worker, lease, outcome: Outcome::Committed, seconds: 1.0 };
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

    /// The liar is refused with those words for good; the honest worker does its unit.
    async fn check(&self, told: Result<()>, words: &str, lie: &Grant) {
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
