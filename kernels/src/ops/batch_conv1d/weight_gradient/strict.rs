//! Products in f32: tiles of twelve rows of the weights.
//!
//! Leaves out: blocks and tasks. Invariant: each sum of a block is one chain over its positions.

use super::gather::gather_tile;
use super::{Arithmetic, Memory, Taps, add};
use crate::isa::Isa;
use crate::tile::{LeftStep, PanelStep, Rows, TILE_COLUMNS, TILE_ROWS, Tile, pack_columns};
use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Positions that are packed for all tiles before the next, so that their cache lines are read once.
const POSITIONS_AT_A_TIME: usize = 128;

thread_local! {
    static SHARED: Cell<Memory<Strict>> = const { Cell::new(Memory::EMPTY) };
    static OWN: Cell<Memory<Strict>> = const { Cell::new(Memory::EMPTY) };
}

/// f32 on an instruction set.
#[derive(Clone, Copy)]
pub(super) struct Strict(pub(super) Isa);

impl Arithmetic for Strict {
    type Columns = PanelStep;
    type Rows = LeftStep;
    type Sums = Tile;
    const TILE: usize = TILE_ROWS;
    const PANEL: usize = TILE_COLUMNS;
    const NO_COLUMNS: PanelStep = PanelStep::ZERO;
    const NO_ROWS: LeftStep = [0.0; TILE_ROWS];
    const NO_SUMS: Tile = Tile::ZERO;

    fn memory() -> [&'static LocalKey<Cell<Memory<Self>>>; 2] {
        [&SHARED, &OWN]
    }

    fn steps(positions: usize) -> usize {
        positions
    }

    fn pack_columns(self, dy: &[f32], width: usize, first: usize, packed: &mut [PanelStep]) {
        pack_columns(Rows::new(dy, width, width), first, packed);
    }

    fn pack_rows(
        self,
        taps: &Taps<'_>,
        tiles: Range<usize>,
        positions: Range<usize>,
        packed: &mut [LeftStep],
    ) {
        let steps = positions.len();
        for start in (0..steps).step_by(POSITIONS_AT_A_TIME) {
            let some = start..steps.min(start + POSITIONS_AT_A_TIME);
            for (tile, packed) in tiles.clone().zip(packed.chunks_exact_mut(steps)) {
                let first = positions.start + start;
                gather_tile(self.0, taps, tile * TILE_ROWS, first, &mut packed[some.clone()]);
            }
        }
    }

    fn products(
        self,
        (rows, width): (usize, usize),
        tile: &[LeftStep],
        panels: &[PanelStep],
        mut take: impl FnMut(usize, &Tile),
    ) {
        for (panel, right) in panels.chunks_exact(tile.len()).enumerate() {
            let mut sums = Tile::ZERO;
            let columns = width - panel * TILE_COLUMNS;
            if columns <= TILE_COLUMNS / 2 {
                sums.add_half_products(self.0, rows, tile, right);
            } else {
                sums.add_products(self.0, rows, tile, right);
            }
            take(panel, &sums);
        }
    }

    fn add(self, totals: &mut Tile, sums: &Tile) {
        add(self.0, totals.0.as_flattened_mut(), sums.0.as_flattened());
    }

    fn write(self, sums: &Tile, out: &mut [f32], width: usize, first: usize) {
        for (out, sums) in out.chunks_exact_mut(width).zip(&sums.0) {
            let out = &mut out[first..width.min(first + TILE_COLUMNS)];
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}
