//! Goes through blocks of positions, and cuts each into tasks.
//!
//! Leaves out: the arithmetic of a block. Invariant: a block's sums start from zero, and those of
//! all blocks are added in order; how tasks are cut has no part in the numbers.

use super::gather::fetch;
use super::{Arithmetic, Memory, POSITIONS_PER_BLOCK, Taps};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles of a task, so that it reads whole cache lines of the input.
const TILES_PER_TASK_MAX: usize = 4;
/// Tasks of a block below which several blocks are worked on at the same time instead.
const TASKS_MIN: usize = 8;
/// Blocks worked on at the same time.
const BLOCKS_AT_A_TIME: usize = 16;
/// Tiles of sums of such a block, so that they stay in the second cache.
const SUMS_OF_BLOCK_MAX: usize = 1 << 8;
/// Channels below which a block of the input stays in the second cache by itself.
const FETCHED_WIDTH_MIN: usize = 256;

/// One call's operands.
pub(super) struct Product<'a, A> {
    arithmetic: A,
    taps: &'a Taps<'a>,
    dy: &'a [f32],
    /// Values of a row of `dy`, and of the weights.
    width: usize,
    /// Rows of the weights.
    rows: usize,
    tiles: usize,
    panels: usize,
    tiles_per_task: usize,
}

