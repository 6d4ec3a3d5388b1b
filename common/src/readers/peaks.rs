//! Binding from public inputs: called peaks as positives, drawn windows as negatives, a random split.
//!
//! Leaves out: calling and filtering peaks; splits by another rule. Invariant: the same files, options
//! and seed give the same examples in the same order, whatever the machine and its threads.

use crate::dataset::{Negatives, PeakSet};
use crate::dna::{DnaSequence, Interval, Strand};
use crate::error::{Error, InputError, Result};
use crate::example::{Example, ExampleSchema, Split};
use crate::readers::ExampleReader;
use crate::readers::genome::Genome;
use crate::readers::text::batch;
use crate::readers::windows::check_window;
use crate::rng::Rng;
use negatives::{Wish, gc_bin};
use regions::{RegionSet, Window, centred, for_each};
use std::collections::BTreeSet;
use std::vec;

mod negatives;
mod regions;

/// Bound on peaks: their windows are held in memory.
const PEAKS_MAX: usize = 1 << 22;

/// Examples of a [`PeakSet`]: train, then valid, then test, each in random order.
///
/// **Positives** (target 1) are windows that start `window / 2` (rounded down) before the summit of a
/// peak, or before its middle. Left out are windows that leave their chromosome, hold letters other
/// than A, C, G, T or touch an excluded region, and all but one of equal windows.
///
/// **Negatives** (target 0), as many as positives, touch no peak, no window of a peak, no excluded
/// region and no other negative, and hold A, C, G, T only. They lie on the chromosomes that
/// have positives, or are centred on accessible regions. Matched GC content means steps of 5 %; where
/// a step runs out of windows the nearest one serves. How the study drew its negatives is not on
/// record; this is common practice.
///
/// **Strands** count where asked (RNA): a positive is read on the strand of its peak, and the
/// negatives have the positives' strands in another order.
///
/// **Split** of all T examples at random, with whole numbers rounded down and both classes balanced in
/// total, not within a split:
///
/// ```text
/// train = floor(0.7 T)     valid = floor(0.1 T)     test = the rest
/// ```
///
/// Source: sizes of the study's sets, which follow this rule.
pub struct PeakReader {
    genome: Genome,
    window: u64,
    is_stranded: bool,
    rest: vec::IntoIter<Planned>,
    left_out: u64,
    schema: ExampleSchema,
}

/// An example that is yet to be cut.
struct Planned {
    window: Window,
    is_peak: bool,
    split: Option<Split>,
}

struct Positives {
    windows: Vec<(Window, usize)>,
    left_out: u64,
    /// What negatives stay away from.
    avoid: RegionSet,
}

impl PeakReader {
    /// Reads the peaks of `set`, draws the negatives and the split.
    ///
    /// # Errors
    /// `NotFound` without a file; `Invalid` with file and line for a region outside the genome, and
    /// where there is no peak to use or no room for negatives.
    pub fn open(set: &PeakSet, is_stranded: bool) -> Result<Self> {
        check_window(set.window)?;
        let genome = Genome::open(&set.genome)?;
        let Positives { windows: positives, left_out, avoid } =
            positives(set, &genome, is_stranded)?;
        if left_out > 0 {
            tracing::info!(left_out, kept = positives.len(), "peaks without a usable window");
        }
        let wish = Wish {
            window: set.window,
            is_matched: set.negatives == Negatives::GcMatched,
            same_chromosomes: set.same_chromosomes,
            regions: set.accessible.as_deref(),
        };
        let sites: Vec<_> =
            positives.iter().map(|(window, bin)| ((window.contig, window.start), *bin)).collect();
        let mut rng = Rng::derive(set.seed, "peaks: negatives");
        let negatives = negatives::draw(&genome, &sites, &avoid, wish, &mut rng)?;
        let mut strands: Vec<Strand> = positives.iter().map(|(window, _)| window.strand).collect();
        Rng::derive(set.seed, "peaks: strands").shuffle(&mut strands);
        let negatives = negatives
            .into_iter()
            .zip(strands)
            .map(|((contig, start), strand)| (Window { contig, start, strand }, false));
        let positives = positives.into_iter().map(|(window, _)| (window, true));
        let mut examples: Vec<_> = positives.chain(negatives).collect();
        Rng::derive(set.seed, "peaks: split").shuffle(&mut examples);
        let schema = ExampleSchema {
            targets: vec!["target".to_owned()],
            has_intervals: true,
            has_splits: set.random_split,
            ..ExampleSchema::sequences_only()
        };
        let rest = split(examples, set.random_split).into_iter();
        Ok(Self { genome, window: set.window, is_stranded, rest, left_out, schema })
    }

