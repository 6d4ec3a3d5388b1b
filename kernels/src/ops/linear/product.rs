//! The blocked product under linear layers and convolutions.
//!
//! Leaves out: where left operands come from; they pack themselves. Invariant: how an output is
//! cut into blocks and tasks has no part in the numbers.

use super::{Epilogue, PackedLinear, Panels, bf16};
use crate::isa::Isa;
use crate::parallel::SharedRows;
use crate::tile::bf16::Unit;
use crate::tile::{LeftStep, PanelStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_tile};
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

    /// One row, in place or gathered into `gathered`.
    fn row<'a>(&'a self, index: usize, gathered: &'a mut Vec<f32>) -> &'a [f32];
}

impl Left for Rows<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        pack_tile(isa, *self, first, count, tile);
    }

    fn row<'a>(&'a self, index: usize, _gathered: &'a mut Vec<f32>) -> &'a [f32] {
        Rows::row(self, index)
    }
}

/// Fills every row of `out` by the product of the same row of `left` with the weights.
pub(crate) fn multiply(
    isa: Isa,
    left: impl Left,
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    match &weights.panels {
        Panels::F32(panels) => multiply_f32(isa, left, (weights, panels), epilogue, out),
        Panels::Bf16(panels) => {
            bf16::multiply(Unit::beside(isa), left, (weights, panels), epilogue, out);
        }
    }
}

/// Splits the output into blocks of rows and of panels; each block is one task.
fn multiply_f32(
    isa: Isa,
    left: impl Left,
    (weights, panels): (&PackedLinear, &[PanelStep]),
    epilogue: Epilogue,
    out: &mut [f32],
) {
    let rows = out.len() / weights.output_width;
    let out = SharedRows::new(out, weights.output_width);
    let product = Product { isa, left, weights, panels, epilogue, out };
    let tiles = (PACKED_VALUES_MAX / TILE_ROWS / weights.input_width).clamp(1, TILES_PER_BLOCK_MAX);
    let split = Split::new(rows, tiles * TILE_ROWS, PRODUCTS_PER_TASK_MIN, weights);
    split.for_each(|rows, panels| product.block(rows, panels));
}

/// How an output is cut into tasks.
pub(super) struct Split {
    rows: usize,
    panels: usize,
    rows_per_block: usize,
    panels_per_block: usize,
    parallel: bool,
}

impl Split {
    /// Blocks of `rows_per_block` rows, in as many parts as keep the threads busy with tasks of at
    /// least `products_min` multiply-adds.
    pub(super) fn new(
        rows: usize,
        rows_per_block: usize,
        products_min: usize,
        weights: &PackedLinear,
    ) -> Self {
        let (panels, threads) = (weights.bias.len(), rayon::current_num_threads());
        let row_blocks = rows.div_ceil(rows_per_block).max(1);
        let products_of_row = weights.input_width.saturating_mul(panels * TILE_COLUMNS);
        let products = rows.saturating_mul(products_of_row);
        let tasks = (threads * TASKS_PER_THREAD).min(products / products_min);
        let parallel = threads > 1 && tasks > 1;
        let wanted = if parallel { tasks.div_ceil(row_blocks).clamp(1, panels) } else { 1 };
        Self { rows, panels, rows_per_block, panels_per_block: panels.div_ceil(wanted), parallel }
    }

    /// Calls `block(rows, panels)` for each block, several at a time if that pays.
    pub(super) fn for_each(&self, block: impl Fn(Range<usize>, Range<usize>) + Sync) {
        let column_blocks = self.panels.div_ceil(self.panels_per_block);
        let run = |task: usize| {
            let row = task / column_blocks * self.rows_per_block;
            let panel = task % column_blocks * self.panels_per_block;
            block(
                row..self.rows.min(row + self.rows_per_block),
                panel..self.panels.min(panel + self.panels_per_block),
            );
        };
        let tasks = self.rows.div_ceil(self.rows_per_block) * column_blocks;
        if self.parallel {
            (0..tasks).into_par_iter().with_max_len(1).for_each(run);
        } else {
            (0..tasks).for_each(run);
        }
    }
}

/// One call's operands.
struct Product<'a, L> {
    isa: Isa,
    left: L,
    weights: &'a PackedLinear,
    panels: &'a [PanelStep],
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
        let right = &self.panels[panel * steps..][..steps];
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
            unsafe {
                self.epilogue.finish(self.isa, &mut sums.0[..rows.len()], &self.out, rows, panel);
            }
        }
    }
}
