//! The gradients with respect to weights and bias: sums over all positions of a batch.
//!
//! Leaves out: products over channels. Invariant: blocks of 512 positions are summed from zero, and
//! their sums added in order, however tasks are cut.

mod gather;
mod rounded;
mod strict;

use super::taps::Taps;
use crate::isa::{Isa, per_isa};
use crate::ops::precision::Precision;
use crate::tile::TILE_COLUMNS;
use crate::tile::bf16::Unit;
use gather::fetch;
use rayon::prelude::*;
use rounded::Rounded;
use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;
use strict::Strict;

/// Positions whose products are one chain; part of the meaning of the sums.
const POSITIONS_PER_BLOCK: usize = 512;
/// Tiles of a task, so that it reads whole cache lines of the input.
const TILES_PER_TASK_MAX: usize = 4;
/// Tasks below which blocks are worked on at the same time, rather than one after the other.
const TASKS_MIN: usize = 8;
/// Blocks worked on at the same time.
const BLOCKS_AT_A_TIME: usize = 16;
/// Tiles of sums of as many blocks, so that they stay in the second cache.
const SUMS_OF_BLOCK_MAX: usize = 1 << 8;

/// How the products of one block are computed, and laid out for it.
trait Arithmetic: Copy + Sync + 'static {
    /// What a packed panel of 32 columns of `dy` is made of.
    type Columns: Copy + Send + Sync;
    /// What a packed tile of columns of the gathered input is made of.
    type Rows: Copy + Send + Sync;
    /// The sums of a tile and a panel.
    type Sums: Copy + Send + Sync;
    /// Rows of the weights that a tile holds.
    const TILE: usize;
    const NO_COLUMNS: Self::Columns;
    const NO_ROWS: Self::Rows;
    const NO_SUMS: Self::Sums;

    /// Memory of whole products, and of tasks, kept by each thread between calls.
    fn memory() -> [&'static LocalKey<Cell<Memory<Self>>>; 2];

    /// Elements of a packed panel or tile for so many positions.
    fn steps(positions: usize) -> usize;

    /// Packs the columns of `dy`, rows of `width` values, from `first` on.
    fn pack_columns(self, dy: &[f32], width: usize, first: usize, packed: &mut [Self::Columns]);

    /// Packs `tiles` of rows of the weights at `positions`, one tile after the other.
    fn pack_rows(
        self,
        taps: &Taps<'_>,
        tiles: Range<usize>,
        positions: Range<usize>,
        packed: &mut [Self::Rows],
    );

    /// Products of one tile and every panel, each added up from zero and given to `take`; the
    /// extents are the rows of this tile and the columns of all panels.
    fn products(
        self,
        extents: (usize, usize),
        tile: &[Self::Rows],
        panels: &[Self::Columns],
        take: impl FnMut(usize, &Self::Sums),
    );

    /// Adds a block's sums to those before it.
    fn add(self, totals: &mut Self::Sums, sums: &Self::Sums);

    /// Writes the sums of a panel to the columns of `out`, rows of `width` values, from `first` on.
    fn write(self, sums: &Self::Sums, out: &mut [f32], width: usize, first: usize);
}

/// What is packed and summed.
struct Memory<A: Arithmetic> {
    columns: Vec<A::Columns>,
    rows: Vec<A::Rows>,
    sums: Vec<A::Sums>,
    totals: Vec<A::Sums>,
    bias: Vec<f32>,
}

impl<A: Arithmetic> Memory<A> {
    const EMPTY: Self = Self {
        columns: Vec::new(),
        rows: Vec::new(),
        sums: Vec::new(),
        totals: Vec::new(),
        bias: Vec::new(),
    };
}

impl<A: Arithmetic> Default for Memory<A> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Replaces `dkernel` and `dbias` by the products of all positions' taps and `dy`.
pub(super) fn weight_gradient(
    isa: Isa,
    precision: Precision,
    (taps, dy): (&Taps<'_>, &[f32]),
    width: usize,
    dkernel: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    match precision {
        Precision::F32 => {
            Product { arithmetic: Strict(isa), isa, taps, dy, width }.run(dkernel, dbias);
        }
        Precision::Bf16 => {
            let arithmetic = Rounded(Unit::beside(isa));
            Product { arithmetic, isa, taps, dy, width }.run(dkernel, dbias);
        }
    }
}

/// One call's operands.
struct Product<'a, A> {
    arithmetic: A,
    isa: Isa,
    taps: &'a Taps<'a>,
    dy: &'a [f32],
    /// Values of a row of `dy`.
    width: usize,
}

