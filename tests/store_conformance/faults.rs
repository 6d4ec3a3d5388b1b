//! What the store makes of answers that are lost, late or wrong.

use crate::commits::{attempt, shard};
use crate::faulty::{Fault, FaultyStore};
use bytes::Bytes;
use futures::future::join_all;
use glmeval_common::error::ErrorKind;
use glmeval_common::store::embeddings::commit_shard;
use glmeval_common::store::{Created, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn store(faulty: &Arc<FaultyStore>) -> Store {
    Store::from_object_store(faulty.clone(), "prefix").unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_won_by_reading_back() {
    let faulty = FaultyStore::scripted(&[Fault::AnswerLost]);
    let store = store(&faulty);
    assert_eq!(store.create("a", bytes("mine")).await.unwrap(), Created::Won);
    assert_eq!(faulty.puts.load(Ordering::Relaxed), 1);
    let lost = store.create("a", bytes("yours")).await.unwrap();
    assert_eq!(lost, Created::Lost { existing: bytes("mine") });
}

#[tokio::test]
async fn refusals_and_conflicts_that_left_nothing_are_tried_again() {
    let faulty = FaultyStore::scripted(&[Fault::Refused, Fault::SpuriousExists]);
    assert_eq!(store(&faulty).create("a", bytes("mine")).await.unwrap(), Created::Won);
    assert_eq!(faulty.puts.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_create_that_lands_after_its_timeout_is_still_the_own_one() {
    let faulty = FaultyStore::scripted(&[Fault::Late, Fault::Refused]);
    let store = store(&faulty);
    assert_eq!(store.create("a", bytes("mine")).await.unwrap(), Created::Won);
    assert_eq!(store.get("a").await.unwrap(), bytes("mine"));
}

#[tokio::test]
async fn a_create_that_lands_after_anothers_loses() {
    let faulty = FaultyStore::scripted(&[Fault::Late, Fault::None]);
    let store = store(&faulty);
    let (first, second) =
        tokio::join!(store.create("a", bytes("late")), store.create("a", bytes("quick")));
    assert_eq!(first.unwrap(), Created::Lost { existing: bytes("quick") });
    assert_eq!(second.unwrap(), Created::Won);
}

#[tokio::test]
async fn a_full_disk_is_reported_at_once_with_path_and_store() {
    let faulty = FaultyStore::scripted(&[Fault::DiskFull, Fault::DiskFull]);
    let store = store(&faulty);
    for error in [
        store.create("a/b", bytes("x")).await.unwrap_err(),
        store.put_data("x", "a/b", bytes("x")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let chain = error.chain();
        assert!(chain.contains("a/b") && chain.contains("faulty/prefix"), "{chain}");
    }
    assert_eq!(faulty.puts.load(Ordering::Relaxed), 2);
    assert!(!store.exists("a/b").await.unwrap());
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_is_aborted_and_tried_again() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let faulty = FaultyStore::scripted(&[fault]);
        let store = store(&faulty);
        let big = Bytes::from(vec![7_u8; 17 << 20]);
        let record = store.put_data("shard", "big", big.clone()).await.unwrap();
        assert_eq!(faulty.aborts.load(Ordering::Relaxed), 1, "{fault:?}");
        assert!(store.get_verified(&record).await.unwrap() == big);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chance_faults_never_give_two_winners() {
    let rounds = (0..24).map(|seed| {
        tokio::spawn(async move {
            let faulty = FaultyStore::random(seed, 0.4);
            let store = store(&faulty);
            let race = join_all((0..16).map(|creator| {
                let store = store.clone();
                async move { (creator, store.create("a", bytes(&creator.to_string())).await) }
            }))
            .await;
            faulty.heal();
            let standing = store.get("a").await.unwrap();
            for (creator, outcome) in race {
                let own = standing == bytes(&creator.to_string());
                match outcome {
                    Ok(Created::Won) => assert!(own, "seed {seed}: {creator} won for nothing"),
                    Ok(Created::Lost { existing }) => {
                        assert_eq!(existing, standing, "seed {seed}");
                        assert!(!own, "seed {seed}: {creator} stands but lost");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}"),
                }
            }
        })
    });
    for round in join_all(rounds).await {
        round.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chance_faults_never_lose_a_committed_shard() {
    let rounds = (0..8).map(|seed| {
        tokio::spawn(async move {
            let faulty = FaultyStore::random(100 + seed, 0.3);
            let store = store(&faulty);
            let data = shard(0, 4).encode().unwrap();
            let attempts: Vec<_> =
                (0..4).map(|racer| attempt(0, 4, &format!("racer{racer}"))).collect();
            let outcomes =
                join_all(attempts.iter().map(|one| commit_shard(&store, one, data.clone()))).await;
            faulty.heal();
            let won = outcomes.iter().flatten().filter(|outcome| outcome.is_won()).count();
            assert!(won <= 1, "seed {seed}: {won} winners");
            for standing in outcomes.into_iter().flatten().map(|outcome| outcome.into_record()) {
                let bytes = store.get_verified(&standing.object).await.unwrap();
                assert!(bytes == data, "seed {seed}");
            }
        })
    });
    for round in join_all(rounds).await {
        round.unwrap();
    }
}
