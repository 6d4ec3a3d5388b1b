//! Parquet with named columns, as examples.
//!
//! Leaves out: nested columns and other columns than the named ones, which are not read.
//! Invariant: rows come in file order, a null is an error but for a target that may be missing, and
//! memory is bounded by a batch.

mod column;
pub(in crate::readers) mod labels;
#[cfg(test)]
mod tests;

use crate::dataset::{TableColumns, TaskName};
use crate::dna::DnaSequence;
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::ExampleReader;
use crate::readers::isolate::isolated;
use crate::readers::text::unique::RepeatedIds;
use crate::regular_file;
use arrow_array::RecordBatch;
use column::Column;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use std::collections::VecDeque;
use std::fmt::Display;
use std::path::Path;

/// Rows decoded at once at most.
const ROWS_PER_BATCH_MAX: u64 = 1_024;
/// Bytes of one batch aimed at, by the average row of the file.
const BATCH_BYTES: u64 = 16 << 20;
/// Columns an error message lists at most.
const COLUMNS_LISTED_MAX: usize = 30;

/// Examples of a Parquet file in file order.
pub struct ParquetReader {
    file: String,
    schema: ExampleSchema,
    columns: TableColumns,
    task: TaskName,
    batches: ParquetRecordBatchReader,
    decoded: VecDeque<Example>,
    ids: RepeatedIds,
    /// Row of the file that the next batch starts at.
    row: u64,
}

/// Refuses columns of `names` that are compressed in a way that is not read here.
fn check_codecs(file: &str, metadata: &ParquetMetaData, names: &[&str]) -> Result<()> {
    let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    for chunk in chunks {
        let name = chunk.column_path().parts().first().map_or("", String::as_str);
        let is_read = matches!(
            chunk.compression(),
            Compression::UNCOMPRESSED
                | Compression::SNAPPY
                | Compression::GZIP(_)
                | Compression::ZSTD(_)
        );
        if names.contains(&name) && !is_read {
            let expected = "a column compressed with zstd, snappy, gzip or not at all";
            let found = chunk.compression().to_string();
            return Err(InputError::new(file, format!("column {name}"), expected, found).into());
        }
    }
    Ok(())
}

impl ParquetReader {
    /// Opens `path` and checks that the named columns are there, once, and have fitting types.
    ///
    /// `task` decides which targets are good: 0 and 1 for binary tasks, finite numbers for the
    /// others; only splicing may have NaN, a target that was not measured, and the user's own targets
    /// where `columns` says so.
    ///
    /// # Errors
    /// `NotFound` without the file, `Invalid` with file, column, expected and found.
    pub fn open(path: &Path, columns: &TableColumns, task: TaskName) -> Result<Self> {
        let file = path.display().to_string();
        if let Some((column, expected, found)) = columns.confused_target() {
            return Err(InputError::new(file, format!("column {column}"), expected, found).into());
        }
        let source = regular_file::open(path)?;
        let opened = isolated(&file, "footer", || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(source)
                .map_err(|e| InputError::new(&file, "footer", "a Parquet file", e))?;
            let names: Vec<String> =
                builder.schema().fields().iter().map(|field| field.name().clone()).collect();
            let mut wanted = Vec::new();
            for name in used(columns) {
                let index = find(&file, &names, name)?;
                let kind = builder.schema().field(index).data_type();
                Column::check(&file, name, kind, columns.targets.iter().any(|t| t == name))?;
                wanted.push(index);
            }
            check_codecs(&file, builder.metadata(), &used(columns).collect::<Vec<_>>())?;
            let rows = rows_per_batch(builder.metadata());
            let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
            let built = builder.with_projection(mask).with_batch_size(rows).build();
            built.map_err(|e| Error::from(InputError::new(&file, "footer", "a Parquet file", e)))
        })?;
        let batches = opened?;
        let schema = ExampleSchema {
            sequences: vec!["sequence".to_owned()],
            targets: columns.targets.clone(),
            has_intervals: false,
            has_splits: columns.split.is_some(),
        };
        let (columns, decoded, ids) = (columns.clone(), VecDeque::new(), RepeatedIds::default());
        Ok(Self { file, schema, columns, task, batches, decoded, ids, row: 0 })
    }

    /// Whether a null or NaN is a target that was not measured.
    fn may_miss(&self) -> bool {
        self.columns.missing && self.task.may_lack_targets()
    }

    /// Decodes the next batch; false once the file has ended.
    fn fill(&mut self) -> Result<bool> {
        let place = format!("row {}", self.row);
        let batches = &mut self.batches;
        let batch = match isolated(&self.file, &place, || batches.next())? {
            None => return Ok(false),
            Some(Ok(batch)) => batch,
            Some(Err(e)) => {
                let found = format!("corrupt storage: {e}");
                return Err(InputError::new(&self.file, place, "readable pages", found).into());
            }
        };
        let decoder = Decoder { reader: self, batch: &batch };
        let examples = decoder.examples()?;
        if self.columns.id.is_some() {
            for (example, row) in examples.iter().zip(self.row..) {
                self.ids.look(&example.id, row);
            }
        }
        self.row += batch.num_rows() as u64;
        self.decoded.extend(examples);
        Ok(true)
    }
}

impl ExampleReader for ParquetReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn notes(&self) -> Vec<String> {
        self.ids.notes(&self.file, "rows")
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        while examples.len() < rows {
            match self.decoded.pop_front() {
                Some(example) => examples.push(example),
                None if self.fill()? => {}
                None => break,
            }
        }
        Ok(examples)
    }
}

