//! Peaks, open chromatin and excluded regions as sorted sets, and the windows centred on them.
//!
//! Leaves out: drawing (`negatives`). Invariant: regions lie inside their chromosomes; a set holds no
//! two regions that touch.

use crate::dna::Strand;
use crate::error::Result;
use crate::readers::bed::regions::{Region, RegionLines};
use crate::readers::genome::Genome;
use crate::readers::{bed, narrow_peak};
use std::collections::BTreeMap;
use std::path::Path;

/// Where an example is cut: number of the contig, 0-based start and strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    pub(super) contig: usize,
    pub(super) start: u64,
    pub(super) strand: Strand,
}

/// Regions of a genome, merged where they overlap or touch.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionSet {
    /// End by contig and start.
    regions: BTreeMap<(usize, u64), u64>,
}

impl RegionSet {
    /// Adds `start..end` of `contig`.
    pub(super) fn insert(&mut self, contig: usize, mut start: u64, mut end: u64) {
        while let Some((&key, &found)) = self.regions.range(..=(contig, end)).next_back() {
            if key.0 != contig || found < start {
                break;
            }
            self.regions.remove(&key);
            (start, end) = (start.min(key.1), end.max(found));
        }
        self.regions.insert((contig, start), end);
    }

    /// Whether a region shares a nucleotide with `start..end` of `contig`.
    pub(super) fn overlaps(&self, contig: usize, start: u64, end: u64) -> bool {
        let before = self.regions.range(..(contig, end)).next_back();
        before.is_some_and(|(key, &found)| key.0 == contig && found > start)
    }
}

/// Calls `each` with every region of `path`, its contig and the contig's length in nucleotides.
///
/// A file called `.narrowPeak` has ten columns and a summit; any other is BED.
///
/// # Errors
/// `Invalid` with file and line for a region outside `genome`.
pub(super) fn for_each(
    path: &Path,
    genome: &Genome,
    mut each: impl FnMut(&Region, (usize, u64)) -> Result<()>,
) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".bgz");
    let is_narrow = name.ends_with(".narrowpeak");
    let parse = if is_narrow { narrow_peak::parse } else { bed::parse };
    let mut lines = RegionLines::open(path, parse)?;
    let mut step = |lines: &mut RegionLines| -> Result<bool> {
        let Some(region) = lines.next_region()? else { return Ok(false) };
        let length = lines.check(&region, genome)?;
        let contig = genome.contig_number(&region.chromosome).unwrap_or_default();
        each(&region, (contig, length))?;
        Ok(true)
    };
    loop {
        match step(&mut lines) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(lines.explain(error)),
        }
    }
}

/// Start of the window of `window` nucleotides centred on `region`; `None` where it would leave the
/// chromosome of `length` nucleotides.
pub(super) fn centred(region: &Region, window: u64, length: u64) -> Option<u64> {
    let start = region.centre.checked_sub(window / 2)?;
    start.checked_add(window).filter(|&end| end <= length).map(|_| start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_overlaps_where_a_marked_strip_does(
            regions in prop::collection::vec((0_usize..2, 0_u64..40, 1_u64..9), 0..20),
            asked in prop::collection::vec((0_usize..2, 0_u64..50, 1_u64..6), 1..20),
        ) {
            let (mut set, mut strips) = (RegionSet::default(), [[false; 64]; 2]);
            for (contig, start, length) in regions {
                set.insert(contig, start, start + length);
                (start..start + length).for_each(|at| strips[contig][at as usize] = true);
            }
            for (contig, start, length) in asked {
                let marked = (start..start + length).any(|at| strips[contig][at as usize]);
                prop_assert_eq!(set.overlaps(contig, start, start + length), marked);
            }
        }
    }
}
