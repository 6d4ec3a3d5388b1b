//! The object store: create-only records, attempt-private data, checked reads.
//!
//! Leaves out: what the objects mean (the modules below) and their paths (`layout`).
//! Invariant: the only write that decides anything is [`Store::create`]; no object is ever replaced by other bytes.

use crate::clock::Clock;
use crate::digest::sha256_hex;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ObjectRecord;
use crate::limits;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::ops::Range;
use std::sync::Arc;
use tracing::Instrument;

pub mod coordinators;
pub mod embeddings;
pub mod examples;
pub mod fits;
pub mod gc;
pub mod jobs;
pub mod meter;
mod open;
pub mod record;
pub mod reports;
mod retry;
mod table;

pub use record::Outcome;
use retry::{Backoff, advice, is_lasting, is_not_found, is_of_place, kind_of};

/// What became of a create-only write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object holds the bytes given.
    Won,
    /// Someone else's bytes stand there.
    Lost {
        /// Those bytes.
        existing: Bytes,
    },
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Object path below the store's URL.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// Milliseconds since 1970 by the store's own clock; compare only with others of the same store.
    pub last_modified_ms: i64,
}

/// A handle on one store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    url: Arc<str>,
    /// Root folder of a store of local files.
    folder: Option<Arc<std::path::Path>>,
    deadline: Option<Deadline>,
    server_clock: open::ServerClock,
    bucket: Option<open::Bucket>,
    meter: Arc<meter::Meter>,
}

/// When an attempt must not commit any more, by the worker's own clock.
#[derive(Clone)]
struct Deadline {
    clock: Arc<dyn Clock>,
    at_ms: u64,
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.at_ms)
    }
}

