//! Windows over a genome, enumerated without a list of them.
//!
//! Leaves out: bases behind the last whole window of a contig. Invariant: a window's number alone
//! decides where it lies, so ranges of numbers can be read apart and in any order.

use crate::dataset::DatasetSource;
use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::{Error, Result};
use crate::example::{Example, ExampleSchema};
use crate::limits::SEQUENCE_NT_MAX;
use crate::readers::ExampleReader;
use crate::readers::genome::{Contig, Genome};
use crate::readers::text::batch;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Which windows there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowOptions {
    /// Window length in nucleotides.
    pub window: u64,
    /// Distance between window starts in nucleotides.
    pub stride: u64,
    /// Windows with a larger share of letters other than A, C, G, T are skipped; 0 to 1.
    pub undefined_share_max: f64,
}

impl WindowOptions {
    /// The options of a source of windows; `None` for any other source.
    pub fn of(source: &DatasetSource) -> Option<Self> {
        match *source {
            DatasetSource::Windows { window, stride, undefined_share_max, .. } => {
                Some(Self { window, stride, undefined_share_max })
            }
            _ => None,
        }
    }
}

/// Where each window of a genome lies, in contig order; whole windows only.
#[derive(Clone, Debug)]
pub struct WindowIndex {
    stride: u64,
    /// Number of windows in all contigs up to and with this one.
    counts: Vec<u64>,
}

impl WindowIndex {
    /// Counts the windows of `window` nucleotides every `stride` nucleotides.
    ///
    /// # Errors
    /// `Invalid` if window or stride is 0, or the window is longer than a sequence may be.
    pub fn new(contigs: &[Contig], window: u64, stride: u64) -> Result<Self> {
        check_window(window)?;
        if stride == 0 {
            return Err(Error::invalid("stride: expected at least 1 nucleotide, found 0"));
        }
        let mut total = 0_u64;
        let counts = contigs
            .iter()
            .map(|contig| {
                let windows = contig.length.checked_sub(window).map_or(0, |room| room / stride + 1);
                total = total.saturating_add(windows);
                total
            })
            .collect();
        Ok(Self { stride, counts })
    }

    /// Number of windows, those with undefined letters included.
    pub fn count(&self) -> u64 {
        self.counts.last().copied().unwrap_or(0)
    }

    /// Contig number and 0-based start of window `index`; `None` from [`WindowIndex::count`] on.
    pub fn locate(&self, index: u64) -> Option<(usize, u64)> {
        let contig = self.counts.partition_point(|&count| count <= index);
        if contig >= self.counts.len() {
            return None;
        }
        let before = contig.checked_sub(1).and_then(|i| self.counts.get(i)).copied().unwrap_or(0);
        Some((contig, index.checked_sub(before)?.checked_mul(self.stride)?))
    }
}

/// Reads a range of windows. Ids are `chromosome:start-end`, 0-based and half-open as in BED.
pub struct WindowReader {
    genome: Arc<Genome>,
    index: WindowIndex,
    options: WindowOptions,
    rest: Range<u64>,
    schema: ExampleSchema,
}

impl WindowReader {
    /// Opens `genome` and reads the windows numbered `range`; `None` = all.
    ///
    /// # Errors
    /// As [`Genome::open`] and [`WindowReader::new`].
    pub fn open(genome: &Path, options: WindowOptions, range: Option<Range<u64>>) -> Result<Self> {
        Self::new(Arc::new(Genome::open(genome)?), options, range)
    }

    /// Reads the windows numbered `range` of an open genome; `None` = all.
    ///
    /// # Errors
    /// `Invalid` for options out of range, and for a genome without a whole window or with fewer
    /// windows than `range` asks for.
    pub fn new(
        genome: Arc<Genome>,
        options: WindowOptions,
        range: Option<Range<u64>>,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&options.undefined_share_max) {
            let found = options.undefined_share_max;
            return Err(Error::invalid(format!(
                "undefined_share_max: expected 0 to 1, found {found}"
            )));
        }
        let index = WindowIndex::new(genome.contigs(), options.window, options.stride)?;
        let count = index.count();
        let rest = range.unwrap_or(0..count);
        if let Some(longest) = genome.contigs().iter().max_by_key(|contig| contig.length)
            && count == 0
        {
            return Err(Error::invalid(format!(
                "{}: expected a chromosome of at least {} nucleotides (the window), found {} of {} \
                 nucleotides as the longest",
                genome.path().display(),
                options.window,
                longest.name,
                longest.length
            )));
        }
        if count == 0 || rest.end > count {
            return Err(Error::invalid(format!(
                "{}: expected windows {} to {} of {} nucleotides, found {count} windows",
                genome.path().display(),
                rest.start,
                rest.end,
                options.window,
            )));
        }
        let schema = ExampleSchema { has_intervals: true, ..ExampleSchema::sequences_only() };
        Ok(Self { genome, index, options, rest, schema })
    }

    /// Where each window lies.
    pub fn index(&self) -> &WindowIndex {
        &self.index
    }

    /// Number of the next window to look at; after an example, one more than that example's.
    pub fn position(&self) -> u64 {
        self.rest.start
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        let window = self.options.window;
        for index in self.rest.by_ref() {
            let (contig, start) = self.index.locate(index).expect("new() checked the range");
            let contig = self.genome.contigs().get(contig).expect("one count per contig");
            let end = start + window;
            let letters = self.genome.fetch(&contig.name, start, end)?;
            let sequence = DnaSequence::new(letters).expect("fetch checked the letters");
            let undefined_share = sequence.undefined_count() as f64 / window as f64;
            if undefined_share <= self.options.undefined_share_max {
                let chromosome = contig.name.clone();
                return Ok(Some(Example {
                    id: format!("{chromosome}:{start}-{end}"),
                    sequences: vec![sequence],
                    interval: Some(Interval { chromosome, start, end, strand: Strand::Forward }),
                    split: None,
                    targets: Vec::new(),
                }));
            }
        }
        Ok(None)
    }
}

