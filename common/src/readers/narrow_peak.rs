//! ENCODE narrowPeak: one window around a summit is one example.
//!
//! Leaves out: signal, p and q values. Invariant: a summit lies inside its peak; a summit of -1
//! means the peak's middle, rounded down.
//!
//! Source: UCSC format page, "ENCODE narrowPeak: BED6+4".

use crate::error::Result;
use crate::example::{Example, ExampleSchema};
use crate::readers::ExampleReader;
use crate::readers::bed::regions::{Columns, Region, RegionReader};
use crate::readers::genome::Genome;
use std::path::Path;
use std::sync::Arc;

const SUMMIT_COLUMN: usize = 9;

/// Reads a narrowPeak file and cuts windows around its summits from a genome, strand applied.
///
/// Ids are as in [`BedReader`](crate::readers::bed::BedReader), but may come again, since published
/// peaks have the name of the experiment or one interval for several summits; a note tells of it.
pub struct NarrowPeakReader(RegionReader);

impl NarrowPeakReader {
    /// Opens `path` and `genome`. `window` in nucleotides is centred on the summit: it starts
    /// `window / 2` (rounded down) before it; `None` = the peak itself.
    ///
    /// # Errors
    /// As [`Genome::open`]; `Invalid` for a window of 0 or beyond the longest sequence.
    pub fn open(path: &Path, genome: &Path, window: Option<u64>) -> Result<Self> {
        Self::new(path, Arc::new(Genome::open(genome)?), window)
    }

    /// Opens `path` for an open genome; the rest as in [`NarrowPeakReader::open`].
    ///
    /// # Errors
    /// When `path` cannot be opened; `Invalid` for a window out of range.
    pub fn new(path: &Path, genome: Arc<Genome>, window: Option<u64>) -> Result<Self> {
        Ok(Self(RegionReader::open(path, genome, window, parse)?))
    }
}

impl ExampleReader for NarrowPeakReader {
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
    columns.expect_count(10..=10, "10")?;
    let mut region = columns.region()?;
    let summit = columns.get(SUMMIT_COLUMN);
    if summit != "-1" {
        let offset =
            columns.number(SUMMIT_COLUMN, "the summit offset, an integer of at least -1")?;
        let length = region.end - region.start;
        if offset >= length {
            let expected = format!("a summit offset below {length}, the length of the peak");
            return Err(columns.defect(expected, offset));
        }
        region.centre = region.start + offset;
    }
    Ok(region)
}
