//! Pooling of a sequence's rows into one.
//!
//! Leaves out: which rows take part; the caller passes those alone. Invariant: rows are added in
//! order, in f64, so the result depends on nothing else.

pub mod cuda;

use crate::error::{KernelError, Result, check_rows};

/// Writes the mean of the rows of `x`.
///
/// ```text
/// out[d] = sum_t x[t,d] / T
/// ```
///
/// - `x`: `[T, D]`, T at least one
/// - `out`: `[D]`
///
/// Sums are f64; the mean is rounded once.
///
/// # Errors
/// `Shape` if `x` is not one or more whole rows of `out.len()`.
pub fn mean_rows(x: &[f32], out: &mut [f32]) -> Result<()> {
    const BLOCK: usize = 16;
    const OP: &str = "mean_rows";
    let width = out.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    if rows == 0 {
        return Err(KernelError::Shape {
            op: OP,
            operand: "x",
            expected: "at least one row".to_owned(),
            found: "no row".to_owned(),
        });
    }
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [0.0_f64; BLOCK];
        for row in x.chunks_exact(width) {
            for (sum, &value) in sums.iter_mut().zip(&row[block * BLOCK..][..out.len()]) {
                *sum += f64::from(value);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum / rows as f64) as f32;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_of_each_column() {
        let mut out = [0.0; 3];
        mean_rows(&[1.0, 2.0, 3.0, 3.0, 6.0, -3.0], &mut out).unwrap();
        assert_eq!(out, [2.0, 4.0, 0.0]);
    }

    #[test]
    fn small_values_survive_large_ones() {
        let mut out = [0.0; 17];
        let mut x = vec![0.0; 3 * 17];
        (x[16], x[16 + 17], x[16 + 34]) = (1.0e9, 3.0, -1.0e9);
        mean_rows(&x, &mut out).unwrap();
        assert_eq!(out[16], 1.0);
    }

    #[test]
    fn no_row_and_partial_rows_are_refused() {
        assert!(mean_rows(&[], &mut [0.0; 2]).is_err());
        assert!(mean_rows(&[1.0; 3], &mut [0.0; 2]).is_err());
        assert!(mean_rows(&[], &mut []).is_err());
    }
}
