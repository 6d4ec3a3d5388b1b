//! One file of scores: TSV, CSV or Parquet, a row for each variant of the input in its order.
//!
//! Leaves out: naming and renaming the file. Invariant: the columns are decided before the first row;
//! a missing value is an empty field, in Parquet a null.

use super::scorer::Outcome;
use crate::row_table::{Cell, ColumnKind, RowTable, TableFormat};
use glmeval_common::error::{Error, Result};
use glmeval_common::variant::{Variant, VariantFields};
use std::io::Write;

/// A file of scores while it is written.
pub struct VariantTable<W: Write + Send> {
    table: RowTable<W>,
    fields: VariantFields,
    scores: usize,
}

impl<W: Write + Send> VariantTable<W> {
    /// Starts a file with the columns of `fields`, then `scores`, then `status`.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn new(
        out: W,
        format: TableFormat,
        fields: VariantFields,
        scores: &[&str],
    ) -> Result<Self> {
        let blank = Variant::default();
        let template = row(fields, &blank, &[], "");
        let texts = template.len() - 1;
        let mut columns: Vec<(&str, ColumnKind)> = template
            .iter()
            .map(|(name, cell)| match cell {
                Cell::Text(_) => (*name, ColumnKind::Text),
                Cell::Whole(_) => (*name, ColumnKind::Whole),
                Cell::Real(_) | Cell::Single(_) => (*name, ColumnKind::Real),
            })
            .collect();
        columns.splice(texts..texts, scores.iter().map(|name| (*name, ColumnKind::Real)));
        let table = RowTable::new(out, format, &columns)?;
        Ok(Self { table, fields, scores: scores.len() })
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
        self.table.push(&cells)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// `Unavailable` when writing fails.
    pub fn finish(self) -> Result<W> {
        self.table.finish()
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
}
