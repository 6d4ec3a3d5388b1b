//! Sweeps data that no commit names, checkpoints of fits that are done, uploads that never ended, and
//! snapshots that newer ones stand for.
//!
//! Leaves out: when to sweep (command line). Invariant: an object goes only if it is older than the grace
//! by the store's own clock, its path has the form of those that are written here, and every commit that could
//! name it was read and does not or a commit supersedes it; in the folders of a job that is not finished it is as old
//! as no attempt at a commit may be, whatever the grace.

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
use std::collections::{BTreeMap, BTreeSet};
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

/// Which objects are old enough to go.
struct Ages {
    newest_ms: i64,
    /// As `newest_ms`, in the folders of `unfinished`.
    newest_unfinished_ms: i64,
    unfinished: BTreeSet<String>,
}

impl Ages {
    /// Whether the object `path`, written or begun at `since_ms`, may go.
    fn is_old(&self, path: &str, since_ms: i64) -> bool {
        let folder = layout::content_folder(path);
        let newest_ms = match folder.is_some_and(|folder| self.unfinished.contains(folder)) {
            true => self.newest_unfinished_ms,
            false => self.newest_ms,
        };
        since_ms < newest_ms
    }
}

/// Finds, and with `delete` removes, data older than `grace` that no commit names.
///
/// A grace below [`limits::GC_GRACE_MS`] is safe only while nothing writes to the store.
///
/// # Errors
/// As [`sweep_beside`].
pub async fn sweep(store: &Store, grace: Duration, delete: bool) -> Result<Sweep> {
    sweep_beside(store, grace, async || Ok(BTreeSet::new()), delete).await
}

/// As [`sweep`], with a grace of [`limits::GC_GRACE_MS`] at least in the folders that `unfinished` names, as
/// [`layout::content_folder`] does: those of jobs whose workers may be about to commit.
///
/// # Errors
/// Those of `unfinished` and of the store; what was deleted before stays deleted.
pub async fn sweep_beside(
    store: &Store,
    grace: Duration,
    unfinished: impl AsyncFnOnce() -> Result<BTreeSet<String>>,
    delete: bool,
) -> Result<Sweep> {
    let now_ms = store_now_ms(store).await?;
    let before = |grace: Duration| {
        now_ms.saturating_sub(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX))
    };
    let (newest_ms, newest_unfinished_ms) = (before(grace), before(grace.max(default_grace())));
    // After the clock was read: a job that is not there by now has written nothing that could be old.
    let unfinished = unfinished().await?;
    let ages = Ages { newest_ms, newest_unfinished_ms, unfinished };
    let found = found(store, &ages).await?;
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

/// All that may go.
async fn found(store: &Store, ages: &Ages) -> Result<Sweep> {
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
                if ages.is_old(&entry.path, entry.last_modified_ms) {
                    found.orphans.push(entry);
                }
                continue;
            }
            let Some(commit) = layout::commit_path_of(&entry.path) else { continue };
            found.examined += 1;
            if ages.is_old(&entry.path, entry.last_modified_ms) {
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
    found.orphans.extend(old_snapshots(store, ages).await?);
    found.uploads = store.uploads().await?;
    let is_left = |upload: &Upload| ages.is_old(&upload.path, upload.begun_ms);
    found.uploads.retain(|upload| is_left(upload) && layout::is_written(&upload.path));
    found.orphans.sort_by(|a, b| a.path.cmp(&b.path));
    found.staging_files = staging_files(store, ages);
    Ok(found)
}

/// Snapshots of jobs, but the newest of each, that are older than the grace.
async fn old_snapshots(store: &Store, ages: &Ages) -> Result<Vec<ObjectEntry>> {
    let mut old = Vec::new();
    for job in store.list_folders(layout::JOBS_PREFIX).await? {
        let prefix = layout::snapshots_prefix(&JobId::new(job));
        let mut snapshots = store.list(&prefix).await?;
        snapshots.retain(|entry| layout::is_written(&entry.path));
        snapshots.sort_by_key(|entry| layout::parse_number(&entry.path));
        snapshots.truncate(snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
        let is_old = |entry: &ObjectEntry| ages.is_old(&entry.path, entry.last_modified_ms);
        old.extend(snapshots.into_iter().filter(is_old));
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
fn staging_files(store: &Store, ages: &Ages) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Some(root) = store.folder.as_deref() else { return found };
    let mut folders: Vec<PathBuf> =
        layout::TOP_FOLDERS.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let path = entry.path();
                    let object = staged_object(root, &path);
                    let is_old = |object: String| {
                        written_ms(&entry).is_some_and(|since_ms| ages.is_old(&object, since_ms))
                    };
                    found.extend(object.is_some_and(is_old).then_some(path));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The object that a file was to become; `None` for a file that is none of ours.
fn staged_object(root: &Path, path: &Path) -> Option<String> {
    let within = path.strip_prefix(root).ok().and_then(Path::to_str)?;
    let (object, digits) = within.rsplit_once('#')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (is_number && layout::is_written(object)).then(|| object.to_owned())
}

fn written_ms(entry: &std::fs::DirEntry) -> Option<i64> {
    let modified = entry.metadata().ok()?.modified().ok()?;
    i64::try_from(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}
