//! The spline layer: a smooth summary of each channel along the sequence.

use crate::layers::{defect, zeros};
use glmeval_common::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// Degree of the splines.
const DEGREE: usize = 3;

/// A basis, ready to be multiplied with.
pub(super) struct Spline {
    basis: PackedLinear,
    length: usize,
    functions: usize,
}

impl Spline {
    /// `functions`, at least four, over `length` positions, at least two.
    pub(super) fn new(length: usize, functions: usize) -> Result<Self> {
        let values = basis(length, functions);
        let basis = PackedLinear::pack_by_input(&values, None, functions, length);
        Ok(Self { basis: basis.map_err(defect)?, length, functions })
    }

    /// Sums `[C, functions]` of channels `[length, C]`.
    ///
    /// ```text
    /// out[c,s] = sum_t maps[t,c] basis[t,s]
    /// ```
    pub(super) fn apply(&self, maps: &[f32]) -> Result<Vec<f32>> {
        let width = maps.len() / self.length;
        let mut by_channel = zeros(width, self.length)?;
        for (channel, row) in by_channel.chunks_exact_mut(self.length).enumerate() {
            let values = maps.iter().skip(channel).step_by(width);
            row.iter_mut().zip(values).for_each(|(to, &from)| *to = from);
        }
        let mut out = zeros(width, self.functions)?;
        linear(&by_channel, &self.basis, Epilogue::None, &mut out).map_err(defect)?;
        Ok(out)
    }
}

/// Values `[length, functions]` of a cubic B-spline basis at 0, 1, …, length - 1.
///
/// Inner knots divide the range evenly; the ends are repeated four times, so that rows sum to one
/// and the last row is the last function alone. Computed in f64, rounded once.
///
/// Source: recurrence of de Boor 1978, algorithm A2.2 of Piegl and Tiller 1997.
pub(super) fn basis(length: usize, functions: usize) -> Vec<f32> {
    let last = length.saturating_sub(1) as f64;
    let spans = functions.saturating_sub(DEGREE);
    // knot(DEGREE + k) ends span k.
    let knot = |index: usize| {
        let inner = index.saturating_sub(DEGREE).min(spans);
        last * inner as f64 / spans as f64
    };
    let mut values = vec![0.0; length.saturating_mul(functions)];
    for (position, row) in values.chunks_exact_mut(functions).enumerate() {
        let x = position as f64;
        let inside = |span: &usize| knot(DEGREE + span + 1) > x;
        let span = (0..spans).find(inside).unwrap_or(spans - 1);
        let touched = functions_at(x, DEGREE + span, knot);
        row.iter_mut().skip(span).zip(touched).for_each(|(to, value)| *to = value as f32);
    }
    values
}

/// The four functions that are not zero at `x`, which lies between knots `index` and `index + 1`.
fn functions_at(x: f64, index: usize, knot: impl Fn(usize) -> f64) -> [f64; DEGREE + 1] {
    let mut values = [1.0, 0.0, 0.0, 0.0];
    for degree in 1..=DEGREE {
        let mut carried = 0.0;
        for (function, value) in values.iter_mut().enumerate().take(degree) {
            let right = knot(index + function + 1) - x;
            let left = x - knot(index + 1 + function - degree);
            let share = *value / (right + left);
            *value = carried + right * share;
            carried = left * share;
        }
        values[degree] = carried;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn rows_sum_to_one_and_the_ends_are_one_function_each() {
        for (length, functions) in [(2, 4), (256, 16), (40, 5), (7, 20)] {
            let values = basis(length, functions);
            for row in values.chunks_exact(functions) {
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-6 && row.iter().all(|&v| v >= 0.0), "{row:?}");
            }
            assert_eq!((values[0], values[values.len() - 1]), (1.0, 1.0));
        }
    }

    #[test]
    fn without_inner_knots_it_is_the_polynomials_of_bernstein() {
        let values = basis(3, 4);
        assert_eq!(values[4..8], [0.125, 0.375, 0.375, 0.125]);
    }

    #[test]
    fn the_basis_is_that_of_the_published_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/sei-tiny");
        let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let expected = file.tensor("spline_basis_256x16").unwrap();
        let expected = expected.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let found = basis(256, 16);
        assert_eq!(expected.len(), found.len());
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() <= f32::EPSILON * expected, "{found} {expected}");
        }
    }

    #[test]
    fn channels_are_summed_apart() {
        let spline = Spline::new(3, 4).unwrap();
        let found = spline.apply(&[1.0, 10.0, 0.0, 0.0, 2.0, 20.0]).unwrap();
        assert_eq!(found, [1.0, 0.0, 0.0, 2.0, 10.0, 0.0, 0.0, 20.0]);
    }
}
