//! What a worker, its files or its way to the store are at fault for: no unit is blamed, none is cut, and whoever
//! comes next does it.

#![expect(clippy::unwrap_used, reason = "support of tests: a panic is how they fail")]

use crate::world::{Bench, Damage};
use async_trait::async_trait;
use futures::stream::BoxStream;
use glmeval_common::control::{JobPhase, JobStatus};
use glmeval_common::error::Result as OurResult;
use glmeval_common::store::Store;
use glmeval_worker::agent::AgentExit;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::io;
use std::sync::Arc;

/// How a store says no.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// As a folder on a file system that takes no writes.
    ReadOnly,
    /// As S3 does without the right to put.
    Denied,
}

impl Refusal {
    fn error(self) -> Error {
        match self {
            Self::ReadOnly => {
                let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
                Error::Generic { store: "test", source: source.into() }
            }
            Self::Denied => Error::Generic {
                store: "test",
                source: "403 Forbidden: <Error><Code>AccessDenied</Code></Error>".into(),
            },
        }
    }
}

/// A folder below which no embeddings can be put.
#[derive(Debug)]
struct Barred {
    inner: LocalFileSystem,
    refusal: Refusal,
}

impl Barred {
    fn over(bench: &Bench, refusal: Refusal) -> Store {
        let inner = LocalFileSystem::new_with_prefix(bench.folder()).unwrap();
        Store::from_object_store(Arc::new(Self { inner, refusal }), "").unwrap()
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("barred")
    }
}

#[async_trait]
impl ObjectStore for Barred {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if path.as_ref().starts_with("embeddings/") {
            return Err(self.refusal.error());
        }
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Every worker ended with `words`, and the job waits for others as if none had tried.
fn check(bench: &Bench, (status, exits): (JobStatus, Vec<OurResult<AgentExit>>), words: &str) {
    assert!(!exits.is_empty());
    for exit in exits {
        let error = exit.unwrap_err();
        let chain = error.chain();
        assert!(error.is_of_place() && chain.contains(words), "{chain}");
    }
    assert_eq!((status.phase, status.failures.len()), (JobPhase::Running, 0), "{status:?}");
    let is_told = status.notices.iter().any(|notice| notice.contains(words));
    assert!(is_told, "{:?}", status.notices);
    let is_failed = |path: &String| path.contains("/failed/");
    assert!(!bench.files().keys().any(is_failed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_worker_may_not_write_is_no_fault_of_the_rows() {
    let wanted = Bench::finished().await;
    for (refusal, words) in
        [(Refusal::ReadOnly, "read-only"), (Refusal::Denied, "the credentials do not allow this")]
    {
        let bench = Bench::new();
        let ended = bench.run_over(&Barred::over(&bench, refusal)).await;
        check(&bench, ended, words);
        assert_eq!(bench.run().await.phase, JobPhase::Finished);
        assert_eq!(bench.contents().await, wanted.contents().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_than_were_planned_are_no_fault_of_the_rows() {
    for damage in [Damage::FlipLast, Damage::Truncate] {
        let bench = Bench::new();
        let weights = bench.weights();
        let planned = std::fs::read(&weights).unwrap();
        damage.apply(&weights);
        let place = weights.parent().unwrap().display().to_string();
        check(&bench, bench.run_over(&bench.store).await, &place);
        std::fs::write(&weights, planned).unwrap();
        assert_eq!(bench.run().await.phase, JobPhase::Finished, "{damage:?}");
    }
    let bench = Bench::new();
    let planned = std::fs::read_to_string(bench.source()).unwrap();
    std::fs::write(bench.source(), planned.replace("row7", "row8")).unwrap();
    check(&bench, bench.run_over(&bench.store).await, "the file has changed");
}
