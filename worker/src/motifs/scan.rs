//! Occurrences of motifs in sequences, with the share of false ones.
//!
//! Leaves out: maps (peaks). Invariant: every window of every motif is tested, on each strand, and
//! counts in the correction whether or not it is reported.

use super::matrix::{Background, ScoreMatrix};
use glmeval_common::dna::{DnaSequence, Strand};
use glmeval_common::readers::motifs::Motif;
use rayon::prelude::*;

/// How sequences are scanned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanOptions {
    /// Windows of a larger chance are not reported.
    pub p_max: f64,
    /// Sites of the background that are added to a motif's.
    pub pseudocount: f64,
    /// Whether the other strand is scanned too.
    pub both_strands: bool,
}

impl Default for ScanOptions {
    /// FIMO's: 1e-4, a tenth of a site, both strands.
    fn default() -> Self {
        Self { p_max: 1e-4, pseudocount: 0.1, both_strands: true }
    }
}

/// An occurrence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Motif, by its place in the file.
    pub motif: usize,
    /// Sequence, by its place among those scanned.
    pub sequence: usize,
    /// Offset of its first nucleotide, from 0, as the sequence is given.
    pub start: usize,
    /// One past its last nucleotide.
    pub end: usize,
    /// Strand on which it reads as the motif.
    pub strand: Strand,
    /// Log-odds in bits.
    pub score: f64,
    /// Chance of a window of the background to score as high.
    pub p: f64,
    /// Share of false ones among windows of this motif that score as high, Benjamini and Hochberg.
    pub q: f64,
}

/// Motifs made ready under one background.
pub struct Scanner {
    matrices: Vec<ScoreMatrix>,
    options: ScanOptions,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// By motif, then sequence, start and strand.
    pub hits: Vec<Hit>,
    /// Windows that each motif was compared with.
    pub windows: Vec<u64>,
}

/// A window above the threshold.
struct Found {
    sequence: usize,
    start: usize,
    strand: Strand,
    steps: usize,
}

impl Scanner {
    /// Makes `motifs` ready. With both strands the background is that of both.
    pub fn new(motifs: &[Motif], background: Background, options: ScanOptions) -> Self {
        let is_both = options.both_strands;
        let background = if is_both { background.of_both_strands() } else { background };
        let matrix = |motif: &Motif| ScoreMatrix::new(motif, background, options.pseudocount);
        Self { matrices: motifs.par_iter().map(matrix).collect(), options }
    }

    /// The matrices, in the order of the motifs.
    pub fn matrices(&self) -> &[ScoreMatrix] {
        &self.matrices
    }

    /// Scans whole sequences.
    pub fn scan(&self, sequences: &[DnaSequence]) -> Scan {
        let whole: Vec<Vec<(usize, usize)>> =
            sequences.iter().map(|sequence| vec![(0, sequence.len())]).collect();
        self.scan_spans(sequences, &whole)
    }

    /// Scans the windows that lie within `spans`, some of each sequence: start and end, ascending and
    /// apart.
    pub fn scan_spans(&self, sequences: &[DnaSequence], spans: &[Vec<(usize, usize)>]) -> Scan {
        let each = self.matrices.par_iter().enumerate();
        let scans: Vec<(Vec<Hit>, u64)> =
            each.map(|(motif, matrix)| self.scan_motif(motif, matrix, sequences, spans)).collect();
        let mut scan = Scan::default();
        for (hits, windows) in scans {
            scan.hits.extend(hits);
            scan.windows.push(windows);
        }
        scan
    }

    fn scan_motif(
        &self,
        motif: usize,
        matrix: &ScoreMatrix,
        sequences: &[DnaSequence],
        spans: &[Vec<(usize, usize)>],
    ) -> (Vec<Hit>, u64) {
        let mut counts = vec![0_u64; matrix.steps_max() + 1];
        let least = matrix.threshold(self.options.p_max);
        let mut found = Vec::new();
        for (index, (sequence, spans)) in sequences.iter().zip(spans).enumerate() {
            self.windows(matrix, sequence, spans, &mut |start, strand, steps| {
                if let Some(count) = counts.get_mut(steps) {
                    *count += 1;
                }
                if steps >= least {
                    found.push(Found { sequence: index, start, strand, steps });
                }
            });
        }
        let q = corrected(matrix, &counts);
        let hit = |found: &Found| Hit {
            motif,
            sequence: found.sequence,
            start: found.start,
            end: found.start + matrix.width(),
            strand: found.strand,
            score: matrix.score(found.steps),
            p: matrix.p(found.steps),
            q: q.get(found.steps).copied().unwrap_or(1.0),
        };
        (found.iter().map(hit).collect(), counts.iter().sum())
    }

    /// Hands out every window within `spans` that has only A, C, G, T.
    fn windows(
        &self,
        matrix: &ScoreMatrix,
        sequence: &DnaSequence,
        spans: &[(usize, usize)],
        take: &mut dyn FnMut(usize, Strand, usize),
    ) {
        for &(from, to) in spans {
            let letters = sequence.as_bytes().get(from..to).unwrap_or_default();
            for (offset, window) in letters.windows(matrix.width().max(1)).enumerate() {
                if let Some(steps) = matrix.steps(window) {
                    take(from + offset, Strand::Forward, steps);
                }
                if !self.options.both_strands {
                    continue;
                }
                if let Some(steps) = matrix.steps_reverse(window) {
                    take(from + offset, Strand::Reverse, steps);
                }
            }
        }
    }

    /// Whether any window within `spans` is at or above the threshold of each motif.
    pub(super) fn has_hits(&self, sequence: &DnaSequence, spans: &[(usize, usize)]) -> Vec<bool> {
        let has = |matrix: &ScoreMatrix| {
            let least = matrix.threshold(self.options.p_max);
            let mut is_there = false;
            self.windows(matrix, sequence, spans, &mut |_, _, steps| is_there |= steps >= least);
            is_there
        };
        self.matrices.iter().map(has).collect()
    }
}

/// q of every sum of steps, from the windows counted at each: the step-up of Benjamini and Hochberg
/// over all windows without keeping them.
///
/// ```text
/// q(k) = min over j <= k of min(1, n P(sum >= j) / windows with at least j steps)
/// ```
fn corrected(matrix: &ScoreMatrix, counts: &[u64]) -> Vec<f64> {
    let all = counts.iter().sum::<u64>() as f64;
    let mut above = all;
    let mut smallest = 1.0_f64;
    let mut corrected = Vec::with_capacity(counts.len());
    for (steps, &count) in counts.iter().enumerate() {
        if count > 0 {
            smallest = smallest.min(all * matrix.p(steps) / above);
            above -= count as f64;
        }
        corrected.push(smallest);
    }
    corrected
}
