//! The tile over rows that were not packed: each lies in memory by itself.
//!
//! Leaves out: detection, done by the caller. Invariant: the bits are those of the packed form.

#[cfg(target_arch = "x86_64")]
use super::x86::{load256, load512, store256, store512};
use super::{LeftRows, PanelStep, Tile};
#[cfg(target_arch = "x86_64")]
use super::{TILE_COLUMNS, TILE_ROWS};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Four rows times eight columns at a time, so that sums fit the registers of NEON.
pub(super) fn portable(
    tile: &mut Tile,
    (rows, columns): (usize, usize),
    left: &LeftRows<'_>,
    right: &[PanelStep],
) {
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;
    for row in (0..rows).step_by(ROWS) {
        let left: [&[f32]; ROWS] = std::array::from_fn(|i| &left[row + i][..right.len()]);
        for column in (0..columns).step_by(COLUMNS) {
            let mut sums = [[0.0_f32; COLUMNS]; ROWS];
            for (sums, row) in sums.iter_mut().zip(&tile.0[row..]) {
                sums.copy_from_slice(&row[column..column + COLUMNS]);
            }
            for (k, right) in right.iter().enumerate() {
                for (sums, left) in sums.iter_mut().zip(&left) {
                    for (sum, &right) in sums.iter_mut().zip(&right.0[column..]) {
                        *sum = left[k].mul_add(right, *sum);
                    }
                }
            }
            for (row, sums) in tile.0[row..].iter_mut().zip(&sums) {
                row[column..column + COLUMNS].copy_from_slice(sums);
            }
        }
    }
}

/// Two vectors a row, as the packed form has them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(super) fn avx512(tile: &mut Tile, rows: usize, left: &LeftRows<'_>, right: &[PanelStep]) {
    match rows {
        0..=4 => avx512_rows::<4>(tile, left, right),
        5..=8 => avx512_rows::<8>(tile, left, right),
        _ => avx512_rows::<TILE_ROWS>(tile, left, right),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn avx512_rows<const R: usize>(tile: &mut Tile, left: &LeftRows<'_>, right: &[PanelStep]) {
    let left = starts::<R>(left, right.len());
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (sums, row) in sums.iter_mut().zip(&tile.0) {
        *sums = load512(row);
    }
    for (k, right) in right.iter().enumerate() {
        let right = load512(&right.0);
        for (sums, left) in sums.iter_mut().zip(left) {
            // SAFETY: `starts` saw a value for every step of `right`.
            let left = _mm512_set1_ps(unsafe { *left.add(k) });
            sums[0] = _mm512_fmadd_ps(left, right[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(left, right[1], sums[1]);
        }
    }
    for (row, sums) in tile.0.iter_mut().zip(sums) {
        store512(row, sums);
    }
}

/// One vector a row, as the packed form has it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(super) fn avx512_half(tile: &mut Tile, rows: usize, left: &LeftRows<'_>, right: &[PanelStep]) {
    match rows {
        0..=4 => avx512_half_rows::<4>(tile, left, right),
        5..=8 => avx512_half_rows::<8>(tile, left, right),
        _ => avx512_half_rows::<TILE_ROWS>(tile, left, right),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn avx512_half_rows<const R: usize>(tile: &mut Tile, left: &LeftRows<'_>, right: &[PanelStep]) {
    let left = starts::<R>(left, right.len());
    let mut sums = [_mm512_setzero_ps(); R];
    for (sum, row) in sums.iter_mut().zip(&tile.0) {
        // SAFETY: a row begins with 16 values.
        *sum = unsafe { _mm512_loadu_ps(row.as_ptr()) };
    }
    for (k, right) in right.iter().enumerate() {
        // SAFETY: as above.
        let right = unsafe { _mm512_loadu_ps(right.0.as_ptr()) };
        for (sum, left) in sums.iter_mut().zip(left) {
            // SAFETY: `starts` saw a value for every step of `right`.
            *sum = _mm512_fmadd_ps(_mm512_set1_ps(unsafe { *left.add(k) }), right, *sum);
        }
    }
    for (row, sum) in tile.0.iter_mut().zip(sums) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(row.as_mut_ptr(), sum) };
    }
}

/// Where the rows start; each has a value for each of `steps`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn starts<const R: usize>(left: &LeftRows<'_>, steps: usize) -> [*const f32; R] {
    std::array::from_fn(|row| left[row][..steps].as_ptr())
}

/// Six rows times sixteen columns at a time, as the packed form has them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2(
    tile: &mut Tile,
    (rows, columns): (usize, usize),
    left: &LeftRows<'_>,
    right: &[PanelStep],
) {
    const ROWS: usize = 6;
    let (upper, lower) = left.split_at(ROWS);
    for column in (0..columns).step_by(TILE_COLUMNS / 2) {
        avx2_part(tile, (0, column), upper, right);
        if rows > ROWS {
            avx2_part(tile, (ROWS, column), lower, right);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn avx2_part(tile: &mut Tile, (row, column): (usize, usize), left: &[&[f32]], right: &[PanelStep]) {
    let left: [*const f32; 6] = std::array::from_fn(|row| left[row][..right.len()].as_ptr());
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    for (sums, row) in sums.iter_mut().zip(&tile.0[row..]) {
        *sums = load256(row, column);
    }
    let mut step = |k: usize, right: &PanelStep| {
        let right = load256(&right.0, column);
        for (sums, left) in sums.iter_mut().zip(left) {
            // SAFETY: the row was seen to have a value for every step of `right`.
            let left = _mm256_set1_ps(unsafe { *left.add(k) });
            sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
        }
    };
    // Four steps a turn, as the packed form takes them.
    let (fours, rest) = right.as_chunks::<4>();
    for (index, right) in fours.iter().enumerate() {
        for (k, right) in right.iter().enumerate() {
            step(4 * index + k, right);
        }
    }
    for (k, right) in rest.iter().enumerate() {
        step(4 * fours.len() + k, right);
    }
    for (row, sums) in tile.0[row..].iter_mut().zip(sums) {
        store256(row, column, sums);
    }
}
