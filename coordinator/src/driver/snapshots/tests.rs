use super::*;
use crate::plan::tests::{job, planned};
use crate::{CoordinatorRecord, Recovery, Settings, StoredJobs};
use glmeval_common::clock::ManualClock;
use glmeval_common::control::{Ask, Control, Outcome, Registration, Report};
use glmeval_common::ids::{Attempt, Generation, WorkerId};
use glmeval_common::layout;
use glmeval_common::plan::Plan;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{ShardAttempt, commit_shard};
use glmeval_common::store::examples::{DatasetManifest, PartRecord};
use glmeval_common::store::jobs::{self, Snapshot, Spent, put_snapshot};
use glmeval_common::unit::WorkUnit;
use std::sync::Arc;

/// A job of one data set, 40 shards and no probes.
fn plan() -> Plan {
    let mut job = job();
    job.probes.clear();
    job.shard_rows = Some(5);
    planned(&job, 200)
}

async fn coordinator(store: &Store) -> Coordinator {
    named(store, "c").await
}

async fn named(store: &Store, name: &str) -> Coordinator {
    let settings =
        Settings { snapshot_commits_min: 3, snapshot_interval_ms: 0, ..Settings::default() };
    let record = CoordinatorRecord {
        version: 1,
        token: glmeval_common::rng::random_token(),
        address: None,
        program: "test".into(),
        started_unix_ms: 0,
    };
    let jobs = Arc::new(StoredJobs::shared(store.clone()));
    let clock = Arc::new(ManualClock::default());
    Coordinator::start(name, jobs, clock, settings, &record, Recovery::AllJobs).await.unwrap()
}

/// Commits `units` units as a worker does: object first, then the report.
async fn work(coordinator: &Coordinator, store: &Store, plan: &Plan, units: u32) {
    let worker = WorkerId::new("w");
    let registration = Registration {
        worker: worker.clone(),
        host: "h".into(),
        numeric_classes: vec!["f32.cpu.1".into()],
        held: Vec::new(),
        facts: glmeval_common::control::WorkerFacts::default(),
    };
    coordinator.register(registration).await.unwrap();
    for _ in 0..units {
        let ask = Ask { worker: worker.clone(), units_max: 1, wait_ms: 0, or_finished: true };
        let lease = coordinator.ask(ask).await.unwrap().grants.remove(0).lease;
        commit(store, plan, lease.unit, lease.generation).await;
        let (worker, outcome) = (worker.clone(), Outcome::Committed);
        let report = Report { worker, lease, outcome, seconds: 1.0, device_seconds: 1.0 };
        coordinator.report(report).await.unwrap();
    }
}

fn commit_path(plan: &Plan, unit: u32) -> String {
    match u64::from(unit).checked_sub(1) {
        None => layout::dataset_manifest_path(&plan.datasets[0].facts.id),
        Some(shard) => layout::shard_commit_path(&plan.sets[0].id, 5 * shard, 5 * shard + 5),
    }
}

/// Commits the data set as one part.
async fn commit_dataset(store: &Store, plan: &Plan) {
    let facts = &plan.datasets[0].facts;
    let (id, rows) = (facts.id.clone(), facts.rows);
    let attempt = Attempt::new(glmeval_common::rng::random_token());
    let path = layout::dataset_part_path(&id, 0, &attempt);
    let object = store.put_data("part", &path, "rows".into()).await.unwrap();
    let manifest = DatasetManifest {
        version: layout::FORMAT_VERSION,
        id,
        name: "D".into(),
        schema: facts.schema.clone(),
        rows,
        parts: vec![PartRecord { object, first_row: 0, rows }],
        split_rows: Default::default(),
        attempt,
        worker: WorkerId::new("w"),
        provenance: Default::default(),
    };
    store.create_record(&commit_path(plan, 0), manifest).await.unwrap();
}

async fn commit(store: &Store, plan: &Plan, unit: u32, generation: Generation) {
    let Some(WorkUnit::Extract(shard)) = plan.work_unit(unit) else {
        return commit_dataset(store, plan).await;
    };
    let attempt = ShardAttempt {
        set: shard.set.id,
        start: shard.start,
        end: shard.end,
        rows: shard.end - shard.start,
        attempt: Attempt::new(glmeval_common::rng::random_token()),
        worker: WorkerId::new("w"),
        generation,
        seconds: 1.0,
    };
    commit_shard(store, &attempt, "rows".into()).await.unwrap();
}

fn committed(coordinator: &Coordinator, plan: &Plan) -> Vec<(u32, u32)> {
    let units = lock(&coordinator.inner.state).committed_units(&plan.job).unwrap();
    units.1.ranges().collect()
}

async fn numbers(store: &Store, plan: &Plan) -> Vec<u64> {
    let listed = store.list(&layout::snapshots_prefix(&plan.job)).await.unwrap();
    listed.iter().filter_map(|entry| layout::parse_number(&entry.path)).collect()
}