impl<'a, A: Arithmetic> Product<'a, A> {
    /// Operands of a call that replaces `dkernel`.
    pub(super) fn new(
        arithmetic: A,
        (taps, dy): (&'a Taps<'a>, &'a [f32]),
        width: usize,
        dkernel: &[f32],
    ) -> Self {
        let rows = dkernel.len() / width;
        let (tiles, panels) = (rows.div_ceil(A::TILE), width.div_ceil(A::PANEL));
        let tiles_per_task = (tiles / TASKS_MIN).clamp(1, TILES_PER_TASK_MAX);
        Self { arithmetic, taps, dy, width, rows, tiles, panels, tiles_per_task }
    }

    /// Replaces `dkernel`.
    pub(super) fn run(&self, dkernel: &mut [f32]) {
        let [memory, _] = A::memory();
        let mut shared = memory.take();
        match self.dy.len().div_ceil(self.values_per_block()) {
            0 => dkernel.fill(0.0),
            1 => self.only_block(&mut shared, dkernel),
            _ => self.all_blocks(&mut shared, dkernel),
        }
        memory.set(shared);
    }

    /// Values of `dy` of a whole block.
    fn values_per_block(&self) -> usize {
        POSITIONS_PER_BLOCK * self.width
    }

    /// Writes the sums of a single block as they are.
    fn only_block(&self, shared: &mut Memory<A>, dkernel: &mut [f32]) {
        self.pack_panels_by_tasks(self.dy, &mut shared.columns);
        let rows_per_task = self.tiles_per_task * A::TILE;
        let each = dkernel.par_chunks_mut(rows_per_task * self.width).enumerate();
        each.for_each(|(task, out)| {
            let (tiles, positions) = (self.tiles_of(task), self.positions(0, self.dy));
            with_memory(|own: &mut Memory<A>| {
                let columns = &shared.columns;
                self.products(tiles, positions, columns, &mut own.rows, |tile, panel, sums| {
                    let out = &mut out[tile * A::TILE * self.width..];
                    self.arithmetic.write(sums, out, self.width, panel * A::PANEL);
                });
            });
        });
    }

    /// Adds up the sums of several blocks, then writes them.
    fn all_blocks(&self, shared: &mut Memory<A>, dkernel: &mut [f32]) {
        shared.totals.resize(self.tiles * self.panels, A::NO_SUMS);
        let tasks = self.tiles.div_ceil(self.tiles_per_task);
        if tasks < TASKS_MIN && shared.totals.len() <= SUMS_OF_BLOCK_MAX {
            self.several_at_a_time(shared);
        } else {
            self.one_after_the_other(shared);
        }
        let out = dkernel.par_chunks_mut(A::TILE * self.width);
        out.zip(shared.totals.par_chunks(self.panels)).for_each(|(out, totals)| {
            for (panel, sums) in totals.iter().enumerate() {
                self.arithmetic.write(sums, out, self.width, panel * A::PANEL);
            }
        });
    }

    /// Tasks of a few tiles each share a block's panels.
    fn one_after_the_other(&self, shared: &mut Memory<A>) {
        for (block, dy) in self.dy.chunks(self.values_per_block()).enumerate() {
            self.pack_panels_by_tasks(dy, &mut shared.columns);
            let totals_per_task = self.tiles_per_task * self.panels;
            let each = shared.totals.par_chunks_mut(totals_per_task).enumerate();
            each.for_each(|(task, totals)| {
                let (tiles, positions) = (self.tiles_of(task), self.positions(block, dy));
                with_memory(|own: &mut Memory<A>| {
                    let columns = &shared.columns;
                    self.products(tiles, positions, columns, &mut own.rows, |tile, panel, sums| {
                        self.add(block, &mut totals[tile * self.panels + panel], sums);
                    });
                });
            });
        }
    }

    /// A task per block, whose sums are added up when all are there.
    fn several_at_a_time(&self, shared: &mut Memory<A>) {
        let per_block = shared.totals.len();
        let blocks = self.dy.len().div_ceil(self.values_per_block());
        shared.sums.resize(blocks.min(BLOCKS_AT_A_TIME) * per_block, A::NO_SUMS);
        for first in (0..blocks).step_by(BLOCKS_AT_A_TIME) {
            let dy = &self.dy[first * self.values_per_block()..];
            let each =
                dy.par_chunks(self.values_per_block()).zip(shared.sums.par_chunks_mut(per_block));
            each.enumerate().with_max_len(1).for_each(|(block, (dy, sums))| {
                with_memory(|own: &mut Memory<A>| {
                    let (tiles, positions) = (0..self.tiles, self.positions(first + block, dy));
                    self.pack_panels(dy, &mut own.columns);
                    let columns = &own.columns;
                    self.products(
                        tiles,
                        positions,
                        columns,
                        &mut own.rows,
                        |tile, panel, found| {
                            sums[tile * self.panels + panel] = *found;
                        },
                    );
                });
            });
            let some = BLOCKS_AT_A_TIME.min(blocks - first);
            for (block, sums) in shared.sums.chunks_exact(per_block).enumerate().take(some) {
                for (total, sums) in shared.totals.iter_mut().zip(sums) {
                    self.add(first + block, total, sums);
                }
            }
        }
    }

    /// Adds a block's sums to those before it, if there are any.
    fn add(&self, block: usize, total: &mut A::Sums, sums: &A::Sums) {
        if block == 0 {
            *total = *sums;
        } else {
            self.arithmetic.add(total, sums);
        }
    }

    /// Computes one block's products of `tiles` and all panels, and gives each to `take`, with its
    /// tile, counted from the first of `tiles`, and its panel.
    fn products(
        &self,
        tiles: Range<usize>,
        positions: Range<usize>,
        columns: &[A::Columns],
        packed: &mut Vec<A::Rows>,
        mut take: impl FnMut(usize, usize, &A::Sums),
    ) {
        let steps = A::steps(positions.len());
        packed.resize(tiles.len() * steps, A::NO_ROWS);
        self.arithmetic.pack_rows(self.taps, tiles.clone(), positions.clone(), packed);
        // What the next task reads comes nearer a little after every product.
        let next = tiles.end * A::TILE;
        let next = next..self.rows.min(next + tiles.len() * A::TILE);
        let positions_per_product = positions.len().div_ceil(tiles.len() * self.panels);
        let fetched = if self.taps.width < FETCHED_WIDTH_MIN { 0 } else { positions_per_product };
        let mut ahead = positions;
        for (index, (tile, packed)) in tiles.zip(packed.chunks_exact(steps)).enumerate() {
            let extents = (A::TILE.min(self.rows - tile * A::TILE), self.width);
            self.arithmetic.products(extents, packed, columns, |panel, sums| {
                take(index, panel, sums);
                let some = ahead.start..ahead.end.min(ahead.start + fetched);
                ahead.start = some.end;
                fetch(self.taps, next.clone(), some);
            });
        }
    }

    /// Packs all panels of a block's part of `dy`, several at a time.
    fn pack_panels_by_tasks(&self, dy: &[f32], columns: &mut Vec<A::Columns>) {
        let steps = A::steps(dy.len() / self.width);
        columns.resize(self.panels * steps, A::NO_COLUMNS);
        columns.par_chunks_exact_mut(steps).enumerate().for_each(|(panel, packed)| {
            self.arithmetic.pack_columns(dy, self.width, panel * A::PANEL, packed);
        });
    }

    /// Packs all panels of a block's part of `dy`.
    fn pack_panels(&self, dy: &[f32], columns: &mut Vec<A::Columns>) {
        let steps = A::steps(dy.len() / self.width);
        columns.resize(self.panels * steps, A::NO_COLUMNS);
        for (panel, packed) in columns.chunks_exact_mut(steps).enumerate() {
            self.arithmetic.pack_columns(dy, self.width, panel * A::PANEL, packed);
        }
    }

    /// The tiles of a task.
    fn tiles_of(&self, task: usize) -> Range<usize> {
        let first = task * self.tiles_per_task;
        first..self.tiles.min(first + self.tiles_per_task)
    }

    /// The positions of a block, whose part of `dy` is given.
    fn positions(&self, block: usize, dy: &[f32]) -> Range<usize> {
        let first = block * POSITIONS_PER_BLOCK;
        first..first + dy.len() / self.width
    }
}

/// Lends a task what its thread keeps for tasks.
fn with_memory<A: Arithmetic>(task: impl FnOnce(&mut Memory<A>)) {
    let [_, memory] = A::memory();
    let mut own = memory.take();
    task(&mut own);
    memory.set(own);
}
