//! Finished shards on the worker's own disk while the store is away.
//!
//! ```text
//! <root>/<digest of the store's URL>/<random>/lock               held by the worker that writes here
//!                                             <attempt>.shard    one line of JSON, then the shard's bytes
//! ```
//!
//! Leaves out: when shards are tried again (`runner`). Invariant: a file is whole or is not there under its name;
//! what is read back is what was written, or is refused; the folder of a worker that lives is nobody else's.

use bytes::Bytes;
use glmeval_common::digest::sha256_hex;
use glmeval_common::error::{Error, Result, io_error};
use glmeval_common::limits;
use glmeval_common::rng::random_token;
use glmeval_common::store::embeddings::models::ModelRecord;
use glmeval_common::store::embeddings::{SetManifest, ShardAttempt};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(test)]
mod tests;

/// Format version of the files.
const SPOOL_VERSION: u32 = 1;
const LOCK: &str = "lock";

/// All that a shard's commit says, with the descriptions it needs in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpooledShard {
    /// The attempt.
    pub attempt: ShardAttempt,
    /// Its set.
    pub manifest: SetManifest,
    /// Its gLM.
    pub model: ModelRecord,
    /// When the attempt began by this machine's clock, in milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    bytes: u64,
    sha256: String,
    shard: SpooledShard,
}

/// Why a shard was not kept.
#[derive(Debug)]
pub enum Refusal {
    /// The bound is reached.
    Full,
    /// The disk takes no more.
    Disk(Error),
}

#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    shards: usize,
    defect: Option<String>,
}

/// One worker's place for finished shards.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    held: Mutex<Held>,
    /// Held by the one shard that tries the store.
    pub(crate) turn: tokio::sync::Mutex<()>,
    _lock: File,
}

impl Spool {
    /// Opens a place below `root` for shards of the store at `url`, and takes over what workers that are gone
    /// have left there for it.
    ///
    /// # Errors
    /// `Invalid` or `Unavailable` naming a folder that cannot be written.
    pub fn open(root: &Path, url: &str, bytes_max: u64) -> Result<(Arc<Self>, Vec<Ticket>)> {
        let name: String = sha256_hex(url.as_bytes()).chars().take(16).collect();
        let store = root.join(name);
        let failed = |e| io_error(&store, e).context("open the spool");
        std::fs::create_dir_all(&store).map_err(failed)?;
        let token = random_token();
        // Under a name that nobody looks at until the lock is held.
        let (hidden, folder) = (store.join(format!(".{token}")), store.join(&token));
        std::fs::create_dir(&hidden).map_err(failed)?;
        let lock = File::create(hidden.join(LOCK)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(&hidden, &folder).map_err(failed)?;
        let spool = Arc::new(Self {
            folder,
            bytes_max,
            held: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            _lock: lock,
        });
        spool.adopt(&store).map_err(failed)?;
        let left = spool.take_stock().map_err(failed)?;
        Ok((spool, left))
    }

    /// Moves the shards of workers that are gone here.
    fn adopt(&self, store: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(store)? {
            let other = entry?.path();
            let hidden =
                other.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || other == self.folder {
                continue;
            }
            let Ok(lock) = File::open(other.join(LOCK)) else { continue };
            // Its worker lives, or another takes it over at this moment.
            if lock.try_lock().is_err() {
                continue;
            }
            for file in std::fs::read_dir(&other)? {
                let path = file?.path();
                if let Some(name) = path.file_name()
                    && is_shard(&path)
                {
                    std::fs::rename(&path, self.folder.join(name))?;
                }
            }
            std::fs::remove_dir_all(&other)?;
        }
        Ok(())
    }

    /// A ticket for every file that lies here.
    fn take_stock(self: &Arc<Self>) -> io::Result<Vec<Ticket>> {
        let mut tickets = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let (path, bytes) = {
                let entry = entry?;
                (entry.path(), entry.metadata()?.len())
            };
            if is_shard(&path) {
                self.count(bytes);
                tickets.push(Ticket { spool: Arc::clone(self), path, bytes });
            }
        }
        tickets.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tickets)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, bytes: u64) {
        let mut held = self.lock();
        held.bytes = held.bytes.saturating_add(bytes);
        held.shards += 1;
    }

    /// Shards that wait here.
    pub fn shards(&self) -> usize {
        self.lock().shards
    }

    /// Why the disk takes no more, if it does not.
    pub fn defect(&self) -> Option<String> {
        self.lock().defect.clone()
    }

    /// Keeps a shard; durable when it returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of the shard is left then.
    pub fn keep(self: &Arc<Self>, shard: &SpooledShard, bytes: &Bytes) -> Result<Ticket, Refusal> {
        let length = bytes.len() as u64;
        if self.lock().bytes.saturating_add(length) > self.bytes_max {
            return Err(Refusal::Full);
        }
        let path = self.folder.join(format!("{}.shard", shard.attempt.attempt));
        let partial = path.with_extension("partial");
        let written = self.write(&partial, &path, shard, bytes);
        if let Err(error) = written {
            // What cannot be removed is never read: its name says that it is not whole.
            let _ = std::fs::remove_file(&partial);
            let error = io_error(&partial, error).context("keep a shard in the spool");
            self.lock().defect = Some(error.chain());
            return Err(Refusal::Disk(error));
        }
        self.count(length);
        Ok(Ticket { spool: Arc::clone(self), path, bytes: length })
    }

    fn write(
        &self,
        partial: &Path,
        path: &Path,
        shard: &SpooledShard,
        bytes: &Bytes,
    ) -> io::Result<()> {
        let head = Head {
            version: SPOOL_VERSION,
            bytes: bytes.len() as u64,
            sha256: sha256_hex(bytes),
            shard: shard.clone(),
        };
        let mut file = File::create(partial)?;
        file.write_all(&serde_json::to_vec(&head)?)?;
        file.write_all(b"\n")?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(partial, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.shards() == 0 {
            // An empty folder that stays is swept by the next worker.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "shard")
}

/// A shard that lies in a spool; dropping it leaves the file to the next worker.
#[derive(Debug)]
pub struct Ticket {
    spool: Arc<Spool>,
    path: PathBuf,
    bytes: u64,
}

impl Ticket {
    /// Reads the shard back. Blocks on the disk.
    ///
    /// # Errors
    /// `Corrupt` when the file is not what was written; I/O errors.
    pub fn read(&self) -> Result<(SpooledShard, Bytes)> {
        let file = std::fs::read(&self.path).map_err(|e| io_error(&self.path, e))?;
        let corrupt = |what: &str| Error::corrupt(format!("{}: {what}", self.path.display()));
        let end = file.iter().take(limits::LINE_BYTES_MAX).position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| corrupt("expected a line that describes the shard"))?;
        let bytes = Bytes::from(file);
        let head: Head = serde_json::from_slice(&bytes.slice(..end))
            .map_err(|e| corrupt("not a shard of a spool").with_source(e))?;
        let bytes = bytes.slice(end + 1..);
        if head.version != SPOOL_VERSION {
            return Err(corrupt(&format!(
                "expected version {SPOOL_VERSION}, found {}",
                head.version
            )));
        }
        if head.bytes != bytes.len() as u64 || head.sha256 != sha256_hex(&bytes) {
            return Err(corrupt("length or sha256 differ from what was written"));
        }
        Ok((head.shard, bytes))
    }

    /// Deletes the file: its shard is committed, or not wanted any more.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a shard stays in the spool");
        }
        let mut held = self.spool.lock();
        held.bytes = held.bytes.saturating_sub(self.bytes);
        held.shards = held.shards.saturating_sub(1);
    }
}
