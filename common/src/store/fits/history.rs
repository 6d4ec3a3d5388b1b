//! The history of a training run as one table: a row per epoch.
//!
//! Leaves out: training (worker). Invariant: a number that was not measured is null, one that is not a
//! number stays NaN.

use super::super::table::{self, defect};
use crate::error::Result;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use std::sync::Arc;

/// What one epoch of training came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u32,
    /// Training loss, penalties included, measured while the weights moved.
    pub loss: f64,
    /// Loss on `valid`, penalties included; `None` without such examples.
    pub val_loss: Option<f64>,
    /// Learning rate of the epoch's steps.
    pub learning_rate: f64,
    /// Measures of binary targets on the training examples.
    pub train: Option<BinaryMeasures>,
    /// The same on `valid`.
    pub valid: Option<BinaryMeasures>,
}

/// What Keras measures of binary targets in passing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryMeasures {
    /// Share of predictions on the right side of one half.
    pub accuracy: f64,
    /// Area under the ROC curve of 200 thresholds.
    pub auroc: f64,
    /// Area under the precision-recall curve of 200 thresholds.
    pub aupr: f64,
}

type Measure = fn(&BinaryMeasures) -> f64;

/// Names of the measures, in the order they are stored.
const MEASURES: [(&str, Measure); 3] =
    [("accuracy", |m| m.accuracy), ("auroc", |m| m.auroc), ("aupr", |m| m.aupr)];

/// Columns of `history.parquet`.
fn columns() -> Schema {
    let number = |name: String, nullable| Field::new(name, DataType::Float64, nullable);
    let mut fields = vec![
        Field::new("epoch", DataType::Int64, false),
        number("loss".to_owned(), false),
        number("val_loss".to_owned(), true),
        number("learning_rate".to_owned(), false),
    ];
    for prefix in ["", "val_"] {
        fields.extend(MEASURES.iter().map(|(name, _)| number(format!("{prefix}{name}"), true)));
    }
    Schema::new(fields)
}

/// Parquet bytes of a history.
///
/// # Errors
/// `Bug` if the table cannot be encoded.
pub fn encode(history: &[EpochRecord]) -> Result<Bytes> {
    let numbers = |of: &dyn Fn(&EpochRecord) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter(history.iter().map(of)))
    };
    let epochs = history.iter().map(|row| i64::from(row.epoch));
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(epochs)),
        numbers(&|row| Some(row.loss)),
        numbers(&|row| row.val_loss),
        numbers(&|row| Some(row.learning_rate)),
    ];
    arrays.extend(MEASURES.iter().map(|(_, of)| numbers(&|row| row.train.as_ref().map(of))));
    arrays.extend(MEASURES.iter().map(|(_, of)| numbers(&|row| row.valid.as_ref().map(of))));
    table::encode(columns(), arrays)
}

/// Reads a history back; `place` names it in errors.
///
/// # Errors
/// `Corrupt` naming the place.
pub fn decode(bytes: Bytes, place: &str) -> Result<Vec<EpochRecord>> {
    let mut history = Vec::new();
    for batch in table::decode(&columns(), bytes, None, place)? {
        for row in 0..batch.num_rows() {
            history.push(record(&batch, row, place)?);
        }
    }
    Ok(history)
}

fn record(batch: &RecordBatch, row: usize, place: &str) -> Result<EpochRecord> {
    let number = |index: usize| -> Option<f64> {
        let column = batch.columns().get(index)?.as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let needed = |index: usize, name: &str| {
        number(index).ok_or_else(|| defect(place, name, "a value in every row", "none"))
    };
    let measures = |first: usize| {
        let (accuracy, auroc, aupr) = (number(first)?, number(first + 1)?, number(first + 2)?);
        Some(BinaryMeasures { accuracy, auroc, aupr })
    };
    let epochs = batch.columns().first().map(|column| column.as_primitive::<Int64Type>());
    let epoch = epochs.filter(|column| column.is_valid(row)).map(|column| column.value(row));
    let epoch = epoch.and_then(|epoch| u32::try_from(epoch).ok());
    Ok(EpochRecord {
        epoch: epoch.ok_or_else(|| defect(place, "epoch", "a number from 1", "another"))?,
        loss: needed(1, "loss")?,
        val_loss: number(2),
        learning_rate: needed(3, "learning_rate")?,
        train: measures(4),
        valid: measures(7),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_back_with_its_gaps_and_not_a_numbers() {
        let measures = BinaryMeasures { accuracy: 0.5, auroc: 0.25, aupr: 0.125 };
        let (learning_rate, train) = (1e-3, Some(measures));
        let first = EpochRecord { epoch: 1, loss: 0.5, learning_rate, train, ..Default::default() };
        let last = EpochRecord { epoch: 2, loss: f64::NAN, val_loss: Some(2.0), ..first.clone() };
        let found = decode(encode(&[first.clone(), last]).unwrap(), "history").unwrap();
        assert_eq!(found[0], first);
        assert!(found[1].loss.is_nan() && found[1].val_loss == Some(2.0));
        assert!(decode(Bytes::from_static(b"PAR1"), "history").is_err());
    }
}
