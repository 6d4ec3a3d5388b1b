//! A whole job while its gateway is killed and comes back: nothing is lost, nothing is changed.
//!
//! Leaves out: kills of our own processes (`chaos`).

use glmeval_common::error::ErrorKind;
use glmeval_common::ids::SetId;
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::committed_ranges;
use glmeval_tests::glmeval::{Running, command, succeeds};
use glmeval_tests::jobs::write_long_job;
use glmeval_tests::results::results_in;
use glmeval_tests::s3::S3;
use glmeval_tests::s3::ceph::ceph;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const SHARDS: u64 = 60;
/// Rows of a shard: enough that one is computed whenever the store goes away.
const SHARD_ROWS: usize = 48;

pub(crate) fn glmeval(folder: &Path, place: &S3, arguments: &[&str]) -> Running {
    let mut command = command(folder, arguments);
    command.envs(place.variables.iter().map(|(name, value)| (*name, value)));
    command.env("RUST_LOG", "warn,glmeval_worker=debug,glmeval_coordinator=info");
    Running::start(command)
}

pub(crate) async fn commits(store: &Store) -> u64 {
    let sets = store.list_folders("embeddings").await.unwrap();
    let Some(set) = sets.first() else { return 0 };
    committed_ranges(store, &SetId::new(set)).await.unwrap().len() as u64
}

#[tokio::test]
async fn a_job_goes_through_an_outage_of_its_store_with_its_shards_in_the_spool() {
    let Some(ceph) = ceph("an outage of the store") else { return };
    let mut gateway = ceph.own_gateway(Ipv4Addr::LOCALHOST.into());
    let place = gateway.place();
    let straight = S3 { url: place.url.clone(), ..ceph.place() }.open().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, SHARDS as usize * SHARD_ROWS, SHARD_ROWS as u64);
    let listen = ["coordinator", "--listen", "127.0.0.1:0", "--store", &place.url];
    let mut coordinator =
        glmeval(folder, &place, &[&listen[..], &["--lease-ttl-ms", "3000"]].concat());
    let line = coordinator.line_with("listens on ").await;
    let address = line.rsplit(' ').next().unwrap().to_owned();
    succeeds(folder, &["submit", "job.toml", "--coordinator", &address]).await;
    let worker = ["worker", "--coordinator", &address, "--store", &place.url, "--threads", "1"];
    let worker = [&worker[..], &["--until-idle", "--spool", "spool"]].concat();
    let mut worker = glmeval(folder, &place, &worker);
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    while commits(&straight).await < SHARDS / 10 {
        poll.tick().await;
    }
    worker.lines_so_far();
    worker.line_with("unit starts").await;
    gateway.kill();
    let committed = commits(&straight).await;
    assert!(committed < SHARDS, "the job was over before the outage");
    worker.line_with("a shard goes to the spool").await;
    coordinator.line_with("the store is away").await;
    gateway.start();
    coordinator.line_with("the store is back").await;
    assert_eq!(worker.exit().await.0, Some(0));
    assert_eq!(commits(&straight).await, SHARDS);
    succeeds(folder, &["run", "job.toml", "--store", "alone"]).await;
    let alone = Store::open(folder.join("alone").to_str().unwrap()).unwrap();
    assert_eq!(results_in(&straight).await, results_in(&alone).await);
    let left = std::fs::read_dir(folder.join("spool"))
        .unwrap()
        .flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap().collect::<Vec<_>>());
    assert_eq!(left.count(), 0, "the spool is empty");
}

#[tokio::test]
async fn a_killed_workers_spool_is_committed_by_the_next_on_the_machine() {
    let Some(ceph) = ceph("a spool that outlives its worker") else { return };
    let mut gateway = ceph.own_gateway(Ipv4Addr::LOCALHOST.into());
    let place = gateway.place();
    let straight = S3 { url: place.url.clone(), ..ceph.place() }.open().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_long_job(folder, SHARDS as usize * 8, 8);
    let share = ["worker", "--partition", "0/1", "job.toml", "--store", &place.url];
    let share = [&share[..], &["--threads", "1", "--spool", "spool"]].concat();
    let mut doomed = glmeval(folder, &place, &share);
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    while commits(&straight).await < SHARDS / 10 {
        poll.tick().await;
    }
    doomed.lines_so_far();
    doomed.line_with("unit starts").await;
    gateway.kill();
    doomed.line_with("a shard goes to the spool").await;
    let spooled = |folder: &Path| {
        let stores = std::fs::read_dir(folder.join("spool")).unwrap();
        let workers = stores.flat_map(|store| std::fs::read_dir(store.unwrap().path()).unwrap());
        let files = workers.flat_map(|worker| std::fs::read_dir(worker.unwrap().path()).unwrap());
        files
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "shard"))
            .count()
    };
    while spooled(folder) == 0 {
        poll.tick().await;
    }
    doomed.kill().await;
    let before = commits(&straight).await;
    gateway.start();
    let mut heir = glmeval(folder, &place, &share);
    heir.line_with("shard delivered").await;
    assert_eq!(heir.exit().await.0, Some(0));
    assert!(before < SHARDS && commits(&straight).await == SHARDS);
    assert_eq!(spooled(folder), 0, "what was left is committed");
}

#[tokio::test]
async fn a_store_that_is_gone_is_unavailable_within_bounds() {
    let Some(ceph) = ceph("a store that is gone") else { return };
    let mut gateway = ceph.own_gateway(Ipv4Addr::LOCALHOST.into());
    let store = gateway.place().open().unwrap();
    gateway.kill();
    let error = store.get("a.json").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("a.json"), "{}", error.chain());
    gateway.start();
    assert_eq!(store.get_if_exists("a.json").await.unwrap(), None);
}
