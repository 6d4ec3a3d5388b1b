//! Self-attention over packed sequences of any lengths.
//!
//! Leaves out: masks, as nothing is padded; rotation, which comes before.
//! Invariant: a sequence's result depends on that sequence alone.

pub mod cuda;

use crate::error::{KernelError, Result, check_length};
use crate::isa::{Isa, per_isa};
use crate::lanes::LANES;
use crate::ops::softmax::exp_row_of;
use crate::parallel::SharedRows;
use crate::sequences::Sequences;
use crate::tile::{
    LeftStep, PanelStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_columns, pack_panel, pack_tile,
};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Multiply-adds that one task should hold at least.
const PRODUCTS_PER_TASK_MIN: usize = 1 << 19;

thread_local! {
    /// Work space of this thread, kept between calls.
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::EMPTY) };
}

/// What positions add to the scores.
#[derive(Clone, Copy, Debug)]
pub enum PositionBias<'a> {
    /// Nothing.
    None,
    /// A penalty that grows with the distance of two tokens.
    Alibi {
        /// `[heads]`, the penalty of one token of distance in each head.
        slopes: &'a [f32],
    },
}

/// Slopes of a number of heads.
///
/// ```text
/// 2^(-8k/H), k = 1..H                       for H a power of two
/// slopes(m), then slopes(2m)[0,2,4,...]     otherwise, m the largest power of two below H
/// ```
///
/// Source: Press et al. 2021, "Train short, test long", section 3, and its code.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let of_power =
        |count: usize| (1..=count).map(move |k| (-8.0 * k as f64 / count as f64).exp2() as f32);
    let Some(exponent) = heads.checked_ilog2() else { return Vec::new() };
    let power = 1_usize << exponent;
    of_power(power).chain(of_power(2 * power).step_by(2)).take(heads).collect()
}

/// Attends within each sequence, head by head.
///
/// ```text
/// p[i,j] = softmax_j(scale * sum_k q[i,k] k[j,k] - slope |i - j|)
/// out[i,:] = sum_j p[i,j] v[j,:]
/// ```
///
/// - `qkv`: `[N, 3 D]`, the query, key and value of each token; head `h` has columns `h K..(h+1) K`
///   of each third, with `K = D / heads`
/// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
/// - `bias`: `slope` of each head; positions count within the sequence
/// - `out`: `[N, D]`
///
/// Both products are f32 chains in order; the same bits on every CPU.
///
/// # Errors
/// `Shape` if `out` is not `heads` equal parts per token, or `qkv`, `offsets` or `bias` do not fit.
pub fn attention(
    qkv: &[f32],
    offsets: &[usize],
    heads: usize,
    scale: f32,
    bias: PositionBias<'_>,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "attention";
    let sequences = Sequences::check(OP, offsets)?;
    check_length(OP, "qkv", qkv.len(), out.len().saturating_mul(3))?;
    let slopes = match bias {
        PositionBias::None => None,
        PositionBias::Alibi { slopes } => {
            check_length(OP, "slopes", slopes.len(), heads)?;
            Some(slopes)
        }
    };
    let tokens = sequences.token_count();
    if tokens == 0 {
        return check_length(OP, "out", out.len(), 0);
    }
    if heads == 0 || out.is_empty() || !out.len().is_multiple_of(tokens.saturating_mul(heads)) {
        return Err(KernelError::Shape {
            op: OP,
            operand: "out",
            expected: format!("{tokens} tokens of {heads} equal heads"),
            found: format!("{} values", out.len()),
        });
    }
    let width = out.len() / tokens;
    cpu(Isa::best(), &Operands { qkv, sequences, heads, scale, slopes, width }, out);
    Ok(())
}

/// What one call reads.
struct Operands<'a> {
    qkv: &'a [f32],
    sequences: Sequences<'a>,
    heads: usize,
    scale: f32,
    slopes: Option<&'a [f32]>,
    width: usize,
}

/// Work space of one sequence and head.
struct Scratch {
    query: Vec<LeftStep>,
    keys: Vec<PanelStep>,
    values: Vec<PanelStep>,
    scores: Vec<f32>,
    weights: Vec<LeftStep>,
}

impl Scratch {
    const EMPTY: Self = Self {
        query: Vec::new(),
        keys: Vec::new(),
        values: Vec::new(),
        scores: Vec::new(),
        weights: Vec::new(),
    };
}

