//! Parquet form of examples.
//!
//! Columns in order: `id`; one text column per sequence; `chromosome`, `start`, `end`, `strand` with intervals;
//! `split` with splits; one Float32 column per target (NaN = not measured), whose name gets the prefix
//! `target.` where another column has it already.

use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::Result;
use crate::example::{Example, ExampleSchema, Split};
use crate::store::table::{self, defect};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use std::sync::Arc;

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

/// Parquet bytes of `examples`.
pub(super) fn encode(schema: &ExampleSchema, examples: &[Example]) -> Result<Bytes> {
    table::encode(columns(schema), arrays(schema, examples))
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
    rows: (u64, u64),
    place: &str,
) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for batch in table::decode(&columns(schema), bytes, Some(rows), place)? {
        for row in 0..batch.num_rows() {
            examples.push(example(schema, &batch, row, place)?);
        }
    }
    Ok(examples)
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
