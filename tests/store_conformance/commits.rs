//! The commit rule: what is visible, who wins, what is checked.

use crate::for_each_store;
use glmeval_common::clock::ManualClock;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{Attempt, DatasetId, Generation, ModelId, SetId, WorkerId};
use glmeval_common::layout;
use glmeval_common::limits;
use glmeval_common::representation::{Pooling, StoredDtype};
use glmeval_common::store::Store;
use glmeval_common::store::embeddings::{
    ShardAttempt, commit_shard, committed_ranges, find_commit, read_rows, read_shard,
};
use std::sync::Arc;
use std::time::Duration;

fn set() -> SetId {
    SetId::new("set")
}

/// Row e of layer 1 is [e, 2 e].
pub(crate) fn shard(start: u64, end: u64) -> EmbeddingShard {
    let values: Vec<f32> = (start..end).flat_map(|e| [e as f32, 2.0 * e as f32]).collect();
    let values = narrow(&values, 2, StoredDtype::F16, &|row| row.to_string()).unwrap().into();
    let tensor =
        ShardTensor { layer: 1, pooling: Pooling::Mean, rows: end - start, width: 2, values };
    EmbeddingShard {
        identity: ShardIdentity {
            set: set(),
            model: ModelId::new("model"),
            dataset: DatasetId::new("dataset"),
            dtype: StoredDtype::F16,
            numeric_class: "f32.cpu.1".to_owned(),
            columns: Vec::new(),
        },
        start,
        end,
        row_ids: (start..end).map(|e| format!("id{e}")).collect(),
        example_indices: None,
        sequences: 1,
        tensors: vec![tensor],
        token_offsets: None,
    }
}

pub(crate) fn attempt(start: u64, end: u64, name: &str) -> ShardAttempt {
    ShardAttempt {
        set: set(),
        start,
        end,
        rows: end - start,
        attempt: Attempt::new(name),
        worker: WorkerId::new("worker"),
        generation: Generation { epoch: 1, counter: 7 },
        seconds: 0.5,
    }
}

async fn commit(store: &Store, start: u64, end: u64, name: &str) -> bool {
    let bytes = shard(start, end).encode().unwrap();
    commit_shard(store, &attempt(start, end, name), bytes).await.unwrap().is_won()
}

