//! Fits at rest: weights, history, predictions, and the scores that make them visible.
//!
//! Leaves out: how scores are made (worker). Invariant: `scores.json` is the commit of a fit; damaged
//! data is replaced by a next revision.

use super::{Outcome, Store};
use crate::error::{Error, Result};
use crate::ids::{Attempt, FitId};
use crate::layout;
use crate::score::FitScores;
use bytes::Bytes;

mod checkpoints;
pub mod history;
mod predictions;

pub use checkpoints::{CheckpointCommit, commit_checkpoint, delete_checkpoints, newest_checkpoint};
pub use history::{BinaryMeasures, EpochRecord};
pub use predictions::Prediction;

/// What a fit leaves beside its scores.
#[derive(Clone, Debug, Default)]
pub struct FitObjects<'a> {
    /// A safetensors file; `None` for probes without weights.
    pub weights: Option<Bytes>,
    /// One row per epoch; `None` for probes that are not trained by steps.
    pub history: Option<&'a [EpochRecord]>,
    /// Predictions on `test`.
    pub predictions: &'a [Prediction],
}

/// Writes weights, history and predictions, then commits the scores; the loser's objects are deleted.
///
/// Where scores stand whose objects are damaged, the next revision is committed instead.
/// Fills in `scores.objects`.
///
/// # Errors
/// As [`Store::commit`].
pub async fn commit_fit(
    store: &Store,
    attempt: &Attempt,
    scores: FitScores,
    fit_objects: FitObjects<'_>,
) -> Result<Outcome<FitScores>> {
    let mut files = Vec::new();
    if let Some(bytes) = fit_objects.weights {
        files.push(("weights", "weights.safetensors", bytes));
    }
    if let Some(history) = fit_objects.history {
        files.push(("history", "history.parquet", history::encode(history)?));
    }
    let bytes = predictions::encode(fit_objects.predictions)?;
    files.push(("predictions", "predictions.parquet", bytes));
    commit_files(store, attempt, scores, files).await
}

/// Writes attribution maps (safetensors) and their sequences (Parquet), then commits the scores.
///
/// # Errors
/// As [`Store::commit`].
pub async fn commit_maps(
    store: &Store,
    attempt: &Attempt,
    scores: FitScores,
    maps: Option<(Bytes, Bytes)>,
) -> Result<Outcome<FitScores>> {
    let files = maps.map_or_else(Vec::new, |(maps, sequences)| {
        vec![("maps", "maps.safetensors", maps), ("sequences", "sequences.parquet", sequences)]
    });
    commit_files(store, attempt, scores, files).await
}

async fn commit_files(
    store: &Store,
    attempt: &Attempt,
    mut scores: FitScores,
    files: Vec<(&str, &str, Bytes)>,
) -> Result<Outcome<FitScores>> {
    let fit = scores.identity.fit.clone();
    let mut objects = Vec::new();
    for (role, file, bytes) in files {
        let path = layout::fit_data_path(&fit, file, attempt);
        objects.push(store.put_data(role, &path, bytes).await?);
    }
    scores.objects.clone_from(&objects);
    let fit = &fit;
    let check = |standing: FitScores| async move {
        check_names(store, fit, &standing)?;
        check_fit(store, &standing).await
    };
    store.commit(&layout::scores_path(fit), scores, &objects, check).await
}

/// Reads all that a fit's scores name.
///
/// # Errors
/// `Corrupt` when an object is not what the scores say; store errors.
pub async fn check_fit(store: &Store, scores: &FitScores) -> Result<()> {
    for object in &scores.objects {
        let bytes = store.get_verified(object).await?;
        let place = format!("{} in {}", object.path, store.url());
        match object.role.as_str() {
            "predictions" => drop(predictions::decode(bytes, &place)?),
            "history" => drop(history::decode(bytes, &place)?),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the newest readable scores of a fit, `None` if it is not done.
///
/// # Errors
/// `Corrupt`, also for scores of another fit or of another's objects; `Invalid` for a newer version; store errors.
pub async fn find_scores(store: &Store, fit: &FitId) -> Result<Option<FitScores>> {
    let scores = store.find_newest(&layout::scores_path(fit)).await?;
    if let Some(scores) = &scores {
        check_names(store, fit, scores)?;
    }
    Ok(scores)
}

/// Whether scores speak of `fit` and name its objects alone.
fn check_names(store: &Store, fit: &FitId, scores: &FitScores) -> Result<()> {
    let path = layout::scores_path(fit);
    let place = || format!("{path} in {}", store.url());
    let found = &scores.identity.fit;
    if found != fit {
        return Err(Error::corrupt(format!("{}: expected fit {fit}, found {found}", place())));
    }
    layout::check_own(&path, &scores.objects).map_err(|foreign| {
        Error::corrupt(format!("{}: expected objects of its own, found {foreign}", place()))
    })
}

/// Reads the weights of a fit: a safetensors file.
///
/// # Errors
/// `NotFound` for a probe without weights; `Corrupt`; store errors.
pub async fn read_weights(store: &Store, scores: &FitScores) -> Result<Bytes> {
    store.get_verified(object(scores, "weights")?).await
}

/// Reads the predictions of a fit in the order they were written.
///
/// # Errors
/// `NotFound` when the fit has none; `Corrupt`; store errors.
pub async fn read_predictions(store: &Store, scores: &FitScores) -> Result<Vec<Prediction>> {
    let object = object(scores, "predictions")?;
    let bytes = store.get_verified(object).await?;
    predictions::decode(bytes, &format!("{} in {}", object.path, store.url()))
}

/// Reads the maps of a fit, safetensors, and the table of their sequences, Parquet.
///
/// # Errors
/// `NotFound` for a fit without maps; `Corrupt`; store errors.
pub async fn read_maps(store: &Store, scores: &FitScores) -> Result<(Bytes, Bytes)> {
    let maps = store.get_verified(object(scores, "maps")?).await?;
    Ok((maps, store.get_verified(object(scores, "sequences")?).await?))
}

/// Reads the history of a fit, epoch by epoch.
///
/// # Errors
/// `NotFound` for a probe that is not trained by steps; `Corrupt`; store errors.
pub async fn read_history(store: &Store, scores: &FitScores) -> Result<Vec<EpochRecord>> {
    let object = object(scores, "history")?;
    let bytes = store.get_verified(object).await?;
    history::decode(bytes, &format!("{} in {}", object.path, store.url()))
}

fn object<'a>(scores: &'a FitScores, role: &str) -> Result<&'a layout::ObjectRecord> {
    let found = scores.objects.iter().find(|object| object.role == role);
    found.ok_or_else(|| Error::not_found(format!("{role} of fit {}", scores.identity.fit)))
}