impl ExampleReader for WindowReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example())
    }
}

/// Refuses windows that no sequence can have.
pub(super) fn check_window(window: u64) -> Result<()> {
    if window == 0 || window > SEQUENCE_NT_MAX as u64 {
        return Err(Error::invalid(format!(
            "window: expected 1 to {SEQUENCE_NT_MAX} nucleotides, found {window}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contigs(lengths: &[u64]) -> Vec<Contig> {
        let contig = |(i, &length): (usize, &u64)| Contig { name: format!("c{i}"), length };
        lengths.iter().enumerate().map(contig).collect()
    }

    fn read(fasta: &str, options: WindowOptions, range: Option<Range<u64>>) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fa");
        std::fs::write(&path, fasta).unwrap();
        let mut reader = WindowReader::open(&path, options, range)?;
        let mut found = Vec::new();
        loop {
            let examples = reader.read(2)?;
            if examples.is_empty() {
                return Ok(found);
            }
            let line = |e: &Example| format!("{} {}", e.id, e.sequences[0].as_str());
            found.extend(examples.iter().map(line));
        }
    }

    const OPTIONS: WindowOptions = WindowOptions { window: 4, stride: 2, undefined_share_max: 0.5 };

    #[test]
    fn windows_follow_the_contigs_and_skip_undefined_letters() {
        let fasta = ">a\nACGTacNNN\n>b\nACG\n>c\nGGGG\n";
        let all = ["a:0-4 ACGT", "a:2-6 GTAC", "a:4-8 ACNN", "c:0-4 GGGG"];
        assert_eq!(read(fasta, OPTIONS, None).unwrap(), all);
        assert_eq!(read(fasta, OPTIONS, Some(1..3)).unwrap(), all[1..3]);
        let strict = WindowOptions { undefined_share_max: 0.25, ..OPTIONS };
        assert_eq!(read(fasta, strict, None).unwrap(), [all[0], all[1], all[3]]);
    }

    #[test]
    fn windows_that_are_not_there_are_refused() {
        assert!(read(">a\nACGT\n", OPTIONS, Some(0..2)).is_err());
        let error = read(">a\nAC\n>b\nACG\n>c\nA\n", OPTIONS, None).unwrap_err().chain();
        let expected = "g.fa: expected a chromosome of at least 4 nucleotides (the window), found b of 3 \
                        nucleotides as the longest";
        assert!(error.ends_with(expected), "{error}");
        assert!(read(">a\nACGT\n", WindowOptions { stride: 0, ..OPTIONS }, None).is_err());
        assert!(read(">a\nACGT\n", WindowOptions { window: 0, ..OPTIONS }, None).is_err());
        let share = WindowOptions { undefined_share_max: f64::NAN, ..OPTIONS };
        assert!(read(">a\nACGT\n", share, None).is_err());
    }

    #[test]
    fn a_genome_of_gigabases_is_counted_without_a_list() {
        let index = WindowIndex::new(&contigs(&[250_000_000; 13]), 1_000, 1).unwrap();
        assert_eq!(index.count(), 13 * 249_999_001);
        assert_eq!(index.locate(index.count() - 1), Some((12, 249_999_000)));
        assert_eq!(index.locate(index.count()), None);
    }

    proptest! {
        #[test]
        fn every_number_is_the_window_that_a_plain_loop_finds(
            lengths in prop::collection::vec(0_u64..40, 0..6),
            window in 1_u64..12,
            stride in 1_u64..12,
        ) {
            let index = WindowIndex::new(&contigs(&lengths), window, stride).unwrap();
            let mut expected = Vec::new();
            for (contig, &length) in lengths.iter().enumerate() {
                let mut start = 0;
                while start + window <= length {
                    expected.push((contig, start));
                    start += stride;
                }
            }
            let found: Vec<_> = (0..index.count()).map(|i| index.locate(i).unwrap()).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.locate(index.count()), None);
        }
    }
}