impl Default for Scratch {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// One task is some heads of one sequence, or several whole sequences' worth if they are short.
fn cpu(isa: Isa, operands: &Operands<'_>, out: &mut [f32]) {
    let out = SharedRows::new(out, operands.width);
    let items = operands.sequences.count() * operands.heads;
    let run = |item: usize| {
        let mut scratch = SCRATCH.take();
        let tokens = operands.sequences.tokens(item / operands.heads);
        Head { isa, operands, out: &out, tokens, head: item % operands.heads }.run(&mut scratch);
        SCRATCH.set(scratch);
    };
    let products: usize = operands
        .sequences
        .iter()
        .map(|tokens| tokens.len().pow(2).saturating_mul(2 * operands.width))
        .fold(0, usize::saturating_add);
    let tasks = products / PRODUCTS_PER_TASK_MIN;
    if tasks > 1 && rayon::current_num_threads() > 1 {
        (0..items).into_par_iter().with_min_len(items.div_ceil(tasks)).for_each(run);
    } else {
        (0..items).for_each(run);
    }
}

per_isa!(
    /// Writes `scale sum - slope |ahead + row - column|` for a panel's columns of each row.
    fn scale_scores(
        sums: &[[f32; TILE_COLUMNS]],
        factors: (f32, f32),
        ahead: f32,
        scores: (&mut [f32], usize)
    ) = scaled_scores
);

/// A slope of zero leaves every bit of the scaled sum.
#[inline(always)]
fn scaled_scores(
    sums: &[[f32; TILE_COLUMNS]],
    (scale, slope): (f32, f32),
    ahead: f32,
    (scores, stride): (&mut [f32], usize),
) {
    for ((row, sums), scores) in (0_u8..).zip(sums).zip(scores.chunks_mut(stride)) {
        let ahead = ahead + f32::from(row);
        for (column, (score, sum)) in (0_u8..).zip(scores.iter_mut().zip(sums)) {
            let distance = (ahead - f32::from(column)).abs();
            *score = (-slope).mul_add(distance, sum * scale);
        }
    }
}

per_isa!(
    /// Replaces rows of scores, `stride` apart, by exponentials and writes the sum of each.
    ///
    /// Only the first `count` scores of a row count; up to whole lanes, others become zero.
    fn exp_scores(scores: &mut [f32], stride: usize, count: usize, sums: &mut [f32]) =
        exp_of_scores
);

/// A score of negative infinity adds a zero to its lane and leaves every bit of the sum.
#[inline(always)]
fn exp_of_scores(scores: &mut [f32], stride: usize, count: usize, sums: &mut [f32]) {
    for (scores, sum) in scores.chunks_exact_mut(stride).zip(sums) {
        let row = &mut scores[..count.next_multiple_of(LANES)];
        row[count..].fill(f32::NEG_INFINITY);
        *sum = exp_row_of(row);
    }
}

/// One head of one sequence.
struct Head<'a> {
    isa: Isa,
    operands: &'a Operands<'a>,
    out: &'a SharedRows<'a>,
    tokens: Range<usize>,
    head: usize,
}

