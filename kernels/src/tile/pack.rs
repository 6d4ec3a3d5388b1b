//! Lays matrices out the way the tile reads them: by k, twelve rows or 32 columns at a time.
//!
//! Leaves out: arithmetic. Invariant: missing rows and columns are zeros, never stale values.

use super::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS};
use crate::isa::{Isa, per_isa};

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

    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// One row.
    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.width]
    }
}

/// Replaces `packed` by rows `first..first + count`: tiles of twelve rows, each `[width][12]`.
pub(crate) fn pack_tiles(
    isa: Isa,
    rows: Rows<'_>,
    first: usize,
    count: usize,
    packed: &mut Vec<LeftStep>,
) {
    let width = rows.width();
    packed.resize(count.div_ceil(TILE_ROWS) * width, [0.0; TILE_ROWS]);
    for (tile, steps) in packed.chunks_exact_mut(width.max(1)).enumerate() {
        let start = tile * TILE_ROWS;
        pack_tile(isa, rows, first + start, TILE_ROWS.min(count - start), steps);
    }
}

per_isa!(
    /// Writes at most twelve rows as one tile `[width][12]`.
    pub(crate) fn pack_tile(rows: Rows<'_>, first: usize, count: usize, tile: &mut [LeftStep]) = tile_of_rows
);

per_isa!(
    /// Writes at most 32 rows, the columns of a product, as one panel `[width][32]`.
    pub(crate) fn pack_panel(rows: Rows<'_>, first: usize, count: usize, panel: &mut [PanelStep]) =
        panel_of_rows
);

#[inline(always)]
fn tile_of_rows(rows: Rows<'_>, first: usize, count: usize, tile: &mut [LeftStep]) {
    transpose(rows, first, count, tile, |step| step);
}

#[inline(always)]
fn panel_of_rows(rows: Rows<'_>, first: usize, count: usize, panel: &mut [PanelStep]) {
    transpose(rows, first, count, panel, |step| &mut step.0);
}

/// Writes columns `first..` of all rows, at most 32, as one panel `[rows][32]`.
pub(crate) fn pack_columns(rows: Rows<'_>, first: usize, panel: &mut [PanelStep]) {
    for (index, step) in panel.iter_mut().enumerate() {
        let row = &rows.row(index)[first..];
        let count = row.len().min(TILE_COLUMNS);
        step.0[..count].copy_from_slice(&row[..count]);
        step.0[count..].fill(0.0);
    }
}

/// Goes through k in short blocks, so that the steps of a block stay in the nearest cache.
#[inline(always)]
fn transpose<Step, const COLUMNS: usize>(
    rows: Rows<'_>,
    first: usize,
    count: usize,
    steps: &mut [Step],
    values: impl Fn(&mut Step) -> &mut [f32; COLUMNS],
) {
    const BLOCK: usize = 16;
    for (block, steps) in steps.chunks_mut(BLOCK).enumerate() {
        for column in 0..COLUMNS {
            if column < count {
                let row = &rows.row(first + column)[block * BLOCK..];
                for (step, &value) in steps.iter_mut().zip(row) {
                    values(step)[column] = value;
                }
            } else {
                steps.iter_mut().for_each(|step| values(step)[column] = 0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_hold_rows_by_k_with_zeros_for_missing_rows() {
        let values: Vec<f32> = (0..26).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut packed = vec![[9.0; TILE_ROWS]; 7];
            pack_tiles(isa, Rows::new(&values, 2, 2), 0, 13, &mut packed);
            assert_eq!(packed.len(), 4);
            assert_eq!(packed[1][..3], [1.0, 3.0, 5.0]);
            assert_eq!(packed[2][..3], [24.0, 0.0, 0.0]);
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
