//! Log-odds of a motif in whole steps, and the exact chance of every sum of them.
//!
//! Leaves out: sequences. Invariant: chances are those of letters drawn from the background, by
//! adding up all sequences of each sum; they fall from 1 as the sum grows.

use glmeval_common::readers::motifs::Motif;

/// Steps of the range of log-odds of one motif.
const STEPS: f64 = 1_000.0;
/// Sites where a file does not say how many: the default of the MEME suite.
const SITES_DEFAULT: f64 = 20.0;
/// Without any, a base that was never seen has no log-odds.
const PSEUDOCOUNT_MIN: f64 = 1e-6;

/// Frequencies of A, C, G and T.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Background(pub [f64; 4]);

impl Background {
    /// A quarter each.
    pub const UNIFORM: Self = Self([0.25; 4]);

    /// The frequencies of a letter and its complement made equal, as both strands see them.
    #[must_use]
    pub fn of_both_strands(self) -> Self {
        let [a, c, g, t] = self.0;
        let (weak, strong) = ((a + t) / 2.0, (c + g) / 2.0);
        Self([weak, strong, strong, weak])
    }

    /// The frequencies in `sequences`, one added to each count so that none is zero.
    pub fn of<'s>(sequences: impl IntoIterator<Item = &'s [u8]>) -> Self {
        let mut counts = [1.0_f64; 4];
        for letter in sequences.into_iter().flatten() {
            if let Some(count) = index(*letter).and_then(|base| counts.get_mut(base)) {
                *count += 1.0;
            }
        }
        let all: f64 = counts.iter().sum();
        Self(counts.map(|count| count / all))
    }
}

/// A, C, G, T as 0 to 3.
pub(super) fn index(letter: u8) -> Option<usize> {
    match letter {
        b'A' => Some(0),
        b'C' => Some(1),
        b'G' => Some(2),
        b'T' => Some(3),
        _ => None,
    }
}

/// One motif ready to be scanned for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreMatrix {
    /// Steps of A, C, G and T at each position, from 0.
    steps: Vec<[u32; 4]>,
    /// Log-odds of zero steps at one position.
    offset: f64,
    /// Steps of one bit.
    scale: f64,
    /// P(sum of steps >= k) under the background.
    tail: Vec<f64>,
}

impl ScoreMatrix {
    /// The log-odds of `motif` in bits, with `pseudocount` sites drawn from the background.
    ///
    /// ```text
    /// p' = (sites p + pseudocount b) / (sites + pseudocount),  score = sum of log2(p' / b)
    /// ```
    ///
    /// Source: Grant, Bailey and Noble 2011 (FIMO), with ten times its steps.
    pub fn new(motif: &Motif, background: Background, pseudocount: f64) -> Self {
        let sites = motif.sites.unwrap_or(SITES_DEFAULT);
        let pseudocount = pseudocount.max(PSEUDOCOUNT_MIN);
        let score =
            |(p, b): (f64, f64)| ((sites * p + pseudocount * b) / (sites + pseudocount) / b).log2();
        let rows = motif.probabilities.iter().map(|row| {
            let mut scores = [0.0; 4];
            for ((cell, &p), b) in scores.iter_mut().zip(row).zip(background.0) {
                *cell = score((p, b));
            }
            scores
        });
        let rows: Vec<[f64; 4]> = rows.collect();
        let values = || rows.iter().flatten().copied();
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        // A motif that is the background has no range: every window has the score 0.
        let scale = if high > low { STEPS / (high - low) } else { 1.0 };
        let steps = |row: &[f64; 4]| row.map(|score| ((score - low) * scale).round() as u32);
        let steps: Vec<[u32; 4]> = rows.iter().map(steps).collect();
        let tail = tail(&steps, background);
        Self { steps, offset: low, scale, tail }
    }

    /// Positions.
    pub fn width(&self) -> usize {
        self.steps.len()
    }

    /// Sum of the steps of a window; `None` for one of another width or with another letter.
    pub fn steps(&self, window: &[u8]) -> Option<usize> {
        if window.len() != self.steps.len() {
            return None;
        }
        let mut sum = 0;
        for (letter, row) in window.iter().zip(&self.steps) {
            sum += *row.get(index(*letter)?)? as usize;
        }
        Some(sum)
    }

    /// As [`ScoreMatrix::steps`] of the other strand of the window.
    pub fn steps_reverse(&self, window: &[u8]) -> Option<usize> {
        if window.len() != self.steps.len() {
            return None;
        }
        let mut sum = 0;
        for (letter, row) in window.iter().zip(self.steps.iter().rev()) {
            // The complement of base i is base 3 - i.
            sum += *row.get(3 - index(*letter)?)? as usize;
        }
        Some(sum)
    }

    /// Log-odds in bits of a sum of steps.
    pub fn score(&self, steps: usize) -> f64 {
        steps as f64 / self.scale + self.offset * self.width() as f64
    }

    /// Chance of at least so many steps in a window drawn from the background.
    pub fn p(&self, steps: usize) -> f64 {
        self.tail.get(steps).copied().unwrap_or(0.0)
    }

    /// The fewest steps whose chance is at most `p`; more than any window has if there are none.
    pub fn threshold(&self, p: f64) -> usize {
        self.tail.partition_point(|tail| *tail > p)
    }

    /// Sums of steps that a window may have, less one.
    pub fn steps_max(&self) -> usize {
        self.tail.len().saturating_sub(1)
    }
}

/// P(sum >= k): the distribution of sums position by position, then added from its end.
fn tail(rows: &[[u32; 4]], background: Background) -> Vec<f64> {
    let mut chances = vec![1.0_f64];
    for row in rows {
        let highest = row.iter().max().copied().unwrap_or_default() as usize;
        let mut next = vec![0.0; chances.len() + highest];
        for (step, b) in row.iter().zip(background.0) {
            let shifted = next.iter_mut().skip(*step as usize);
            shifted.zip(&chances).for_each(|(to, chance)| *to += b * chance);
        }
        chances = next;
    }
    let mut above = 0.0;
    for chance in chances.iter_mut().rev() {
        above += *chance;
        *chance = above.min(1.0);
    }
    chances
}
