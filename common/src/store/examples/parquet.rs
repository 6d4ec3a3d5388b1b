//! Parquet form of examples.
//!
//! Columns in order: `id`; one text column per sequence; `chromosome`, `start`, `end`, `strand` with intervals;
//! `split` with splits; one Float32 column per target (NaN = not measured), whose name gets the prefix
//! `target.` where another column has it already.

use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fmt::Display;
use std::sync::Arc;

/// Rows that a reader can skip at once.
const ROWS_PER_GROUP: usize = 4_096;

const INTERVAL_COLUMNS: [(&str, DataType); 4] = [
    ("chromosome", DataType::Utf8),
    ("start", DataType::UInt64),
    ("end", DataType::UInt64),
    ("strand", DataType::Utf8),
];

fn columns(schema: &ExampleSchema) -> Schema {
    let mut fields = vec![Field::new("id", DataType::Utf8, false)];
    fields.extend(schema.sequences.iter().map(|name| Field::new(name, DataType::Utf8, false)));
    if schema.has_intervals {
        fields.extend(INTERVAL_COLUMNS.map(|(name, kind)| Field::new(name, kind, true)));
    }
    if schema.has_splits {
        fields.push(Field::new("split", DataType::Utf8, false));
    }
    for target in &schema.targets {
        let taken = fields.iter().any(|field| field.name() == target);
        let name = if taken { format!("target.{target}") } else { target.clone() };
        fields.push(Field::new(name, DataType::Float32, false));
    }
    Schema::new(fields)
}

/// Parquet bytes of `examples`, zstd.
pub(super) fn encode(schema: &ExampleSchema, examples: &[Example]) -> Result<Bytes> {
    let bug = |e: &dyn Display| Error::bug(format!("encode examples as Parquet: {e}"));
    let columns = Arc::new(columns(schema));
    let batch =
        RecordBatch::try_new(columns.clone(), arrays(schema, examples)).map_err(|e| bug(&e))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_created_by("glmeval".to_owned())
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, columns, Some(properties)).map_err(|e| bug(&e))?;
    writer.write(&batch).map_err(|e| bug(&e))?;
    writer.close().map_err(|e| bug(&e))?;
    Ok(bytes.into())
}

fn arrays(schema: &ExampleSchema, examples: &[Example]) -> Vec<ArrayRef> {
    fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }
    let mut arrays = vec![texts(examples.iter().map(|example| Some(example.id.as_str())))];
    for index in 0..schema.sequences.len() {
        let sequence = |example| sequence_text(example, index);
        arrays.push(texts(examples.iter().map(sequence)));
    }
    if schema.has_intervals {
        let places = || examples.iter().map(|example| example.interval.as_ref());
        let number = |of: fn(&Interval) -> u64| -> ArrayRef {
            Arc::new(places().map(|place| place.map(of)).collect::<UInt64Array>())
        };
        arrays.push(texts(places().map(|place| place.map(|place| place.chromosome.as_str()))));
        arrays.push(number(|place| place.start));
        arrays.push(number(|place| place.end));
        arrays.push(texts(places().map(|place| place.map(|place| place.strand.symbol()))));
    }
    if schema.has_splits {
        arrays.push(texts(examples.iter().map(|example| example.split.map(Split::name))));
    }
    for index in 0..schema.targets.len() {
        let values = examples.iter().map(|e| e.targets.get(index).copied().unwrap_or(f32::NAN));
        arrays.push(Arc::new(Float32Array::from_iter_values(values)));
    }
    arrays
}

fn sequence_text(example: &Example, index: usize) -> Option<&str> {
    example.sequences.get(index).map(DnaSequence::as_str)
}

/// Rows `from..to` of a part; `place` names it in errors.
pub(super) fn decode(
    schema: &ExampleSchema,
    bytes: Bytes,
    (from, to): (u64, u64),
    place: &str,
) -> Result<Vec<Example>> {
    let bad = |e: &dyn Display| defect(place, "", "a Parquet part of examples", e);
    let (offset, count) = (index(from), index(to.saturating_sub(from)));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| bad(&e))?;
    let (found, expected) = (builder.schema().fields().clone(), columns(schema));
    let same = found.len() == expected.fields().len()
        && found.iter().zip(expected.fields()).all(|(found, wanted)| {
            found.name() == wanted.name() && found.data_type() == wanted.data_type()
        });
    if !same {
        let names = |fields: &arrow_schema::Fields| {
            fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        return Err(defect(place, "columns", names(expected.fields()), names(&found)));
    }
    let reader = builder
        .with_offset(offset)
        .with_limit(count)
        .with_batch_size(count.clamp(1, ROWS_PER_GROUP))
        .build()
        .map_err(|e| bad(&e))?;
    let mut examples = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| bad(&e))?;
        for row in 0..batch.num_rows() {
            examples.push(example(schema, &batch, row, place)?);
        }
    }
    if examples.len() != count {
        return Err(defect(place, "rows", format!("rows {from}..{to}"), examples.len()));
    }
    Ok(examples)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn example(
    schema: &ExampleSchema,
    batch: &RecordBatch,
    row: usize,
    place: &str,
) -> Result<Example> {
    let mut columns = batch.columns().iter();
    let mut next = || columns.next().filter(|array| array.is_valid(row));
    let absent = || defect(place, &format!("row {row}"), "a value in every column", "none");
    let text = |array: Option<&ArrayRef>| {
        array.map(|array| array.as_string::<i32>().value(row).to_owned())
    };
    let number =
        |array: Option<&ArrayRef>| array.map(|array| array.as_primitive::<UInt64Type>().value(row));
    let id = text(next()).ok_or_else(absent)?;
    let mut sequences = Vec::with_capacity(schema.sequences.len());
    for _ in &schema.sequences {
        let letters = text(next()).ok_or_else(absent)?;
        let sequence = DnaSequence::new(letters)
            .map_err(|letter| defect(place, &format!("row {row}"), "nucleotides", letter))?;
        sequences.push(sequence);
    }
    let mut interval = None;
    if schema.has_intervals {
        let parts = (text(next()), number(next()), number(next()), text(next()));
        if let (Some(chromosome), Some(start), Some(end), Some(strand)) = parts {
            let strand = if strand == "-" { Strand::Reverse } else { Strand::Forward };
            interval = Some(Interval { chromosome, start, end, strand });
        }
    }
    let mut split = None;
    if schema.has_splits {
        split = text(next()).and_then(|name| Split::parse(&name));
        split.ok_or_else(absent)?;
    }
    let mut targets = Vec::with_capacity(schema.targets.len());
    for _ in &schema.targets {
        let array = next().ok_or_else(absent)?;
        targets.push(array.as_primitive::<Float32Type>().value(row));
    }
    Ok(Example { id, sequences, interval, split, targets })
}

fn defect(place: &str, column: &str, expected: impl Display, found: impl Display) -> Error {
    Error::corrupt(InputError::new(place, column, expected, found).to_string())
}
