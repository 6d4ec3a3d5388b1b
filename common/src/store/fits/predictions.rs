//! Predictions of a fit as one table.
//!
//! Leaves out: which objects a fit has (fits). Invariant: rows keep the order they were written in.

use super::super::table::{self, defect};
use crate::error::Result;
use crate::example::Split;
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

pub(super) fn encode(predictions: &[Prediction]) -> Result<Bytes> {
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

pub(super) fn decode(bytes: Bytes, place: &str) -> Result<Vec<Prediction>> {
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
