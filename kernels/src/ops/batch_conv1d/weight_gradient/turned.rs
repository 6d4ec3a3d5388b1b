//! Products in f32 the other way round: panels of 32 rows of the weights meet tiles of twelve
//! columns of `dy`.
//!
//! Leaves out: blocks and tasks. Invariant: each sum of a block is one chain over its positions, so
//! both ways give the same bits.

use super::gather::gather_panel;
use super::{Arithmetic, Memory, Taps, add};
use crate::isa::Isa;
use crate::tile::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS, Tile};
use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Positions that are packed for all tiles before the next, so that their cache lines are read once.
const POSITIONS_AT_A_TIME: usize = 128;

thread_local! {
    static SHARED: Cell<Memory<Turned>> = const { Cell::new(Memory::EMPTY) };
    static OWN: Cell<Memory<Turned>> = const { Cell::new(Memory::EMPTY) };
}

/// f32 on an instruction set, with the operands exchanged.
#[derive(Clone, Copy)]
pub(super) struct Turned(pub(super) Isa);

impl Arithmetic for Turned {
    type Columns = LeftStep;
    type Rows = PanelStep;
    type Sums = Tile;
    const TILE: usize = TILE_COLUMNS;
    const PANEL: usize = TILE_ROWS;
    const NO_COLUMNS: LeftStep = [0.0; TILE_ROWS];
    const NO_ROWS: PanelStep = PanelStep::ZERO;
    const NO_SUMS: Tile = Tile::ZERO;

    fn memory() -> [&'static LocalKey<Cell<Memory<Self>>>; 2] {
        [&SHARED, &OWN]
    }

    fn steps(positions: usize) -> usize {
        positions
    }

    fn pack_columns(self, dy: &[f32], width: usize, first: usize, packed: &mut [LeftStep]) {
        for (row, step) in dy.chunks_exact(width).zip(packed) {
            let row = &row[first..];
            // A whole step takes a few moves, where one of any length takes a call.
            if let Some(row) = row.first_chunk() {
                *step = *row;
                continue;
            }
            step[..row.len()].copy_from_slice(row);
            step[row.len()..].fill(0.0);
        }
    }

    fn pack_rows(
        self,
        taps: &Taps<'_>,
        tiles: Range<usize>,
        positions: Range<usize>,
        packed: &mut [PanelStep],
    ) {
        let steps = positions.len();
        for start in (0..steps).step_by(POSITIONS_AT_A_TIME) {
            let some = start..steps.min(start + POSITIONS_AT_A_TIME);
            for (tile, packed) in tiles.clone().zip(packed.chunks_exact_mut(steps)) {
                let first = positions.start + start;
                gather_panel(self.0, taps, tile * TILE_COLUMNS, first, &mut packed[some.clone()]);
            }
        }
    }

    fn products(
        self,
        (rows, width): (usize, usize),
        tile: &[PanelStep],
        panels: &[LeftStep],
        mut take: impl FnMut(usize, &Tile),
    ) {
        for (panel, left) in panels.chunks_exact(tile.len()).enumerate() {
            let mut sums = Tile::ZERO;
            let columns = TILE_ROWS.min(width - panel * TILE_ROWS);
            if rows <= TILE_COLUMNS / 2 {
                sums.add_half_products(self.0, columns, left, tile);
            } else {
                sums.add_products(self.0, columns, left, tile);
            }
            take(panel, &sums);
        }
    }

    fn add(self, totals: &mut Tile, sums: &Tile) {
        add(self.0, totals.0.as_flattened_mut(), sums.0.as_flattened());
    }

    fn write(self, sums: &Tile, out: &mut [f32], width: usize, first: usize) {
        let columns = TILE_ROWS.min(width - first);
        for (row, out) in out.chunks_exact_mut(width).take(TILE_COLUMNS).enumerate() {
            for (out, sums) in out[first..first + columns].iter_mut().zip(&sums.0) {
                *out = sums[row];
            }
        }
    }
}