/// One batch and what its columns mean.
struct Decoder<'a> {
    reader: &'a ParquetReader,
    batch: &'a RecordBatch,
}

impl Decoder<'_> {
    fn examples(&self) -> Result<Vec<Example>> {
        let columns = &self.reader.columns;
        let sequences = self.texts(&columns.sequence)?;
        let ids = columns.id.as_deref().map(|name| self.texts(name)).transpose()?;
        let splits = columns.split.as_deref().map(|name| self.texts(name)).transpose()?;
        let targets =
            columns.targets.iter().map(|name| self.numbers(name)).collect::<Result<Vec<_>>>()?;
        let mut examples = Vec::with_capacity(sequences.len());
        for (row, sequence) in sequences.into_iter().enumerate() {
            let id = match ids.as_ref().and_then(|ids| ids.get(row)) {
                Some(id) => String::from_utf8_lossy(id).into_owned(),
                None => format!("row{}", self.reader.row + row as u64),
            };
            let split = match splits.as_ref().and_then(|splits| splits.get(row)) {
                Some(split) => Some(self.split(row, split)?),
                None => None,
            };
            let mut values = Vec::with_capacity(targets.len());
            for (name, column) in columns.targets.iter().zip(&targets) {
                let value = column.get(row).copied().unwrap_or(f64::NAN);
                values.push(self.target(name, row, value)?);
            }
            let sequences = vec![self.sequence(row, sequence)?];
            examples.push(Example { id, sequences, interval: None, split, targets: values });
        }
        Ok(examples)
    }

    fn column(&self, name: &str) -> Result<Column<'_>> {
        match self.batch.column_by_name(name) {
            Some(array) => Ok(Column { array }),
            None => Err(InputError::new(&self.reader.file, name, "a column", "none").into()),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<std::borrow::Cow<'_, [u8]>>> {
        self.column(name)?.texts(|row| self.null(name, row))
    }

    /// Targets; a null is NaN where a target may be missing.
    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        let column = self.column(name)?;
        if self.reader.may_miss() {
            return Ok(column.numbers_or_missing());
        }
        column.numbers(|row| self.null(name, row))
    }

    fn sequence(&self, row: usize, letters: std::borrow::Cow<'_, [u8]>) -> Result<DnaSequence> {
        let name = &self.reader.columns.sequence;
        if letters.is_empty() || letters.len() > SEQUENCE_NT_MAX {
            let expected = format!("1 to {SEQUENCE_NT_MAX} nucleotides");
            return Err(self.defect(name, row, expected, letters.len()));
        }
        DnaSequence::new(letters)
            .map_err(|letter| self.defect(name, row, "letters of nucleotides", letter))
    }

    fn split(&self, row: usize, text: &[u8]) -> Result<Split> {
        let name = self.reader.columns.split.as_deref().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        Split::parse(&text)
            .ok_or_else(|| self.defect(name, row, "train, valid or test", format!("{text:?}")))
    }

    fn target(&self, name: &str, row: usize, value: f64) -> Result<f32> {
        let narrow = value as f32;
        let task = self.reader.task;
        if value.is_nan() && self.reader.may_miss() {
            return Ok(f32::NAN);
        }
        if task.is_binary() {
            let is_good = value == 0.0 || value == 1.0;
            return if is_good { Ok(narrow) } else { Err(self.defect(name, row, "0 or 1", value)) };
        }
        if narrow.is_finite() || (value.is_nan() && task == TaskName::Splicing) {
            return Ok(narrow);
        }
        let expected = "a finite number (missing = true lets a target be missing)";
        Err(self.defect(
            name,
            row,
            if value.is_nan() { expected } else { "a finite number" },
            value,
        ))
    }

    fn null(&self, name: &str, row: usize) -> Error {
        self.defect(name, row, "a value", "null")
    }

    fn defect(&self, name: &str, row: usize, expected: impl Display, found: impl Display) -> Error {
        let place = format!("column {name} row {}", self.reader.row + row as u64);
        InputError::new(&self.reader.file, place, expected, found).into()
    }
}

/// Names of the columns that are read.
fn used(columns: &TableColumns) -> impl Iterator<Item = &str> {
    std::iter::once(columns.sequence.as_str())
        .chain(columns.id.as_deref())
        .chain(columns.split.as_deref())
        .chain(columns.targets.iter().map(String::as_str))
}

fn find(file: &str, names: &[String], wanted: &str) -> Result<usize> {
    let mut places = names.iter().enumerate().filter(|(_, name)| *name == wanted);
    match (places.next(), places.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => {
            let place = format!("column {wanted}");
            Err(InputError::new(file, place, "one column of that name", "two or more").into())
        }
        (None, _) => {
            let place = format!("column {wanted}");
            let listed: Vec<&str> =
                names.iter().take(COLUMNS_LISTED_MAX).map(String::as_str).collect();
            let more = names.len().saturating_sub(listed.len());
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let found = format!("columns {}{more}", listed.join(", "));
            Err(InputError::new(file, place, format!("a column {wanted}"), found).into())
        }
    }
}

fn rows_per_batch(metadata: &ParquetMetaData) -> usize {
    let mut bytes: u64 = 0;
    for group in metadata.row_groups() {
        bytes = bytes.saturating_add(u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX));
    }
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0).max(1);
    let rows = (BATCH_BYTES / (bytes / rows).max(1)).clamp(1, ROWS_PER_BATCH_MAX);
    usize::try_from(rows).expect("a batch has few rows")
}