impl<A: Arithmetic> Product<'_, A> {
    fn run(&self, dkernel: &mut [f32], dbias: Option<&mut [f32]>) {
        let [memory, _] = A::memory();
        let mut shared = memory.take();
        let rows = dkernel.len() / self.width;
        let (tiles, panels) = (rows.div_ceil(A::TILE), self.width.div_ceil(TILE_COLUMNS));
        shared.totals.clear();
        shared.totals.resize(tiles * panels, A::NO_SUMS);
        let mut no_bias = Vec::new();
        let dbias = dbias.unwrap_or(&mut no_bias);
        dbias.fill(0.0);
        let blocks = self.dy.len().div_ceil(POSITIONS_PER_BLOCK * self.width);
        let tiles_per_task = (tiles / TASKS_MIN).clamp(1, TILES_PER_TASK_MAX);
        let few = tiles.div_ceil(tiles_per_task) < TASKS_MIN.max(tiles_per_task);
        if few && blocks > 1 && tiles * panels <= SUMS_OF_BLOCK_MAX {
            self.several_blocks_at_a_time(rows, &mut shared, dbias);
        } else {
            self.block_by_block((rows, tiles_per_task), &mut shared, dbias);
        }
        let each =
            dkernel.par_chunks_mut(A::TILE * self.width).zip(shared.totals.par_chunks(panels));
        each.for_each(|(out, totals)| {
            for (panel, sums) in totals.iter().enumerate() {
                self.arithmetic.write(sums, out, self.width, panel * TILE_COLUMNS);
            }
        });
        memory.set(shared);
    }

    /// Tasks of a few tiles each share a block's panels.
    fn block_by_block(
        &self,
        (rows, tiles_per_task): (usize, usize),
        shared: &mut Memory<A>,
        dbias: &mut [f32],
    ) {
        let panels = self.width.div_ceil(TILE_COLUMNS);
        let [_, memory] = A::memory();
        for (block, dy) in self.dy.chunks(POSITIONS_PER_BLOCK * self.width).enumerate() {
            let positions = self.positions(block, dy);
            let steps = A::steps(positions.len());
            shared.columns.resize(panels * steps, A::NO_COLUMNS);
            shared.bias.resize(panels * TILE_COLUMNS, 0.0);
            let bias = shared.bias.par_chunks_mut(TILE_COLUMNS);
            let each = shared.columns.par_chunks_mut(steps).zip(bias).enumerate();
            each.for_each(|(panel, (packed, bias))| {
                let first = panel * TILE_COLUMNS;
                self.arithmetic.pack_columns(dy, self.width, first, packed);
                if !dbias.is_empty() {
                    column_sums(self.isa, dy, self.width, first, bias);
                }
            });
            dbias.iter_mut().zip(&shared.bias).for_each(|(total, sum)| *total += sum);
            let each = shared.totals.par_chunks_mut(panels * tiles_per_task).enumerate();
            each.for_each(|(task, totals)| {
                let mut own = memory.take();
                let first = task * tiles_per_task;
                let tiles = first..first + totals.len() / panels;
                self.tiles(
                    (rows, tiles),
                    positions.clone(),
                    &shared.columns,
                    &mut own.rows,
                    totals,
                );
                memory.set(own);
            });
        }
    }

    /// A task per block, whose sums are added up when all are there.
    fn several_blocks_at_a_time(&self, rows: usize, shared: &mut Memory<A>, dbias: &mut [f32]) {
        let panels = self.width.div_ceil(TILE_COLUMNS);
        let per_block = shared.totals.len();
        let [_, memory] = A::memory();
        let block_values = POSITIONS_PER_BLOCK * self.width;
        for (turn, dy) in self.dy.chunks(BLOCKS_AT_A_TIME * block_values).enumerate() {
            let blocks = dy.len().div_ceil(block_values);
            shared.sums.clear();
            shared.sums.resize(blocks * per_block, A::NO_SUMS);
            shared.bias.resize(blocks * panels * TILE_COLUMNS, 0.0);
            let bias = shared.bias.par_chunks_mut(panels * TILE_COLUMNS);
            let sums = shared.sums.par_chunks_mut(per_block).zip(bias);
            let each = dy.par_chunks(block_values).zip(sums).enumerate();
            each.with_max_len(1).for_each(|(block, (dy, (sums, bias)))| {
                let mut own = memory.take();
                let positions = self.positions(turn * BLOCKS_AT_A_TIME + block, dy);
                let steps = A::steps(positions.len());
                own.columns.resize(panels * steps, A::NO_COLUMNS);
                let bias = bias.chunks_exact_mut(TILE_COLUMNS);
                for (panel, (packed, bias)) in
                    own.columns.chunks_exact_mut(steps).zip(bias).enumerate()
                {
                    let first = panel * TILE_COLUMNS;
                    self.arithmetic.pack_columns(dy, self.width, first, packed);
                    if !dbias.is_empty() {
                        column_sums(self.isa, dy, self.width, first, bias);
                    }
                }
                let tiles = 0..per_block / panels;
                self.tiles((rows, tiles), positions, &own.columns, &mut own.rows, sums);
                memory.set(own);
            });
            for (sums, bias) in
                shared.sums.chunks(per_block).zip(shared.bias.chunks(panels * TILE_COLUMNS))
            {
                for (total, sums) in shared.totals.iter_mut().zip(sums) {
                    self.arithmetic.add(total, sums);
                }
                dbias.iter_mut().zip(bias).for_each(|(total, sum)| *total += sum);
            }
        }
    }

    /// Adds one block's products of `tiles` and all panels to `totals`.
    fn tiles(
        &self,
        (rows, tiles): (usize, Range<usize>),
        positions: Range<usize>,
        columns: &[A::Columns],
        packed: &mut Vec<A::Rows>,
        totals: &mut [A::Sums],
    ) {
        let steps = A::steps(positions.len());
        let panels = self.width.div_ceil(TILE_COLUMNS);
        packed.resize(tiles.len() * steps, A::NO_ROWS);
        self.arithmetic.pack_rows(self.taps, tiles.clone(), positions.clone(), packed);
        // What the next task reads comes nearer a little after every product.
        let (next, count) = (tiles.end * A::TILE, tiles.len() * A::TILE);
        let count = count.min(rows.saturating_sub(next));
        let per_product = positions.len().div_ceil(tiles.len() * panels);
        let mut ahead = positions;
        let each = packed.chunks_exact(steps).zip(totals.chunks_exact_mut(panels));
        for (tile, (packed, totals)) in tiles.zip(each) {
            let rows = A::TILE.min(rows - tile * A::TILE);
            self.arithmetic.products((rows, self.width), packed, columns, |panel, sums| {
                self.arithmetic.add(&mut totals[panel], sums);
                for position in ahead.by_ref().take(per_product) {
                    fetch(self.taps, next, count, position);
                }
            });
        }
    }

    /// The positions of a block, whose part of `dy` is given.
    fn positions(&self, block: usize, dy: &[f32]) -> Range<usize> {
        let first = block * POSITIONS_PER_BLOCK;
        first..first + dy.len() / self.width
    }
}

per_isa!(
    /// Adds a block's sums to those before it.
    fn add(totals: &mut [f32], sums: &[f32]) = add_of
);

#[inline(always)]
fn add_of(totals: &mut [f32], sums: &[f32]) {
    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
}

per_isa!(
    /// Sums of at most 32 columns from `first` on, over the rows of `dy` in order.
    fn column_sums(dy: &[f32], width: usize, first: usize, sums: &mut [f32]) = column_sums_of
);

#[inline(always)]
fn column_sums_of(dy: &[f32], width: usize, first: usize, sums: &mut [f32]) {
    let mut totals = [0.0; TILE_COLUMNS];
    for row in dy.chunks_exact(width) {
        match row[first..].first_chunk::<TILE_COLUMNS>() {
            Some(row) => totals.iter_mut().zip(row).for_each(|(total, dy)| *total += dy),
            None => totals.iter_mut().zip(&row[first..]).for_each(|(total, dy)| *total += dy),
        }
    }
    sums.copy_from_slice(&totals);
}
