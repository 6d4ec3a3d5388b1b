//! Rounds f32 matrices to bf16 and lays them out the way the tile reads them.
//!
//! Leaves out: arithmetic. Invariant: missing rows, columns and values of k are zeros, never stale.

use super::{HALF, SIDE, STEP_WIDTH, Step};
use crate::isa::{Isa, per_isa};
use crate::tile::{PanelStep, TILE_COLUMNS};

/// Writes a row of a left operand at its place in the 32 of a step, a step per 32 of k.
pub(crate) fn pack_row(isa: Isa, row: &[f32], place: usize, packed: &mut [Step]) {
    let (whole, rest) = row.as_chunks::<STEP_WIDTH>();
    let (whole_steps, other_steps) = packed.split_at_mut(whole.len().min(packed.len()));
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::available` saw these features before it made this value.
        Isa::Avx512 => unsafe { whole_by_words(whole, place, whole_steps) },
        _ => pack_whole(isa, whole, place, whole_steps),
    }
    let Some((last_step, empty_steps)) = other_steps.split_first_mut() else { return };
    let mut last = [0.0; STEP_WIDTH];
    last[..rest.len()].copy_from_slice(rest);
    pack_whole(isa, &[last], place, std::slice::from_mut(last_step));
    for step in empty_steps {
        step.0[place / HALF].0[place % HALF] = [0; HALF];
    }
}

/// Writes all 32 rows of a left operand at 32 values of k.
pub(crate) fn round_rows(isa: Isa, rows: &[PanelStep; SIDE], step: &mut Step) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa::available` saw these features before it made this value.
        Isa::Avx512 => unsafe { rows_by_words(rows, step) },
        _ => rows_one_by_one(isa, rows, step),
    }
}

per_isa!(
    /// [`round_rows`] by loops.
    fn rows_one_by_one(rows: &[PanelStep; SIDE], step: &mut Step) = left_of_rows
);

#[inline(always)]
fn left_of_rows(rows: &[PanelStep; SIDE], step: &mut Step) {
    for (place, row) in rows.iter().enumerate() {
        left_of_row(&[row.0], place, std::slice::from_mut(step));
    }
}

/// [`round_rows`] by [`whole_by_words`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn rows_by_words(rows: &[PanelStep; SIDE], step: &mut Step) {
    for (place, row) in rows.iter().enumerate() {
        whole_by_words(&[row.0], place, std::slice::from_mut(step));
    }
}

per_isa!(
    /// Writes values of one row, a step per 32 of k.
    fn pack_whole(values: &[[f32; STEP_WIDTH]], place: usize, packed: &mut [Step]) = left_of_row
);

per_isa!(
    /// Writes a panel `[K][32]` as the right operand of a block, a step per 32 of k.
    pub(crate) fn round_panel(panel: &[PanelStep], packed: &mut [Step]) = right_of_panel
);

#[inline(always)]
fn left_of_row(values: &[[f32; STEP_WIDTH]], place: usize, packed: &mut [Step]) {
    for (step, values) in packed.iter_mut().zip(values) {
        let pairs = &mut step.0[place / HALF].0[place % HALF];
        for (pair, value) in pairs.iter_mut().zip(values.as_chunks::<2>().0) {
            *pair = rounded(value[0]) >> 16 | rounded(value[1]);
        }
    }
}

/// [`pack_whole`] by a shuffle of halves of words, which compilers do not find by themselves.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn whole_by_words(values: &[[f32; STEP_WIDTH]], place: usize, packed: &mut [Step]) {
    use std::arch::x86_64::{
        __m512, _CMP_UNORD_Q, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
        _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_or_epi32,
        _mm512_permutex2var_epi16, _mm512_set1_epi32, _mm512_srli_epi32, _mm512_storeu_si512,
    };
    const UPPER_HALVES: [u16; STEP_WIDTH] = {
        let mut halves = [0; STEP_WIDTH];
        let mut index = 0;
        while index < STEP_WIDTH {
            halves[index] = 2 * index as u16 + 1;
            index += 1;
        }
        halves
    };
    // SAFETY: a register is 32 halves of words.
    let upper_halves = unsafe { _mm512_loadu_si512(UPPER_HALVES.as_ptr().cast()) };
    let (one, below_half) = (_mm512_set1_epi32(1), _mm512_set1_epi32(0x7fff));
    let quiet = _mm512_set1_epi32(0x0040_0000);
    // As `rounded`, but for the lower halves, which are left as they come.
    let rounded = |value: __m512| {
        let bits = _mm512_castps_si512(value);
        let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), one);
        let nearest = _mm512_add_epi32(_mm512_add_epi32(bits, below_half), even);
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        _mm512_mask_or_epi32(nearest, is_nan, bits, quiet)
    };
    for (step, values) in packed.iter_mut().zip(values) {
        let pairs = &mut step.0[place / HALF].0[place % HALF];
        // SAFETY: 32 values are two registers, and their pairs are one.
        unsafe {
            let low = rounded(_mm512_loadu_ps(values.as_ptr()));
            let high = rounded(_mm512_loadu_ps(values.as_ptr().add(HALF)));
            let packed = _mm512_permutex2var_epi16(low, upper_halves, high);
            _mm512_storeu_si512(pairs.as_mut_ptr().cast(), packed);
        }
    }
}

#[inline(always)]
fn right_of_panel(panel: &[PanelStep], packed: &mut [Step]) {
    const ZERO: [f32; TILE_COLUMNS] = PanelStep::ZERO.0;
    for (step, panel) in packed.iter_mut().zip(panel.chunks(STEP_WIDTH)) {
        for pair in 0..HALF {
            let even = panel.get(2 * pair).map_or(&ZERO, |step| &step.0);
            let odd = panel.get(2 * pair + 1).map_or(&ZERO, |step| &step.0);
            for (half, columns) in step.0.iter_mut().zip([0..HALF, HALF..SIDE]) {
                let values = even[columns.clone()].iter().zip(&odd[columns]);
                for (word, (even, odd)) in half.0[pair].iter_mut().zip(values) {
                    *word = rounded(*even) >> 16 | rounded(*odd);
                }
            }
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
