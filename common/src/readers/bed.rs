//! BED of 3 to 12 columns: one interval cut from a genome is one example.
//!
//! Leaves out: scores, colours and blocks (the whole interval is cut). Invariant: an interval that
//! does not lie inside its chromosome is refused, never clipped or padded.

use crate::error::Result;
use crate::example::{Example, ExampleSchema};
use crate::readers::ExampleReader;
use crate::readers::genome::Genome;
use regions::{Columns, Region, RegionReader};
use std::path::Path;
use std::sync::Arc;

pub(super) mod regions;

/// Reads a BED file and cuts its intervals from a genome, strand applied.
///
/// Ids are the name column, or where it is `.` or absent `chromosome:start-end` of what was cut, with
/// `(+)` or `(-)` behind it where the line has a strand. Names that come again are noted.
pub struct BedReader(RegionReader);

impl BedReader {
    /// Opens `path` and `genome`. `window` in nucleotides is centred on each interval's middle
    /// (rounded down); `None` = the interval itself.
    ///
    /// # Errors
    /// As [`Genome::open`]; `Invalid` for a window of 0 or beyond the longest sequence.
    pub fn open(path: &Path, genome: &Path, window: Option<u64>) -> Result<Self> {
        Self::new(path, Arc::new(Genome::open(genome)?), window)
    }

    /// Opens `path` for an open genome; the rest as in [`BedReader::open`].
    ///
    /// # Errors
    /// When `path` cannot be opened; `Invalid` for a window out of range.
    pub fn new(path: &Path, genome: Arc<Genome>, window: Option<u64>) -> Result<Self> {
        Ok(Self(RegionReader::open(path, genome, window, parse)?))
    }
}

impl ExampleReader for BedReader {
    fn schema(&self) -> &ExampleSchema {
        self.0.schema()
    }

    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        self.0.read(rows)
    }
}

/// The region of a line.
pub(super) fn parse(columns: &Columns<'_>) -> Result<Region> {
    columns.expect_count(3..=12, "3 to 12")?;
    columns.region()
}

#[cfg(test)]
mod tests;
