//! State of unfinished fits at rest: one commit per epoch that was worth keeping.
//!
//! Leaves out: what the state is (worker). Invariant: a checkpoint is visible through its commit only,
//! and worth nothing once the fit's scores are committed.

use super::super::{ObjectEntry, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Attempt, FitId, WorkerId};
use crate::layout::{self, FORMAT_VERSION, ObjectRecord};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Makes the state after one epoch visible (`probes/<fit-id>/epochs/<epoch>.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointCommit {
    /// Format version of this record.
    pub version: u32,
    /// The fit.
    pub fit: FitId,
    /// Epochs done, from 1.
    pub epoch: u32,
    /// The state.
    pub object: ObjectRecord,
    /// Attempt that won.
    pub attempt: Attempt,
    /// Its worker.
    pub worker: WorkerId,
}

/// Writes the state after `epoch` and commits it, then deletes all but the one before it.
///
/// Whose commit stands does not matter: the same fit has the same state after the same epoch.
///
/// # Errors
/// As [`Store::put_data`] and [`Store::commit`].
pub async fn commit_checkpoint(
    store: &Store,
    fit: &FitId,
    epoch: u32,
    bytes: Bytes,
    (attempt, worker): (&Attempt, &WorkerId),
) -> Result<()> {
    let path = layout::checkpoint_data_path(fit, epoch, attempt);
    let object = store.put_data("checkpoint", &path, bytes).await?;
    let objects = [object.clone()];
    let commit = CheckpointCommit {
        version: FORMAT_VERSION,
        fit: fit.clone(),
        epoch,
        object,
        attempt: attempt.clone(),
        worker: worker.clone(),
    };
    let check = |standing: CheckpointCommit| async move {
        store.get_verified(&standing.object).await.map(drop)
    };
    store.commit(&layout::checkpoint_path(fit, epoch), commit, &objects, check).await?;
    // One older state stays: this one might turn out damaged.
    let known = checkpoints(store, fit).await?;
    let before = known.iter().filter_map(epoch_of).filter(|known| *known < epoch).max();
    delete(store, known, |known| known < before.unwrap_or(epoch)).await
}

/// The newest state of a fit that `read` can use, and its epoch; damaged ones are passed over.
///
/// `read` gets the epoch, the bytes and what to call them in errors.
///
/// # Errors
/// As `read`, but for `Corrupt`; `Invalid` for a newer version; store errors.
pub async fn newest_checkpoint<T>(
    store: &Store,
    fit: &FitId,
    read: impl Fn(u32, &Bytes, &str) -> Result<T>,
) -> Result<Option<(u32, T)>> {
    let mut epochs: Vec<u32> = checkpoints(store, fit).await?.iter().filter_map(epoch_of).collect();
    epochs.sort_unstable();
    epochs.dedup();
    while let Some(epoch) = epochs.pop() {
        match read_checkpoint(store, fit, epoch, &read).await {
            Ok(found) => return Ok(Some((epoch, found))),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                tracing::warn!(error = error.chain(), "a damaged checkpoint is passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn read_checkpoint<T>(
    store: &Store,
    fit: &FitId,
    epoch: u32,
    read: &impl Fn(u32, &Bytes, &str) -> Result<T>,
) -> Result<T> {
    let path = layout::checkpoint_path(fit, epoch);
    let commit: Option<CheckpointCommit> = store.find_newest(&path).await?;
    let commit = commit.ok_or_else(|| Error::not_found(path))?;
    let bytes = store.get_verified(&commit.object).await?;
    read(epoch, &bytes, &format!("{} in {}", commit.object.path, store.url()))
}

/// Deletes every checkpoint of a fit; what another attempt writes meanwhile is left to `gc`.
///
/// # Errors
/// Store errors.
pub async fn delete_checkpoints(store: &Store, fit: &FitId) -> Result<()> {
    let known = checkpoints(store, fit).await?;
    delete(store, known, |_| true).await
}

async fn checkpoints(store: &Store, fit: &FitId) -> Result<Vec<ObjectEntry>> {
    store.list(&layout::checkpoints_prefix(fit)).await
}

fn epoch_of(entry: &ObjectEntry) -> Option<u32> {
    layout::parse_number(&entry.path).and_then(|number| u32::try_from(number).ok())
}

/// Commits sort before their data, so none is left without.
async fn delete(
    store: &Store,
    known: Vec<ObjectEntry>,
    is_past: impl Fn(u32) -> bool,
) -> Result<()> {
    for entry in known.iter().filter(|entry| epoch_of(entry).is_some_and(&is_past)) {
        store.delete(&entry.path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::gc;
    use super::*;
    use std::time::Duration;

    fn fit() -> FitId {
        FitId::new("f".repeat(32))
    }

    async fn write(store: &Store, epoch: u32, text: &'static str) {
        let who = (&Attempt::new("a".repeat(32)), &WorkerId::new("w"));
        let bytes = Bytes::from_static(text.as_bytes());
        commit_checkpoint(store, &fit(), epoch, bytes, who).await.unwrap();
    }

    async fn newest(store: &Store) -> Option<(u32, Bytes)> {
        let read = |_, bytes: &Bytes, _: &str| Ok(bytes.clone());
        newest_checkpoint(store, &fit(), read).await.unwrap()
    }

    #[tokio::test]
    async fn the_newest_two_are_kept_and_a_damaged_one_is_passed_over() {
        let store = Store::memory();
        assert_eq!(newest(&store).await, None);
        for (epoch, text) in [(2, "two"), (9, "nine"), (10, "ten")] {
            write(&store, epoch, text).await;
        }
        assert_eq!(store.list(&layout::checkpoints_prefix(&fit())).await.unwrap().len(), 4);
        assert_eq!(newest(&store).await, Some((10, Bytes::from_static(b"ten"))));
        let path = layout::checkpoint_data_path(&fit(), 10, &Attempt::new("a".repeat(32)));
        store.delete(&path).await.unwrap();
        assert_eq!(newest(&store).await, Some((9, Bytes::from_static(b"nine"))));
        let who = (&Attempt::new("b".repeat(32)), &WorkerId::new("w"));
        let bytes = Bytes::from_static(b"ten");
        commit_checkpoint(&store, &fit(), 10, bytes, who).await.unwrap();
        assert_eq!(newest(&store).await, Some((10, Bytes::from_static(b"ten"))));
        delete_checkpoints(&store, &fit()).await.unwrap();
        assert_eq!(store.list("probes").await.unwrap(), []);
    }

    /// Sweeps until something is old enough to go; what is left below `probes`.
    async fn swept(store: &Store) -> Vec<String> {
        let sweep = || gc::sweep(store, Duration::ZERO, true);
        while sweep().await.unwrap().orphans.is_empty() {
            tokio::task::yield_now().await;
        }
        store.list("probes").await.unwrap().into_iter().map(|entry| entry.path).collect()
    }

    #[tokio::test]
    async fn checkpoints_are_swept_once_the_scores_are_there() {
        let (store, fit) = (Store::memory(), fit());
        write(&store, 3, "three").await;
        // Written later, so once it is gone the checkpoint was old enough to go as well.
        let orphan = layout::checkpoint_data_path(&fit, 4, &Attempt::new("b".repeat(32)));
        store.put_data("checkpoint", &orphan, Bytes::from_static(b"four")).await.unwrap();
        assert_eq!(swept(&store).await.len(), 2);
        let scores = layout::scores_path(&fit);
        store.create(&scores, Bytes::from_static(b"{\"version\": 1}")).await.unwrap();
        assert_eq!(swept(&store).await, [scores]);
    }
}