impl Store {
    /// The store's URL without credentials, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Milliseconds that this machine's clock was ahead of the server's at its last answer, to the second; `None`
    /// for a store that is no server and before the first answer. For people: nothing is decided by it.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.server_clock.ahead_ms()
    }

    /// Requests made through this handle and its clones.
    pub fn requests(&self) -> Vec<crate::control::StoreRequests> {
        self.meter.requests()
    }

    /// The store as an attempt that begins now uses it: commits are refused once the attempt is older
    /// than [`limits::ATTEMPT_AGE_MS_MAX`], since `gc` might have swept its data by then.
    #[must_use]
    pub fn for_attempt(&self, clock: Arc<dyn Clock>) -> Self {
        self.for_attempt_of_age(clock, 0)
    }

    /// As [`Store::for_attempt`] for an attempt that began `age_ms` ago.
    #[must_use]
    pub fn for_attempt_of_age(&self, clock: Arc<dyn Clock>, age_ms: u64) -> Self {
        let left_ms = limits::ATTEMPT_AGE_MS_MAX.saturating_sub(age_ms);
        let at_ms = clock.now_ms().saturating_add(left_ms);
        Self { deadline: Some(Deadline { clock, at_ms }), ..self.clone() }
    }

    /// # Errors
    /// `Fenced` when the attempt this handle was made for is too old.
    fn check_deadline(&self) -> Result<()> {
        let Some(Deadline { clock, at_ms }) = &self.deadline else { return Ok(()) };
        if clock.now_ms() <= *at_ms {
            return Ok(());
        }
        let most = limits::ATTEMPT_AGE_MS_MAX / 1_000;
        let message = format!("the attempt is older than {most} s and may not commit any more");
        Err(Error::new(ErrorKind::Fenced, message))
    }

    /// Creates `path` with `bytes` unless it exists; durable when it returns.
    ///
    /// An unclear answer is settled by reading back, so `bytes` must hold a token of the writer or be
    /// a pure function of `path`: equal bytes count as the own write.
    ///
    /// # Errors
    /// `Invalid` for a bad path or missing permission; `Unavailable` when the outcome stayed unknown:
    /// calling again with the same bytes is safe.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let span = tracing::info_span!("create", path);
        self.create_unless_there(path, bytes).instrument(span).await
    }

    async fn create_unless_there(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let location = location(path)?;
        let mut backoff = Backoff::default();
        loop {
            let payload = PutPayload::from_bytes(bytes.clone());
            let options = PutOptions::from(PutMode::Create);
            let put = self.inner.put_opts(&location, payload, options);
            let refusal = match self.meter.time("create", put).await {
                Ok(_) => return Ok(Created::Won),
                // A put finds no bucket, never no object.
                Err(error) if is_lasting(&error) || is_not_found(&error) => {
                    return Err(self.error("create", path, error));
                }
                Err(error) => error,
            };
            match self.meter.time("get", self.read(&location)).await {
                Ok(existing) if existing == bytes => return Ok(Created::Won),
                Ok(existing) => return Ok(Created::Lost { existing }),
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    tracing::debug!(path, %error, "the read-back of an unclear create failed");
                }
            }
            if !backoff.wait().await {
                let error = self.error("create", path, refusal);
                return Err(Error::unavailable(error.to_string()).with_source(error));
            }
        }
    }

    /// Writes an object whose path no other attempt uses, and checks its length by a HEAD request.
    ///
    /// Above [`limits::MULTIPART_BYTES_MIN`] the upload is in parts; a failed one is aborted.
    /// `role` goes into the returned record.
    ///
    /// # Errors
    /// `Invalid` or `Unavailable` with path and store; nothing half-written is ever visible.
    pub async fn put_data(&self, role: &str, path: &str, bytes: Bytes) -> Result<ObjectRecord> {
        let at = &location(path)?;
        let length = bytes.len() as u64;
        let data = &bytes;
        let span = tracing::info_span!("put", path, bytes = length);
        let put = self.retry("put", path, move || async move {
            if data.len() > limits::MULTIPART_BYTES_MIN {
                self.put_parts(at, data).await
            } else {
                let payload = PutPayload::from_bytes(data.clone());
                self.inner.put(at, payload).await.map(|_| ())
            }
        });
        put.instrument(span).await?;
        let found = self.retry("head", path, || self.inner.head(at)).await?.size;
        if found != length {
            return Err(Error::unavailable(format!(
                "put {path} in {}: expected {length} bytes, found {found}",
                self.url
            )));
        }
        Ok(ObjectRecord {
            role: role.to_owned(),
            path: path.to_owned(),
            bytes: length,
            sha256: sha256_hex(&bytes),
        })
    }

    async fn put_parts(&self, at: &Path, bytes: &Bytes) -> object_store::Result<()> {
        const PARTS_IN_FLIGHT_MAX: usize = 4;
        let mut upload = self.inner.put_multipart(at).await?;
        let parts: Vec<_> = (0..bytes.len())
            .step_by(limits::MULTIPART_PART_BYTES)
            .map(|start| {
                let end = start.saturating_add(limits::MULTIPART_PART_BYTES).min(bytes.len());
                upload.put_part(PutPayload::from_bytes(bytes.slice(start..end)))
            })
            .collect();
        let sent = futures::stream::iter(parts)
            .buffer_unordered(PARTS_IN_FLIGHT_MAX)
            .try_collect::<Vec<()>>()
            .await;
        let done = match sent {
            Ok(_) => upload.complete().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if done.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(path = %at, %error, "an upload in parts could not be aborted");
        }
        done
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Unavailable`.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let location = location(path)?;
        self.retry("get", path, || self.read(&location)).await
    }

    /// The bytes of an object, `None` if there is none.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn get_if_exists(&self, path: &str) -> Result<Option<Bytes>> {
        match self.get(path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes `range` of an object.
    ///
    /// # Errors
    /// As [`Store::get`]; `Invalid` when the object ends before the range does.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let location = location(path)?;
        let size = self.retry("head", path, || self.inner.head(&location)).await?.size;
        if range.start > range.end || range.end > size {
            return Err(Error::invalid(format!(
                "get {path} in {}: expected a range within {size} bytes, found {}..{}",
                self.url, range.start, range.end
            )));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.retry("get", path, || self.inner.get_range(&location, range.clone())).await
    }

    /// The bytes a commit names, after checking length and sha256.
    ///
    /// # Errors
    /// `Corrupt` naming the path when the bytes are gone or are not those; else as [`Store::get`].
    pub async fn get_verified(&self, record: &ObjectRecord) -> Result<Bytes> {
        let path = &record.path;
        let place = || format!("{path} in {}", self.url);
        let Some(bytes) = self.get_if_exists(path).await? else {
            return Err(Error::corrupt(format!("{}: a commit names it, but it is gone", place())));
        };
        if bytes.len() as u64 != record.bytes {
            return Err(Error::corrupt(format!(
                "{}: expected {} bytes, found {}",
                place(),
                record.bytes,
                bytes.len()
            )));
        }
        let found = sha256_hex(&bytes);
        if found != record.sha256 {
            return Err(Error::corrupt(format!(
                "{}: expected sha256 {}, found {found}",
                place(),
                record.sha256
            )));
        }
        Ok(bytes)
    }

    /// Whether there is an object at `path`.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.entry(path).await?.is_some())
    }

    /// Length and age of an object, `None` if there is none.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn entry(&self, path: &str) -> Result<Option<ObjectEntry>> {
        let location = location(path)?;
        match self.retry("head", path, || self.inner.head(&location)).await {
            Ok(meta) => Ok(Some(entry(meta))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every object below the folder `prefix`, sorted by path; empty text lists the whole store.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        let folder = if prefix.is_empty() { None } else { Some(location(prefix)?) };
        let list = || self.inner.list(folder.as_ref()).map_ok(entry).try_collect();
        let mut entries: Vec<ObjectEntry> = self.retry("list", prefix, list).await?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Whether a listing can begin in the middle of a folder at no cost for what lies before.
    pub fn lists_from_anywhere(&self) -> bool {
        self.folder.is_none()
    }

    /// Objects below the folder `prefix` with paths behind `after` and not behind `until`, sorted.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn list_between(
        &self,
        prefix: &str,
        after: &str,
        until: &str,
    ) -> Result<Vec<ObjectEntry>> {
        if !self.lists_from_anywhere() {
            let mut entries = self.list(prefix).await?;
            entries.retain(|entry| &*entry.path > after && &*entry.path <= until);
            return Ok(entries);
        }
        let (folder, offset) = (location(prefix)?, location(after)?);
        let list = || {
            let listed = self.inner.list_with_offset(Some(&folder), &offset).map_ok(entry);
            // Object stores list in the order of paths, so the rest is not even asked for.
            let within = |entry: &ObjectEntry| std::future::ready(Ok(&*entry.path <= until));
            listed.try_take_while(within).try_collect()
        };
        let mut entries: Vec<ObjectEntry> = self.retry("list", prefix, list).await?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Names of the folders directly below `prefix`, sorted.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        let at = location(prefix)?;
        let list = || self.inner.list_with_delimiter(Some(&at));
        let found = self.retry("list", prefix, list).await?;
        let mut names: Vec<String> = found
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let location = location(path)?;
        match self.retry("delete", path, || self.inner.delete(&location)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    async fn read(&self, location: &Path) -> object_store::Result<Bytes> {
        self.inner.get(location).await?.bytes().await
    }

    /// Repeats an idempotent request while its error is passing.
    async fn retry<T, F>(
        &self,
        doing: &'static str,
        path: &str,
        request: impl Fn() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send,
    {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.meter.time(doing, request()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if is_lasting(&error) || is_not_found(&error) || !backoff.wait().await {
                return Err(self.error(doing, path, error));
            }
        }
    }

    fn error(&self, doing: &str, path: &str, error: object_store::Error) -> Error {
        let place = format!("{doing} {path} in {}", self.url);
        let advice = advice(&error, self.clock_ahead_ms());
        let message = advice.map_or(place.clone(), |advice| format!("{place}: {advice}"));
        let of_place = is_of_place(&error) || (is_write(doing) && is_not_found(&error));
        let made = Error::new(kind_of(&error), message).with_source(error);
        if of_place { made.of_place() } else { made }
    }
}

/// Whether a request makes an object: what such a one does not find is the store itself.
fn is_write(doing: &str) -> bool {
    matches!(doing, "create" | "put")
}

/// The checked form of an object path: what every kind of store takes verbatim.
fn location(path: &str) -> Result<Path> {
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+=@".contains(&b))
    };
    let defect = || {
        Error::invalid(format!(
            "object path {path:?}: expected letters, digits and `._-+=@` between single slashes"
        ))
    };
    if !path.split('/').all(plain) {
        return Err(defect());
    }
    Path::parse(path).map_err(|error| defect().with_source(error))
}

fn entry(meta: object_store::ObjectMeta) -> ObjectEntry {
    ObjectEntry {
        path: meta.location.to_string(),
        size: meta.size,
        last_modified_ms: meta.last_modified.timestamp_millis(),
    }
}
