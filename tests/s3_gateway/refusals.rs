//! What a user reads when the store says no for good: at once, and with what to do.

use bytes::Bytes;
use glmeval_common::error::{Error, ErrorKind};
use glmeval_common::store::Store;
use glmeval_tests::process::{finish, glmeval};
use glmeval_tests::s3::S3;
use glmeval_tests::s3::ceph::ceph;
use glmeval_tests::s3::proxy::{Fault, Proxy};

/// What every request of a store ends with.
async fn errors(store: &Store) -> Vec<Error> {
    vec![
        store.create("a/b.json", Bytes::from_static(b"x")).await.unwrap_err(),
        store.put_data("x", "a/b.bin", Bytes::from_static(b"x")).await.unwrap_err(),
        store.get("a/b.json").await.unwrap_err(),
        store.get_if_exists("a/b.json").await.unwrap_err(),
        store.list("a").await.unwrap_err(),
    ]
}

/// Refused for good by every request, in these words, after one try each.
async fn refused(place: &S3, words: &str) {
    let store = place.open().unwrap();
    for error in errors(&store).await {
        let chain = error.chain();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{chain}");
        assert!(chain.contains(words) && chain.contains(store.url()), "{chain}");
        assert!(!chain.contains("retries"), "repeating cannot help: {chain}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let Some(ceph) = ceph("wrong credentials") else { return };
    let place = ceph.place();
    refused(&place.with("AWS_ACCESS_KEY_ID", "nobody"), "AWS_ACCESS_KEY_ID").await;
    refused(&place.with("AWS_SECRET_ACCESS_KEY", "no"), "AWS_SECRET_ACCESS_KEY").await;
}

#[tokio::test]
async fn a_missing_bucket_is_no_empty_store() {
    let Some(ceph) = ceph("a missing bucket") else { return };
    let mut place = ceph.place();
    place.url = "s3://glmeval-no-such-bucket/x".to_owned();
    refused(&place, "no such bucket").await;
}

#[tokio::test]
async fn a_clock_that_is_off_is_told() {
    let Some(ceph) = ceph("a clock that is off") else { return };
    let place = ceph.place();
    let proxy = Proxy::start(place.server()).await;
    proxy.script(&[Fault::OldDate; 5], |_, _| true);
    refused(&place.at(proxy.address()), "the clock of this machine").await;
    assert_eq!(proxy.take_seen().len(), 5, "nothing is tried twice");
}

#[tokio::test]
async fn a_command_ends_with_what_to_do() {
    let Some(ceph) = ceph("a command without rights") else { return };
    let place = ceph.place().with("AWS_SECRET_ACCESS_KEY", "no");
    let arguments = ["coordinator", "--listen", "127.0.0.1:0", "--store", &place.url];
    let finished = finish(&mut glmeval(&arguments, &place.variables)).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("AWS_SECRET_ACCESS_KEY"), "{}", finished.stderr);
}
