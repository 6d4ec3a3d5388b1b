//! The register tile under every matrix product: 12 rows times 32 columns.
//!
//! Leaves out: blocking and threads, which belong to the operations. Invariant: every element is
//! one chain of fused multiply-adds over k in order, starting from what the tile holds, so all
//! instruction sets give the same bits.

pub(crate) mod bf16;
mod by_rows;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::isa::Isa;
pub(crate) use pack::{
    Rows, pack_columns, pack_panel, pack_picked_panel, pack_picked_tile, pack_tile,
};

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 12;
/// Columns of a tile, and of a panel.
pub(crate) const TILE_COLUMNS: usize = 32;

/// The values at one k of the twelve rows of a tile's left operand.
pub(crate) type LeftStep = [f32; TILE_ROWS];

/// The twelve rows of a tile's left operand as they lie in memory.
pub(crate) type LeftRows<'a> = [&'a [f32]; TILE_ROWS];

/// The values at one k of the 32 columns of a panel, the right operand of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PanelStep(pub(crate) [f32; TILE_COLUMNS]);

impl PanelStep {
    /// All columns zero.
    pub(crate) const ZERO: Self = Self([0.0; TILE_COLUMNS]);
}

/// Twelve rows of 32 sums.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub(crate) [[f32; TILE_COLUMNS]; TILE_ROWS]);

impl Tile {
    /// All sums zero.
    pub(crate) const ZERO: Self = Self([[0.0; TILE_COLUMNS]; TILE_ROWS]);

