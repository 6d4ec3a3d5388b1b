//! Self-attention over packed sequences of any lengths.
//!
//! Leaves out: masks, as nothing is padded; biases and rotation, which come before or between.
//! Invariant: a sequence's result depends on that sequence alone.

use crate::error::{KernelError, Result, check_length};
use crate::isa::Isa;
use crate::ops::softmax::exp_row;
use crate::parallel::SharedRows;
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

/// Attends within each sequence, head by head.
///
/// ```text
/// p[i,j] = softmax_j(scale * sum_k q[i,k] k[j,k])
/// out[i,:] = sum_j p[i,j] v[j,:]
/// ```
///
/// - `qkv`: `[N, 3 D]`, the query, key and value of each token; head `h` has columns `h K..(h+1) K`
///   of each third, with `K = D / heads`
/// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
/// - `out`: `[N, D]`
///
/// Both products are f32 chains in order; the same bits on every CPU.
///
/// # Errors
/// `Shape` if `out` is not `heads` equal parts per token, or `qkv` or `offsets` do not fit.
pub fn attention(
    qkv: &[f32],
    offsets: &[usize],
    heads: usize,
    scale: f32,
    out: &mut [f32],
) -> Result<()> {
    let width = check(qkv, offsets, heads, out)?;
    if width > 0 {
        cpu(Isa::best(), &Operands { qkv, offsets, heads, scale, width }, out);
    }
    Ok(())
}

/// D, or zero if there is no token.
fn check(qkv: &[f32], offsets: &[usize], heads: usize, out: &[f32]) -> Result<usize> {
    const OP: &str = "attention";
    let refuse = |operand, expected: &str, found| {
        Err(KernelError::Shape { op: OP, operand, expected: expected.to_owned(), found })
    };
    let tokens = match (offsets.first(), offsets.last()) {
        (Some(0), Some(&tokens)) if offsets.is_sorted() => tokens,
        _ => return refuse("offsets", "counts that rise from 0", format!("{offsets:?}")),
    };
    check_length(OP, "qkv", qkv.len(), out.len().saturating_mul(3))?;
    if tokens == 0 {
        check_length(OP, "out", out.len(), 0)?;
        return Ok(0);
    }
    if heads == 0 || out.is_empty() || !out.len().is_multiple_of(tokens.saturating_mul(heads)) {
        let expected = format!("{tokens} tokens of {heads} equal heads");
        return refuse("out", &expected, format!("{} values", out.len()));
    }
    Ok(out.len() / tokens)
}

/// What one call reads.
struct Operands<'a> {
    qkv: &'a [f32],
    offsets: &'a [usize],
    heads: usize,
    scale: f32,
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
    let sequences = operands.offsets.len() - 1;
    let items = sequences * operands.heads;
    let run = |item: usize| {
        let mut scratch = SCRATCH.take();
        let sequence = item / operands.heads;
        let tokens = operands.offsets[sequence]..operands.offsets[sequence + 1];
        Head { isa, operands, out: &out, tokens, head: item % operands.heads }.run(&mut scratch);
        SCRATCH.set(scratch);
    };
    let products: usize = operands
        .offsets
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).pow(2).saturating_mul(2 * operands.width))
        .fold(0, usize::saturating_add);
    let tasks = products / PRODUCTS_PER_TASK_MIN;
    if tasks > 1 && rayon::current_num_threads() > 1 {
        (0..items).into_par_iter().with_min_len(items.div_ceil(tasks)).for_each(run);
    } else {
        (0..items).for_each(run);
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
        scratch.scores.resize(TILE_ROWS * count, 0.0);
        for (index, panel) in scratch.keys.chunks_exact(width).enumerate() {
            let mut tile = Tile::ZERO;
            tile.add_products(self.isa, rows, &scratch.query, panel);
            let columns = index * TILE_COLUMNS..count.min((index + 1) * TILE_COLUMNS);
            for (scores, sums) in scratch.scores.chunks_exact_mut(count).zip(&tile.0).take(rows) {
                for (score, sum) in scores[columns.clone()].iter_mut().zip(sums) {
                    *score = sum * self.operands.scale;
                }
            }
        }
        let mut sums = [1.0; TILE_ROWS];
        for (scores, sum) in scratch.scores.chunks_exact_mut(count).zip(&mut sums).take(rows) {
            *sum = exp_row(self.isa, scores);
        }
        scratch.weights.resize(count, [0.0; TILE_ROWS]);
        let scores = Rows::new(&scratch.scores, count, count);
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
        cpu(isa, &Operands { qkv, offsets, heads, scale: 0.3, width }, &mut out);
        out.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn one_token_attends_to_itself() {
        let mut out = [0.0; 4];
        let qkv = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        attention(&qkv, &[0, 1], 2, 0.5, &mut out).unwrap();
        assert_eq!(out, [9.0, 10.0, 11.0, 12.0]);
    }

    #[test]
    fn two_tokens_share_by_worked_weights() {
        let qkv = [1.0, 0.0, 6.0, 1.0, 3.0_f32.ln(), 2.0];
        let mut out = [0.0; 2];
        attention(&qkv, &[0, 2], 1, 1.0, &mut out).unwrap();
        assert!((out[0] - 3.0).abs() < 1e-6, "{out:?}");
        assert!((out[1] - 3.0).abs() < 1e-6, "{out:?}");
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
        let message = |r: Result<()>| r.unwrap_err().to_string();
        assert!(message(attention(&[0.0; 12], &[0, 3], 1, 1.0, &mut out)).contains("3 tokens"));
        assert!(message(attention(&[0.0; 12], &[0, 2], 0, 1.0, &mut out)).contains("0 equal"));
        assert!(message(attention(&[0.0; 11], &[0, 2], 1, 1.0, &mut out)).contains("qkv"));
        for offsets in [&[] as &[usize], &[1, 2], &[0, 2, 1]] {
            assert!(message(attention(&[0.0; 12], offsets, 1, 1.0, &mut out)).contains("rise"));
        }
        attention(&[], &[0], 1, 1.0, &mut []).unwrap();
        assert!(attention(&[0.0; 12], &[0, usize::MAX], 3, 1.0, &mut out).is_err());
    }
}
