//! The archive's CAGI5 windows: `ref` and `alt` one-hot in HDF5, one line each in a CSV beside it.
//!
//! Leaves out: the genome, which the windows were cut from. Invariant: a row of one file is the same
//! row of the other; where they disagree on an allele or a length, the row is an error.

use super::VariantReader;
use super::checks::{self, Field};
use crate::dataset::{Hdf5Layout, TaskName};
use crate::dna::DnaSequence;
use crate::error::{Error, InputError, Result};
use crate::readers::ExampleReader;
use crate::readers::hdf5::Hdf5Reader;
use crate::readers::table::record::RecordReader;
use crate::variant::{Indels, Variant, VariantFields};
use std::path::{Path, PathBuf};

/// Names of the CSV, the one of a window length first, then the one of a cell line.
const TABLES: [&str; 2] = ["final_cagi_metadata.csv", "metadata.csv"];
/// Columns of the CSV: pandas numbered them.
const COLUMNS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Reads windows with the variant in the middle, at L/2 - 1 of L.
pub struct ArchiveVariants {
    windows: Hdf5Reader,
    path: PathBuf,
    records: RecordReader,
    /// Place of each of [`COLUMNS`] in the CSV.
    places: Vec<usize>,
    row: u64,
}

/// The table that stands beside the windows of `path`, if there is one.
pub fn archive_table(path: &Path) -> Option<PathBuf> {
    TABLES.iter().map(|name| path.with_file_name(name)).find(|path| path.exists())
}

impl ArchiveVariants {
    /// Opens the HDF5 file `path` and the CSV in its folder.
    ///
    /// # Errors
    /// `NotFound` for either; `Invalid` for a CSV without the columns `0` to `9`.
    pub fn open(path: &Path) -> Result<Self> {
        let windows = Hdf5Reader::open(path, &Hdf5Layout::RefAlt, TaskName::VariantEffect, None)?;
        let table = archive_table(path).ok_or_else(|| {
            let expected = format!("{} in the same folder", TABLES.join(" or "));
            Error::from(InputError::new(path.display(), "", expected, "neither of them"))
        })?;
        let mut records = RecordReader::open(&table)?;
        let header = records.read_header()?;
        let places = COLUMNS.iter().map(|name| header.iter().position(|known| known == name));
        let Some(places) = places.collect::<Option<Vec<_>>>() else {
            let found = format!("columns {}", header.join(", "));
            let expected = "columns 0 to 9";
            return Err(InputError::new(table.display(), "header", expected, found).into());
        };
        Ok(Self { windows, path: path.to_owned(), records, places, row: 0 })
    }

    fn field(&self, column: usize) -> Field<'_> {
        let place = self.places.get(column).copied().unwrap_or(usize::MAX);
        let column = COLUMNS.get(column).copied().unwrap_or_default();
        Field { column, text: self.records.field(place) }
    }

    fn parse(&self, windows: [DnaSequence; 2]) -> Result<Variant> {
        let defect = |column: &str, expected: &str, found: String| {
            self.records.defect(format_args!("column {column}"), expected, found)
        };
        let [start, end] = [1, 2].map(|column| {
            let field = self.field(column);
            let number = field.text.parse::<u64>().ok();
            number.ok_or_else(|| defect(field.column, "an integer", field.text.to_owned()))
        });
        let (start, end) = (start?, end?);
        let [reference, alternative] = [3, 4].map(|column| self.field(column));
        let (from, to) = checks::alleles(reference, alternative, Indels::Refuse, &defect)?;
        let length = windows[0].len();
        if end.checked_sub(start) != Some(length as u64) {
            let expected = format!("a window of {length} nucleotides, as the HDF5 file holds");
            return Err(defect("2", &expected, format!("{start} to {end}")));
        }
        let middle = (length / 2).saturating_sub(1);
        for ((window, allele), column) in windows.iter().zip([&from, &to]).zip(["3", "4"]) {
            let letter = window.as_str().get(middle..=middle).unwrap_or_default();
            if letter != allele {
                let expected = format!("{letter}, which the window has at {middle}");
                return Err(defect(column, &expected, allele.clone()));
            }
        }
        let text =
            |column| Some(self.field(column).text.to_owned()).filter(|text| !text.is_empty());
        Ok(Variant {
            chromosome: checks::chromosome(self.field(0), &defect)?,
            position: start.saturating_add(length as u64 / 2),
            reference: from,
            alternative: to,
            id: None,
            element: text(8),
            cell: None,
            part: text(9),
            confidence: Some(checks::number(self.field(7), &defect)?),
            effect: Some(checks::number(self.field(6), &defect)?),
            line: self.row,
            stored: Some(Box::new(windows)),
        })
    }
}

impl VariantReader for ArchiveVariants {
    fn fields(&self) -> VariantFields {
        let (element, part, confidence, effect) = (true, true, true, true);
        VariantFields { element, part, confidence, effect, ..VariantFields::default() }
    }

    fn next_variant(&mut self) -> Result<Option<Variant>> {
        let windows = self.windows.read(1)?.pop().map(|example| example.sequences);
        let has_line = self.records.next_record()?;
        let windows = match (windows, has_line) {
            (None, false) => return Ok(None),
            (Some(windows), true) => <[DnaSequence; 2]>::try_from(windows)
                .map_err(|_| Error::bug("a pair of windows is not two sequences"))?,
            (windows, _) => {
                let row = self.row;
                let (longer, shorter) = match windows {
                    Some(_) => (self.path.as_path(), self.records.path()),
                    None => (self.records.path(), self.path.as_path()),
                };
                let expected = format!("as many rows as {}", longer.display());
                let found = format!("{row} rows");
                return Err(InputError::new(shorter.display(), "", expected, found).into());
            }
        };
        let variant = self.parse(windows)?;
        self.row += 1;
        Ok(Some(variant))
    }
}
