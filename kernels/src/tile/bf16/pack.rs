//! Rounds f32 matrices to bf16 and lays them out the way the tile reads them.
//!
//! Leaves out: arithmetic. Invariant: missing rows, columns and values of k are zeros, never stale.

use super::{HALF, SIDE, STEP_WIDTH, Step};
use crate::isa::per_isa;
use crate::tile::{PanelStep, TILE_COLUMNS};

per_isa!(
    /// Writes a row of a left operand at its place in the 32 of a step, a step per 32 of k.
    pub(crate) fn pack_row(row: &[f32], place: usize, packed: &mut [Step]) = left_of_row
);

per_isa!(
    /// Writes a panel `[K][32]` as the right operand of a block, a step per 32 of k.
    pub(crate) fn round_panel(panel: &[PanelStep], packed: &mut [Step]) = right_of_panel
);

#[inline(always)]
fn left_of_row(row: &[f32], place: usize, packed: &mut [Step]) {
    let (whole, rest) = row.as_chunks::<STEP_WIDTH>();
    let mut last = [0.0; STEP_WIDTH];
    last[..rest.len()].copy_from_slice(rest);
    let zeros = std::iter::repeat(&[0.0; STEP_WIDTH]);
    let values = whole.iter().chain(std::iter::once(&last)).chain(zeros);
    for (step, values) in packed.iter_mut().zip(values) {
        let rounded = values.map(rounded);
        let pairs = std::array::from_fn(|i| rounded[2 * i] >> 16 | rounded[2 * i + 1]);
        step.0[place / HALF].0[place % HALF] = pairs;
    }
}

#[inline(always)]
fn right_of_panel(panel: &[PanelStep], packed: &mut [Step]) {
    const ZERO: [f32; TILE_COLUMNS] = PanelStep::ZERO.0;
    for (step, panel) in packed.iter_mut().zip(panel.chunks(STEP_WIDTH)) {
        for pair in 0..HALF {
            let even = panel.get(2 * pair).map_or(&ZERO, |step| &step.0);
            let odd = panel.get(2 * pair + 1).map_or(&ZERO, |step| &step.0);
            let pairs: [u32; SIDE] =
                std::array::from_fn(|i| rounded(even[i]) >> 16 | rounded(odd[i]));
            let (low, high) = pairs.split_at(HALF);
            step.0[0].0[pair].copy_from_slice(low);
            step.0[1].0[pair].copy_from_slice(high);
        }
    }
}

/// The nearest bf16, ties to even, in the upper half of a word; NaN stays NaN.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    let nearest = bits.wrapping_add(0x7fff + even);
    (if value.is_nan() { bits | 0x0040_0000 } else { nearest }) & 0xffff_0000
}
