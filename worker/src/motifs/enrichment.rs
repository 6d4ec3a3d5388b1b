//! Which motifs occur at peaks more often than in shuffles of the same sequences at the same places.
//!
//! Leaves out: finding peaks. Invariant: shuffles keep the counts of all pairs of letters of each
//! sequence, so that a motif is not enriched by composition.

use super::scan::{Scan, Scanner};
use crate::importance::shuffled;
use crate::statistics::benjamini_hochberg;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::Result;
use rayon::prelude::*;

/// Occurrences at peaks, and what they are compared with.
pub struct PeakScan<'s> {
    /// The sequences.
    pub sequences: &'s [DnaSequence],
    /// Stretches around the peaks of each.
    pub peaks: &'s [Vec<(usize, usize)>],
    /// Shuffles of each sequence; at least one.
    pub shuffles: u64,
    /// Seed of the shuffles.
    pub seed: u64,
}

/// How often a motif occurs at peaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Enrichment {
    /// Sequences with an occurrence at a peak.
    pub sequences: u64,
    /// Share of shuffles with an occurrence at the same places.
    pub shuffled_share: f64,
    /// Share of sequences over share of shuffles, one half added to the count of sequences and to that of
    /// a set of shuffles, one for each sequence: a motif that is nowhere has 1.
    pub fold: f64,
    /// Chance of so many sequences if they were drawn from all: Fisher's exact test, one-sided.
    pub p: f64,
    /// Share of false ones among motifs as enriched, Benjamini and Hochberg.
    pub q: f64,
}

/// Sequences that are shuffled between two calls of `told`.
const SEQUENCES_PER_STEP: usize = 64;

/// Scans the peaks, and compares every motif with shuffles; `told` hears how many sequences were done.
///
/// # Errors
/// Those of `told`.
pub fn enrichment(
    scanner: &Scanner,
    given: &PeakScan<'_>,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<(Scan, Vec<Enrichment>)> {
    let scan = scanner.scan_spans(given.sequences, given.peaks);
    let with_peaks: Vec<(&DnaSequence, &Vec<(usize, usize)>)> =
        given.sequences.iter().zip(given.peaks).filter(|(_, peaks)| !peaks.is_empty()).collect();
    let count = |(sequence, peaks): &(&DnaSequence, &Vec<(usize, usize)>)| {
        let mut counts = vec![(0_u64, 0_u64); scanner.matrices().len()];
        for (count, has) in counts.iter_mut().zip(scanner.has_hits(sequence, peaks)) {
            count.0 += u64::from(has);
        }
        for number in 0..given.shuffles {
            let other = shuffled(sequence, given.seed, number);
            for (count, has) in counts.iter_mut().zip(scanner.has_hits(&other, peaks)) {
                count.1 += u64::from(has);
            }
        }
        counts
    };
    let mut each: Vec<Vec<(u64, u64)>> = Vec::with_capacity(with_peaks.len());
    for step in with_peaks.chunks(SEQUENCES_PER_STEP) {
        each.par_extend(step.par_iter().map(count));
        told(step.len())?;
    }
    let sequences = with_peaks.len() as u64;
    let shuffles = sequences.saturating_mul(given.shuffles);
    let mut found: Vec<Enrichment> = (0..scanner.matrices().len())
        .map(|motif| {
            let counts = each.iter().filter_map(|counts| counts.get(motif));
            let (here, there) =
                counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
            Enrichment {
                sequences: here,
                shuffled_share: if shuffles == 0 { 0.0 } else { there as f64 / shuffles as f64 },
                fold: fold(here, there, given.shuffles),
                p: fisher((here, sequences), (there, shuffles)),
                q: 1.0,
            }
        })
        .collect();
    let p: Vec<f64> = found.iter().map(|motif| motif.p).collect();
    for (motif, q) in found.iter_mut().zip(benjamini_hochberg(&p)) {
        motif.q = q;
    }
    Ok((scan, found))
}

/// Ratio of `here` to the mean of `there` over `shuffles` sets, each of as many sequences.
///
/// ```text
/// (here + 1/2) / (n + 1)  :  (there / shuffles + 1/2) / (n + 1)
/// ```
pub(super) fn fold(here: u64, there: u64, shuffles: u64) -> f64 {
    (here as f64 + 0.5) / (there as f64 / shuffles.max(1) as f64 + 0.5)
}

/// Chance of at least `hits` of `all` being in the first group if the hits of both were dealt at random.
///
/// ```text
/// sum over k >= hits of C(a, k) C(b, h - k) / C(a + b, h),  h the hits of both groups
/// ```
pub(super) fn fisher((hits, all): (u64, u64), (other_hits, other_all): (u64, u64)) -> f64 {
    let total = all + other_all;
    let marked = hits + other_hits;
    // ln k! for every k that occurs.
    let mut logs = vec![0.0_f64];
    for k in 1..=total {
        logs.push(logs.last().copied().unwrap_or_default() + (k as f64).ln());
    }
    let log = |k: u64| logs.get(k as usize).copied().unwrap_or_default();
    let choose = |n: u64, k: u64| log(n) - log(k) - log(n - k);
    let most = all.min(marked);
    let terms = (hits..=most).filter(|k| marked - k <= other_all);
    let chance =
        |k: u64| (choose(all, k) + choose(other_all, marked - k) - choose(total, marked)).exp();
    if hits == 0 { 1.0 } else { terms.map(chance).sum::<f64>().min(1.0) }
}
