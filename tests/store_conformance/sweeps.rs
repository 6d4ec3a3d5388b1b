//! Sweeps: what goes, and what stays whatever its age.

use crate::commits::{attempt, shard};
use crate::for_each_store;
use bytes::Bytes;
use glmeval_common::digest::sha256_hex;
use glmeval_common::embedding::EmbeddingShard;
use glmeval_common::error::Error;
use glmeval_common::ids::{Attempt, JobId, SetId};
use glmeval_common::layout;
use glmeval_common::store::embeddings::{ShardAttempt, commit_shard, find_commit, read_shard};
use glmeval_common::store::{Store, gc};
use std::time::Duration;

/// An id as the store has them: a sweep leaves others alone.
fn digest(text: &str) -> String {
    sha256_hex(text.as_bytes())[..32].to_owned()
}

fn set() -> SetId {
    SetId::new(digest("set"))
}

fn token(name: &str) -> Attempt {
    Attempt::new(digest(name))
}

fn whole_shard(start: u64, end: u64) -> EmbeddingShard {
    let mut shard = shard(start, end);
    shard.identity.set = set();
    shard
}

async fn commit(store: &Store, start: u64, end: u64) {
    let attempt = ShardAttempt { set: set(), ..attempt(start, end, token("kept").as_str()) };
    let bytes = whole_shard(start, end).encode().unwrap();
    assert!(commit_shard(store, &attempt, bytes).await.unwrap().is_won());
}

#[tokio::test]
async fn a_sweep_takes_old_orphans_and_never_committed_data() {
    for_each_store(async |store: Store| {
        commit(&store, 0, 4).await;
        let orphan = layout::shard_data_path(&set(), 4, 8, &token("orphan"));
        store.put_data("shard", &orphan, Bytes::from_static(b"half")).await.unwrap();
        let loser = layout::shard_data_path(&set(), 0, 4, &token("loser"));
        store.put_data("shard", &loser, Bytes::from_static(b"half")).await.unwrap();
        let young = gc::sweep(&store, gc::default_grace(), true).await.unwrap();
        assert_eq!((young.orphans.len(), young.examined), (0, 3));
        let found = wait_until_old(&store, Duration::ZERO).await;
        assert_eq!(found, [loser.clone(), orphan.clone()]);
        assert!(store.exists(&orphan).await.unwrap(), "a dry run deletes nothing");
        gc::sweep(&store, Duration::ZERO, true).await.unwrap();
        assert!(!store.exists(&orphan).await.unwrap() && !store.exists(&loser).await.unwrap());
        let standing = find_commit(&store, &set(), 0, 4).await.unwrap().unwrap();
        assert_eq!(read_shard(&store, &standing).await.unwrap(), whole_shard(0, 4));
    })
    .await;
}

/// Dry sweeps until the store's clock has moved past the objects written before.
async fn wait_until_old(store: &Store, grace: Duration) -> Vec<String> {
    loop {
        let found = gc::sweep(store, grace, false).await.unwrap().orphans;
        if found.len() >= 2 {
            return found.into_iter().map(|entry| entry.path).collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_unfinished_jobs_may_be_about_to_commit_stays_however_short_the_grace() {
    for_each_store(async |store: Store| {
        let path =
            |name: &str| layout::shard_data_path(&SetId::new(digest(name)), 0, 4, &token("a"));
        for name in ["unfinished", "finished"] {
            store.put_data("shard", &path(name), Bytes::from_static(b"data")).await.unwrap();
        }
        wait_until_old(&store, Duration::ZERO).await;
        let folder = format!("embeddings/{}", digest("unfinished"));
        let unfinished = async || Ok([folder.clone()].into());
        let swept = gc::sweep_beside(&store, Duration::ZERO, unfinished, true).await.unwrap();
        assert_eq!(swept.orphans.len(), 1);
        assert!(store.exists(&path("unfinished")).await.unwrap());
        assert!(!store.exists(&path("finished")).await.unwrap());
        let unread = async || Err(Error::corrupt("a job"));
        gc::sweep_beside(&store, Duration::ZERO, unread, true).await.unwrap_err();
        assert!(store.exists(&path("unfinished")).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_sweep_keeps_what_an_unreadable_or_newer_commit_may_name() {
    for_each_store(async |store: Store| {
        for (start, text) in [(0, "{"), (4, r#"{"version": 9}"#)] {
            let path = layout::shard_data_path(&set(), start, start + 4, &token("a"));
            store.put_data("shard", &path, Bytes::from_static(b"data")).await.unwrap();
            let commit = layout::shard_commit_path(&set(), start, start + 4);
            store.create(&commit, Bytes::from(text)).await.unwrap();
        }
        let orphan = layout::shard_data_path(&set(), 8, 12, &token("a"));
        store.put_data("shard", &orphan, Bytes::from_static(b"data")).await.unwrap();
        let orphan2 = layout::shard_data_path(&set(), 12, 16, &token("a"));
        store.put_data("shard", &orphan2, Bytes::from_static(b"data")).await.unwrap();
        assert_eq!(wait_until_old(&store, Duration::ZERO).await, [orphan, orphan2]);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_keeps_the_two_newest_snapshots_of_a_job() {
    for_each_store(async |store: Store| {
        let (a, b) = (JobId::new(digest("a")), JobId::new(digest("b")));
        for (job, number) in [(&a, 1), (&a, 2), (&a, 10), (&a, 11), (&b, 4)] {
            let path = layout::snapshot_path(job, number);
            store.create(&path, Bytes::from(path.clone())).await.unwrap();
        }
        let old = wait_until_old(&store, Duration::ZERO).await;
        assert_eq!(old, [1, 2].map(|number| layout::snapshot_path(&a, number)));
        gc::sweep(&store, Duration::ZERO, true).await.unwrap();
        assert_eq!(store.list("jobs").await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_leaves_what_people_keep_in_folders_of_the_same_names() {
    for_each_store(async |store: Store| {
        let theirs = [
            "examples/mouse/data/reads.bam",
            "jobs/42/report/data/run1/table.csv",
            "jobs/42/snapshots/1.csv",
            "jobs/42/snapshots/2.csv",
            "jobs/42/snapshots/3.csv",
            "probes/array1/data/intensity.csv",
            "probes/array1/epochs/notes.txt",
            "probes/array1/scores.json",
        ];
        for path in theirs {
            store.put_data("x", path, Bytes::from_static(b"theirs")).await.unwrap();
        }
        let orphans = [token("first"), token("second")]
            .map(|attempt| layout::shard_data_path(&set(), 0, 4, &attempt));
        for path in &orphans {
            store.put_data("shard", path, Bytes::from_static(b"half")).await.unwrap();
        }
        // Written last, so whatever else a sweep takes is old enough when they are.
        assert_eq!(sorted(wait_until_old(&store, Duration::ZERO).await), sorted(orphans.into()));
        gc::sweep(&store, Duration::ZERO, true).await.unwrap();
        let left = ["examples", "jobs", "probes"].map(async |folder| store.list(folder).await);
        let left = futures::future::join_all(left).await.into_iter().flat_map(Result::unwrap);
        assert_eq!(left.map(|entry| entry.path).collect::<Vec<_>>(), theirs);
    })
    .await;
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths
}
