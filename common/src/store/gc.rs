//! Sweeps data that no commit names, checkpoints of fits that are done, uploads that never ended, and
//! snapshots that newer ones stand for.
//!
//! Leaves out: when to sweep (command line). Invariant: an object goes only if it is older than the grace
//! by the store's own clock, its path has the form of those that are written here, and every commit that could
//! name it was read and does not or a commit supersedes it.

use super::record::mentions;
use super::{ObjectEntry, Store};
use crate::error::{Error, Result};
use crate::ids::JobId;
use crate::layout;
use crate::limits;
use crate::rng::random_token;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod uploads;

pub use uploads::Upload;

/// Newest snapshots of a job that stay whatever their age: one may be damaged.
const SNAPSHOTS_KEPT: usize = 2;
/// Commits read at the same time.
const READS_IN_FLIGHT_MAX: usize = 16;

/// What a sweep found; with `delete`, what is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Objects that no commit names or that one supersedes, sorted.
    pub orphans: Vec<ObjectEntry>,
    /// Files of interrupted writes in a store of local files.
    pub staging_files: Vec<PathBuf>,
    /// Uploads in parts that never ended, sorted.
    pub uploads: Vec<Upload>,
    /// Data objects looked at.
    pub examined: u64,
}

impl Sweep {
    /// Sum of the orphans' lengths.
    pub fn orphan_bytes(&self) -> u64 {
        self.orphans.iter().map(|entry| entry.size).fold(0, u64::saturating_add)
    }
}

/// The grace of [`limits::GC_GRACE_MS`].
pub fn default_grace() -> Duration {
    Duration::from_millis(limits::GC_GRACE_MS)
}

/// Finds, and with `delete` removes, data older than `grace` that no commit names.
///
/// A grace below [`limits::GC_GRACE_MS`] is safe only while nothing writes to the store.
///
/// # Errors
/// Store errors; what was deleted before stays deleted.
pub async fn sweep(store: &Store, grace: Duration, delete: bool) -> Result<Sweep> {
    let now_ms = store_now_ms(store).await?;
    let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    let newest_ms = now_ms.saturating_sub(grace_ms);
    let mut found = Sweep::default();
    for prefix in layout::DATA_PREFIXES {
        let entries = store.list(prefix).await?;
        let commits = commits_by_first(&entries);
        let mut old: Vec<(ObjectEntry, Vec<String>)> = Vec::new();
        // The user's folder may hold other things than a store, under the same names.
        for entry in entries.into_iter().filter(|entry| layout::is_written(&entry.path)) {
            let superseding = layout::superseding_path_of(&entry.path);
            if superseding.is_some_and(|commit| commits.contains_key(&commit)) {
                found.examined += 1;
                if entry.last_modified_ms < newest_ms {
                    found.orphans.push(entry);
                }
                continue;
            }
            let Some(commit) = layout::commit_path_of(&entry.path) else { continue };
            found.examined += 1;
            if entry.last_modified_ms < newest_ms {
                let listed = commits.get(&commit).cloned().unwrap_or_else(|| vec![commit]);
                old.push((entry, listed));
            }
        }
        let orphans: Vec<Option<ObjectEntry>> = futures::stream::iter(old)
            .map(|(entry, commits)| orphan(store, entry, commits))
            .buffered(READS_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        found.orphans.extend(orphans.into_iter().flatten());
    }
    found.orphans.extend(old_snapshots(store, newest_ms).await?);
    found.uploads = store.uploads().await?;
    found.uploads.retain(|upload| upload.begun_ms < newest_ms && layout::is_written(&upload.path));
    found.orphans.sort_by(|a, b| a.path.cmp(&b.path));
    found.staging_files = staging_files(store, newest_ms);
    if delete {
        for entry in &found.orphans {
            store.delete(&entry.path).await?;
        }
        for upload in &found.uploads {
            store.abort_upload(upload).await?;
        }
        for path in &found.staging_files {
            std::fs::remove_file(path).map_err(|e| crate::error::io_error(path, e))?;
        }
    }
    Ok(found)
}

/// Snapshots of jobs, but the newest of each, that are older than the grace.
async fn old_snapshots(store: &Store, newest_ms: i64) -> Result<Vec<ObjectEntry>> {
    let mut old = Vec::new();
    for job in store.list_folders(layout::JOBS_PREFIX).await? {
        let prefix = layout::snapshots_prefix(&JobId::new(job));
        let mut snapshots = store.list(&prefix).await?;
        snapshots.retain(|entry| layout::is_written(&entry.path));
        snapshots.sort_by_key(|entry| layout::parse_number(&entry.path));
        snapshots.truncate(snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
        old.extend(snapshots.into_iter().filter(|entry| entry.last_modified_ms < newest_ms));
    }
    Ok(old)
}

/// The store's own time: the age of an object written just now.
async fn store_now_ms(store: &Store) -> Result<i64> {
    let token = random_token();
    let path = layout::clock_probe_path(&token);
    store.put_data("clock", &path, Bytes::from(token)).await?;
    let entry = store.entry(&path).await?;
    store.discard(&path).await;
    let entry = entry.ok_or_else(|| {
        Error::unavailable(format!("read the clock of {}: {path} is gone", store.url()))
    })?;
    Ok(entry.last_modified_ms)
}

/// Every commit in a listing, with its revisions, under the path of the first.
fn commits_by_first(entries: &[ObjectEntry]) -> BTreeMap<String, Vec<String>> {
    let mut commits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let Some((first, _)) = layout::parse_revision(&entry.path) else { continue };
        commits.entry(first).or_default().push(entry.path.clone());
    }
    commits
}

/// The entry, if none of `commits` names it and all of them could be read.
async fn orphan(
    store: &Store,
    entry: ObjectEntry,
    commits: Vec<String>,
) -> Result<Option<ObjectEntry>> {
    for commit in commits {
        let Some(bytes) = store.get_if_exists(&commit).await? else { continue };
        if mentions(&bytes, &entry.path) || !is_known(&bytes, &commit) {
            return Ok(None);
        }
    }
    Ok(Some(entry))
}

/// Whether this program knows how the record names its objects.
fn is_known(bytes: &[u8], path: &str) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let record: Option<Versioned> = serde_json::from_slice(bytes).ok();
    record.is_some_and(|record| layout::check_version(record.version, path).is_ok())
}

/// Files `name#<digits>` that an interrupted write left in a store of local files; no listing shows them.
fn staging_files(store: &Store, newest_ms: i64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Some(root) = store.folder.as_deref() else { return found };
    let mut folders: Vec<PathBuf> =
        layout::TOP_FOLDERS.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && is_older(&entry, newest_ms) => {
                    found.extend(Some(entry.path()).filter(|path| is_staging(root, path)));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_staging(root: &Path, path: &Path) -> bool {
    let within = path.strip_prefix(root).ok().and_then(Path::to_str);
    within.and_then(|within| within.rsplit_once('#')).is_some_and(|(object, digits)| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number && layout::is_written(object)
    })
}

fn is_older(entry: &std::fs::DirEntry, newest_ms: i64) -> bool {
    let modified = entry.metadata().ok().and_then(|about| about.modified().ok());
    let age = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    age.and_then(|age| i64::try_from(age.as_millis()).ok()).is_some_and(|ms| ms < newest_ms)
}
