//! One file of scores: TSV, CSV or Parquet, a row for each variant of the input in its order.
//!
//! Leaves out: naming and renaming the file. Invariant: the columns are decided before the first row;
//! a missing value is an empty field, in Parquet a null.

use super::scorer::Outcome;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use glmeval_common::error::{Error, Result};
use glmeval_common::variant::{Variant, VariantFields};
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

/// A file of scores while it is written.
pub struct VariantTable<W: Write + Send> {
    out: Out<W>,
    fields: VariantFields,
    scores: usize,
}

enum Out<W: Write + Send> {
    Text { out: W, separator: char },
    Parquet { writer: Box<ArrowWriter<W>>, schema: Arc<Schema> },
}

/// One value of a row.
enum Cell<'a> {
    Text(Option<&'a str>),
    Whole(u64),
    Real(Option<f64>),
}

impl<W: Write + Send> VariantTable<W> {
    /// Starts a file with the columns of `fields`, then `scores`, then `status`.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn new(
        mut out: W,
        format: TableFormat,
        fields: VariantFields,
        scores: &[&str],
    ) -> Result<Self> {
        let blank = Variant::default();
        let template = row(fields, &blank, &[], "");
        let texts = template.len() - 1;
        let mut columns: Vec<Field> = template
            .iter()
            .map(|(name, cell)| match cell {
                Cell::Text(_) => Field::new(*name, DataType::Utf8, true),
                Cell::Whole(_) => Field::new(*name, DataType::Int64, false),
                Cell::Real(_) => Field::new(*name, DataType::Float64, true),
            })
            .collect();
        let named = scores.iter().map(|name| Field::new(*name, DataType::Float64, true));
        columns.splice(texts..texts, named);
        let out = match format {
            TableFormat::Tsv | TableFormat::Csv => {
                let separator = if format == TableFormat::Tsv { '\t' } else { ',' };
                let names = columns.iter().map(|column| quoted(column.name(), separator));
                let line = names.collect::<Vec<_>>().join(&separator.to_string());
                writeln!(out, "{line}").map_err(unwritten)?;
                Out::Text { out, separator }
            }
            TableFormat::Parquet => {
                let schema = Arc::new(Schema::new(columns));
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_created_by("glmeval".to_owned())
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Out::Parquet { writer: Box::new(writer.map_err(unwritten)?), schema }
            }
        };
        Ok(Self { out, fields, scores: scores.len() })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// `Bug` for scores that are not as many as columns; `Unavailable` when writing fails.
    pub fn push(&mut self, rows: &[(Variant, Outcome)]) -> Result<()> {
        let blank = vec![None; self.scores];
        let mut lines = Vec::with_capacity(rows.len());
        for (variant, outcome) in rows {
            let (scores, status) = match outcome {
                Outcome::Scored(scores) if scores.len() != self.scores => {
                    let (expected, found) = (self.scores, scores.len());
                    return Err(Error::bug(format!("expected {expected} scores, found {found}")));
                }
                Outcome::Scored(scores) => {
                    (scores.iter().map(|&score| Some(score)).collect(), "scored".to_owned())
                }
                Outcome::Dropped(reason) => (blank.clone(), format!("dropped: {reason}")),
            };
            lines.push((variant, scores, status));
        }
        let cells = lines.iter().map(|(variant, scores, status)| {
            row(self.fields, variant, scores, status).into_iter().map(|(_, cell)| cell).collect()
        });
        let cells: Vec<Vec<Cell<'_>>> = cells.collect();
        match &mut self.out {
            Out::Text { out, separator } => write_text(out, *separator, &cells),
            Out::Parquet { writer, schema } => {
                let columns =
                    (0..schema.fields().len()).map(|column| array(schema, column, &cells));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let batch = RecordBatch::try_new(schema.clone(), columns).map_err(unwritten)?;
                writer.write(&batch).map_err(unwritten)
            }
        }
    }

    /// Ends the file and gives back what it was written to.
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

/// The cells of a row with the names of their columns; scores stand before the status.
fn row<'a>(
    fields: VariantFields,
    variant: &'a Variant,
    scores: &[Option<f64>],
    status: &'a str,
) -> Vec<(&'static str, Cell<'a>)> {
    let mut cells = vec![
        ("chrom", Cell::Text(Some(&variant.chromosome))),
        ("pos", Cell::Whole(variant.position)),
        ("ref", Cell::Text(Some(&variant.reference))),
        ("alt", Cell::Text(Some(&variant.alternative))),
    ];
    let texts = [
        ("id", fields.id, &variant.id),
        ("element", fields.element, &variant.element),
        ("cell", fields.cell, &variant.cell),
        ("part", fields.part, &variant.part),
    ];
    let texts = texts.into_iter().filter(|(_, is_there, _)| *is_there);
    cells.extend(texts.map(|(name, _, text)| (name, Cell::Text(text.as_deref()))));
    let numbers = [
        ("confidence", fields.confidence, variant.confidence),
        ("effect", fields.effect, variant.effect),
    ];
    let numbers = numbers.into_iter().filter(|(_, is_there, _)| *is_there);
    cells.extend(numbers.map(|(name, _, number)| (name, Cell::Real(number))));
    cells.extend(scores.iter().map(|&score| ("score", Cell::Real(score))));
    cells.push(("status", Cell::Text(Some(status))));
    cells
}

