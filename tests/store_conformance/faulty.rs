//! An object store whose answers lie: requests fail before, after or long after they were carried out.

use async_trait::async_trait;
use futures::stream::BoxStream;
use glmeval_common::rng::Rng;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Carried out and answered.
    None,
    /// Not carried out: 503.
    Refused,
    /// Carried out, the answer is lost.
    AnswerLost,
    /// Times out, and is carried out after the next request.
    Late,
    /// Not carried out, answered as S3 answers a concurrent conflict.
    SpuriousExists,
    /// Not carried out: no room.
    DiskFull,
}

type PendingPut = (Path, PutPayload, PutOptions);

/// A memory store with faults: first a script, then chance.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    script: Mutex<VecDeque<Fault>>,
    rng: Mutex<Rng>,
    share: Mutex<f64>,
    late: Mutex<Vec<PendingPut>>,
    /// Puts that reached this store.
    pub(crate) puts: AtomicU32,
    /// Uploads in parts that were aborted.
    pub(crate) aborts: Arc<AtomicU32>,
}

impl FaultyStore {
    pub(crate) fn scripted(script: &[Fault]) -> Arc<Self> {
        Self::new(script, 0, 0.0)
    }

    pub(crate) fn random(seed: u64, share: f64) -> Arc<Self> {
        Self::new(&[], seed, share)
    }

    fn new(script: &[Fault], seed: u64, share: f64) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            script: Mutex::new(script.iter().copied().collect()),
            rng: Mutex::new(Rng::derive(seed, "faults")),
            share: Mutex::new(share),
            late: Mutex::default(),
            puts: AtomicU32::new(0),
            aborts: Arc::default(),
        })
    }

    /// Ends the faults, so that a checker sees what is there.
    pub(crate) fn heal(&self) {
        *self.share.lock().unwrap() = 0.0;
    }

    /// The fault of the next request; late puts of earlier ones land after it was drawn.
    fn next(&self) -> Fault {
        if let Some(fault) = self.script.lock().unwrap().pop_front() {
            return fault;
        }
        let mut rng = self.rng.lock().unwrap();
        if rng.uniform() >= *self.share.lock().unwrap() {
            return Fault::None;
        }
        let faults = [Fault::Refused, Fault::AnswerLost, Fault::Late, Fault::SpuriousExists];
        faults[rng.below(4) as usize]
    }

    async fn land(&self, late: Vec<PendingPut>) {
        for (path, payload, options) in late {
            drop(self.inner.put_opts(&path, payload, options).await);
        }
    }

    fn take_late(&self) -> Vec<PendingPut> {
        std::mem::take(&mut *self.late.lock().unwrap())
    }

    /// Reads know no conflict and no lateness: every fault but none is a refusal.
    fn read_fault(&self) -> Result<()> {
        if self.script.lock().unwrap().is_empty() && self.next() != Fault::None {
            return Err(unavailable("503"));
        }
        Ok(())
    }
}

fn unavailable(text: &'static str) -> Error {
    Error::Generic { store: "faulty", source: Box::new(io::Error::other(text)) }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        let late = self.take_late();
        let answer = match self.next() {
            Fault::None => self.inner.put_opts(path, payload, options).await,
            Fault::Refused => Err(unavailable("503")),
            Fault::AnswerLost => {
                drop(self.inner.put_opts(path, payload, options).await);
                Err(unavailable("connection reset"))
            }
            Fault::Late => {
                self.late.lock().unwrap().push((path.clone(), payload, options));
                Err(unavailable("timeout"))
            }
            Fault::SpuriousExists => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: Box::new(io::Error::other("409 conflict")),
            }),
            Fault::DiskFull => Err(Error::Generic {
                store: "faulty",
                source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
            }),
        };
        self.land(late).await;
        answer
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(path, options).await?;
        let fault = self.next();
        Ok(Box::new(FaultyUpload { inner, fault, aborts: self.aborts.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.read_fault()?;
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
        self.read_fault()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload whose second part (or completion) fails.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    fault: Fault,
    aborts: Arc<AtomicU32>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        if self.fault == Fault::Refused {
            return Box::pin(async { Err(unavailable("503")) });
        }
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await;
        if self.fault == Fault::AnswerLost { Err(unavailable("connection reset")) } else { done }
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborts.fetch_add(1, Ordering::Relaxed);
        self.inner.abort().await
    }
}