    /// Adds the products of as many steps as both operands have.
    ///
    /// ```text
    /// self[r,c] = fma(left[k][r], right[k][c], self[r,c])   for k in order
    /// ```
    ///
    /// Only the first `rows` rows, at most twelve, are meaningful afterwards.
    #[inline]
    pub(crate) fn add_products(
        &mut self,
        isa: Isa,
        rows: usize,
        left: &[LeftStep],
        right: &[PanelStep],
    ) {
        match isa {
            Isa::Baseline => portable(self, (rows, TILE_COLUMNS), left, right),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 has NEON.
            Isa::Neon => unsafe { neon::packed(self, (rows, TILE_COLUMNS), left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX2 and FMA before it made this value.
            Isa::Avx2 => unsafe { x86::avx2(self, rows, left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX-512 F before it made this value.
            Isa::Avx512 => unsafe { x86::avx512(self, rows, left, right) },
        }
    }

    /// [`Self::add_products`] of the first sixteen columns; the others mean nothing afterwards.
    #[inline]
    pub(crate) fn add_half_products(
        &mut self,
        isa: Isa,
        rows: usize,
        left: &[LeftStep],
        right: &[PanelStep],
    ) {
        match isa {
            Isa::Baseline => portable(self, (rows, TILE_COLUMNS / 2), left, right),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 has NEON.
            Isa::Neon => unsafe { neon::packed(self, (rows, TILE_COLUMNS / 2), left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX2 and FMA before it made this value.
            Isa::Avx2 => unsafe { x86::avx2_half(self, rows, left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX-512 F before it made this value.
            Isa::Avx512 => unsafe { x86::avx512_half(self, rows, left, right) },
        }
    }
}

impl Tile {
    /// [`Self::add_products`] of rows that lie in memory one value of k after the other.
    ///
    /// Every row has as many values as `right` has steps.
    #[inline]
    pub(crate) fn add_products_of_rows(
        &mut self,
        isa: Isa,
        rows: usize,
        left: &LeftRows<'_>,
        right: &[PanelStep],
    ) {
        let left = left.map(|row| &row[..right.len()]);
        match isa {
            Isa::Baseline => by_rows::portable(self, (rows, TILE_COLUMNS), &left, right),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 has NEON.
            Isa::Neon => unsafe { neon::by_rows(self, (rows, TILE_COLUMNS), &left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX2 and FMA before it made this value.
            Isa::Avx2 => unsafe { by_rows::avx2(self, (rows, TILE_COLUMNS), &left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX-512 F before it made this value.
            Isa::Avx512 => unsafe { by_rows::avx512(self, rows, &left, right) },
        }
    }

    /// [`Self::add_products_of_rows`] of the first sixteen columns; the others mean nothing
    /// afterwards.
    #[inline]
    pub(crate) fn add_half_products_of_rows(
        &mut self,
        isa: Isa,
        rows: usize,
        left: &LeftRows<'_>,
        right: &[PanelStep],
    ) {
        let left = left.map(|row| &row[..right.len()]);
        match isa {
            Isa::Baseline => by_rows::portable(self, (rows, TILE_COLUMNS / 2), &left, right),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 has NEON.
            Isa::Neon => unsafe { neon::by_rows(self, (rows, TILE_COLUMNS / 2), &left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX2 and FMA before it made this value.
            Isa::Avx2 => unsafe { by_rows::avx2(self, (rows, TILE_COLUMNS / 2), &left, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::available` saw AVX-512 F before it made this value.
            Isa::Avx512 => unsafe { by_rows::avx512_half(self, rows, &left, right) },
        }
    }
}

/// Four rows times eight columns at a time, so that sums fit the registers of NEON.
fn portable(
    tile: &mut Tile,
    (rows, columns): (usize, usize),
    left: &[LeftStep],
    right: &[PanelStep],
) {
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;
    for row in (0..rows).step_by(ROWS) {
        for column in (0..columns).step_by(COLUMNS) {
            let mut sums = [[0.0_f32; COLUMNS]; ROWS];
            for (sums, row) in sums.iter_mut().zip(&tile.0[row..]) {
                sums.copy_from_slice(&row[column..column + COLUMNS]);
            }
            for (left, right) in left.iter().zip(right) {
                for (sums, &left) in sums.iter_mut().zip(&left[row..]) {
                    for (sum, &right) in sums.iter_mut().zip(&right.0[column..]) {
                        *sum = left.mul_add(right, *sum);
                    }
                }
            }
            for (row, sums) in tile.0[row..].iter_mut().zip(&sums) {
                row[column..column + COLUMNS].copy_from_slice(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_bits_of_one_chain_per_element() {
        for (rows, steps) in [(1, 1), (4, 31), (5, 33), (12, 1025)] {
            let value = |i: usize| (i as f32 * 0.37).sin();
            let left: Vec<LeftStep> =
                (0..steps).map(|k| std::array::from_fn(|r| value(k * 12 + r))).collect();
            let right: Vec<PanelStep> = (0..steps)
                .map(|k| PanelStep(std::array::from_fn(|c| value(k * 32 + c + 7))))
                .collect();
            // Steps that one operand alone has count for nothing.
            let longer: Vec<LeftStep> = left.iter().copied().chain([[9.0; TILE_ROWS]; 5]).collect();
            for isa in Isa::available() {
                let mut tile = Tile::ZERO;
                tile.0[0][31] = 0.5;
                tile.add_products(isa, rows, &longer, &right);
                let mut half = Tile::ZERO;
                half.add_half_products(isa, rows, &left, &right);
                let by_row: [Vec<f32>; TILE_ROWS] =
                    std::array::from_fn(|r| left.iter().map(|step| step[r]).collect());
                let by_row = std::array::from_fn(|r| &by_row[r][..]);
                let (mut unpacked, mut half_unpacked) = (Tile::ZERO, Tile::ZERO);
                unpacked.0[0][31] = 0.5;
                unpacked.add_products_of_rows(isa, rows, &by_row, &right);
                half_unpacked.add_half_products_of_rows(isa, rows, &by_row, &right);
                for r in 0..rows {
                    assert_eq!(unpacked.0[r], tile.0[r], "{isa:?} {rows} {steps}");
                    assert_eq!(half_unpacked.0[r][..16], half.0[r][..16], "{isa:?} {rows}");
                }
                for r in 0..rows {
                    for c in 0..TILE_COLUMNS {
                        let start = if (r, c) == (0, 31) { 0.5_f32 } else { 0.0 };
                        let chain = left
                            .iter()
                            .zip(&right)
                            .fold(start, |sum, (left, right)| left[r].mul_add(right.0[c], sum));
                        assert_eq!(tile.0[r][c].to_bits(), chain.to_bits(), "{isa:?} {r} {c}");
                        if c < TILE_COLUMNS / 2 {
                            assert_eq!(half.0[r][c].to_bits(), chain.to_bits(), "{isa:?} {r} {c}");
                        }
                    }
                }
            }
        }
    }
}
