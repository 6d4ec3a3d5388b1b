//! The blocked product under linear layers and convolutions.
//!
//! Leaves out: where left operands come from; they pack themselves. Invariant: how an output is
//! cut into blocks and tasks has no part in the numbers.

use super::{Epilogue, PackedLinear};
use crate::isa::Isa;
use crate::parallel::SharedRows;
use crate::tile::{LeftStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_tile};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Steps of k between which the sums of a panel's tiles wait in the nearest cache.
const STEPS_PER_BLOCK: usize = 256;
/// Tiles of rows that share one reading of the weights.
const TILES_PER_BLOCK_MAX: usize = 8;
/// Packed input of a block of rows, so that it stays in the second cache.
const PACKED_VALUES_MAX: usize = 1 << 18;
/// Multiply-adds below which a second thread does not pay.
const PRODUCTS_PER_TASK_MIN: usize = 1 << 19;
/// Tasks per thread, so that a busy core does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

thread_local! {
    /// Packed input of the block this thread works on, kept between calls.
    static PACKED_INPUT: Cell<Vec<LeftStep>> = const { Cell::new(Vec::new()) };
}

/// The left operand of a product: rows of K values that need not lie in memory as such.
pub(crate) trait Left: Sync {
    /// Writes rows `first..first + count`, at most twelve, as one tile `[K][12]`; missing ones as
    /// zeros.
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]);
}

impl Left for Rows<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        pack_tile(isa, *self, first, count, tile);
    }
}

/// Fills every row of `out` by the product of the same row of `left` with the weights.
///
/// Splits the output into blocks of rows and of panels; each block is one task.
pub(crate) fn multiply(
    isa: Isa,
    left: impl Left,
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let rows = out.len() / weights.output_width;
    let out = SharedRows::new(out, weights.output_width);
    let product = Product { isa, left, weights, epilogue, out };
    let split = Split::new(rows, weights, rayon::current_num_threads());
    let run = |task: usize| {
        let row = task / split.column_blocks * split.rows_per_block;
        let panel = task % split.column_blocks * split.panels_per_block;
        product.block(
            row..rows.min(row + split.rows_per_block),
            panel..weights.bias.len().min(panel + split.panels_per_block),
        );
    };
    let tasks = rows.div_ceil(split.rows_per_block) * split.column_blocks;
    if split.parallel {
        (0..tasks).into_par_iter().with_max_len(1).for_each(run);
    } else {
        (0..tasks).for_each(run);
    }
}

/// How an output is cut into tasks.
struct Split {
    rows_per_block: usize,
    panels_per_block: usize,
    column_blocks: usize,
    parallel: bool,
}

impl Split {
    fn new(rows: usize, weights: &PackedLinear, threads: usize) -> Self {
        let (panels, steps) = (weights.bias.len(), weights.input_width);
        let tiles_max = (PACKED_VALUES_MAX / TILE_ROWS / steps).clamp(1, TILES_PER_BLOCK_MAX);
        let rows_per_block = tiles_max * TILE_ROWS;
        let row_blocks = rows.div_ceil(rows_per_block).max(1);
        let products = rows.saturating_mul(steps).saturating_mul(panels * TILE_COLUMNS);
        let tasks = (threads * TASKS_PER_THREAD).min(products / PRODUCTS_PER_TASK_MIN);
        let parallel = threads > 1 && tasks > 1;
        let wanted = if parallel { tasks.div_ceil(row_blocks).clamp(1, panels) } else { 1 };
        let panels_per_block = panels.div_ceil(wanted);
        let column_blocks = panels.div_ceil(panels_per_block);
        Self { rows_per_block, panels_per_block, column_blocks, parallel }
    }
}

/// One call's operands.
struct Product<'a, L> {
    isa: Isa,
    left: L,
    weights: &'a PackedLinear,
    epilogue: Epilogue,
    out: SharedRows<'a>,
}

impl<L: Left> Product<'_, L> {
    /// Computes `rows` times the columns of `panels`.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let mut packed = PACKED_INPUT.take();
        let steps = self.weights.input_width;
        packed.resize(rows.len().div_ceil(TILE_ROWS) * steps, [0.0; TILE_ROWS]);
        for (tile, packed) in packed.chunks_exact_mut(steps).enumerate() {
            let start = tile * TILE_ROWS;
            let count = TILE_ROWS.min(rows.len() - start);
            self.left.pack(self.isa, rows.start + start, count, packed);
        }
        for panel in panels {
            self.panel(&packed, rows.clone(), panel);
        }
        PACKED_INPUT.set(packed);
    }

    /// Computes `rows` times one panel; a part of the panel is read once for all tiles.
    fn panel(&self, packed: &[LeftStep], rows: Range<usize>, panel: usize) {
        let steps = self.weights.input_width;
        let right = &self.weights.panels[panel * steps..][..steps];
        let tiles = rows.len().div_ceil(TILE_ROWS);
        let mut sums = [Tile([self.weights.bias[panel].0; TILE_ROWS]); TILES_PER_BLOCK_MAX];
        for (block, right) in right.chunks(STEPS_PER_BLOCK).enumerate() {
            for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
                let left = &packed[tile * steps + block * STEPS_PER_BLOCK..][..right.len()];
                let filled = TILE_ROWS.min(rows.len() - tile * TILE_ROWS);
                sums.add_products(self.isa, filled, left, right);
            }
        }
        for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
            let first = rows.start + tile * TILE_ROWS;
            let rows = first..rows.end.min(first + TILE_ROWS);
            // SAFETY: tasks have disjoint blocks, and a task does one tile of one panel at a time.
            unsafe { self.epilogue.finish(self.isa, sums, &self.out, rows, panel) };
        }
    }
}
