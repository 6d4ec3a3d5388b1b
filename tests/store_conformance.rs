//! One suite of facts that every store must satisfy: memory, local files, and an S3 server.
//!
//! The S3 server is the one of `GLMEVAL_TEST_S3` (`s3://bucket/prefix`, with the usual `AWS_*`); without it
//! that part is skipped aloud, or fails where `GLMEVAL_REQUIRE_REAL=1`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::rng::random_token;
use glmeval_common::store::Store;

#[path = "store_conformance/commits.rs"]
mod commits;
#[path = "store_conformance/faults.rs"]
mod faults;
#[path = "store_conformance/faulty.rs"]
mod faulty;
#[path = "store_conformance/formats.rs"]
mod formats;
#[path = "store_conformance/local.rs"]
mod local;
#[path = "store_conformance/primitives.rs"]
mod primitives;
#[path = "store_conformance/records.rs"]
mod records;

/// Runs `check` on an empty store of each kind.
async fn for_each_store(check: impl AsyncFn(Store)) {
    check(Store::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    check(Store::open(folder.path().to_str().unwrap()).unwrap()).await;
    if let Some(url) = s3_url() {
        check(Store::open(&format!("{}/{}", url.trim_end_matches('/'), random_token())).unwrap())
            .await;
    }
}

#[expect(clippy::print_stderr, reason = "a skipped part is said aloud")]
fn s3_url() -> Option<String> {
    let url = std::env::var("GLMEVAL_TEST_S3").ok();
    if url.is_none() {
        let required = std::env::var("GLMEVAL_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "GLMEVAL_TEST_S3 names no S3 server, and real components are required");
        eprintln!("SKIPPED the S3 part (set GLMEVAL_TEST_S3=s3://bucket/prefix and AWS_*)");
    }
    url
}
