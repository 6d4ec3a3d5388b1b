//! The gradient with respect to the bias: sums of the columns of `dy`.
//!
//! Leaves out: weights. Invariant: blocks of 512 positions are summed from zero, and their sums added in order.

use super::POSITIONS_PER_BLOCK;
use crate::isa::{Isa, per_isa};
use crate::tile::TILE_COLUMNS;
use rayon::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Sums of the blocks, kept between calls, since every step needs them again.
    static SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Replaces `dbias` by the sums of the columns of `dy`, rows of `width` values.
pub(super) fn bias_gradient(isa: Isa, dy: &[f32], width: usize, dbias: &mut [f32]) {
    let values_per_block = POSITIONS_PER_BLOCK * width;
    let mut sums = SUMS.take();
    sums.resize(dy.len().div_ceil(values_per_block) * width, 0.0);
    let each = sums.par_chunks_mut(width).zip(dy.par_chunks(values_per_block));
    each.for_each(|(sums, dy)| {
        for (panel, sums) in sums.chunks_mut(TILE_COLUMNS).enumerate() {
            column_sums(isa, dy, width, panel * TILE_COLUMNS, sums);
        }
    });
    dbias.fill(0.0);
    for sums in sums.chunks_exact(width) {
        dbias.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    SUMS.set(sums);
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
    sums.copy_from_slice(&totals[..sums.len()]);
}
