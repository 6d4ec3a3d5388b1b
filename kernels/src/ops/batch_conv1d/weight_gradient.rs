//! The gradients with respect to weights and bias: sums over all positions of a batch.
//!
//! Leaves out: products over channels. Invariant: blocks of 512 positions are summed from zero, and
//! their sums added in order.

mod bias;
mod blocks;
mod gather;
mod narrow;
mod rounded;
mod strict;
mod turned;

use super::taps::Taps;
use crate::isa::{Isa, per_isa};
use crate::ops::precision::Precision;
use crate::tile::bf16::Unit;
use crate::tile::{TILE_COLUMNS, TILE_ROWS};
use bias::bias_gradient;
use blocks::Product;
use rounded::Rounded;
use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;
use strict::Strict;
use turned::Turned;

/// Positions whose products are one chain; part of the meaning of the sums.
const POSITIONS_PER_BLOCK: usize = 512;
/// How the products of one block are computed, and operands are laid out for them.
trait Arithmetic: Copy + Sync + 'static {
    /// What a packed panel of columns of `dy` is made of.
    type Columns: Copy + Send + Sync;
    /// What a packed tile of columns of the gathered input is made of.
    type Rows: Copy + Send + Sync;
    /// The sums of a tile and a panel.
    type Sums: Copy + Send + Sync;
    /// Rows of the weights that a tile holds.
    const TILE: usize;
    /// Columns of `dy` that a panel holds.
    const PANEL: usize;
    /// Zeros.
    const NO_COLUMNS: Self::Columns;
    /// Zeros.
    const NO_ROWS: Self::Rows;
    /// Zeros.
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

/// What is packed and summed; kept by each thread, since every step needs the same again.
struct Memory<A: Arithmetic> {
    /// Panels of a block, one after the other.
    columns: Vec<A::Columns>,
    /// Tiles of a task, one after the other.
    rows: Vec<A::Rows>,
    /// Sums of several blocks.
    sums: Vec<A::Sums>,
    /// Sums of all blocks so far, by tile, then panel.
    totals: Vec<A::Sums>,
}

impl<A: Arithmetic> Memory<A> {
    const EMPTY: Self =
        Self { columns: Vec::new(), rows: Vec::new(), sums: Vec::new(), totals: Vec::new() };
}

impl<A: Arithmetic> Default for Memory<A> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Replaces `dkernel` and `dbias`, if there is one, by the products of all positions' taps and
/// `dy`, rows of `width` values.
pub(super) fn weight_gradient(
    isa: Isa,
    precision: Precision,
    (taps, dy): (&Taps<'_>, &[f32]),
    width: usize,
    dkernel: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    if let Some(dbias) = dbias {
        bias_gradient(isa, dy, width, dbias);
    }
    match precision {
        Precision::F32 if narrow::is_narrow(taps, width) => {
            narrow::narrow(isa, taps, dy, width, dkernel);
        }
        Precision::F32 if turned_is_shorter(taps, dkernel.len() / width, width) => {
            Product::new(Turned(isa), (taps, dy), width, dkernel).run(dkernel);
        }
        Precision::F32 => {
            Product::new(Strict(isa), (taps, dy), width, dkernel).run(dkernel);
        }
        Precision::Bf16 => {
            let arithmetic = Rounded(Unit::beside(isa));
            Product::new(arithmetic, (taps, dy), width, dkernel).run(dkernel);
        }
    }
}

/// Whether the products take less time with panels over the rows of the weights.
fn turned_is_shorter(taps: &Taps<'_>, rows: usize, width: usize) -> bool {
    // What products cost in halves of a panel, of which those at the end may be missing.
    let halves = |columns: usize| columns.div_ceil(TILE_COLUMNS / 2);
    let turned = halves(rows) * width.div_ceil(TILE_ROWS);
    let straight = halves(width) * rows.div_ceil(TILE_ROWS);
    // Mapping 32 values that lie together is worth a few products: measured, about a twentieth.
    let gathering = if taps.affine.is_some() { straight / 20 } else { 0 };
    turned < straight + gathering
}

per_isa!(
    /// Adds a block's sums to those before it.
    fn add(totals: &mut [f32], sums: &[f32]) = add_of
);

#[inline(always)]
fn add_of(totals: &mut [f32], sums: &[f32]) {
    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
}
