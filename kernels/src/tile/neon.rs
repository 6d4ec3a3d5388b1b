//! The tile with NEON.
//!
//! Leaves out: detection, as every aarch64 has it. Invariant: sums stay in registers over all steps.

use super::{LeftRows, LeftStep, PanelStep, Tile};
use std::arch::aarch64::{
    float32x4_t, vdupq_n_f32, vfmaq_f32, vfmaq_laneq_f32, vld1q_f32, vst1q_f32,
};

/// Values of a vector.
const LANES: usize = 4;

/// Twelve rows times eight columns at a time: 24 sums, two right and three left operands of 32
/// registers. Fewer rows leave room for more columns, which hide what a sum waits for.
#[target_feature(enable = "neon")]
pub(super) fn packed(
    tile: &mut Tile,
    (rows, columns): (usize, usize),
    left: &[LeftStep],
    right: &[PanelStep],
) {
    match rows {
        0..=4 => packed_parts::<1, 4>(tile, columns, left, right),
        5..=8 => packed_parts::<2, 2>(tile, columns, left, right),
        _ => packed_parts::<3, 2>(tile, columns, left, right),
    }
}

/// `Q` times four rows, `C` vectors of columns at a time.
#[inline]
#[target_feature(enable = "neon")]
fn packed_parts<const Q: usize, const C: usize>(
    tile: &mut Tile,
    columns: usize,
    left: &[LeftStep],
    right: &[PanelStep],
) {
    for column in (0..columns).step_by(C * LANES) {
        let mut sums = [[[vdupq_n_f32(0.0); C]; LANES]; Q];
        for (sums, rows) in sums.iter_mut().zip(tile.0.as_chunks::<LANES>().0) {
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = load(&row[column..]);
            }
        }
        for (left, right) in left.iter().zip(right) {
            let right: [float32x4_t; C] = load(&right.0[column..]);
            for (sums, left) in sums.iter_mut().zip(left.as_chunks::<LANES>().0) {
                // SAFETY: `left` is four values.
                let left = unsafe { vld1q_f32(left.as_ptr()) };
                for (c, &right) in right.iter().enumerate() {
                    sums[0][c] = vfmaq_laneq_f32::<0>(sums[0][c], right, left);
                    sums[1][c] = vfmaq_laneq_f32::<1>(sums[1][c], right, left);
                    sums[2][c] = vfmaq_laneq_f32::<2>(sums[2][c], right, left);
                    sums[3][c] = vfmaq_laneq_f32::<3>(sums[3][c], right, left);
                }
            }
        }
        for (rows, sums) in tile.0.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            for (row, sums) in rows.iter_mut().zip(sums) {
                store(&mut row[column..], sums);
            }
        }
    }
}

/// [`packed`] for rows that lie in memory by themselves, each with a value for every step of `right`.
#[target_feature(enable = "neon")]
pub(super) fn by_rows(
    tile: &mut Tile,
    (rows, columns): (usize, usize),
    left: &LeftRows<'_>,
    right: &[PanelStep],
) {
    match rows {
        0..=4 => by_rows_parts::<4, 4>(tile, columns, left, right),
        5..=8 => by_rows_parts::<8, 2>(tile, columns, left, right),
        _ => by_rows_parts::<12, 2>(tile, columns, left, right),
    }
}

/// `R` rows, `C` vectors of columns at a time.
#[inline]
#[target_feature(enable = "neon")]
fn by_rows_parts<const R: usize, const C: usize>(
    tile: &mut Tile,
    columns: usize,
    left: &LeftRows<'_>,
    right: &[PanelStep],
) {
    let left: [*const f32; R] = std::array::from_fn(|row| left[row][..right.len()].as_ptr());
    for column in (0..columns).step_by(C * LANES) {
        let mut sums = [[vdupq_n_f32(0.0); C]; R];
        for (sums, row) in sums.iter_mut().zip(&tile.0) {
            *sums = load(&row[column..]);
        }
        for (k, right) in right.iter().enumerate() {
            let right: [float32x4_t; C] = load(&right.0[column..]);
            for (sums, left) in sums.iter_mut().zip(left) {
                // SAFETY: the row was seen to have a value for every step of `right`.
                let left = vdupq_n_f32(unsafe { *left.add(k) });
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = vfmaq_f32(*sum, right, left);
                }
            }
        }
        for (row, sums) in tile.0.iter_mut().zip(sums) {
            store(&mut row[column..], sums);
        }
    }
}

/// The first values as `C` vectors.
#[inline]
#[target_feature(enable = "neon")]
fn load<const C: usize>(values: &[f32]) -> [float32x4_t; C] {
    let vectors = values.as_chunks::<LANES>().0;
    let mut loaded = [vdupq_n_f32(0.0); C];
    for (loaded, vector) in loaded.iter_mut().zip(&vectors[..C]) {
        // SAFETY: `vector` is four values.
        *loaded = unsafe { vld1q_f32(vector.as_ptr()) };
    }
    loaded
}

/// Writes `C` vectors over the first values.
#[inline]
#[target_feature(enable = "neon")]
fn store<const C: usize>(values: &mut [f32], vectors: [float32x4_t; C]) {
    let places = values.as_chunks_mut::<LANES>().0;
    for (place, vector) in places[..C].iter_mut().zip(vectors) {
        // SAFETY: `place` is four values.
        unsafe { vst1q_f32(place.as_mut_ptr(), vector) };
    }
}
