//! The first sequences of stored maps, as a logo needs them.
//!
//! Leaves out: reading the store, drawing. Invariant: what is kept grows with the sequences asked for,
//! not with those that are stored; no file makes it panic.

use super::{MapKind, Named};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::{Dtype, SafeTensors};

/// Maps of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMaps {
    /// The sequence.
    pub named: Named,
    /// Output of the network that is explained.
    pub output: Option<f32>,
    /// In the order of their columns, one value for each nucleotide.
    pub maps: Vec<(MapKind, Vec<f32>)>,
}

impl StoredMaps {
    /// The first `count` of `maps` (safetensors) and `sequences` (Parquet), highest output first; `place`
    /// names them in errors.
    ///
    /// # Errors
    /// `Corrupt` for files that no unit of maps wrote.
    pub fn first(maps: &Bytes, sequences: Bytes, count: usize, place: &str) -> Result<Vec<Self>> {
        let defect = |found: String| {
            let expected = "maps and their sequences";
            Error::corrupt(InputError::new(place, "", expected, found).to_string())
        };
        let rows = rows(sequences, count).map_err(|e| defect(e.to_string()))?;
        let tensors = SafeTensors::deserialize(maps).map_err(|e| defect(e.to_string()))?;
        let mut found = Vec::with_capacity(rows.len());
        for (row, (named, output)) in rows.into_iter().enumerate() {
            let mut of_row = Vec::new();
            for kind in MapKind::ALL {
                let Ok(tensor) = tensors.tensor(kind.name()) else { continue };
                let &[_, length] = tensor.shape() else {
                    return Err(defect(format!("{} of another rank", kind.name())));
                };
                let values = tensor.data().as_chunks::<4>().0;
                let from = row.saturating_mul(length);
                let past = from.saturating_add(named.sequence.len().min(length));
                let values = values.get(from..past).filter(|_| tensor.dtype() == Dtype::F32);
                let values = values.filter(|values| values.len() == named.sequence.len());
                let values = values.ok_or_else(|| defect(format!("no {} {row}", kind.name())))?;
                let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
                of_row.push((kind, values.collect()));
            }
            found.push(Self { named, output, maps: of_row });
        }
        Ok(found)
    }
}

/// The first rows of the table of sequences.
fn rows(bytes: Bytes, count: usize) -> Result<Vec<(Named, Option<f32>)>> {
    let unread = |e: &dyn std::fmt::Display| Error::corrupt(e.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| unread(&e))?;
    let reader = builder.with_limit(count).build().map_err(|e| unread(&e))?;
    let mut rows = Vec::new();
    for batch in reader {
        read_batch(&batch.map_err(|e| unread(&e))?, &mut rows)?;
    }
    Ok(rows)
}

fn unread_letter(error: &dyn std::fmt::Display) -> Error {
    Error::corrupt(error.to_string())
}

fn read_batch(batch: &RecordBatch, rows: &mut Vec<(Named, Option<f32>)>) -> Result<()> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.ok_or_else(|| Error::corrupt(format!("a table without the column {name}")))
    };
    let other = |name: &str| Error::corrupt(format!("another column {name}"));
    let text = |name: &'static str| column(name)?.as_string_opt::<i32>().ok_or_else(|| other(name));
    let (ids, letters) = (text("id")?, text("sequence")?);
    let numbers = column("row")?.as_primitive_opt::<Int64Type>().ok_or_else(|| other("row"))?;
    let outputs =
        column("output")?.as_primitive_opt::<Float32Type>().ok_or_else(|| other("output"))?;
    for row in 0..batch.num_rows() {
        if ids.is_null(row) || letters.is_null(row) || numbers.is_null(row) {
            return Err(Error::corrupt("a row without its sequence"));
        }
        let named = Named {
            row: u64::try_from(numbers.value(row)).unwrap_or(0),
            id: ids.value(row).to_owned(),
            sequence: DnaSequence::new(letters.value(row)).map_err(|e| unread_letter(&e))?,
        };
        rows.push((named, outputs.is_valid(row).then(|| outputs.value(row))));
    }
    Ok(())
}
