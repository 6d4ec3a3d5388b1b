//! A data set of sequences, one-hot or text.
//!
//! Leaves out: targets. Invariant: texts of one data set need not have one length unless one is asked for; one-hots
//! do.

use super::array::Header;
use super::file::Hdf5File;
use super::onehot::OneHot;
use crate::dna::DnaSequence;
use crate::error::{InputError, Result};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::isolate::isolated;
use hdf5_pure::Dataset;
use std::vec;

/// Texts read at once.
const TEXTS_PER_WINDOW: u64 = 256;

/// A data set of sequences.
pub(super) enum Letters {
    /// Numbers, (N, L, 4) and its relatives.
    OneHot(Box<OneHot>),
    /// Fixed or variable-length strings, (N,) or (N, 1).
    Texts(Box<Texts>),
}

/// Strings, one a row.
pub(super) struct Texts {
    file: String,
    key: String,
    rows: u64,
    /// Nucleotides that every text must have, if that is asked for.
    length: Option<u64>,
    dataset: Dataset,
    rows_per_window: u64,
    next_row: u64,
    window: vec::IntoIter<String>,
}

impl Letters {
    /// Opens the data set that the file spells `key`.
    ///
    /// # Errors
    /// `Invalid` for a shape or type that cannot be sequences.
    pub(super) fn open(file: &Hdf5File, key: &str) -> Result<Self> {
        let dataset = file.dataset(key, 0)?;
        let header = Header::read(file, key, &dataset)?;
        if header.is_text() {
            let texts = Texts::open(file, key, dataset, &header)?;
            Ok(Self::Texts(Box::new(texts)))
        } else {
            OneHot::open(file, key).map(|onehot| Self::OneHot(Box::new(onehot)))
        }
    }

    /// The key as the file spells it.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::OneHot(onehot) => onehot.array.key(),
            Self::Texts(texts) => &texts.key,
        }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::OneHot(onehot) => onehot.array.rows(),
            Self::Texts(texts) => texts.rows,
        }
    }

    /// Length of every sequence in nucleotides, where the shape says so.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::OneHot(onehot) => u64::try_from(onehot.length).ok(),
            Self::Texts(_) => None,
        }
    }

    /// Insists on so many nucleotides of each text; the shape tells those of one-hots.
    pub(super) fn insist(&mut self, length: Option<u64>) {
        if let Self::Texts(texts) = self {
            texts.length = length;
        }
    }

    /// The next sequence, which is row `row`; `None` once all were read.
    ///
    /// # Errors
    /// `Invalid` with the row that is no sequence.
    pub(super) fn next(&mut self, row: u64) -> Result<Option<DnaSequence>> {
        match self {
            Self::OneHot(onehot) => onehot.next(row),
            Self::Texts(texts) => texts.next(),
        }
    }
}

impl Texts {
    fn open(file: &Hdf5File, key: &str, dataset: Dataset, header: &Header) -> Result<Self> {
        let row_bytes = header.row_bytes(file, key)?;
        let (&[rows] | &[rows, 1]) = header.shape.as_slice() else {
            let found = super::array::words(&header.shape);
            let expected = "strings of shape (rows,) or one-hots of rank 3";
            return Err(InputError::new(&file.name, key, expected, found).into());
        };
        if header.is_variable() {
            check_payload(file, key, &dataset)?;
        }
        let rows_per_window = header.window(row_bytes).0.min(TEXTS_PER_WINDOW);
        let window = Vec::new().into_iter();
        let (key, file) = (key.to_owned(), file.name.clone());
        let (length, next_row) = (None, 0);
        Ok(Self { file, key, rows, length, dataset, rows_per_window, next_row, window })
    }

    fn next(&mut self) -> Result<Option<DnaSequence>> {
        if self.next_row >= self.rows {
            return Ok(None);
        }
        let row = self.next_row;
        if self.window.len() == 0 {
            let rows = self.rows_per_window;
            let read =
                isolated(&self.file, &self.key, || self.dataset.read_string_rows(row, rows))?;
            let texts = read.map_err(|e| {
                self.defect(row, "readable strings", format!("corrupt storage: {e}"))
            })?;
            self.window = texts.into_iter();
        }
        let Some(text) = self.window.next() else {
            return Err(self.defect(row, "a string", "corrupt storage: nothing"));
        };
        self.next_row += 1;
        if text.is_empty() || text.len() > SEQUENCE_NT_MAX {
            let expected = format!("1 to {SEQUENCE_NT_MAX} nucleotides");
            return Err(self.defect(row, expected, text.len()));
        }
        if let Some(length) = self.length.filter(|length| *length != text.len() as u64) {
            let expected = format!("a sequence of length {length}");
            return Err(self.defect(row, expected, format!("length {}", text.len())));
        }
        DnaSequence::new(text)
            .map(Some)
            .map_err(|letter| self.defect(row, "letters of a nucleotide", letter))
    }

    fn defect(
        &self,
        row: u64,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> crate::error::Error {
        InputError::new(&self.file, format!("{} row {row}", self.key), expected, found).into()
    }
}

/// Refuses texts that share storage: a small file could repeat one long text for ever.
pub(super) fn check_payload(file: &Hdf5File, key: &str, dataset: &Dataset) -> Result<()> {
    let payload = isolated(&file.name, key, || dataset.vlen_string_payload_size())?;
    let defect = |found: String| {
        let expected = format!("strings within the {} bytes of the file, the maximum", file.bytes);
        InputError::new(&file.name, key, expected, found)
    };
    match payload {
        Ok(bytes) if bytes <= file.bytes => Ok(()),
        Ok(bytes) => Err(defect(format!("{bytes} bytes")).into()),
        Err(e) => Err(defect(format!("corrupt storage: {e}")).into()),
    }
}
