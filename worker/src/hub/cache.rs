//! The folder of one model in the layout that `huggingface_hub` reads and writes.
//!
//! ```text
//! models--organisation--name/blobs/<etag>                 bytes
//! models--organisation--name/refs/<revision>              commit, as text
//! models--organisation--name/snapshots/<commit>/<file>    link to ../../blobs/<etag>
//! models--organisation--name/.no_exist/<commit>/<file>    empty: the commit has no such file
//! .locks/models--organisation--name/<etag>.lock           held while that blob is written
//! ```
//!
//! Leaves out: the network. Invariant: everything but locks and partial blobs appears by renaming.

use super::files::{self, WeightFiles};
use super::{Hub, HubModel};
use glmeval_common::error::{Error, ErrorKind, Result, io_error};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// One model's part of the cache.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

/// The right to write one blob, until dropped.
pub(super) struct BlobLock {
    /// `None` on file systems without locks.
    held: Option<File>,
}

/// Whether `revision` is a commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Cache {
    pub(super) fn new(hub: &Hub, model: &HubModel) -> Self {
        let name = format!("models--{}--{}", model.organisation(), model.name());
        Self { folder: hub.cache.join(&name), locks: hub.cache.join(".locks").join(name) }
    }

    /// `models--organisation--name`.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Where a blob grows; a name of this process alone where a lock could not be had.
    pub(super) fn partial(&self, etag: &str, lock: &BlobLock) -> PathBuf {
        match lock.held {
            Some(_) => self.blob(&format!("{etag}.incomplete")),
            None => self.blob(&format!("{etag}.{}.incomplete", unique())),
        }
    }

    /// The commit that `revision` was when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit `revision` is.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        replace(&path, |beside| std::fs::write(beside, commit))
    }

    /// Notes that the commit has no file `name`; a cache that cannot be written does without.
    pub(super) fn note_absent(&self, commit: &str, name: &str) {
        let path = self.folder.join(".no_exist").join(commit).join(name);
        if !path.exists() {
            drop(replace(&path, |beside| std::fs::write(beside, "")));
        }
    }

    /// Whether a snapshot has a file, and not just a link to nothing.
    pub(super) fn has(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).is_file()
    }

    /// Makes `name` in a snapshot lead to a blob.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let up = "../".repeat(2 + name.matches('/').count());
        replace(&path, |beside| std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), beside))
    }

    /// Waits until no other process writes this blob; `waiting` is called if that takes time.
    pub(super) fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<BlobLock> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| io_error(&path, e))?;
        let taken = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match taken {
            Ok(()) => Ok(BlobLock { held: Some(file) }),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(BlobLock { held: None })
            }
            Err(error) => Err(io_error(&path, error)),
        }
    }

    /// What a snapshot lacks for a model to be loaded from it.
    ///
    /// # Errors
    /// `Invalid` for an index that is damaged; `Unavailable` where the folder cannot be read.
    pub(super) fn missing(&self, commit: &str) -> Result<Vec<String>> {
        let names = self.names(commit)?;
        let whole = match files::weights(&names) {
            Ok(Some(WeightFiles::Index(index))) => {
                let shards = files::shards(&self.snapshot(commit).join(index))?;
                return Ok(shards.into_iter().filter(|shard| !names.contains(shard)).collect());
            }
            Ok(whole) => whole.is_some(),
            // More than enough: the loader says which it cannot choose between.
            Err(_) => true,
        };
        Ok(if whole { Vec::new() } else { vec!["weights".to_owned()] })
    }

    /// Whether a snapshot needs nothing from a server, as far as can be told without one.
    ///
    /// The small files come first and those that do not exist are noted, so a snapshot that was
    /// made here has no doubt; one that another program made counts if it has the usual files.
    pub(super) fn is_complete(&self, commit: &str) -> bool {
        let absent = self.folder.join(".no_exist").join(commit);
        let Ok(names) = self.names(commit) else { return false };
        let known = |name: &str| names.contains(name) || absent.join(name).exists();
        let small = files::SMALL.iter().all(|name| known(name)) || files::has_small(&names);
        small && self.missing(commit).is_ok_and(|missing| missing.is_empty())
    }

    /// Names of the files at the top of a snapshot; none if there is no snapshot.
    fn names(&self, commit: &str) -> Result<BTreeSet<String>> {
        let snapshot = self.snapshot(commit);
        let entries = match std::fs::read_dir(&snapshot) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeSet::new());
            }
            entries => entries.map_err(|e| io_error(&snapshot, e))?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|e| io_error(&snapshot, e))?;
            // Follows the link: one that leads nowhere is no file.
            if entry.path().is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.insert(name);
            }
        }
        Ok(names)
    }
}

/// Makes the folder that is to hold `path`.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(|e| io_error(parent, e))
}

/// Makes something beside `path` and renames it over `path`.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    make_parent(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.tmp", unique()));
    let made = make(&beside).and_then(|()| std::fs::rename(&beside, path));
    made.map_err(|error| {
        drop(std::fs::remove_file(&beside));
        match error.kind() {
            // Not the user's file: the folder was removed meanwhile.
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::Unavailable, path.display().to_string()).with_source(error)
            }
            _ => io_error(path, error),
        }
    })
}

/// Differs between any two calls on one machine.
fn unique() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed))
}
