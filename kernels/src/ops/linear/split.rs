//! What products of every precision share: the left operand, and how an output is cut into tasks.
//!
//! Leaves out: arithmetic. Invariant: how an output is cut has no part in the numbers.

use super::PackedLinear;
use crate::isa::Isa;
use crate::tile::{LeftStep, Rows, TILE_COLUMNS, pack_tile};
use rayon::prelude::*;
use std::ops::Range;

/// Tasks per thread, so that a busy core does not hold up the others.
const TASKS_PER_THREAD: usize = 4;

/// The left operand of a product: rows of K values that need not lie in memory as such.
pub(crate) trait Left: Sync {
    /// Writes rows `first..first + count`, at most twelve, as one tile `[K][12]`; missing ones as
    /// zeros.
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]);

    /// Whether rows share most of their values, so that reading them where they lie is quicker than
    /// turning them first.
    fn overlaps(&self) -> bool {
        false
    }

    /// A row that lies in memory as such.
    fn in_place(&self, index: usize) -> Option<&[f32]>;

    /// Writes a row of K values to `row`.
    fn copy(&self, isa: Isa, index: usize, row: &mut [f32]);
}

impl Left for Rows<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        pack_tile(isa, *self, first, count, tile);
    }

    fn in_place(&self, index: usize) -> Option<&[f32]> {
        Some(Rows::row(self, index))
    }

    fn copy(&self, _isa: Isa, index: usize, row: &mut [f32]) {
        row.copy_from_slice(Rows::row(self, index));
    }
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

    /// Blocks that share the same rows.
    pub(super) fn column_blocks(&self) -> usize {
        self.panels.div_ceil(self.panels_per_block)
    }

    /// Calls `block(rows, panels)` for each block, several at a time if that pays.
    pub(super) fn for_each(&self, block: impl Fn(Range<usize>, Range<usize>) + Sync) {
        let column_blocks = self.column_blocks();
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
