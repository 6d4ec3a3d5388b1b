//! Requests that are throttled, cut off, answered too late or not at all: each ends in the right outcome.

use bytes::Bytes;
use futures::future::join_all;
use glmeval_common::error::ErrorKind;
use glmeval_common::limits;
use glmeval_common::store::{Created, Store};
use glmeval_tests::s3::ceph::ceph;
use glmeval_tests::s3::proxy::{Fault, Proxy};
use std::time::Duration;

const BROKEN: [Fault; 4] = [Fault::SlowDown, Fault::Reset, Fault::AnswerLost, Fault::AnswerCut];

fn is_put(method: &str, _: &str) -> bool {
    method == "PUT"
}

fn any(_: &str, _: &str) -> bool {
    true
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A store behind a proxy, and the same place straight.
async fn spoilt(what: &str) -> Option<(Proxy, Store, Store)> {
    let place = ceph(what)?.place();
    let proxy = Proxy::start(place.server()).await;
    let store = place.at(proxy.address()).open().unwrap();
    Some((proxy, store, place.open().unwrap()))
}

#[tokio::test]
async fn one_fault_of_any_kind_is_overcome_by_every_request() {
    let Some((proxy, store, straight)) = spoilt("single faults").await else { return };
    for (number, fault) in BROKEN.into_iter().enumerate() {
        let path = format!("f{number}/a.json");
        proxy.script(&[fault], is_put);
        assert_eq!(store.create(&path, bytes("mine")).await.unwrap(), Created::Won, "{fault:?}");
        assert_eq!(straight.get(&path).await.unwrap(), bytes("mine"), "{fault:?}");
        proxy.script(&[fault], any);
        assert_eq!(store.get(&path).await.unwrap(), bytes("mine"), "{fault:?}");
        proxy.script(&[fault], any);
        assert_eq!(store.list(&format!("f{number}")).await.unwrap().len(), 1, "{fault:?}");
        proxy.script(&[fault], any);
        let data = store.put_data("x", &format!("f{number}/b.bin"), bytes("data")).await.unwrap();
        assert_eq!(straight.get_verified(&data).await.unwrap(), bytes("data"), "{fault:?}");
        proxy.script(&[fault], any);
        store.delete(&path).await.unwrap();
        assert!(!straight.exists(&path).await.unwrap(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_create_that_was_done_but_not_answered_is_won_once_and_lost_to_others() {
    let Some((proxy, store, straight)) = spoilt("lost answers").await else { return };
    proxy.script(&[Fault::AnswerLost, Fault::AnswerLost], is_put);
    assert_eq!(store.create("a.json", bytes("mine")).await.unwrap(), Created::Won);
    let other = straight.create("a.json", bytes("other")).await.unwrap();
    assert_eq!(other, Created::Lost { existing: bytes("mine") });
    let again = store.create("a.json", bytes("mine")).await.unwrap();
    assert_eq!(again, Created::Won, "asked again, it is still the own one");
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_to_a_rival_is_lost() {
    let Some((proxy, store, straight)) = spoilt("a rival meanwhile").await else { return };
    straight.create("a.json", bytes("rival")).await.unwrap();
    proxy.script(&[Fault::AnswerLost], is_put);
    let outcome = store.create("a.json", bytes("mine")).await.unwrap();
    assert_eq!(outcome, Created::Lost { existing: bytes("rival") });
}

#[tokio::test]
async fn parts_that_fail_are_sent_again_and_the_object_is_whole() {
    let Some((proxy, store, straight)) = spoilt("parts that fail").await else { return };
    let large: Bytes = (0..20 << 20).map(|i: u32| (i ^ (i >> 9)) as u8).collect();
    for (number, fault) in BROKEN.into_iter().enumerate() {
        proxy.script(&[fault; 2], |_, target| target.contains("partNumber=2"));
        let path = format!("{number}.bin");
        let record = store.put_data("shard", &path, large.clone()).await.unwrap();
        assert!(straight.get_verified(&record).await.unwrap() == large, "{fault:?}");
    }
    // The end of an upload whose answer is lost cannot be told from one that failed.
    proxy.script(&[Fault::AnswerLost], |method, target| {
        method == "POST" && target.contains("uploadId")
    });
    let record = store.put_data("shard", "end.bin", large.clone()).await.unwrap();
    assert!(straight.get_verified(&record).await.unwrap() == large);
    assert_eq!(straight.uploads().await.unwrap(), []);
}

#[tokio::test]
async fn throttling_without_end_is_unavailable_after_a_bounded_number_of_requests() {
    let Some((proxy, store, _)) = spoilt("throttling without end").await else { return };
    proxy.script(&[Fault::SlowDown; 1_000], any);
    let error = store.create("a.json", bytes("mine")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("fewer requests"), "{}", error.chain());
    // Each attempt is a put and a read-back, each of which the client repeats twice.
    let most = limits::STORE_ATTEMPTS_MAX as usize * 6;
    let seen = proxy.take_seen().len();
    assert!(seen <= most, "{seen} requests, {most} at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_under_chance_faults_have_one_winner_who_knows_it() {
    let Some((proxy, store, straight)) = spoilt("races under faults").await else { return };
    let late = [Fault::Late(Duration::from_millis(30))];
    proxy.chance(7, 0.3, &[&BROKEN[..], &late].concat());
    for round in 0..10 {
        let path = &format!("race/{round}.json");
        let race =
            join_all(
                (0..16).map(|creator| {
                    let store = store.clone();
                    async move {
                        (creator, store.create(path, bytes(&format!("creator {creator}"))).await)
                    }
                }),
            )
            .await;
        let standing = straight.get(path).await.unwrap();
        let mut winners = 0;
        for (creator, outcome) in race {
            match outcome.unwrap() {
                Created::Won => {
                    winners += 1;
                    assert_eq!(standing, bytes(&format!("creator {creator}")), "round {round}");
                }
                Created::Lost { existing } => assert_eq!(existing, standing, "round {round}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
}
