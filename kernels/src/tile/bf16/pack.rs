//! Rounds f32 matrices to bf16 and lays them out the way the tile reads them.
//!
//! Leaves out: arithmetic. Invariant: missing rows, columns and values of k are zeros, never stale.

use super::{HALF, SIDE, STEP_WIDTH, Step};
use crate::isa::{Isa, per_isa};
use crate::tile::Rows;

/// Replaces `packed` by rows `first..first + count`: blocks of 32 rows, each a step per 32 of k.
pub(crate) fn pack_rows(
    isa: Isa,
    rows: Rows<'_>,
    first: usize,
    count: usize,
    packed: &mut Vec<Step>,
) {
    let steps = rows.width().div_ceil(STEP_WIDTH);
    packed.resize(count.div_ceil(SIDE) * steps, Step::ZERO);
    for (block, packed) in packed.chunks_exact_mut(steps.max(1)).enumerate() {
        let start = block * SIDE;
        pack_left(isa, rows, first + start, SIDE.min(count - start), packed);
    }
}

per_isa!(
    /// Writes at most 32 rows as the left operand of a block.
    fn pack_left(rows: Rows<'_>, first: usize, count: usize, packed: &mut [Step]) = left_of_rows
);

per_isa!(
    /// Writes at most 32 rows, the columns of a product, as the right operand of a block.
    pub(crate) fn pack_steps(rows: Rows<'_>, first: usize, count: usize, packed: &mut [Step]) =
        right_of_rows
);

#[inline(always)]
fn left_of_rows(rows: Rows<'_>, first: usize, count: usize, packed: &mut [Step]) {
    each_step(rows, first, count, packed, |step, row, pairs| {
        step.0[row / HALF].0[row % HALF] = pairs;
    });
}

#[inline(always)]
fn right_of_rows(rows: Rows<'_>, first: usize, count: usize, packed: &mut [Step]) {
    each_step(rows, first, count, packed, |step, column, pairs| {
        for (line, pair) in step.0[column / HALF].0.iter_mut().zip(pairs) {
            line[column % HALF] = pair;
        }
    });
}

/// Calls `write` with the sixteen pairs of each of 32 rows in each step.
#[inline(always)]
fn each_step(
    rows: Rows<'_>,
    first: usize,
    count: usize,
    packed: &mut [Step],
    write: impl Fn(&mut Step, usize, [u32; HALF]),
) {
    for index in 0..SIDE {
        let row = if index < count { rows.row(first + index) } else { &[] };
        let (whole, rest) = row.as_chunks::<STEP_WIDTH>();
        let mut last = [0.0; STEP_WIDTH];
        last[..rest.len()].copy_from_slice(rest);
        let values = whole.iter().chain(std::iter::once(&last));
        let values = values.chain(std::iter::repeat(&[0.0; STEP_WIDTH]));
        for (step, values) in packed.iter_mut().zip(values) {
            write(step, index, pairs_of(values));
        }
    }
}

#[inline(always)]
fn pairs_of(values: &[f32; STEP_WIDTH]) -> [u32; HALF] {
    let rounded = values.map(rounded);
    std::array::from_fn(|i| rounded[2 * i] >> 16 | rounded[2 * i + 1])
}

/// The nearest bf16, ties to even, in the upper half of a word; NaN stays NaN.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    let nearest = bits.wrapping_add(0x7fff + even);
    (if value.is_nan() { bits | 0x0040_0000 } else { nearest }) & 0xffff_0000
}
