//! Softmax over rows.
//!
//! Leaves out: masks; a row holds only what takes part. Invariant: a row's result depends on that
//! row alone.

use crate::error::{Result, check_rows};
use crate::isa::{Isa, per_isa};
use crate::lanes;
use crate::ops::exp::exp_of;
use crate::parallel;

/// Replaces each row of `width` values by its softmax.
///
/// ```text
/// x[n,i] = exp(x[n,i] - max[n]) / sum_j exp(x[n,j] - max[n])
/// ```
///
/// # Errors
/// `Shape` if `x` is not whole rows.
pub fn softmax(x: &mut [f32], width: usize) -> Result<()> {
    check_rows("softmax", "x", x.len(), width)?;
    let isa = Isa::best();
    parallel::for_rows(x, width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            let sum = exp_row(isa, row);
            row.iter_mut().for_each(|value| *value /= sum);
        }
    });
    Ok(())
}

per_isa!(
    /// [`exp_row_of`] compiled for each instruction set.
    fn exp_row(row: &mut [f32]) -> f32 = exp_row_of
);

/// Replaces a row by `exp(x - max)` and returns its sum.
#[inline(always)]
pub(crate) fn exp_row_of(row: &mut [f32]) -> f32 {
    let largest = lanes::max(row);
    for x in &mut *row {
        *x = exp_of(*x - largest);
    }
    lanes::sum(row, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_to_one_and_keep_ratios() {
        let mut x = [0.0, 2.0_f32.ln(), 1000.0, 1000.0];
        softmax(&mut x, 2).unwrap();
        for (found, expected) in x.iter().zip([1.0 / 3.0, 2.0 / 3.0, 0.5, 0.5]) {
            assert!((found - expected).abs() < 1e-7, "{x:?}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for width in [1, 31, 33, 1025] {
            let given: Vec<f32> = (0..width).map(|i| (i as f32 * 1.7).sin() * 9.0).collect();
            let run = |isa| {
                let mut row = given.clone();
                let sum = exp_row(isa, &mut row);
                (sum.to_bits(), row.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            for isa in Isa::available() {
                assert_eq!(run(isa), run(Isa::Baseline), "{isa:?} {width}");
            }
        }
    }

    #[test]
    fn partial_rows_are_refused() {
        let error = softmax(&mut [0.0; 5], 2).unwrap_err();
        assert!(error.to_string().starts_with("softmax: x has 5 values"), "{error}");
    }
}
