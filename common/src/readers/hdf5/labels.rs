//! A data set of short texts or numbers, one a row: a split, a fold, a gene, an id.
//!
//! Leaves out: what they mean. Invariant: one text a row, in file order; numbers have the form that
//! people write.

use super::array::{Array, Header, words};
use super::file::Hdf5File;
use crate::error::{InputError, Result};
use crate::readers::isolate::isolated;
use hdf5_pure::Dataset;
use std::collections::VecDeque;
use std::path::Path;

/// Texts read at once.
const TEXTS_PER_WINDOW: u64 = 1_024;

/// Values of a data set, read row by row.
pub(in crate::readers) struct Hdf5Labels {
    file: String,
    key: String,
    stored: Stored,
    rows: u64,
    row: u64,
}

enum Stored {
    Numbers(Box<Array>),
    Texts { dataset: Dataset, window: VecDeque<String> },
}

impl Hdf5Labels {
    /// Finds `key` in `path`, whatever its case: strings or numbers of shape (rows,) or (rows, 1).
    ///
    /// # Errors
    /// `Invalid` with the keys there are, or the shape that does not fit.
    pub(in crate::readers) fn open(path: &Path, key: &str) -> Result<Self> {
        let file = Hdf5File::open(path)?;
        let key = file.require(key)?;
        Self::of(&file, &key)
    }

    /// As [`Hdf5Labels::open`], of an open file that spells the key `key`.
    ///
    /// # Errors
    /// `Invalid` with the shape that does not fit.
    pub(super) fn of(file: &Hdf5File, key: &str) -> Result<Self> {
        let dataset = file.dataset(key, 0)?;
        let header = Header::read(file, key, &dataset)?;
        let (&[rows] | &[rows, 1]) = header.shape.as_slice() else {
            let found = format!("shape {}", words(&header.shape));
            return Err(InputError::new(&file.name, key, "shape (rows,)", found).into());
        };
        let stored = if header.is_text() {
            header.row_bytes(file, key)?;
            if header.is_variable() {
                super::letters::check_payload(file, key, &dataset)?;
            }
            Stored::Texts { dataset, window: VecDeque::new() }
        } else {
            Stored::Numbers(Box::new(Array::open(file, key)?))
        };
        Ok(Self { file: file.name.clone(), key: key.to_owned(), stored, rows, row: 0 })
    }

    /// The key as the file spells it.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Number of values.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The values of the next `rows` rows.
    ///
    /// # Errors
    /// `Invalid` for a row without a value, damaged bytes, or a data set that ends before.
    pub(in crate::readers) fn read(&mut self, rows: usize) -> Result<Vec<String>> {
        (0..rows).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Result<String> {
        let row = self.row;
        if row >= self.rows {
            let expected = "as many rows as there are sequences";
            let found = format!("{} rows", self.rows);
            return Err(InputError::new(&self.file, &self.key, expected, found).into());
        }
        let value = match &mut self.stored {
            Stored::Numbers(array) => {
                let mut values = Vec::new();
                array.read_row(&mut values)?.then(|| values.first().map(f64::to_string)).flatten()
            }
            Stored::Texts { dataset, window } => {
                if window.is_empty() {
                    let count = TEXTS_PER_WINDOW.min(self.rows - row);
                    let read =
                        isolated(&self.file, &self.key, || dataset.read_string_rows(row, count))?;
                    let place = format!("{} row {row}", self.key);
                    window.extend(read.map_err(|e| {
                        let found = format!("corrupt storage: {e}");
                        InputError::new(&self.file, place, "readable strings", found)
                    })?);
                }
                window.pop_front()
            }
        };
        self.row += 1;
        let text = value.map(|text| text.trim_matches(['\0', ' ', '\t', '\n']).to_owned());
        text.filter(|text| !text.is_empty() && text != "NaN").ok_or_else(|| {
            let place = format!("{} row {row}", self.key);
            InputError::new(&self.file, place, "a value", "none").into()
        })
    }
}
