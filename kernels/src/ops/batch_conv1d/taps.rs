//! The left operand of a convolution: the taps of each output position, gathered as they are packed.
//!
//! Leaves out: products. Invariant: positions beyond a sequence's ends are zeros after the map.

use super::{Affine, Input};
use crate::isa::{Isa, per_isa};
use crate::ops::linear::Left;
use crate::tile::{LeftStep, Rows, TILE_ROWS, pack_picked_tile};

/// Where the taps of an output lie in the input of its sequence.
#[derive(Clone, Copy)]
pub(super) struct Positions {
    pub(super) length: usize,
    pub(super) output_length: usize,
    pub(super) kernel: usize,
    pub(super) dilation: usize,
    pub(super) padding_left: usize,
}

impl Positions {
    /// Row of the input that a tap of an output row reads; none beyond its sequence's ends.
    #[inline(always)]
    fn source(&self, row: usize, tap: usize) -> Option<usize> {
        let (sequence, position) = (row / self.output_length, row % self.output_length);
        let source = (position + tap * self.dilation).checked_sub(self.padding_left)?;
        (source < self.length).then(|| sequence * self.length + source)
    }
}

/// Rows of all taps of an output position, one tap after the other.
pub(super) struct Taps<'a> {
    pub(super) x: Rows<'a>,
    pub(super) affine: Option<Affine<'a>>,
    pub(super) width: usize,
    pub(super) positions: Positions,
}

impl<'a> Taps<'a> {
    /// Taps of `x`, whose rows have `width` values.
    pub(super) fn new(x: Input<'a>, width: usize, positions: Positions) -> Self {
        Self { x: Rows::new(x.values, width, width), affine: x.affine, width, positions }
    }
}

impl Left for Taps<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        for (tap, tile) in tile.chunks_exact_mut(self.width).enumerate() {
            let picked = std::array::from_fn(|row| {
                if row < count { self.positions.source(first + row, tap) } else { None }
            });
            pack_picked_tile(isa, self.x, &picked, tile);
            if let Some(affine) = self.affine {
                let inside = picked.map(|row| if row.is_some() { u32::MAX } else { 0 });
                map_steps(isa, affine, &inside, tile);
            }
        }
    }

    fn row<'a>(&'a self, index: usize, gathered: &'a mut Vec<f32>) -> &'a [f32] {
        gathered.clear();
        for tap in 0..self.positions.kernel {
            match (self.positions.source(index, tap), self.affine) {
                (Some(source), None) => gathered.extend_from_slice(self.x.row(source)),
                (Some(source), Some(Affine { shift, scale })) => {
                    let values = self.x.row(source).iter().zip(shift).zip(scale);
                    gathered.extend(values.map(|((x, shift), scale)| (x - shift) * scale));
                }
                (None, _) => gathered.resize((tap + 1) * self.width, 0.0),
            }
        }
        gathered
    }
}

per_isa!(
    /// Maps one tap's steps, a step per channel; rows outside stay zeros.
    fn map_steps(affine: Affine<'_>, inside: &[u32; TILE_ROWS], steps: &mut [LeftStep]) =
        map_steps_of
);

#[inline(always)]
fn map_steps_of(affine: Affine<'_>, inside: &[u32; TILE_ROWS], steps: &mut [LeftStep]) {
    for ((step, &shift), &scale) in steps.iter_mut().zip(affine.shift).zip(affine.scale) {
        for (value, inside) in step.iter_mut().zip(inside) {
            *value = f32::from_bits(((*value - shift) * scale).to_bits() & inside);
        }
    }
}
