//! Products in bf16: the columns of `dy` are the rows of the unit's blocks, so that the wider
//! operand needs no turning.
//!
//! Leaves out: blocks and tasks. Invariant: each sum of a block is the chain of the bf16 class over
//! its positions.

use super::gather::gather_panel;
use super::{Arithmetic, Memory, Taps, add};
use crate::tile::bf16::{SIDE, STEP_WIDTH, Step, Sums, Unit, round_panel, round_rows};
use crate::tile::{PanelStep, Rows, pack_panel};
use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

/// Steps gathered before they are rounded, in the nearest cache.
const STEPS_AT_A_TIME: usize = 4;

thread_local! {
    static SHARED: Cell<Memory<Rounded>> = const { Cell::new(Memory::EMPTY) };
    static OWN: Cell<Memory<Rounded>> = const { Cell::new(Memory::EMPTY) };
}

/// bf16 on a unit.
#[derive(Clone, Copy)]
pub(super) struct Rounded(pub(super) Unit);

impl Arithmetic for Rounded {
    type Columns = Step;
    type Rows = Step;
    type Sums = Sums;
    const TILE: usize = SIDE;
    const PANEL: usize = SIDE;
    const NO_COLUMNS: Step = Step::ZERO;
    const NO_ROWS: Step = Step::ZERO;
    const NO_SUMS: Sums = Sums([[0.0; SIDE]; SIDE]);

    fn memory() -> [&'static LocalKey<Cell<Memory<Self>>>; 2] {
        [&SHARED, &OWN]
    }

    fn steps(positions: usize) -> usize {
        positions.div_ceil(STEP_WIDTH)
    }

    fn pack_columns(self, dy: &[f32], width: usize, first: usize, packed: &mut [Step]) {
        let columns = SIDE.min(width - first);
        let mut by_column = [PanelStep::ZERO; SIDE];
        for (dy, step) in dy.chunks(STEP_WIDTH * width).zip(packed) {
            let rows = Rows::new(&dy[first..], width, columns);
            pack_panel(self.0.isa(), rows, 0, dy.len() / width, &mut by_column[..columns]);
            round_rows(self.0.isa(), &by_column, step);
        }
    }

    fn pack_rows(
        self,
        taps: &Taps<'_>,
        tiles: Range<usize>,
        positions: Range<usize>,
        packed: &mut [Step],
    ) {
        let steps = Self::steps(positions.len());
        let mut gathered = [PanelStep::ZERO; STEPS_AT_A_TIME * STEP_WIDTH];
        for first_step in (0..steps).step_by(STEPS_AT_A_TIME) {
            let some = first_step..steps.min(first_step + STEPS_AT_A_TIME);
            let first = positions.start + first_step * STEP_WIDTH;
            let gathered = &mut gathered[..(some.len() * STEP_WIDTH).min(positions.end - first)];
            for (tile, packed) in tiles.clone().zip(packed.chunks_exact_mut(steps)) {
                gather_panel(self.0.isa(), taps, tile * SIDE, first, gathered);
                round_panel(self.0.isa(), gathered, &mut packed[some.clone()]);
            }
        }
    }

    fn products(
        self,
        (_rows, width): (usize, usize),
        tile: &[Step],
        panels: &[Step],
        mut take: impl FnMut(usize, &Sums),
    ) {
        let ready = self.0.ready();
        let mut sums = Self::NO_SUMS;
        for (panel, columns) in panels.chunks_exact(tile.len()).enumerate() {
            let count = SIDE.min(width - panel * SIDE);
            ready.add_products(&mut sums, Some(&[0.0; SIDE]), count, columns, tile);
            take(panel, &sums);
        }
    }

    fn add(self, totals: &mut Sums, sums: &Sums) {
        add(self.0.isa(), totals.0.as_flattened_mut(), sums.0.as_flattened());
    }

    fn write(self, sums: &Sums, out: &mut [f32], width: usize, first: usize) {
        let mut turned = [PanelStep::ZERO; SIDE];
        let sums = Rows::new(sums.0.as_flattened(), SIDE, SIDE);
        pack_panel(self.0.isa(), sums, 0, SIDE, &mut turned);
        for (out, turned) in out.chunks_exact_mut(width).zip(&turned) {
            let out = &mut out[first..width.min(first + SIDE)];
            out.copy_from_slice(&turned.0[..out.len()]);
        }
    }
}
