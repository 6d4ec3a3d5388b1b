//! Lays matrices out the way the tile reads them: by k, twelve rows or 32 columns at a time.
//!
//! Leaves out: arithmetic. Invariant: missing rows and columns are zeros, never stale values.

use super::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS};
use crate::isa::per_isa;
use std::ops::Range;

/// Rows of equal width inside a larger row-major matrix.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` values that start `stride` apart; the last may end with `values`.
    pub(crate) fn new(values: &'a [f32], stride: usize, width: usize) -> Self {
        Self { values, stride, width }
    }

    /// One row.
    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.width]
    }

    /// Rows that lie one after the other, without a gap.
    #[inline(always)]
    pub(crate) fn together(&self, rows: Range<usize>) -> &'a [f32] {
        &self.values[rows.start * self.width..rows.end * self.width]
    }
}

per_isa!(
    /// Writes at most twelve rows as one tile `[width][12]`.
    pub(crate) fn pack_tile(rows: Rows<'_>, first: usize, count: usize, tile: &mut [LeftStep]) = tile_of_rows
);

per_isa!(
    /// Writes twelve picked rows as one tile `[width][12]`; no row counts as zeros.
    pub(crate) fn pack_picked_tile(
        rows: Rows<'_>,
        picked: &[Option<usize>; TILE_ROWS],
        tile: &mut [LeftStep]
    ) = tile_of_picked
);

per_isa!(
    /// Writes at most 32 rows, the columns of a product, as one panel `[width][32]`.
    pub(crate) fn pack_panel(rows: Rows<'_>, first: usize, count: usize, panel: &mut [PanelStep]) =
        panel_of_rows
);

per_isa!(
    /// Writes 32 picked rows as one panel `[width][32]`; no row counts as zeros.
    pub(crate) fn pack_picked_panel(
        rows: Rows<'_>,
        picked: &[Option<usize>; TILE_COLUMNS],
        panel: &mut [PanelStep]
    ) = panel_of_picked
);

#[inline(always)]
fn tile_of_rows(rows: Rows<'_>, first: usize, count: usize, tile: &mut [LeftStep]) {
    let row = |column| (column < count).then(|| rows.row(first + column));
    transpose(row, tile, |step| step);
}

#[inline(always)]
fn tile_of_picked(rows: Rows<'_>, picked: &[Option<usize>; TILE_ROWS], tile: &mut [LeftStep]) {
    transpose(|column| picked[column].map(|row| rows.row(row)), tile, |step| step);
}

#[inline(always)]
fn panel_of_rows(rows: Rows<'_>, first: usize, count: usize, panel: &mut [PanelStep]) {
    let row = |column| (column < count).then(|| rows.row(first + column));
    transpose(row, panel, |step| &mut step.0);
}

#[inline(always)]
fn panel_of_picked(
    rows: Rows<'_>,
    picked: &[Option<usize>; TILE_COLUMNS],
    panel: &mut [PanelStep],
) {
    transpose(|column| picked[column].map(|row| rows.row(row)), panel, |step| &mut step.0);
}

/// Writes columns `first..` of all rows, at most 32, as one panel `[rows][32]`.
pub(crate) fn pack_columns(rows: Rows<'_>, first: usize, panel: &mut [PanelStep]) {
    for (index, step) in panel.iter_mut().enumerate() {
        let row = &rows.row(index)[first..];
        // A whole step takes a few moves, where one of any length takes a call.
        if let Some(row) = row.first_chunk() {
            step.0 = *row;
            continue;
        }
        let count = row.len();
        step.0[..count].copy_from_slice(&row[..count]);
        step.0[count..].fill(0.0);
    }
}

/// Steps of k in a block, so that its steps stay in the nearest cache.
const BLOCK: usize = 16;
/// Side of the squares that turn in registers.
const SIDE: usize = 4;
/// A block of a missing row.
const ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// Turns rows into columns.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turn(rows: [&[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    std::array::from_fn(|k| rows.map(|row| row[k]))
}

/// Turns rows into columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn(rows: [&[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    // SAFETY: every x86-64 has SSE2.
    unsafe { turn_by_shuffles(rows) }
}

