//! Largest value of each channel over windows of a sequence.
//!
//! Leaves out: overlapping windows and padding. Invariant: exact; a result depends on its window
//! alone.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::parallel;

/// Writes the largest value of each window of each channel; NaN if any is.
///
/// ```text
/// out[b,p,c] = max(x[b, p W .. (p+1) W, c])
/// ```
///
/// - `x`: `[B, T, C]`, all sequences of `length` T
/// - `out`: `[B, T / window, C]`, rounded down: what is left at the end takes no part
///
/// # Errors
/// `Shape` if the window or an extent is zero, or `x` or `out` do not fit.
pub fn max_pool(
    x: &[f32],
    length: usize,
    width: usize,
    window: usize,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "max_pool";
    let sequences = check_rows(OP, "x", x.len(), length.saturating_mul(width))?;
    check_rows(OP, "window", window, window)?;
    let windows = length / window;
    check_length(OP, "out", out.len(), sequences * windows * width)?;
    let isa = Isa::best();
    parallel::for_rows(out, width, |first, rows| {
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let (sequence, position) = ((first + index) / windows, (first + index) % windows);
            let start = (sequence * length + position * window) * width;
            largest(isa, &x[start..][..window * width], row);
        }
    });
    Ok(())
}

per_isa!(
    /// Writes the largest value of each column of some rows.
    fn largest(rows: &[f32], out: &mut [f32]) = largest_of
);

#[inline(always)]
fn largest_of(rows: &[f32], out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for row in rows.chunks_exact(out.len()) {
        for (largest, &value) in out.iter_mut().zip(row) {
            let larger = value > *largest || value.is_nan();
            *largest = if larger { value } else { *largest };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_windows_leave_the_rest_out() {
        let x = [1.0, -1.0, 3.0, -5.0, 9.0, 9.0, 0.0, 2.0, -4.0, 8.0, 9.0, 9.0];
        let mut out = [0.0; 4];
        max_pool(&x, 3, 2, 2, &mut out).unwrap();
        assert_eq!(out, [3.0, -1.0, 0.0, 8.0]);
        max_pool(&x[..6], 3, 2, 4, &mut []).unwrap();
    }

    #[test]
    fn not_a_number_is_the_largest() {
        let mut out = [0.0; 1];
        for x in [[f32::NAN, 1.0, 2.0], [1.0, f32::NAN, 2.0], [1.0, 2.0, f32::NAN]] {
            max_pool(&x, 3, 1, 3, &mut out).unwrap();
            assert!(out[0].is_nan());
        }
    }

    #[test]
    fn every_instruction_set_and_thread_count_give_the_same_bits() {
        let (length, width, window) = (301, 33, 4);
        let x: Vec<f32> = (0..30 * length * width).map(|i| (i as f32 * 0.9).sin()).collect();
        let run = |threads| {
            let mut out = vec![0.0; 30 * 75 * width];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| max_pool(&x, length, width, window, &mut out)).unwrap();
            out
        };
        assert_eq!(run(1), run(3));
        let on = |isa| {
            let mut out = vec![0.0; width];
            largest(isa, &x[..window * width], &mut out);
            out
        };
        for isa in Isa::available() {
            assert_eq!(on(isa), run(1)[..width], "{isa:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let mut out = [0.0; 2];
        assert!(max_pool(&[0.0; 8], 3, 2, 1, &mut out).is_err());
        assert!(max_pool(&[0.0; 8], 4, 2, 0, &mut out).is_err());
        assert!(max_pool(&[0.0; 8], 4, 2, 2, &mut out).is_err());
        assert!(max_pool(&[0.0; 8], 4, 0, 2, &mut out).is_err());
        assert!(max_pool(&[0.0; 8], 4, 2, 4, &mut out).is_ok());
    }
}
