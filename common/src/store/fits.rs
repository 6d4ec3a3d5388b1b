//! Fits at rest: weights, predictions, and the scores that make them visible.
//!
//! Leaves out: how scores are made (worker). Invariant: `scores.json` is the commit of a fit; damaged
//! data is replaced by a next revision.

use super::table::{self, defect};
use super::{Outcome, Store};
use crate::error::{Error, Result};
use crate::example::Split;
use crate::ids::{Attempt, FitId};
use crate::layout;
use crate::score::FitScores;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, Float32Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use std::sync::Arc;

/// What a probe said about one target of one example.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Id of the example.
    pub id: String,
    /// Split of the example.
    pub split: Split,
    /// Name of the target.
    pub target: String,
    /// Measured value; NaN = not measured.
    pub measured: f32,
    /// Predicted value.
    pub prediction: f32,
}

/// Columns of `predictions.parquet`.
fn columns() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let number = |name| Field::new(name, DataType::Float32, false);
    let numbers = [number("measured"), number("prediction")];
    Schema::new([vec![text("id"), text("split"), text("target")], numbers.to_vec()].concat())
}

/// Writes weights and predictions, then commits the scores; the loser's objects are deleted.
///
/// Where scores stand whose objects are damaged, the next revision is committed instead.
/// Fills in `scores.objects`. `weights` is a safetensors file; `None` for probes without any.
///
/// # Errors
/// As [`Store::commit`].
pub async fn commit_fit(
    store: &Store,
    attempt: &Attempt,
    mut scores: FitScores,
    weights: Option<Bytes>,
    predictions: &[Prediction],
) -> Result<Outcome<FitScores>> {
    let fit = scores.identity.fit.clone();
    let mut objects = Vec::new();
    if let Some(bytes) = weights {
        let path = layout::fit_data_path(&fit, "weights.safetensors", attempt);
        objects.push(store.put_data("weights", &path, bytes).await?);
    }
    let path = layout::fit_data_path(&fit, "predictions.parquet", attempt);
    let bytes = encode_predictions(predictions)?;
    objects.push(store.put_data("predictions", &path, bytes).await?);
    scores.objects.clone_from(&objects);
    let check = |standing| async move { check_fit(store, &standing).await };
    store.commit(&layout::scores_path(&fit), scores, &objects, check).await
}

/// Reads all that a fit's scores name.
///
/// # Errors
/// `Corrupt` when an object is not what the scores say; store errors.
pub async fn check_fit(store: &Store, scores: &FitScores) -> Result<()> {
    for object in &scores.objects {
        store.get_verified(object).await?;
    }
    if scores.objects.iter().any(|object| object.role == "predictions") {
        read_predictions(store, scores).await?;
    }
    Ok(())
}

/// Reads the newest readable scores of a fit, `None` if it is not done.
///
/// # Errors
/// `Corrupt`, `Invalid` for a newer version; store errors.
pub async fn find_scores(store: &Store, fit: &FitId) -> Result<Option<FitScores>> {
    store.find_newest(&layout::scores_path(fit)).await
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
    decode_predictions(bytes, &format!("{} in {}", object.path, store.url()))
}

fn object<'a>(scores: &'a FitScores, role: &str) -> Result<&'a layout::ObjectRecord> {
    let found = scores.objects.iter().find(|object| object.role == role);
    found.ok_or_else(|| Error::not_found(format!("{role} of fit {}", scores.identity.fit)))
}

fn encode_predictions(predictions: &[Prediction]) -> Result<Bytes> {
    fn texts<'a>(rows: &'a [Prediction], of: fn(&'a Prediction) -> &'a str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    }
    let numbers = |of: fn(&Prediction) -> f32| -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(predictions.iter().map(of)))
    };
    let arrays = vec![
        texts(predictions, |row| &row.id),
        texts(predictions, |row| row.split.name()),
        texts(predictions, |row| &row.target),
        numbers(|row| row.measured),
        numbers(|row| row.prediction),
    ];
    table::encode(columns(), arrays)
}

fn decode_predictions(bytes: Bytes, place: &str) -> Result<Vec<Prediction>> {
    let mut predictions = Vec::new();
    for batch in table::decode(&columns(), bytes, None, place)? {
        let [ids, splits, targets, measured, predicted] = batch.columns() else {
            return Err(defect(place, "columns", "five", batch.num_columns()));
        };
        if batch.columns().iter().any(|array| array.null_count() > 0) {
            return Err(defect(place, "", "a value in every column", "none"));
        }
        for row in 0..batch.num_rows() {
            let text = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
            let number = |array: &ArrayRef| array.as_primitive::<Float32Type>().value(row);
            let split = text(splits);
            let known = Split::parse(&split);
            predictions.push(Prediction {
                id: text(ids),
                split: known.ok_or_else(|| defect(place, "split", "a split", split))?,
                target: text(targets),
                measured: number(measured),
                prediction: number(predicted),
            });
        }
    }
    Ok(predictions)
}
