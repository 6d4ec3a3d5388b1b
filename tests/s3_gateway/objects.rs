//! Objects of the size and lists of the length that a genome makes.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use glmeval_common::error::ErrorKind;
use glmeval_common::ids::{Attempt, SetId};
use glmeval_common::layout;
use glmeval_common::rng::random_token;
use glmeval_common::store::gc;
use glmeval_tests::s3::ceph::ceph;
use glmeval_tests::s3::proxy::{Fault, Proxy};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[tokio::test]
async fn forty_megabytes_go_up_in_parts_and_come_back_whole_and_by_range() {
    let Some(ceph) = ceph("uploads in parts") else { return };
    let place = ceph.place();
    let proxy = Proxy::start(place.server()).await;
    let store = place.at(proxy.address()).open().unwrap();
    let bytes = pattern(40 * MIB);
    let record = store.put_data("shard", "large/a.bin", bytes.clone()).await.unwrap();
    let seen = proxy.take_seen();
    let parts = seen.iter().filter(|seen| seen.target.contains("partNumber=")).count();
    assert_eq!(parts, 5, "{seen:?}");
    let kinds = ["?uploads", "uploadId="].map(|mark| {
        seen.iter().filter(|seen| seen.method == "POST" && seen.target.contains(mark)).count()
    });
    assert_eq!(kinds, [1, 1], "one start, one end: {seen:?}");
    assert!(store.get_verified(&record).await.unwrap() == bytes);
    for range in [0..1, 8 * MIB - 2..8 * MIB + 2, 40 * MIB - 7..40 * MIB] {
        let found = store.get_range(&record.path, range.start as u64..range.end as u64).await;
        assert_eq!(found.unwrap(), bytes.slice(range));
    }
}

#[tokio::test]
async fn sixteen_megabytes_are_one_request() {
    let Some(ceph) = ceph("uploads in one request") else { return };
    let place = ceph.place();
    let proxy = Proxy::start(place.server()).await;
    let store = place.at(proxy.address()).open().unwrap();
    store.put_data("shard", "small.bin", pattern(16 * MIB)).await.unwrap();
    let methods: Vec<String> = proxy.take_seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["PUT", "HEAD"]);
}

#[tokio::test]
async fn an_upload_in_parts_that_cannot_end_is_aborted_and_leaves_nothing() {
    let Some(ceph) = ceph("uploads that are given up") else { return };
    let place = ceph.place();
    let proxy = Proxy::start(place.server()).await;
    let store = place.at(proxy.address()).open().unwrap();
    proxy.script(&[Fault::SlowDown; 400], |_, target| target.contains("partNumber=3"));
    let error = store.put_data("shard", "large/a.bin", pattern(20 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("fewer requests"), "{}", error.chain());
    assert!(!store.exists("large/a.bin").await.unwrap());
    assert_eq!(store.list("").await.unwrap(), []);
    assert_eq!(store.uploads().await.unwrap(), [], "every upload begun was aborted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_of_more_than_a_thousand_objects_is_whole_and_in_order() {
    let Some(ceph) = ceph("long lists") else { return };
    let store = &ceph.place().open().unwrap();
    let paths: Vec<String> = (0..1_203).map(|i| format!("list/{i:05}.json")).collect();
    futures::stream::iter(&paths)
        .map(|path| store.create(path, Bytes::from(path.clone())))
        .buffer_unordered(32)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let listed = store.list("list").await.unwrap();
    let listed: Vec<String> = listed.into_iter().map(|entry| entry.path).collect();
    assert_eq!(listed, paths);
}

#[tokio::test]
async fn a_sweep_ends_uploads_that_never_ended_and_only_those_of_its_own_store() {
    let Some(ceph) = ceph("uploads that never ended") else { return };
    let place = ceph.place();
    let store = place.open().unwrap();
    let prefix = place.url.rsplit('/').next().unwrap();
    let mut bucket = AmazonS3Builder::new().with_bucket_name("glmeval-test");
    for (name, value) in &place.variables {
        bucket = bucket.with_config(name.to_ascii_lowercase().parse().unwrap(), value);
    }
    let bucket = bucket.build().unwrap();
    let (set, attempt) = (SetId::new("5e".repeat(16)), Attempt::new(random_token()));
    let shard = layout::shard_data_path(&set, 0, 64, &attempt);
    // A worker that is killed says nothing more.
    for folder in [prefix.to_owned(), format!("{prefix}-other")] {
        let path = format!("{folder}/{shard}");
        let mut upload = bucket.put_multipart(&path.as_str().into()).await.unwrap();
        upload.put_part(pattern(5 * MIB).into()).await.unwrap();
    }
    let young = gc::sweep(&store, gc::default_grace(), true).await.unwrap();
    assert_eq!(young.uploads, []);
    let mut poll = tokio::time::interval(Duration::from_millis(100));
    let found = loop {
        poll.tick().await;
        let found = gc::sweep(&store, Duration::ZERO, false).await.unwrap().uploads;
        if !found.is_empty() {
            break found;
        }
    };
    let paths: Vec<&str> = found.iter().map(|upload| upload.path.as_str()).collect();
    assert_eq!(paths, [shard.as_str()]);
    gc::sweep(&store, Duration::ZERO, true).await.unwrap();
    assert_eq!(store.uploads().await.unwrap(), []);
    store.abort_upload(&found[0]).await.unwrap();
    let mut other = place.clone();
    other.url.push_str("-other");
    assert_eq!(other.open().unwrap().uploads().await.unwrap().len(), 1);
}
