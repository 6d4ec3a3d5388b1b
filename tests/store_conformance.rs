//! One suite of facts that every store must satisfy: memory, local files, and an S3 server.
//!
//! The S3 server is started here, or is the one of `GLMEVAL_TEST_S3`; without Python that part is skipped
//! aloud, or fails where `GLMEVAL_REQUIRE_REAL=1`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use glmeval_common::store::Store;
use glmeval_tests::s3::s3;

#[path = "store_conformance/commits.rs"]
mod commits;
#[path = "store_conformance/effects.rs"]
mod effects;
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
#[path = "store_conformance/sweeps.rs"]
mod sweeps;

/// Runs `check` on an empty store of each kind.
async fn for_each_store(check: impl AsyncFn(Store)) {
    check(Store::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    check(Store::open(folder.path().to_str().unwrap()).unwrap()).await;
    if let Some(s3) = s3("the S3 part of the store suite") {
        check(s3.open().unwrap()).await;
    }
}