/// Replaces an object's bytes behind the store's back.
async fn damage(store: &Store, path: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = store.get(path).await.unwrap().to_vec();
    change(&mut bytes);
    store.put_data("x", path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn data_without_a_commit_is_invisible() {
    for_each_store(async |store: Store| {
        let path = layout::shard_data_path(&set(), 0, 4, &Attempt::new("a"));
        store.put_data("shard", &path, shard(0, 4).encode().unwrap()).await.unwrap();
        assert_eq!(committed_ranges(&store, &set()).await.unwrap(), []);
        assert!(find_commit(&store, &set(), 0, 4).await.unwrap().is_none());
        let error = read_rows(&store, &set(), (1, Pooling::Mean), (0, 4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("0-4"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn of_two_attempts_one_wins_and_the_loser_deletes_its_data() {
    for_each_store(async |store: Store| {
        assert!(commit(&store, 0, 4, "first").await);
        assert!(!commit(&store, 0, 4, "second").await);
        let left = store.list("embeddings/set/data").await.unwrap();
        assert_eq!(left.len(), 1);
        assert!(left[0].path.contains(".first."));
        let standing = find_commit(&store, &set(), 0, 4).await.unwrap().unwrap();
        assert_eq!(standing.attempt, Attempt::new("first"));
        assert_eq!(read_shard(&store, &standing).await.unwrap(), shard(0, 4));
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_repeats_its_commit_wins_and_keeps_its_data() {
    for_each_store(async |store: Store| {
        assert!(commit(&store, 0, 4, "only").await);
        let mut again = attempt(0, 4, "only");
        again.seconds = 9.0;
        let bytes = shard(0, 4).encode().unwrap();
        let outcome = commit_shard(&store, &again, bytes).await.unwrap();
        assert!(outcome.is_won() && outcome.into_record().seconds == 0.5);
        assert_eq!(store.list("embeddings/set/data").await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_race_of_attempts_leaves_one_commit_and_one_data_object() {
    for_each_store(async |store: Store| {
        let racers = (0..8).map(|racer| {
            let store = store.clone();
            tokio::spawn(async move { commit(&store, 0, 4, &format!("racer{racer}")).await })
        });
        let won: Vec<bool> =
            futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(won.iter().filter(|&&won| won).count(), 1);
        assert_eq!(store.list("embeddings/set/data").await.unwrap().len(), 1);
        assert_eq!(store.list("embeddings/set/commit").await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn changed_cut_or_missing_data_is_corrupt_and_the_object_is_named() {
    for_each_store(async |store: Store| {
        assert!(commit(&store, 0, 4, "a").await);
        let standing = find_commit(&store, &set(), 0, 4).await.unwrap().unwrap();
        let path = &standing.object.path;
        let corrupt = async |expected: &str| {
            let error = read_shard(&store, &standing).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.to_string();
            assert!(text.contains(path) && text.contains(expected), "{text}");
        };
        damage(&store, path, |bytes| *bytes.last_mut().unwrap() ^= 1).await;
        corrupt("sha256").await;
        damage(&store, path, |bytes| bytes.truncate(100)).await;
        corrupt("found 100").await;
        store.delete(path).await.unwrap();
        corrupt("gone").await;
    })
    .await;
}

#[tokio::test]
async fn damaged_data_or_a_damaged_commit_is_replaced_by_the_next_revision() {
    for_each_store(async |store: Store| {
        assert!(commit(&store, 0, 4, "a").await);
        let first = find_commit(&store, &set(), 0, 4).await.unwrap().unwrap();
        damage(&store, &first.object.path, |bytes| bytes[0] ^= 1).await;
        assert!(commit(&store, 0, 4, "b").await);
        assert!(!commit(&store, 0, 4, "c").await);
        let second = find_commit(&store, &set(), 0, 4).await.unwrap().unwrap();
        assert_eq!(second.attempt, Attempt::new("b"));
        assert_eq!(read_shard(&store, &second).await.unwrap(), shard(0, 4));
        damage(&store, &layout::shard_revision_path(&set(), 0, 4, 1), |bytes| bytes.clear()).await;
        assert!(commit(&store, 0, 4, "d").await);
        assert_eq!(committed_ranges(&store, &set()).await.unwrap(), [(0, 4)]);
        let rows = read_rows(&store, &set(), (1, Pooling::Mean), (0, 4)).await.unwrap();
        assert_eq!(rows.values, [0.0, 0.0, 1.0, 2.0, 2.0, 4.0, 3.0, 6.0]);
    })
    .await;
}

#[tokio::test]
async fn shards_of_two_sizes_are_read_as_one_run_of_rows() {
    for_each_store(async |store: Store| {
        for (start, end) in [(0, 4), (0, 6), (4, 8), (8, 10)] {
            assert!(commit(&store, start, end, "a").await);
        }
        let rows = read_rows(&store, &set(), (1, Pooling::Mean), (3, 10)).await.unwrap();
        assert_eq!(rows.width, 2);
        assert_eq!(rows.ids, (3..10).map(|e| format!("id{e}")).collect::<Vec<_>>());
        let expected: Vec<f32> = (3..10).flat_map(|e| [e as f32, 2.0 * e as f32]).collect();
        assert_eq!(rows.values, expected);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_is_too_old_commits_nothing() {
    for_each_store(async |store: Store| {
        let clock = Arc::new(ManualClock::default());
        let handle = store.for_attempt(clock.clone());
        clock.advance(Duration::from_millis(limits::ATTEMPT_AGE_MS_MAX));
        assert!(commit(&handle, 0, 4, "a").await);
        clock.advance(Duration::from_millis(1));
        let bytes = shard(4, 8).encode().unwrap();
        let error = commit_shard(&handle, &attempt(4, 8, "a"), bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(find_commit(&store, &set(), 4, 8).await.unwrap().is_none());
        assert!(commit(&handle.for_attempt(clock), 4, 8, "b").await);
    })
    .await;
}

#[tokio::test]
async fn a_damaged_shard_is_passed_over_where_others_hold_its_rows() {
    for_each_store(async |store: Store| {
        for (start, end) in [(0, 8), (0, 4), (4, 8)] {
            assert!(commit(&store, start, end, "a").await);
        }
        let whole = find_commit(&store, &set(), 0, 8).await.unwrap().unwrap();
        damage(&store, &whole.object.path, |bytes| bytes[9] ^= 1).await;
        let rows = read_rows(&store, &set(), (1, Pooling::Mean), (2, 7)).await.unwrap();
        assert_eq!(rows.ids, ["id2", "id3", "id4", "id5", "id6"]);
        let half = find_commit(&store, &set(), 4, 8).await.unwrap().unwrap();
        store.delete(&half.object.path).await.unwrap();
        let error = read_rows(&store, &set(), (1, Pooling::Mean), (2, 7)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    })
    .await;
}
