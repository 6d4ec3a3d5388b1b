//! Lays matrices out the way the tile reads them: by k, twelve rows or 32 columns at a time.
//!
//! Leaves out: arithmetic. Invariant: missing rows and columns are zeros, never stale values.

use super::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS};
use crate::isa::per_isa;

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
        let count = row.len().min(TILE_COLUMNS);
        step.0[..count].copy_from_slice(&row[..count]);
        step.0[count..].fill(0.0);
    }
}

/// Goes through k in short blocks, so that the steps of a block stay in the nearest cache.
#[inline(always)]
fn transpose<'a, Step, const COLUMNS: usize>(
    row: impl Fn(usize) -> Option<&'a [f32]>,
    steps: &mut [Step],
    values: impl Fn(&mut Step) -> &mut [f32; COLUMNS],
) {
    const BLOCK: usize = 16;
    for (block, steps) in steps.chunks_mut(BLOCK).enumerate() {
        for column in 0..COLUMNS {
            match row(column) {
                Some(row) => {
                    for (step, &value) in steps.iter_mut().zip(&row[block * BLOCK..]) {
                        values(step)[column] = value;
                    }
                }
                None => steps.iter_mut().for_each(|step| values(step)[column] = 0.0),
            }
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