    /// Peaks without an example of their own.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn cut(&self, planned: &Planned) -> Result<Example> {
        let Planned { window: Window { contig, start, strand }, is_peak, split } = *planned;
        let contig = self.genome.contigs().get(contig);
        let contig = contig.ok_or_else(|| Error::bug("a window on no contig"))?;
        let end = start + self.window;
        let letters = self.genome.fetch(&contig.name, start, end)?;
        let sequence = DnaSequence::new(letters).expect("fetch checked the letters");
        let sequence = match strand {
            Strand::Forward => sequence,
            Strand::Reverse => sequence.reverse_complement(),
        };
        let interval = Interval { chromosome: contig.name.clone(), start, end, strand };
        let id = match self.is_stranded {
            true => interval.to_string(),
            false => format!("{}:{start}-{end}", contig.name),
        };
        Ok(Example {
            id,
            sequences: vec![sequence],
            interval: Some(interval),
            split,
            targets: vec![f32::from(u8::from(is_peak))],
        })
    }
}

impl ExampleReader for PeakReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || {
            let Some(planned) = self.rest.next() else { return Ok(None) };
            self.cut(&planned).map(Some)
        })
    }
}

/// The windows of the peaks with their GC contents, in file order.
fn positives(set: &PeakSet, genome: &Genome, is_stranded: bool) -> Result<Positives> {
    let mut excluded = RegionSet::default();
    if let Some(path) = &set.exclude {
        for_each(path, genome, |region, (contig, _)| {
            excluded.insert(contig, region.start, region.end);
            Ok(())
        })?;
    }
    let mut avoid = excluded.clone();
    let mut found = BTreeSet::new();
    let (mut windows, mut left_out) = (Vec::new(), 0);
    for path in &set.peaks {
        for_each(path, genome, |region, (contig, length)| {
            avoid.insert(contig, region.start, region.end);
            let start = centred(region, set.window, length);
            let Some(start) = start else {
                left_out += 1;
                return Ok(());
            };
            let end = start + set.window;
            avoid.insert(contig, start, end);
            let strand = if is_stranded { region.strand } else { Strand::Forward };
            let window = Window { contig, start, strand };
            let bin = gc_bin(&genome.fetch(&region.chromosome, start, end)?);
            match bin.filter(|_| !excluded.overlaps(contig, start, end) && found.insert(window)) {
                Some(bin) => windows.push((window, bin)),
                None => left_out += 1,
            }
            if windows.len() > PEAKS_MAX {
                let expected = format!("at most {PEAKS_MAX} peaks");
                return Err(InputError::new(path.display(), "", expected, "more").into());
            }
            Ok(())
        })?;
    }
    if windows.is_empty() {
        let path = set.peaks.first().map_or(String::new(), |path| path.display().to_string());
        let expected = format!("a peak with a window of {} defined nucleotides", set.window);
        return Err(InputError::new(path, "", expected, format!("{left_out} without")).into());
    }
    Ok(Positives { windows, left_out, avoid })
}

/// Gives shuffled examples their splits, if they have any.
fn split(examples: Vec<(Window, bool)>, is_split: bool) -> Vec<Planned> {
    let total = examples.len();
    let (train, valid) = (total * 7 / 10, total / 10);
    let split_of = |index: usize| match index {
        index if index < train => Split::Train,
        index if index < train + valid => Split::Valid,
        _ => Split::Test,
    };
    let planned = |(index, (window, is_peak))| {
        let split = is_split.then(|| split_of(index));
        Planned { window, is_peak, split }
    };
    examples.into_iter().enumerate().map(planned).collect()
}
