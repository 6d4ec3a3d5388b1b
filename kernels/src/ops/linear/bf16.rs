//! The blocked product in bf16.
//!
//! Leaves out: f32, whose blocks are smaller. Invariant: how an output is cut into blocks and
//! tasks has no part in the numbers.

use super::split::{Left, Split};
use super::{Epilogue, PackedLinear};
use crate::parallel::SharedRows;
use crate::tile::bf16::{SIDE, STEP_WIDTH, Step, Sums, Unit, pack_row};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Rows that share one reading of the weights.
const ROWS_PER_BLOCK: usize = 8 * SIDE;
/// Steps of all rows of a block, 32 rows together, that stay in the second cache; with more, all
/// panels of a task take a part of k before the next.
const STEPS_PER_CHUNK_MAX: usize = 8 * 48;
/// Packed values of all rows that are worked on at a time.
const PACKED_VALUES_MAX: usize = 1 << 23;
/// Panels whose sums are written together, so that a row's outputs come in longer runs.
const PANELS_MAX: usize = 8;
/// Values of these panels' weights, which stay in the second cache beside a block of rows.
const PANELS_VALUES_MAX: usize = 3 << 16;
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
/// Rows are packed once for all panels: by the task that has all panels of a block of rows, while
/// they stay in its caches, or else before the tasks that share them.
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
    let split = Split::new(rows, ROWS_PER_BLOCK, PRODUCTS_PER_TASK_MIN, weights);
    if split.column_blocks() == 1 {
        return split.for_each(|rows, panels| {
            let mut packed = PACKED_INPUT.take();
            packed.resize(rows.len().div_ceil(SIDE) * steps, Step::ZERO);
            let mut gathered = vec![0.0; weights.input_width];
            for (group, packed) in packed.chunks_exact_mut(steps).enumerate() {
                let first = rows.start + group * SIDE;
                pack_group(unit, &left, first..rows.end.min(first + SIDE), packed, &mut gathered);
            }
            product.block(&packed, rows, panels);
            PACKED_INPUT.set(packed);
        });
    }
    let rows_at_a_time =
        (PACKED_VALUES_MAX / weights.input_width / ROWS_PER_BLOCK).max(1) * ROWS_PER_BLOCK;
    let mut packed = PACKED_INPUT.take();
    for first in (0..rows).step_by(rows_at_a_time) {
        let some = first..rows.min(first + rows_at_a_time);
        pack(unit, &left, some.clone(), (weights.input_width, steps), &mut packed);
        let split = Split::new(some.len(), ROWS_PER_BLOCK, PRODUCTS_PER_TASK_MIN, weights);
        split.for_each(|rows, panels| {
            let packed = &packed[rows.start / SIDE * steps..];
            product.block(packed, first + rows.start..first + rows.end, panels);
        });
    }
    PACKED_INPUT.set(packed);
}

/// Replaces `packed` by `rows`, 32 of them a group of steps.
fn pack(
    unit: Unit,
    left: &impl Left,
    rows: Range<usize>,
    (width, steps): (usize, usize),
    packed: &mut Vec<Step>,
) {
    packed.resize(rows.len().div_ceil(SIDE) * steps, Step::ZERO);
    let groups_per_task = (PACKED_VALUES_PER_TASK_MIN / SIDE / STEP_WIDTH / steps).max(1);
    let each = packed.par_chunks_exact_mut(steps).enumerate().with_min_len(groups_per_task);
    each.for_each_init(
        || vec![0.0; width],
        |gathered, (group, packed)| {
            let first = rows.start + group * SIDE;
            pack_group(unit, left, first..rows.end.min(first + SIDE), packed, gathered);
        },
    );
}

/// Replaces `packed`, one group of steps, by at most 32 rows and zeros.
fn pack_group(
    unit: Unit,
    left: &impl Left,
    rows: Range<usize>,
    packed: &mut [Step],
    gathered: &mut [f32],
) {
    for place in 0..SIDE {
        let row = rows.start + place;
        if row >= rows.end {
            pack_row(unit.isa(), &[], place, packed);
        } else if let Some(values) = left.in_place(row) {
            pack_row(unit.isa(), values, place, packed);
        } else {
            left.copy(unit.isa(), row, gathered);
            pack_row(unit.isa(), gathered, place, packed);
        }
    }
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
        let groups = rows.len().div_ceil(SIDE);
        let chunks = (groups * self.steps).div_ceil(STEPS_PER_CHUNK_MAX).clamp(1, self.steps);
        let chunk = self.steps.div_ceil(chunks);
        // With one chunk, sums are finished before those of other rows begin.
        let kept = if chunks == 1 { 1 } else { groups };
        let mut kept = vec![[Sums([[0.0; SIDE]; SIDE]); PANELS_MAX]; kept];
        let some = (PANELS_VALUES_MAX / SIDE / STEP_WIDTH / chunk).clamp(1, PANELS_MAX);
        let ready = self.unit.ready();
        for first_panel in panels.clone().step_by(some) {
            let panels = first_panel..panels.end.min(first_panel + some);
            for start in (0..self.steps).step_by(chunk) {
                let steps = start..self.steps.min(start + chunk);
                for (group, first) in rows.clone().step_by(SIDE).enumerate() {
                    let sums = &mut kept[if chunks == 1 { 0 } else { group }];
                    let rows = first..rows.end.min(first + SIDE);
                    let left = &packed[group * self.steps..][steps.clone()];
                    let last = steps.end == self.steps;
                    let in_place = last && self.is_whole(&rows, &panels);
                    for (panel, sums) in panels.clone().zip(&mut *sums) {
                        let bias = (start == 0).then(|| &self.weights.bias[panel].0);
                        let right = &self.panels[panel * self.steps..][steps.clone()];
                        if in_place {
                            let first = panel * SIDE;
                            let out = self.out.block(rows.clone(), first..first + SIDE);
                            let out = (out, self.out.width());
                            // SAFETY: tasks have disjoint blocks, and `block` checked this one.
                            unsafe { ready.write_products(sums, bias, left, right, out) };
                            continue;
                        }
                        ready.add_products(sums, bias, rows.len(), left, right);
                    }
                    if last && !in_place {
                        self.finish(sums, rows, panels.clone());
                    }
                }
            }
        }
    }

    /// Whether sums are outputs as they are, and all of a block's registers are in use.
    fn is_whole(&self, rows: &Range<usize>, panels: &Range<usize>) -> bool {
        let fills = rows.len() == SIDE && panels.end * SIDE <= self.out.width();
        fills && self.epilogue == Epilogue::None
    }

    /// Applies the epilogue and writes each row's outputs of all `panels` in one run.
    fn finish(&self, sums: &mut [Sums], rows: Range<usize>, panels: Range<usize>) {
        let sums = &mut sums[..panels.len()];
        for sums in &mut *sums {
            self.epilogue.activate(self.unit.isa(), &mut sums.0[..rows.len()]);
        }
        let isa = self.unit.isa();
        for (index, row) in rows.enumerate() {
            // SAFETY: tasks have disjoint blocks, and a task writes one span at a time.
            unsafe { self.epilogue.write_panels(isa, (sums, index), &self.out, row, &panels) };
        }
    }
}

#[cfg(test)]
mod tests;
