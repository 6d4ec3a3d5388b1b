//! The blocked product in bf16.
//!
//! Leaves out: f32, whose blocks are smaller. Invariant: how an output is cut into blocks and
//! tasks has no part in the numbers.

use super::product::{Left, Split};
use super::{Epilogue, PackedLinear};
use crate::parallel::SharedRows;
use crate::tile::bf16::{SIDE, STEP_WIDTH, Step, Sums, Unit, pack_row};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Rows that share one reading of the weights.
const ROWS_PER_BLOCK_MAX: usize = 8 * SIDE;
/// Packed input of a block of rows, which stays in the second cache beside a panel.
const BLOCK_VALUES_MAX: usize = 3 << 17;
/// Packed input of all rows that are worked on at a time.
const PACKED_VALUES_MAX: usize = 1 << 23;
/// Multiply-adds below which a second thread does not pay.
const PRODUCTS_PER_TASK_MIN: usize = 1 << 22;
/// Values below which packing on a second thread does not pay.
const PACKED_VALUES_PER_TASK_MIN: usize = 1 << 16;

thread_local! {
    /// Packed input of the rows this thread works on, kept between calls.
    static PACKED_INPUT: Cell<Vec<Step>> = const { Cell::new(Vec::new()) };
}

/// Fills every row of `out` by the product of the same row of `left` with `panels`.
///
/// Rows are packed once for all panels, as packing costs as much as hundreds of products a value.
pub(super) fn multiply(
    unit: Unit,
    left: impl Left,
    (weights, panels): (&PackedLinear, &[Step]),
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let rows = out.len() / weights.output_width;
    let steps = weights.input_width.div_ceil(STEP_WIDTH);
    let out = SharedRows::new(out, weights.output_width);
    let product = Product { unit, weights, panels, steps, epilogue, out };
    let blocks = (BLOCK_VALUES_MAX / SIDE / weights.input_width).max(1);
    let rows_per_block = (blocks * SIDE).min(ROWS_PER_BLOCK_MAX);
    let rows_at_a_time =
        (PACKED_VALUES_MAX / weights.input_width / rows_per_block).max(1) * rows_per_block;
    let mut packed = PACKED_INPUT.take();
    for first in (0..rows).step_by(rows_at_a_time) {
        let some = first..rows.min(first + rows_at_a_time);
        pack(unit, &left, some.clone(), steps, &mut packed);
        let split = Split::new(some.len(), rows_per_block, PRODUCTS_PER_TASK_MIN, weights);
        split.for_each(|rows, panels| {
            let packed = &packed[rows.start / SIDE * steps..];
            product.block(packed, first + rows.start..first + rows.end, panels);
        });
    }
    PACKED_INPUT.set(packed);
}

/// Replaces `packed` by `rows`, 32 of them a group of steps.
fn pack(unit: Unit, left: &impl Left, rows: Range<usize>, steps: usize, packed: &mut Vec<Step>) {
    packed.resize(rows.len().div_ceil(SIDE) * steps, Step::ZERO);
    let groups_per_task = (PACKED_VALUES_PER_TASK_MIN / SIDE / STEP_WIDTH / steps).max(1);
    let each = packed.par_chunks_exact_mut(steps).enumerate().with_min_len(groups_per_task);
    each.for_each_init(Vec::new, |gathered, (group, packed)| {
        let first = rows.start + group * SIDE;
        for row in 0..SIDE {
            let inside = first + row < rows.end;
            let values = if inside { left.row(first + row, gathered) } else { &[] };
            pack_row(unit.isa(), values, row, packed);
        }
    });
}

/// One call's operands, but for its rows.
struct Product<'a> {
    unit: Unit,
    weights: &'a PackedLinear,
    panels: &'a [Step],
    /// Steps of a panel.
    steps: usize,
    epilogue: Epilogue,
    out: SharedRows<'a>,
}

impl Product<'_> {
    /// Computes `rows`, which `packed` begins with, times the columns of `panels`.
    fn block(&self, packed: &[Step], rows: Range<usize>, panels: Range<usize>) {
        let ready = self.unit.ready();
        for panel in panels {
            let right = &self.panels[panel * self.steps..][..self.steps];
            for (group, left) in packed.chunks_exact(self.steps).enumerate() {
                let first = rows.start + group * SIDE;
                if first >= rows.end {
                    break;
                }
                let rows = first..rows.end.min(first + SIDE);
                let mut sums = Sums([self.weights.bias[panel].0; SIDE]);
                ready.add_products(&mut sums, rows.len(), left, right);
                let sums = &mut sums.0[..rows.len()];
                // SAFETY: tasks have disjoint blocks, and a task does one group of one panel at a time.
                unsafe { self.epilogue.finish(self.unit.isa(), sums, &self.out, rows, panel) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
