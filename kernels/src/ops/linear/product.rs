//! The blocked product under linear layers and convolutions.
//!
//! Leaves out: where left operands come from; they pack themselves. Invariant: how an output is
//! cut into blocks and tasks has no part in the numbers.

use super::split::{Left, Split};
use super::{Epilogue, PackedLinear};
use crate::isa::Isa;
use crate::parallel::SharedRows;
use crate::tile::{LeftRows, LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS, Tile};
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

/// Panels up to which overlapping rows are read where they lie: turning them would not pay.
const UNPACKED_PANELS_MAX: usize = 16;

thread_local! {
    /// Packed input of the block this thread works on, kept between calls.
    static PACKED_INPUT: Cell<Vec<LeftStep>> = const { Cell::new(Vec::new()) };
    /// Rows of the block this thread works on that do not lie in memory as such, kept between calls.
    static COPIED_ROWS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Splits the output into blocks of rows and of panels; each block is one task.
pub(super) fn multiply(
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

/// One call's operands.
struct Product<'a, L> {
    isa: Isa,
    left: L,
    weights: &'a PackedLinear,
    panels: &'a [PanelStep],
    epilogue: Epilogue,
    out: SharedRows<'a>,
}

/// The left operand of a block, by tiles.
#[derive(Clone, Copy)]
enum LeftTiles<'a> {
    /// One tile's steps after the other's.
    Packed(&'a [LeftStep]),
    /// Every tile's rows.
    Rows(&'a [LeftRows<'a>]),
}

impl<L: Left> Product<'_, L> {
    /// Computes `rows` times the columns of `panels`.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        if self.left.overlaps() && self.weights.bias.len() <= UNPACKED_PANELS_MAX {
            self.unpacked(rows, panels);
        } else {
            self.packed(rows, panels);
        }
    }

    /// Turns the rows first, so that a tile reads one stream.
    fn packed(&self, rows: Range<usize>, panels: Range<usize>) {
        let mut packed = PACKED_INPUT.take();
        let steps = self.weights.input_width;
        packed.resize(rows.len().div_ceil(TILE_ROWS) * steps, [0.0; TILE_ROWS]);
        for (tile, packed) in packed.chunks_exact_mut(steps).enumerate() {
            let start = tile * TILE_ROWS;
            let count = TILE_ROWS.min(rows.len() - start);
            self.left.pack(self.isa, rows.start + start, count, packed);
        }
        for panel in panels {
            self.panel(LeftTiles::Packed(&packed), rows.clone(), panel);
        }
        PACKED_INPUT.set(packed);
    }

    /// Reads the rows where they lie, after copies of those that do not lie anywhere.
    fn unpacked(&self, rows: Range<usize>, panels: Range<usize>) {
        let mut copied = COPIED_ROWS.take();
        let steps = self.weights.input_width;
        let absent = rows.clone().filter(|row| self.left.in_place(*row).is_none());
        copied.resize(absent.clone().count() * steps, 0.0);
        for (row, copy) in absent.zip(copied.chunks_exact_mut(steps)) {
            self.left.copy(self.isa, row, copy);
        }
        let (mut copies, mut next) = (copied.chunks_exact(steps), rows.clone());
        let mut last: &[f32] = &[];
        let mut tiles = [[last; TILE_ROWS]; TILES_PER_BLOCK_MAX];
        for of_tile in tiles.iter_mut().flatten() {
            // Rows beyond the last are computed as it is, and dropped.
            if let Some(row) = next.next() {
                last = self.left.in_place(row).or_else(|| copies.next()).unwrap_or_default();
            }
            *of_tile = last;
        }
        for panel in panels {
            self.panel(LeftTiles::Rows(&tiles), rows.clone(), panel);
        }
        COPIED_ROWS.set(copied);
    }

    /// Computes `rows` times one panel; a part of the panel is read once for all tiles.
    fn panel(&self, left: LeftTiles<'_>, rows: Range<usize>, panel: usize) {
        let steps = self.weights.input_width;
        let right = &self.panels[panel * steps..][..steps];
        let tiles = rows.len().div_ceil(TILE_ROWS);
        let columns = self.weights.output_width - panel * self.weights.outputs_per_panel();
        let half = !self.weights.gated && columns <= TILE_COLUMNS / 2;
        let mut sums = [Tile([self.weights.bias[panel].0; TILE_ROWS]); TILES_PER_BLOCK_MAX];
        for (block, right) in right.chunks(STEPS_PER_BLOCK).enumerate() {
            for (tile, sums) in sums[..tiles].iter_mut().enumerate() {
                let filled = TILE_ROWS.min(rows.len() - tile * TILE_ROWS);
                let first = block * STEPS_PER_BLOCK;
                match left {
                    LeftTiles::Packed(packed) => {
                        let left = &packed[tile * steps + first..][..right.len()];
                        if half {
                            sums.add_half_products(self.isa, filled, left, right);
                        } else {
                            sums.add_products(self.isa, filled, left, right);
                        }
                    }
                    LeftTiles::Rows(tiles) => {
                        let left = tiles[tile].map(|row| &row[first..]);
                        if half {
                            sums.add_half_products_of_rows(self.isa, filled, &left, right);
                        } else {
                            sums.add_products_of_rows(self.isa, filled, &left, right);
                        }
                    }
                }
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
