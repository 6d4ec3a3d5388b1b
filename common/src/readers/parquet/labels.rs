//! One column of a Parquet file as texts, beside the reader of its examples.
//!
//! Leaves out: what the texts mean. Invariant: one text a row, in file order; a null is an error.

use super::column::Column;
use super::{find, rows_per_batch};
use crate::error::{Error, InputError, Result};
use crate::readers::isolate::isolated;
use crate::regular_file;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::collections::VecDeque;
use std::path::Path;

/// A column, read batch by batch.
pub(in crate::readers) struct ParquetLabels {
    file: String,
    column: String,
    batches: ParquetRecordBatchReader,
    decoded: VecDeque<String>,
    row: u64,
}

impl ParquetLabels {
    /// Finds `column` in `path`: strings, numbers or bools.
    ///
    /// # Errors
    /// `Invalid` with the columns there are, or the type that holds no such values.
    pub(in crate::readers) fn open(path: &Path, column: &str) -> Result<Self> {
        let file = path.display().to_string();
        let source = regular_file::open(path)?;
        let wrong = |e: parquet::errors::ParquetError| {
            Error::from(InputError::new(&file, "footer", "a Parquet file", e))
        };
        let opened = isolated(&file, "footer", || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(wrong)?;
            let names: Vec<String> =
                builder.schema().fields().iter().map(|field| field.name().clone()).collect();
            let index = find(&file, &names, column)?;
            let kind = builder.schema().field(index).data_type();
            let is_number = Column::check(&file, column, kind, true).is_ok();
            if !is_number {
                Column::check(&file, column, kind, false)?;
            }
            let rows = rows_per_batch(builder.metadata());
            let mask = ProjectionMask::roots(builder.parquet_schema(), [index]);
            builder.with_projection(mask).with_batch_size(rows).build().map_err(wrong)
        })?;
        let (batches, column) = (opened?, column.to_owned());
        Ok(Self { file, column, batches, decoded: VecDeque::new(), row: 0 })
    }

    /// The values of the next `rows` rows.
    ///
    /// # Errors
    /// `Invalid` for a null, damaged pages or a file that ends before.
    pub(in crate::readers) fn read(&mut self, rows: usize) -> Result<Vec<String>> {
        while self.decoded.len() < rows {
            self.fill()?;
        }
        Ok(self.decoded.drain(..rows).collect())
    }

    fn fill(&mut self) -> Result<()> {
        let place = format!("column {} row {}", self.column, self.row);
        let batches = &mut self.batches;
        let wrong = |expected: &str, found: String| {
            Err(InputError::new(&self.file, &place, expected, found).into())
        };
        let batch = match isolated(&self.file, &place, || batches.next())? {
            Some(Ok(batch)) => batch,
            Some(Err(e)) => return wrong("readable pages", format!("corrupt storage: {e}")),
            None => return wrong("as many rows as before", "fewer".to_owned()),
        };
        let null = |row: usize| {
            let place = format!("column {} row {}", self.column, self.row + row as u64);
            Error::from(InputError::new(&self.file, place, "a value", "null"))
        };
        let array = batch.column(0);
        let kind = array.data_type();
        // Texts keep whole numbers as they are; other numbers only have a number's form.
        let values: Vec<String> = if Column::check(&self.file, &self.column, kind, false).is_ok() {
            let texts = Column { array }.texts(null)?;
            texts.iter().map(|text| String::from_utf8_lossy(text).trim().to_owned()).collect()
        } else {
            Column { array }.numbers(null)?.iter().map(f64::to_string).collect()
        };
        self.row += values.len() as u64;
        self.decoded.extend(values);
        Ok(())
    }
}
