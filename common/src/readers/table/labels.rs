//! One column of a table as texts, beside the reader of its examples.
//!
//! Leaves out: what the texts mean. Invariant: one text a row, in file order, none of them empty.

use super::{find, record::RecordReader};
use crate::dataset::TableColumns;
use crate::error::{InputError, Result};
use std::path::Path;

/// A column, read row by row.
pub(in crate::readers) struct TableLabels {
    records: RecordReader,
    index: usize,
    column: String,
    /// Lines of the rows read last.
    lines: Vec<u64>,
}

impl TableLabels {
    /// Finds `column` in the header of `path`.
    ///
    /// # Errors
    /// `Invalid` with the columns there are.
    pub(in crate::readers) fn open(path: &Path, column: &str) -> Result<Self> {
        let mut records = RecordReader::open(path)?;
        let wanted = TableColumns { sequence: column.to_owned(), ..TableColumns::default() };
        let found = records.read_header().and_then(|header| find(&records, &header, &wanted));
        let found = found.map_err(|error| records.explain(error))?;
        let index = found.first().map_or(0, |column| column.index);
        Ok(Self { records, index, column: column.to_owned(), lines: Vec::new() })
    }

    /// The values of the next `rows` rows.
    ///
    /// # Errors
    /// `Invalid` for a row without a value, or a file that ends before.
    pub(in crate::readers) fn read(&mut self, rows: usize) -> Result<Vec<String>> {
        let mut values = Vec::with_capacity(rows);
        self.lines.clear();
        for _ in 0..rows {
            let is_row = self.records.next_record().map_err(|error| self.records.explain(error))?;
            if !is_row {
                let file = self.records.path().display();
                return Err(InputError::new(file, "", "as many rows as before", "fewer").into());
            }
            let value = self.records.field(self.index).trim();
            if value.is_empty() {
                let place = format_args!("column {}", self.column);
                return Err(self.records.defect(place, "a value", "an empty field"));
            }
            values.push(value.to_owned());
            self.lines.push(self.records.line_number());
        }
        Ok(values)
    }

    /// Line of row `index` of those that were read last.
    pub(in crate::readers) fn line(&self, index: usize) -> Option<u64> {
        self.lines.get(index).copied()
    }
}