/// Turns rows into columns by shuffles, which compilers do not find by themselves.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn turn_by_shuffles(rows: [&[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    use std::arch::x86_64::{
        __m128, _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: a row is four values.
    let [a, b, c, d] = rows.map(|row| unsafe { _mm_loadu_ps(row.as_ptr()) });
    let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    let (low_next, high_next) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    let columns = [
        _mm_movelh_ps(low, low_next),
        _mm_movehl_ps(low_next, low),
        _mm_movelh_ps(high, high_next),
        _mm_movehl_ps(high_next, high),
    ];
    // SAFETY: both are four times four values.
    unsafe { std::mem::transmute::<[__m128; SIDE], [[f32; SIDE]; SIDE]>(columns) }
}

/// Goes through k in short blocks: whole ones by squares, what is left value by value.
#[inline(always)]
fn transpose<'a, Step, const COLUMNS: usize>(
    row: impl Fn(usize) -> Option<&'a [f32]>,
    steps: &mut [Step],
    values: impl Fn(&mut Step) -> &mut [f32; COLUMNS],
) {
    let (blocks, rest) = steps.as_chunks_mut::<BLOCK>();
    let done = blocks.len() * BLOCK;
    for (index, steps) in blocks.iter_mut().enumerate() {
        for column in (0..COLUMNS).step_by(SIDE) {
            // A loop, as calls of `from_fn` may be compiled apart, without vectors.
            let mut parts = [&ZEROS; SIDE];
            for (i, part) in parts.iter_mut().enumerate() {
                if let Some(found) = row(column + i).and_then(|row| row.as_chunks().0.get(index)) {
                    *part = found;
                }
            }
            for k in (0..BLOCK).step_by(SIDE) {
                let turned = turn(parts.map(|part| &part.as_chunks().0[k / SIDE]));
                for (step, turned) in steps[k..].iter_mut().zip(turned) {
                    values(step)[column..column + SIDE].copy_from_slice(&turned);
                }
            }
        }
    }
    for column in 0..COLUMNS {
        match row(column) {
            Some(row) => {
                for (step, &value) in rest.iter_mut().zip(&row[done..]) {
                    values(step)[column] = value;
                }
            }
            None => rest.iter_mut().for_each(|step| values(step)[column] = 0.0),
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn tiles_hold_rows_by_k_with_zeros_for_missing_rows() {
        let values: Vec<f32> = (0..26).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut tile = vec![[9.0; TILE_ROWS]; 2];
            pack_tile(isa, Rows::new(&values, 2, 2), 0, 12, &mut tile);
            assert_eq!(tile[1][..3], [1.0, 3.0, 5.0]);
            pack_tile(isa, Rows::new(&values, 2, 2), 12, 1, &mut tile);
            assert_eq!(tile[0][..3], [24.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn picked_rows_come_in_any_order_with_zeros_between() {
        let values: Vec<f32> = (0..40).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut tile = vec![[9.0; TILE_ROWS]; 20];
            let mut picked = [None; TILE_ROWS];
            (picked[0], picked[2]) = (Some(1), Some(0));
            pack_picked_tile(isa, Rows::new(&values, 20, 20), &picked, &mut tile);
            assert_eq!(tile[19][..4], [39.0, 0.0, 19.0, 0.0]);
            let mut panel = vec![PanelStep([9.0; TILE_COLUMNS]); 20];
            let mut picked = [None; TILE_COLUMNS];
            picked[31] = Some(1);
            pack_picked_panel(isa, Rows::new(&values, 20, 20), &picked, &mut panel);
            assert_eq!(panel[3].0[30..], [0.0, 23.0]);
        }
    }

    #[test]
    fn panels_take_columns_of_wider_rows() {
        let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut panel = vec![PanelStep([9.0; TILE_COLUMNS]); 19];
            pack_panel(isa, Rows::new(&values[1..], 20, 19), 2, 2, &mut panel);
            assert_eq!(panel[0].0[..3], [41.0, 61.0, 0.0]);
            assert_eq!(panel[18].0[..3], [59.0, 79.0, 0.0]);
        }
    }
}
