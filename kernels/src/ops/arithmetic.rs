//! Small arithmetic of training: sums of arrays, sums of columns, the penalty on weights.
//!
//! Leaves out: products of matrices. Invariant: sums over rows are merged in order from slices of
//! fixed size; everything else is a chain of its own element.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::{parallel, slices};

/// Adds `other` to `x`.
///
/// # Errors
/// `Shape` if lengths differ.
pub fn add_in_place(x: &mut [f32], other: &[f32]) -> Result<()> {
    add_scaled(x, 1.0, other)
}

/// Adds `factor` times `other` to `x`.
///
/// ```text
/// x[i] = x[i] + factor other[i]
/// ```
///
/// # Errors
/// `Shape` if lengths differ.
pub fn add_scaled(x: &mut [f32], factor: f32, other: &[f32]) -> Result<()> {
    check_length("add_scaled", "other", other.len(), x.len())?;
    let isa = Isa::best();
    parallel::for_rows(x, 1, |first, x| {
        add_part(isa, factor, &other[first..first + x.len()], x);
    });
    Ok(())
}

per_isa!(fn add_part(factor: f32, other: &[f32], x: &mut [f32]) = add_all);

#[inline(always)]
fn add_all(factor: f32, other: &[f32], x: &mut [f32]) {
    for (x, &other) in x.iter_mut().zip(other) {
        *x = factor.mul_add(other, *x);
    }
}

/// Multiplies each element by `factor`.
pub fn scale_in_place(x: &mut [f32], factor: f32) {
    parallel::for_rows(x, 1, |_, x| x.iter_mut().for_each(|x| *x *= factor));
}

/// Sums each column over all rows.
///
/// ```text
/// sums[c] = sum_n x[n,c]
/// ```
///
/// - `x`: `[N, C]`
/// - `sums`: `[C]`
///
/// Sums are f32 within slices of rows, f64 between them, rounded once.
///
/// # Errors
/// `Shape` if `x` is not whole rows of `sums.len()`.
pub fn column_sums(x: &[f32], sums: &mut [f32]) -> Result<()> {
    let width = sums.len();
    let rows = check_rows("column_sums", "x", x.len(), width)?;
    let isa = Isa::best();
    let total = slices::sum(rows, width, |rows, sums| {
        sum_part(isa, &x[rows.start * width..rows.end * width], sums);
    });
    for (sum, total) in sums.iter_mut().zip(total) {
        *sum = total as f32;
    }
    Ok(())
}

per_isa!(fn sum_part(x: &[f32], sums: &mut [f32]) = sum_rows);

#[inline(always)]
fn sum_rows(x: &[f32], sums: &mut [f32]) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// Penalty on the squares of weights, which is added to the loss; adds its gradient.
///
/// ```text
/// penalty = coefficient sum w²,  gradient[i] += 2 coefficient w[i]
/// ```
///
/// The coefficient is f32, as Keras rounds it; squares are summed in f64, in order.
///
/// # Errors
/// `Shape` if the gradient does not fit the weights.
pub fn l2_penalty(coefficient: f32, weights: &[f32], gradient: Option<&mut [f32]>) -> Result<f64> {
    if let Some(gradient) = gradient {
        check_length("l2_penalty", "gradient", gradient.len(), weights.len())?;
        add_scaled(gradient, 2.0 * coefficient, weights)?;
    }
    let squares = |part: &[f32]| part.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
    Ok(f64::from(coefficient) * weights.chunks(1 << 10).map(squares).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_values() {
        let mut x = [1.0, 2.0];
        add_in_place(&mut x, &[10.0, 20.0]).unwrap();
        add_scaled(&mut x, -0.5, &[2.0, 4.0]).unwrap();
        assert_eq!(x, [10.0, 20.0]);
        scale_in_place(&mut x, 3.0);
        assert_eq!(x, [30.0, 60.0]);
        let mut gradient = [1.0, 1.0];
        assert_eq!(l2_penalty(0.5, &[1.0, -2.0], Some(&mut gradient)), Ok(2.5));
        assert_eq!(gradient, [2.0, -1.0]);
    }

    #[test]
    fn column_sums_do_not_depend_on_threads_or_instruction_set() {
        let width = 19;
        let x: Vec<f32> = (0..1000 * width).map(|i| (i as f32 * 0.3).sin() + 2.0).collect();
        let run = |threads| {
            let mut sums = vec![0.0; width];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| column_sums(&x, &mut sums)).unwrap();
            sums
        };
        assert_eq!(run(1), run(3));
        for (c, &sum) in run(1).iter().enumerate() {
            let exact: f64 = x.iter().skip(c).step_by(width).map(|&x| f64::from(x)).sum();
            assert!((f64::from(sum) - exact).abs() < 1e-6 * exact);
        }
        let on = |isa| {
            let mut sums = vec![0.0; width];
            sum_part(isa, &x, &mut sums);
            sums
        };
        for isa in Isa::available() {
            assert_eq!(on(isa), on(Isa::Baseline), "{isa:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        assert!(add_in_place(&mut [0.0; 2], &[0.0; 3]).is_err());
        assert!(column_sums(&[0.0; 3], &mut [0.0; 2]).is_err());
        assert!(l2_penalty(1.0, &[0.0; 3], Some(&mut [0.0; 2])).is_err());
    }
}
