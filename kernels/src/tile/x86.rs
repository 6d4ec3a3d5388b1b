//! The tile with AVX2 and with AVX-512.
//!
//! Leaves out: detection, done by the caller. Invariant: sums stay in registers over all steps.

use super::{LeftStep, PanelStep, TILE_COLUMNS, TILE_ROWS, Tile};
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

/// Two vectors a row: 24 sums, two right and one broadcast left operand in 32 registers.
#[target_feature(enable = "avx512f")]
pub(super) fn avx512(tile: &mut Tile, rows: usize, left: &[LeftStep], right: &[PanelStep]) {
    match rows {
        0..=4 => avx512_rows::<4>(tile, left, right),
        5..=8 => avx512_rows::<8>(tile, left, right),
        _ => avx512_rows::<TILE_ROWS>(tile, left, right),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn avx512_rows<const R: usize>(tile: &mut Tile, left: &[LeftStep], right: &[PanelStep]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (sums, row) in sums.iter_mut().zip(&tile.0) {
        *sums = load512(row);
    }
    for (left, right) in left.iter().zip(right) {
        let right = load512(&right.0);
        for (sums, &left) in sums.iter_mut().zip(left) {
            let left = _mm512_set1_ps(left);
            sums[0] = _mm512_fmadd_ps(left, right[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(left, right[1], sums[1]);
        }
    }
    for (row, sums) in tile.0.iter_mut().zip(sums) {
        store512(row, sums);
    }
}

/// One vector a row: 12 sums, one right operand, the left ones from memory.
#[target_feature(enable = "avx512f")]
pub(super) fn avx512_half(tile: &mut Tile, rows: usize, left: &[LeftStep], right: &[PanelStep]) {
    match rows {
        0..=4 => avx512_half_rows::<4>(tile, left, right),
        5..=8 => avx512_half_rows::<8>(tile, left, right),
        _ => avx512_half_rows::<TILE_ROWS>(tile, left, right),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn avx512_half_rows<const R: usize>(tile: &mut Tile, left: &[LeftStep], right: &[PanelStep]) {
    let mut sums = [_mm512_setzero_ps(); R];
    for (sum, row) in sums.iter_mut().zip(&tile.0) {
        // SAFETY: a row begins with 16 values.
        *sum = unsafe { _mm512_loadu_ps(row.as_ptr()) };
    }
    for (left, right) in left.iter().zip(right) {
        // SAFETY: as above.
        let right = unsafe { _mm512_loadu_ps(right.0.as_ptr()) };
        for (sum, &left) in sums.iter_mut().zip(left) {
            *sum = _mm512_fmadd_ps(_mm512_set1_ps(left), right, *sum);
        }
    }
    for (row, sum) in tile.0.iter_mut().zip(sums) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(row.as_mut_ptr(), sum) };
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load512(values: &[f32; TILE_COLUMNS]) -> [__m512; 2] {
    let (low, high) = values.split_at(TILE_COLUMNS / 2);
    // SAFETY: `low` is 16 values.
    let low = unsafe { _mm512_loadu_ps(low.as_ptr()) };
    // SAFETY: `high` is 16 values.
    let high = unsafe { _mm512_loadu_ps(high.as_ptr()) };
    [low, high]
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store512(values: &mut [f32; TILE_COLUMNS], vectors: [__m512; 2]) {
    let (low, high) = values.split_at_mut(TILE_COLUMNS / 2);
    // SAFETY: `low` is 16 values.
    unsafe { _mm512_storeu_ps(low.as_mut_ptr(), vectors[0]) };
    // SAFETY: `high` is 16 values.
    unsafe { _mm512_storeu_ps(high.as_mut_ptr(), vectors[1]) };
}

/// Six rows times sixteen columns at a time: 12 sums, two right and one left operand of 16.
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2(tile: &mut Tile, rows: usize, left: &[LeftStep], right: &[PanelStep]) {
    for column in [0, 16] {
        avx2_part(tile, (0, column), left, right);
        if rows > 6 {
            avx2_part(tile, (6, column), left, right);
        }
    }
}

/// [`avx2`] of the first sixteen columns.
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2_half(tile: &mut Tile, rows: usize, left: &[LeftStep], right: &[PanelStep]) {
    avx2_part(tile, (0, 0), left, right);
    if rows > 6 {
        avx2_part(tile, (6, 0), left, right);
    }
}

/// Four steps a turn: with twelve sums to a step, the loop itself would take a tenth of the time.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn avx2_part(
    tile: &mut Tile,
    (row, column): (usize, usize),
    left: &[LeftStep],
    right: &[PanelStep],
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    for (sums, row) in sums.iter_mut().zip(&tile.0[row..]) {
        *sums = load256(row, column);
    }
    let steps = left.len().min(right.len());
    let (fours, rest) = left[..steps].as_chunks::<4>();
    let (right_fours, right_rest) = right[..steps].as_chunks::<4>();
    for (left, right) in fours.iter().zip(right_fours) {
        for (left, right) in left.iter().zip(right) {
            avx2_step(&mut sums, &left[row..], load256(&right.0, column));
        }
    }
    for (left, right) in rest.iter().zip(right_rest) {
        avx2_step(&mut sums, &left[row..], load256(&right.0, column));
    }
    for (row, sums) in tile.0[row..].iter_mut().zip(sums) {
        store256(row, column, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn avx2_step(sums: &mut [[__m256; 2]; 6], left: &[f32], right: [__m256; 2]) {
    for (sums, &left) in sums.iter_mut().zip(left) {
        let left = _mm256_set1_ps(left);
        sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
        sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn load256(values: &[f32; TILE_COLUMNS], column: usize) -> [__m256; 2] {
    let (low, high) = values[column..column + 16].split_at(8);
    // SAFETY: `low` is 8 values.
    let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
    // SAFETY: `high` is 8 values.
    let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
    [low, high]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn store256(values: &mut [f32; TILE_COLUMNS], column: usize, vectors: [__m256; 2]) {
    let (low, high) = values[column..column + 16].split_at_mut(8);
    // SAFETY: `low` is 8 values.
    unsafe { _mm256_storeu_ps(low.as_mut_ptr(), vectors[0]) };
    // SAFETY: `high` is 8 values.
    unsafe { _mm256_storeu_ps(high.as_mut_ptr(), vectors[1]) };
}