impl Head<'_> {
    fn run(&self, scratch: &mut Scratch) {
        let (count, width) = (self.tokens.len(), self.width());
        let panels = count.div_ceil(TILE_COLUMNS);
        scratch.keys.resize(panels * width, PanelStep::ZERO);
        for (index, panel) in scratch.keys.chunks_exact_mut(width).enumerate() {
            let first = index * TILE_COLUMNS;
            let filled = TILE_COLUMNS.min(count - first);
            pack_panel(self.isa, self.third(1), first, filled, panel);
        }
        scratch.values.resize(width.div_ceil(TILE_COLUMNS) * count, PanelStep::ZERO);
        for (index, panel) in scratch.values.chunks_exact_mut(count.max(1)).enumerate() {
            pack_columns(self.third(2), index * TILE_COLUMNS, panel);
        }
        for first in (0..count).step_by(TILE_ROWS) {
            let rows = TILE_ROWS.min(count - first);
            let sums = self.weigh(first, rows, scratch);
            self.mix(first, &sums[..rows], scratch);
        }
    }

    /// K: values of a head.
    fn width(&self) -> usize {
        self.operands.width / self.operands.heads
    }

    /// This head's query (0), key (1) or value (2) of each token.
    fn third(&self, part: usize) -> Rows<'_> {
        let stride = 3 * self.operands.width;
        let first = part * self.operands.width + self.head * self.width();
        let start = self.tokens.start * stride + first;
        Rows::new(&self.operands.qkv[start..], stride, self.width())
    }

    /// Fills `weights` with the exponentials of a tile's scores and returns each row's sum.
    fn weigh(&self, first: usize, rows: usize, scratch: &mut Scratch) -> [f32; TILE_ROWS] {
        let (count, width) = (self.tokens.len(), self.width());
        scratch.query.resize(width, [0.0; TILE_ROWS]);
        pack_tile(self.isa, self.third(0), first, rows, &mut scratch.query);
        let stride = count.next_multiple_of(TILE_COLUMNS);
        scratch.scores.resize(TILE_ROWS * stride, 0.0);
        let slope = self.operands.slopes.map_or(0.0, |slopes| slopes[self.head]);
        for (index, panel) in scratch.keys.chunks_exact(width).enumerate() {
            let mut tile = Tile::ZERO;
            tile.add_products(self.isa, rows, &scratch.query, panel);
            let column = index * TILE_COLUMNS;
            let ahead = first as f32 - column as f32;
            let scores = (&mut scratch.scores[column..], stride);
            scale_scores(self.isa, &tile.0[..rows], (self.operands.scale, slope), ahead, scores);
        }
        let mut sums = [1.0; TILE_ROWS];
        exp_scores(self.isa, &mut scratch.scores, stride, count, &mut sums[..rows]);
        let whole = count.next_multiple_of(LANES);
        scratch.weights.resize(whole, [0.0; TILE_ROWS]);
        let scores = Rows::new(&scratch.scores, stride, whole);
        pack_tile(self.isa, scores, 0, rows, &mut scratch.weights);
        sums
    }

    /// Writes a tile's rows: values mixed by `weights`, divided by the sums of these.
    fn mix(&self, first: usize, sums: &[f32], scratch: &Scratch) {
        for (index, panel) in scratch.values.chunks_exact(self.tokens.len()).enumerate() {
            let mut tile = Tile::ZERO;
            tile.add_products(self.isa, sums.len(), &scratch.weights, panel);
            let start = index * TILE_COLUMNS;
            let columns = start..self.width().min(start + TILE_COLUMNS);
            for ((row, sum), mixed) in sums.iter().enumerate().zip(&tile.0) {
                let token = self.tokens.start + first + row;
                let head = self.head * self.width();
                // SAFETY: tokens and heads of tasks are disjoint; this task writes one row at a time.
                let out = unsafe { self.out.span(token, head + columns.start..head + columns.end) };
                out.iter_mut().zip(mixed).for_each(|(out, mixed)| *out = mixed / sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        (i as f32 * 0.61).sin() * 2.0
    }

    fn on(isa: Isa, qkv: &[f32], offsets: &[usize], heads: usize, width: usize) -> Vec<u32> {
        let mut out = vec![0.0; qkv.len() / 3];
        let sequences = Sequences::check("attention", offsets).unwrap();
        let slopes = alibi_slopes(heads);
        let slopes = Some(slopes.as_slice());
        cpu(isa, &Operands { qkv, sequences, heads, scale: 0.3, slopes, width }, &mut out);
        out.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn one_token_attends_to_itself() {
        let mut out = [0.0; 4];
        let qkv = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        attention(&qkv, &[0, 1], 2, 0.5, PositionBias::None, &mut out).unwrap();
        assert_eq!(out, [9.0, 10.0, 11.0, 12.0]);
    }

    #[test]
    fn two_tokens_share_by_worked_weights() {
        let qkv = [1.0, 0.0, 6.0, 1.0, 3.0_f32.ln(), 2.0];
        let mut out = [0.0; 2];
        attention(&qkv, &[0, 2], 1, 1.0, PositionBias::None, &mut out).unwrap();
        assert!((out[0] - 3.0).abs() < 1e-6, "{out:?}");
        assert!((out[1] - 3.0).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn distance_is_taken_off_the_scores_of_its_head() {
        // No query, so that only distances weigh: 1, 1/2 and 1/4 in the second head.
        let mut qkv = vec![0.0; 3 * 6];
        for (token, value) in [(0, 1.0), (1, 10.0), (2, 100.0)] {
            (qkv[token * 6 + 4], qkv[token * 6 + 5]) = (value, value);
        }
        let mut out = [0.0; 6];
        let slopes = [0.0, 2.0_f32.ln()];
        let bias = PositionBias::Alibi { slopes: &slopes };
        attention(&qkv, &[0, 3], 2, 1.0, bias, &mut out).unwrap();
        let expected = [37.0, 31.0 / 1.75, 37.0, 30.25, 37.0, 105.25 / 1.75];
        for (found, expected) in out.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{out:?}");
        }
    }

    #[test]
    fn slopes_halve_or_are_filled_from_the_next_power_of_two() {
        assert_eq!(alibi_slopes(2), [0.0625, 0.003_906_25]);
        assert_eq!(alibi_slopes(1), [0.003_906_25]);
        let slopes = alibi_slopes(12);
        assert_eq!(
            slopes[..8],
            [0.5, 0.25, 0.125, 0.0625, 1.0 / 32.0, 1.0 / 64.0, 1.0 / 128.0, 1.0 / 256.0]
        );
        assert_eq!(slopes[8..], [-0.5_f64, -1.5, -2.5, -3.5].map(|power| power.exp2() as f32));
        assert!(alibi_slopes(0).is_empty());
    }

    #[test]
    fn no_bias_and_no_slope_give_the_same_bits() {
        let qkv: Vec<f32> = (0..40 * 3 * 6).map(value).collect();
        let run = |bias| {
            let mut out = vec![0.0; 40 * 6];
            attention(&qkv, &[0, 40], 2, 0.7, bias, &mut out).unwrap();
            out
        };
        assert_eq!(run(PositionBias::None), run(PositionBias::Alibi { slopes: &[0.0, 0.0] }));
        assert_ne!(run(PositionBias::None), run(PositionBias::Alibi { slopes: &[0.0, 0.1] }));
    }

    #[test]
    fn sequences_are_blind_to_each_other_and_bits_do_not_depend_on_the_cpu() {
        let (heads, width) = (3, 3 * 35);
        let offsets = [0, 1, 1, 34, 99];
        let qkv: Vec<f32> = (0..99 * 3 * width).map(value).collect();
        let expected = on(Isa::Baseline, &qkv, &offsets, heads, width);
        for isa in Isa::available() {
            assert_eq!(on(isa, &qkv, &offsets, heads, width), expected, "{isa:?}");
            for pair in offsets.windows(2) {
                let alone = &qkv[pair[0] * 3 * width..pair[1] * 3 * width];
                let alone = on(isa, alone, &[0, pair[1] - pair[0]], heads, width);
                assert_eq!(alone, expected[pair[0] * width..pair[1] * width], "{isa:?} {pair:?}");
            }
        }
    }

    #[test]
    fn thread_count_does_not_change_a_bit() {
        let (heads, width) = (4, 64);
        let offsets = [0, 150, 300, 301];
        let qkv: Vec<f32> = (0..301 * 3 * width).map(value).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| on(Isa::best(), &qkv, &offsets, heads, width))
        };
        assert_eq!(run(1), run(2));
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let mut out = [0.0; 4];
        let mut refused = |qkv: &[f32], offsets: &[usize], heads| {
            let bias = PositionBias::None;
            attention(qkv, offsets, heads, 1.0, bias, &mut out).unwrap_err().to_string()
        };
        assert!(refused(&[0.0; 12], &[0, 3], 1).contains("3 tokens"));
        assert!(refused(&[0.0; 12], &[0, 2], 0).contains("0 equal"));
        assert!(refused(&[0.0; 11], &[0, 2], 1).contains("qkv"));
        for offsets in [&[] as &[usize], &[1, 2], &[0, 2, 1]] {
            assert!(refused(&[0.0; 12], offsets, 1).contains("rise"));
        }
        assert!(refused(&[0.0; 12], &[0, usize::MAX], 3).contains("tokens"));
        let bias = PositionBias::Alibi { slopes: &[0.5] };
        let error = attention(&[0.0; 12], &[0, 2], 2, 1.0, bias, &mut out).unwrap_err();
        assert!(error.to_string().contains("slopes"), "{error}");
        attention(&[], &[0], 1, 1.0, PositionBias::None, &mut []).unwrap();
    }
}
