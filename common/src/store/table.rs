//! Parquet bytes of one table, and back.
//!
//! Leaves out: what the columns mean. Invariant: damaged bytes are an error; a panic of the Parquet reader stays in here.

use crate::error::{Error, InputError, Result};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Fields, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Rows that a reader can skip at once.
const ROWS_PER_GROUP: usize = 4_096;

/// Parquet bytes of `columns`, zstd.
pub(super) fn encode(schema: Schema, columns: Vec<ArrayRef>) -> Result<Bytes> {
    let bug = |e: &dyn Display| Error::bug(format!("encode a table as Parquet: {e}"));
    let schema = Arc::new(schema);
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| bug(&e))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_created_by("glmeval".to_owned())
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(|e| bug(&e))?;
    writer.write(&batch).map_err(|e| bug(&e))?;
    writer.close().map_err(|e| bug(&e))?;
    Ok(bytes.into())
}

/// Rows `from..to` of a table with exactly the columns of `schema`; `None` = all rows.
///
/// # Errors
/// `Corrupt` naming `place`.
pub(super) fn decode(
    schema: &Schema,
    bytes: Bytes,
    rows: Option<(u64, u64)>,
    place: &str,
) -> Result<Vec<RecordBatch>> {
    // The reader indexes without checks where it meets damaged pages.
    let read = catch_unwind(AssertUnwindSafe(|| read(schema, bytes, rows, place)));
    read.unwrap_or_else(|_| Err(defect(place, "", "a Parquet table", "damaged pages")))
}

fn read(
    schema: &Schema,
    bytes: Bytes,
    rows: Option<(u64, u64)>,
    place: &str,
) -> Result<Vec<RecordBatch>> {
    let bad = |e: &dyn Display| defect(place, "", "a Parquet table", e);
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .map_err(|e| bad(&e))?
        .with_batch_size(ROWS_PER_GROUP);
    let (found, expected) = (builder.schema().fields(), schema.fields());
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, wanted)| {
            found.name() == wanted.name() && found.data_type() == wanted.data_type()
        });
    if !same {
        return Err(defect(place, "columns", names(expected), names(found)));
    }
    if let Some((from, to)) = rows {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        builder = builder.with_offset(index(from)).with_limit(index(to.saturating_sub(from)));
    }
    let reader = builder.build().map_err(|e| bad(&e))?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|e| bad(&e))?;
    if let Some((from, to)) = rows {
        let found: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if found != to.saturating_sub(from) {
            return Err(defect(place, "rows", format!("rows {from}..{to}"), found));
        }
    }
    Ok(batches)
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// A `Corrupt` error about a table.
pub(super) fn defect(
    place: &str,
    column: &str,
    expected: impl Display,
    found: impl Display,
) -> Error {
    Error::corrupt(InputError::new(place, column, expected, found).to_string())
}
