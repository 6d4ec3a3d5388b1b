//! The left operand of a convolution: the taps of each output position, gathered as they are packed.
//!
//! Leaves out: products. Invariant: positions beyond a sequence's ends are zeros after the map.

use super::{Affine, Input};
use crate::isa::{Isa, per_isa};
use crate::ops::linear::Left;
use crate::tile::{LeftStep, Rows, TILE_ROWS, pack_picked_tile, pack_tile};

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

    /// What the first tap reads of `count` rows from `first` on.
    fn around(&self, first: usize, count: usize) -> Picked {
        let (mut sequence, mut place) = (first / self.output_length, first % self.output_length);
        let mut picked = Picked { sequences: [0; TILE_ROWS], places: [0; TILE_ROWS], count };
        for row in 0..count.min(TILE_ROWS) {
            (picked.sequences[row], picked.places[row]) = (sequence * self.length, place);
            place += 1;
            if place == self.output_length {
                (sequence, place) = (sequence + 1, 0);
            }
        }
        picked
    }
}

/// What one tap of the twelve rows of a tile reads.
struct Picked {
    /// First row of the input of each row's sequence.
    sequences: [usize; TILE_ROWS],
    /// Position that the tap reads, and the zeros before the sequence.
    places: [usize; TILE_ROWS],
    count: usize,
}

impl Picked {
    /// Rows of the input; none beyond a sequence's ends.
    #[inline(always)]
    fn sources(&self, positions: &Positions) -> [Option<usize>; TILE_ROWS] {
        std::array::from_fn(|row| {
            let source = self.places[row].wrapping_sub(positions.padding_left);
            let inside = row < self.count && source < positions.length;
            inside.then(|| self.sequences[row] + source)
        })
    }

    #[inline(always)]
    fn next_tap(&mut self, positions: &Positions) {
        self.places.iter_mut().for_each(|place| *place += positions.dilation);
    }
}

/// Rows of all taps of an output position, one tap after the other.
pub(super) struct Taps<'a> {
    pub(super) values: &'a [f32],
    x: Rows<'a>,
    pub(super) affine: Option<Affine<'a>>,
    pub(super) width: usize,
    pub(super) positions: Positions,
}

impl<'a> Taps<'a> {
    /// Taps of `x`, whose rows have `width` values.
    pub(super) fn new(x: Input<'a>, width: usize, positions: Positions) -> Self {
        let values = x.values;
        Self { values, x: Rows::new(values, width, width), affine: x.affine, width, positions }
    }
}

impl Left for Taps<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        let mut picked = self.positions.around(first, count);
        for tile in tile.chunks_exact_mut(self.width) {
            let rows = picked.sources(&self.positions);
            match self.affine {
                None => pack_picked_tile(isa, self.x, &rows, tile),
                Some(affine) => pack_mapped(isa, self, affine, &rows, tile),
            }
            picked.next_tap(&self.positions);
        }
    }

    fn overlaps(&self) -> bool {
        // A map is quicker along a row than across twelve.
        self.positions.kernel > 1 || self.affine.is_some()
    }

    fn in_place(&self, index: usize) -> Option<&[f32]> {
        let positions = &self.positions;
        let together = self.affine.is_none() && (positions.dilation == 1 || positions.kernel == 1);
        if !together {
            return None;
        }
        let first = positions.source(index, 0)?;
        let last = positions.source(index, positions.kernel - 1)?;
        Some(self.x.together(first..last + 1))
    }

    fn copy(&self, isa: Isa, index: usize, row: &mut [f32]) {
        for (tap, row) in row.chunks_exact_mut(self.width).enumerate() {
            match (self.positions.source(index, tap), self.affine) {
                (Some(source), None) => row.copy_from_slice(self.x.row(source)),
                (Some(source), Some(affine)) => map_row(isa, self.x.row(source), affine, row),
                (None, _) => row.fill(0.0),
            }
        }
    }
}

/// Channels of twelve rows that are mapped before they are turned, in the nearest cache.
const MAPPED_CHANNELS: usize = 64;

/// Packs one tap of twelve rows, mapped; no row counts as zeros.
fn pack_mapped(
    isa: Isa,
    taps: &Taps<'_>,
    affine: Affine<'_>,
    picked: &[Option<usize>; TILE_ROWS],
    tile: &mut [LeftStep],
) {
    let mut mapped = [[0.0; MAPPED_CHANNELS]; TILE_ROWS];
    for (part, tile) in tile.chunks_mut(MAPPED_CHANNELS).enumerate() {
        let channels = part * MAPPED_CHANNELS..part * MAPPED_CHANNELS + tile.len();
        let affine = Affine {
            shift: &affine.shift[channels.clone()],
            scale: &affine.scale[channels.clone()],
        };
        for (mapped, picked) in mapped.iter_mut().zip(picked) {
            if let Some(row) = *picked {
                map_row(isa, &taps.x.row(row)[channels.clone()], affine, mapped);
            }
        }
        let rows = Rows::new(mapped.as_flattened(), MAPPED_CHANNELS, tile.len());
        pack_tile(isa, rows, 0, TILE_ROWS, tile);
    }
}

per_isa!(
    /// Writes the mapped values of a part of a row.
    fn map_row(values: &[f32], affine: Affine<'_>, out: &mut [f32]) = map_row_of
);

#[inline(always)]
fn map_row_of(values: &[f32], affine: Affine<'_>, out: &mut [f32]) {
    let map = affine.shift.iter().zip(affine.scale);
    for ((out, value), (shift, scale)) in out.iter_mut().zip(values).zip(map) {
        *out = (value - shift) * scale;
    }
}