#[tokio::test]
async fn the_next_coordinator_believes_a_snapshot_and_finds_what_came_since() {
    let (store, plan) = (Store::memory(), plan());
    let first = coordinator(&store).await;
    first.submit("", plan.clone()).await.unwrap();
    work(&first, &store, &plan, 2).await;
    first.tick().await.unwrap();
    assert!(numbers(&store, &plan).await.is_empty(), "two commits are quicker listed");
    work(&first, &store, &plan, 8).await;
    first.tick().await.unwrap();
    assert_eq!(numbers(&store, &plan).await, [1]);
    work(&first, &store, &plan, 1).await;
    commit(&store, &plan, 30, Generation::default()).await;
    store.delete(&commit_path(&plan, 3)).await.unwrap();
    let second = coordinator(&store).await;
    assert_eq!(committed(&second, &plan), [(0, 11), (30, 31)], "unit 3 is believed, not looked up");
    assert_eq!(second.epoch(), first.epoch() + 1);
    work(&second, &store, &plan, 3).await;
    second.leave_snapshots().await;
    assert_eq!(numbers(&store, &plan).await, [1, 2]);
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let (store, plan) = (Store::memory(), plan());
    let first = coordinator(&store).await;
    first.submit("", plan.clone()).await.unwrap();
    work(&first, &store, &plan, 5).await;
    first.tick().await.unwrap();
    let path = layout::snapshot_path(&plan.job, 2);
    store.create(&path, "not a snapshot".into()).await.unwrap();
    let second = coordinator(&store).await;
    assert_eq!(committed(&second, &plan), [(0, 5)]);
    work(&second, &store, &plan, 4).await;
    second.tick().await.unwrap();
    assert_eq!(numbers(&store, &plan).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_writer_that_meets_a_higher_epoch_stops_and_one_that_meets_a_lower_goes_on() {
    let (store, plan) = (Store::memory(), plan());
    let coordinator = coordinator(&store).await;
    coordinator.submit("", plan.clone()).await.unwrap();
    let state =
        JobSnapshot { units: plan.unit_count(), committed: vec![(0, 1)], spent: Spent::default() };
    let put = async |number, epoch| {
        let (state, name) = (state.clone(), String::new());
        let snapshot = Snapshot { number, epoch, state, name };
        put_snapshot(&store, &plan.job, &snapshot, &format!("{number} {epoch}")).await.unwrap();
    };
    work(&coordinator, &store, &plan, 4).await;
    coordinator.tick().await.unwrap();
    put(2, coordinator.epoch() - 1).await;
    work(&coordinator, &store, &plan, 4).await;
    coordinator.tick().await.unwrap();
    assert_eq!(numbers(&store, &plan).await, [1, 2, 3]);
    put(4, coordinator.epoch() + 1).await;
    work(&coordinator, &store, &plan, 4).await;
    assert_eq!(coordinator.tick().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(numbers(&store, &plan).await, [1, 2, 3, 4], "nothing was written behind it");
    let status = coordinator.status(&plan.job).await;
    assert_eq!(status.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn what_a_job_cost_and_lost_outlives_its_coordinator() {
    let (store, plan) = (Store::memory(), plan());
    let first = coordinator(&store).await;
    first.submit("", plan.clone()).await.unwrap();
    work(&first, &store, &plan, 2).await;
    let worker = WorkerId::new("w");
    let ask = Ask { worker: worker.clone(), units_max: 1, wait_ms: 0, or_finished: true };
    let lease = first.ask(ask).await.unwrap().grants.remove(0).lease;
    let outcome = Outcome::HandedBack;
    let report = Report { worker, lease, outcome, seconds: 3.0, device_seconds: 3.0 };
    first.report(report).await.unwrap();
    let before = first.status(&plan.job).await.unwrap().cost;
    assert_eq!((before.useful_seconds, before.handed_back_seconds), (2.0, 3.0));
    first.tick().await.unwrap();
    assert_eq!(
        numbers(&store, &plan).await,
        Vec::<u64>::new(),
        "five seconds are not worth an object each tick"
    );
    first.leave_snapshots().await;
    assert_eq!(numbers(&store, &plan).await, [1]);
    let second = coordinator(&store).await;
    assert_eq!(second.status(&plan.job).await.unwrap().cost, before);
    work(&second, &store, &plan, 1).await;
    let cost = second.status(&plan.job).await.unwrap().cost;
    assert_eq!((cost.useful_seconds, cost.leases_handed_back), (3.0, 1));
    second.leave_snapshots().await;
    assert_eq!(jobs::spent(&store, &plan.job).await.unwrap().seconds(), 6.0);
}

#[tokio::test]
async fn a_snapshot_of_an_older_program_tells_nothing_of_cost() {
    #[derive(serde::Serialize)]
    struct Older {
        units: u32,
        committed: Vec<(u32, u32)>,
    }
    let (store, plan) = (Store::memory(), plan());
    let first = coordinator(&store).await;
    first.submit("", plan.clone()).await.unwrap();
    let state = Older { units: plan.unit_count(), committed: vec![(0, 1)] };
    let snapshot = Snapshot { number: 1, epoch: first.epoch(), state, name: String::new() };
    put_snapshot(&store, &plan.job, &snapshot, "token").await.unwrap();
    assert_eq!(jobs::spent(&store, &plan.job).await.unwrap(), Spent::default());
    let second = coordinator(&store).await;
    assert_eq!(committed(&second, &plan), [(0, 1)]);
}

#[tokio::test]
async fn coordinators_of_two_names_do_not_fence_each_other() {
    let (store, plan) = (Store::memory(), plan());
    let first = named(&store, "a").await;
    first.submit("", plan.clone()).await.unwrap();
    work(&first, &store, &plan, 4).await;
    first.tick().await.unwrap();
    for _ in 0..3 {
        named(&store, "b").await;
    }
    let other = named(&store, "b").await;
    work(&other, &store, &plan, 4).await;
    other.tick().await.unwrap();
    assert_eq!((first.epoch(), other.epoch(), numbers(&store, &plan).await), (1, 4, vec![1, 2]));
    work(&first, &store, &plan, 4).await;
    first.tick().await.unwrap();
    assert_eq!(numbers(&store, &plan).await, [1, 2, 3], "the higher epoch is another name's");
    let newest = jobs::newest_readable_snapshot::<JobSnapshot>(&store, &plan.job).await.unwrap();
    assert_eq!(newest.0.unwrap().name, "a");
    first.tick().await.unwrap();
}
