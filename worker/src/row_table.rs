//! Tables of any columns as TSV, CSV or Parquet, written row by row.
//!
//! Leaves out: naming and renaming the file. Invariant: the columns are decided before the first row;
//! a missing value is an empty field, in Parquet a null.

use arrow_array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use glmeval_common::error::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Fields between tabs.
    Tsv,
    /// Fields between commas.
    Csv,
    /// Parquet, compressed with zstd.
    Parquet,
}

impl TableFormat {
    /// The format that the ending of a file's name asks for.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "tsv" => Some(Self::Tsv),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text.
    Text,
    /// A count, below 2^63.
    Whole,
    /// A number of 64 bits.
    Real,
    /// A number of 32 bits.
    Single,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Text.
    Text(Option<&'a str>),
    /// A count.
    Whole(u64),
    /// A number of 64 bits.
    Real(Option<f64>),
    /// A number of 32 bits.
    Single(Option<f32>),
}

/// A table while it is written.
pub struct RowTable<W: Write + Send> {
    out: Out<W>,
}

enum Out<W: Write + Send> {
    Text { out: W, separator: char },
    Parquet { writer: Box<ArrowWriter<W>>, schema: Arc<Schema> },
}

impl<W: Write + Send> RowTable<W> {
    /// Starts a table of `columns`, each with its name.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn new(mut out: W, format: TableFormat, columns: &[(&str, ColumnKind)]) -> Result<Self> {
        let out = match format {
            TableFormat::Tsv | TableFormat::Csv => {
                let separator = if format == TableFormat::Tsv { '\t' } else { ',' };
                let names = columns.iter().map(|(name, _)| quoted(name, separator));
                let line = names.collect::<Vec<_>>().join(&separator.to_string());
                writeln!(out, "{line}").map_err(unwritten)?;
                Out::Text { out, separator }
            }
            TableFormat::Parquet => {
                let fields = columns.iter().map(|&(name, kind)| match kind {
                    ColumnKind::Text => Field::new(name, DataType::Utf8, true),
                    ColumnKind::Whole => Field::new(name, DataType::Int64, false),
                    ColumnKind::Real => Field::new(name, DataType::Float64, true),
                    ColumnKind::Single => Field::new(name, DataType::Float32, true),
                });
                let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_created_by("glmeval".to_owned())
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Out::Parquet { writer: Box::new(writer.map_err(unwritten)?), schema }
            }
        };
        Ok(Self { out })
    }

    /// Adds rows, each of one cell for every column.
    ///
    /// # Errors
    /// `Invalid` for a count of 2^63 or more; `Unavailable` when writing fails.
    pub fn push(&mut self, rows: &[Vec<Cell<'_>>]) -> Result<()> {
        match &mut self.out {
            Out::Text { out, separator } => write_text(out, *separator, rows),
            Out::Parquet { writer, schema } => {
                let columns = (0..schema.fields().len()).map(|column| array(schema, column, rows));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let batch = RecordBatch::try_new(schema.clone(), columns).map_err(unwritten)?;
                writer.write(&batch).map_err(unwritten)
            }
        }
    }

    /// Ends the table and gives back what it was written to.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn finish(self) -> Result<W> {
        match self.out {
            Out::Text { out, .. } => Ok(out),
            Out::Parquet { writer, .. } => writer.into_inner().map_err(unwritten),
        }
    }
}

fn write_text(out: &mut impl Write, separator: char, rows: &[Vec<Cell<'_>>]) -> Result<()> {
    for row in rows {
        let fields = row.iter().map(|cell| match cell {
            Cell::Text(text) => quoted(text.unwrap_or_default(), separator),
            Cell::Whole(number) => number.to_string(),
            // The shortest text that reads back as the same number.
            Cell::Real(number) => number.map_or_else(String::new, |number| format!("{number:?}")),
            Cell::Single(number) => number.map_or_else(String::new, |number| format!("{number:?}")),
        });
        let line = fields.collect::<Vec<_>>().join(&separator.to_string());
        writeln!(out, "{line}").map_err(unwritten)?;
    }
    Ok(())
}

/// A field as RFC 4180 wants it.
fn quoted(text: &str, separator: char) -> String {
    if text.contains([separator, '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn array(schema: &Schema, column: usize, rows: &[Vec<Cell<'_>>]) -> Result<ArrayRef> {
    let cells = rows.iter().map(|row| row.get(column));
    Ok(match schema.field(column).data_type() {
        DataType::Utf8 => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Some(Cell::Text(text)) => *text,
            _ => None,
        }))),
        DataType::Int64 => {
            let whole = cells.map(|cell| match cell {
                Some(Cell::Whole(number)) => i64::try_from(*number).ok(),
                _ => None,
            });
            let whole: Option<Vec<i64>> = whole.collect();
            Arc::new(Int64Array::from(
                whole.ok_or_else(|| Error::invalid("expected positions below 2^63"))?,
            ))
        }
        DataType::Float32 => Arc::new(Float32Array::from_iter(cells.map(|cell| match cell {
            Some(Cell::Single(number)) => *number,
            _ => None,
        }))),
        _ => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
            Some(Cell::Real(number)) => *number,
            _ => None,
        }))),
    })
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("write a table").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_digits_that_they_need() {
        let columns = [("a", ColumnKind::Single), ("b", ColumnKind::Real)];
        let mut table = RowTable::new(Vec::new(), TableFormat::Csv, &columns).unwrap();
        table.push(&[vec![Cell::Single(Some(0.1)), Cell::Real(None)]]).unwrap();
        assert_eq!(table.finish().unwrap(), b"a,b\n0.1,\n");
    }

    #[test]
    fn formats_are_told_by_the_name() {
        assert_eq!(TableFormat::of(Path::new("a.PARQUET")), Some(TableFormat::Parquet));
        assert_eq!(TableFormat::of(Path::new("a.b.csv")), Some(TableFormat::Csv));
        assert_eq!(TableFormat::of(Path::new("a.txt")), None);
    }
}