fn write_text(out: &mut impl Write, separator: char, rows: &[Vec<Cell<'_>>]) -> Result<()> {
    for row in rows {
        let fields = row.iter().map(|cell| match cell {
            Cell::Text(text) => quoted(text.unwrap_or_default(), separator),
            Cell::Whole(number) => number.to_string(),
            // The shortest text that reads back as the same number.
            Cell::Real(number) => number.map_or_else(String::new, |number| format!("{number:?}")),
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
        _ => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
            Some(Cell::Real(number)) => *number,
            _ => None,
        }))),
    })
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("write the table of scores").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(Variant, Outcome)> {
        let variant = Variant {
            chromosome: "chr1".to_owned(),
            position: 7,
            reference: "A".to_owned(),
            alternative: "C".to_owned(),
            id: Some("rs1,\"x\"".to_owned()),
            ..Variant::default()
        };
        let dropped = Outcome::Dropped("no, really".to_owned());
        vec![(variant.clone(), Outcome::Scored(vec![1e-9, -0.5])), (variant, dropped)]
    }

    fn text(format: TableFormat) -> String {
        let fields = VariantFields { id: true, effect: true, ..VariantFields::default() };
        let mut table = VariantTable::new(Vec::new(), format, fields, &["a", "b"]).unwrap();
        table.push(&rows()).unwrap();
        String::from_utf8_lossy(&table.finish().unwrap()).into_owned()
    }

    #[test]
    fn text_has_a_row_for_every_variant() {
        let tsv = "chrom\tpos\tref\talt\tid\teffect\ta\tb\tstatus\n\
                   chr1\t7\tA\tC\t\"rs1,\"\"x\"\"\"\t\t1e-9\t-0.5\tscored\n\
                   chr1\t7\tA\tC\t\"rs1,\"\"x\"\"\"\t\t\t\tdropped: no, really\n";
        assert_eq!(text(TableFormat::Tsv), tsv);
        let csv = text(TableFormat::Csv);
        assert!(csv.ends_with(",,,\"dropped: no, really\"\n"), "{csv}");
        assert!(text(TableFormat::Parquet).starts_with("PAR1"));
    }

    #[test]
    fn formats_are_told_by_the_name() {
        assert_eq!(TableFormat::of(Path::new("a.PARQUET")), Some(TableFormat::Parquet));
        assert_eq!(TableFormat::of(Path::new("a.b.csv")), Some(TableFormat::Csv));
        assert_eq!(TableFormat::of(Path::new("a.txt")), None);
    }
}
