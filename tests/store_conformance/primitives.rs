//! Facts about single objects.

use crate::for_each_store;
use bytes::Bytes;
use futures::future::join_all;
use glmeval_common::error::ErrorKind;
use glmeval_common::store::{Created, Store};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn the_second_create_loses_and_sees_the_first() {
    for_each_store(async |store: Store| {
        assert_eq!(store.create("a/b.json", bytes("one")).await.unwrap(), Created::Won);
        let second = store.create("a/b.json", bytes("two")).await.unwrap();
        assert_eq!(second, Created::Lost { existing: bytes("one") });
        assert_eq!(store.get("a/b.json").await.unwrap(), bytes("one"));
    })
    .await;
}

#[tokio::test]
async fn creating_the_same_bytes_again_counts_as_the_own_write() {
    for_each_store(async |store: Store| {
        assert_eq!(store.create("a", bytes("token 1")).await.unwrap(), Created::Won);
        assert_eq!(store.create("a", bytes("token 1")).await.unwrap(), Created::Won);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_race_of_sixteen_creators_has_exactly_one_winner() {
    for_each_store(async |store: Store| {
        for round in 0..10 {
            let creators = (0..16).map(|creator| {
                let store = store.clone();
                let path = format!("race/{round}.json");
                tokio::spawn(async move {
                    store.create(&path, bytes(&format!("creator {creator}"))).await.unwrap()
                })
            });
            let outcomes: Vec<Created> =
                join_all(creators).await.into_iter().map(Result::unwrap).collect();
            let standing = store.get(&format!("race/{round}.json")).await.unwrap();
            let mut winners = 0;
            for (creator, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Created::Won => {
                        winners += 1;
                        assert_eq!(standing, bytes(&format!("creator {creator}")));
                    }
                    Created::Lost { existing } => assert_eq!(existing, standing),
                }
            }
            assert_eq!(winners, 1, "round {round} in {}", store.url());
        }
    })
    .await;
}

#[tokio::test]
async fn an_object_is_listed_and_read_right_after_its_write_and_gone_right_after_its_delete() {
    for_each_store(async |store: Store| {
        for name in ["10", "9", "a.x", "b/deep"] {
            store.put_data("x", &format!("list/{name}"), bytes(name)).await.unwrap();
            assert_eq!(store.get(&format!("list/{name}")).await.unwrap(), bytes(name));
        }
        store.put_data("x", "list2/other", bytes("x")).await.unwrap();
        let paths = async || -> Vec<String> {
            store.list("list").await.unwrap().into_iter().map(|entry| entry.path).collect()
        };
        assert_eq!(paths().await, ["list/10", "list/9", "list/a.x", "list/b/deep"]);
        assert_eq!(store.list_folders("list").await.unwrap(), ["b"]);
        assert_eq!(store.list("nowhere").await.unwrap(), []);
        store.delete("list/9").await.unwrap();
        store.delete("list/9").await.unwrap();
        assert_eq!(paths().await, ["list/10", "list/a.x", "list/b/deep"]);
        assert!(!store.exists("list/9").await.unwrap());
        assert!(store.exists("list/a.x").await.unwrap());
        assert_eq!(store.entry("list/a.x").await.unwrap().unwrap().size, 3);
    })
    .await;
}

#[tokio::test]
async fn an_upload_in_parts_is_read_back_whole_and_by_range() {
    for_each_store(async |store: Store| {
        let big: Bytes = (0..24 << 20).map(|i: u32| (i ^ (i >> 11)) as u8).collect();
        let record = store.put_data("shard", "big/data.bin", big.clone()).await.unwrap();
        assert_eq!(record.bytes, 24 << 20);
        assert!(store.get_verified(&record).await.unwrap() == big, "bytes differ");
        let range = (8 << 20) - 3..(8 << 20) + 5;
        let part = store.get_range(&record.path, range.clone()).await.unwrap();
        assert_eq!(part, big.slice(range.start as usize..range.end as usize));
        assert_eq!(store.get_range(&record.path, 7..7).await.unwrap(), Bytes::new());
        let past = store.get_range(&record.path, 24 << 20..(24 << 20) + 1).await.unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Invalid);
    })
    .await;
}

#[tokio::test]
async fn an_absent_object_is_not_found_by_name_and_store() {
    for_each_store(async |store: Store| {
        let error = store.get("no/such").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no/such"), "{error}");
        assert!(error.to_string().contains(store.url()), "{error}");
        assert_eq!(store.get_if_exists("no/such").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn empty_objects_are_objects() {
    for_each_store(async |store: Store| {
        let record = store.put_data("x", "empty", Bytes::new()).await.unwrap();
        assert_eq!(store.get_verified(&record).await.unwrap(), Bytes::new());
        assert_eq!(store.create("empty2", Bytes::new()).await.unwrap(), Created::Won);
    })
    .await;
}

#[tokio::test]
async fn paths_that_stores_would_read_differently_are_refused() {
    let store = Store::memory();
    for path in ["", "/a", "a//b", "a/", "../a", "a/./b", "a b", "a#1", "a%2Fb", "ä", "a\0"] {
        let error = store.create(path, Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path:?}");
    }
}

#[test]
fn urls_that_make_no_store_say_what_would() {
    for url in ["gs://bucket", "az://container/x", "http://host", "s3://", "file://relative", ""] {
        let error = Store::open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
    assert!(Store::open("gs://bucket").unwrap_err().to_string().contains("Google"));
}

#[test]
fn a_store_that_is_only_read_is_not_made_and_a_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("r.fa"), ">a\nACGT\n").unwrap();
    for absent in [at("typo"), format!("file://{}", at("typo"))] {
        let error = Store::open_existing(&absent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert!(!folder.path().join("typo").exists());
    for open in [Store::open, Store::open_existing] {
        for file in ["r.fa", "r.fa/store"] {
            let error = open(&at(file)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.chain().ends_with("expected a folder, found a file"), "{error}");
        }
    }
    Store::open(&at("new")).unwrap();
    Store::open_existing(&at("new")).unwrap();
}
