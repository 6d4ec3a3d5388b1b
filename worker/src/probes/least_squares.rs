//! Ordinary least squares in f64; of all solutions the one with the smallest norm.
//!
//! Leaves out: penalties (ridge). Invariant: the fast path is taken only where its refinement
//! converges, which it does not for singular or nearly singular features.
//!
//! Source: scikit-learn `LinearRegression` (centring, then `scipy.linalg.lstsq`; its cut-off since 1.9).

use super::cholesky::Cholesky;
use super::design::{Design, check_side, dot, fit_targets, lacks_values};
use super::gram::gram;
use super::orthogonal;
use super::ridge::solve_centred;
use crate::probe::{FittedProbe, Link, Matrix, Probe};
use glmeval_common::error::Result;
use glmeval_common::example::Split;

/// Singular values below this part of the largest count as zero. Features are f32: what is collinear but for their rounding,
/// such as shares that sum to one or states after a layer norm, has 1e-7.
const SINGULAR_MIN: f64 = 1e-6;
/// Below this ratio of pivots the normal equations lose too many digits to refine.
const PIVOT_RATIO_MIN: f64 = 1e-6;
const REFINEMENTS_MAX: usize = 12;

pub(super) struct LeastSquares;

impl Probe for LeastSquares {
    fn splits(&self) -> &'static [Split] {
        &[Split::Train]
    }

    fn fit(&self, x: &Matrix, targets: &[Vec<f64>]) -> Result<FittedProbe> {
        check_side("least squares", x.rows().min(x.columns()))?;
        fit_targets(x, targets, (Link::Identity, lacks_values), &|x, targets| {
            Ok(solve_centred(x, targets, |design, centred| {
                solve_regular(design, centred)
                    .unwrap_or_else(|| orthogonal::solve(design, centred, (0.0, SINGULAR_MIN)))
            }))
        })
    }
}

/// Normal equations on unit columns, or their dual for wide features, refined with residuals of
/// the original system.
fn solve_regular(design: &Design<'_>, targets: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let (rows, columns) = (design.rows(), design.columns());
    if rows <= columns {
        return solve_wide(design, targets);
    }
    let mut system = gram(rows, columns, |r, c| design.value(r, c));
    let scales: Vec<f64> = system.iter().step_by(columns + 1).map(|d| 1.0 / d.sqrt()).collect();
    if scales.iter().any(|scale| !scale.is_finite()) {
        return None;
    }
    for (row, outer) in system.chunks_mut(columns).zip(&scales) {
        row.iter_mut().zip(&scales).for_each(|(value, inner)| *value *= outer * inner);
    }
    let factor = well_conditioned(system, columns)?;
    let step = |residual: &[f64]| {
        let mut step = design.transposed_times(residual);
        step.iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scale);
        factor.solve(&mut step);
        step.iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scale);
        step
    };
    targets.iter().map(|target| refine(design, target, &step)).collect()
}

/// `w = Xc' a` with `Xc Xc' a = y`. Centring puts the vector of ones into the null space of
/// `Xc Xc'`; adding it back makes the system regular and leaves `w` as it is, as y is centred.
fn solve_wide(design: &Design<'_>, targets: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let rows = design.rows();
    let mut system = gram(design.columns(), rows, |c, r| design.value(r, c));
    let trace: f64 = system.iter().step_by(rows + 1).sum();
    let ones = trace / (rows as f64).powi(2);
    system.iter_mut().for_each(|value| *value += ones);
    let factor = well_conditioned(system, rows)?;
    let step = |residual: &[f64]| {
        let mut dual = residual.to_vec();
        factor.solve(&mut dual);
        design.transposed_times(&dual)
    };
    targets.iter().map(|target| refine(design, target, &step)).collect()
}

/// The factor of a system of products whose singular values are far from what counts as zero. Pivots alone do not tell: they
/// are sums of rounding errors over all columns.
fn well_conditioned(system: Vec<f64>, side: usize) -> Option<Cholesky> {
    let trace: f64 = system.iter().step_by(side + 1).sum();
    Cholesky::factor(system, side).filter(|factor| {
        // The largest value is at most the trace.
        let is_regular = || (factor.smallest_value() / trace).sqrt() >= SINGULAR_MIN;
        factor.diagonal_ratio() >= PIVOT_RATIO_MIN && is_regular()
    })
}

/// Adds the step that each residual asks for until the steps vanish; `None` if they do not.
fn refine(
    design: &Design<'_>,
    target: &[f64],
    step: &impl Fn(&[f64]) -> Vec<f64>,
) -> Option<Vec<f64>> {
    let mut weights = vec![0.0; design.columns()];
    let mut last = f64::INFINITY;
    for _ in 0..REFINEMENTS_MAX {
        let fitted = design.times(&weights);
        let residual: Vec<f64> = target.iter().zip(&fitted).map(|(y, f)| y - f).collect();
        let step = step(&residual);
        weights.iter_mut().zip(&step).for_each(|(w, s)| *w += s);
        let (length, size) = (dot(&step, &step).sqrt(), dot(&weights, &weights).sqrt());
        if length <= 1e-13 * size {
            return Some(weights);
        }
        if length > last / 4.0 {
            // At the rounding floor the steps stop shrinking; far above it they never converge.
            return (length <= 1e-10 * size).then_some(weights);
        }
        last = length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::rng::Rng;

    #[test]
    fn fast_and_orthogonal_paths_agree() {
        let (rows, columns) = (700, 9);
        let mut rng = Rng::derive(4, "least-squares");
        let values = (0..rows * columns).map(|i| (rng.normal() * f64::from(1 << (i % 9))) as f32);
        let x = Matrix::new(rows, columns, values.collect()).unwrap();
        let design = Design::new(&x);
        let target: Vec<f64> = (0..rows).map(|_| rng.normal()).collect();
        let fast = solve_regular(&design, std::slice::from_ref(&target)).unwrap();
        let orthogonal = orthogonal::solve(&design, &[target], (0.0, SINGULAR_MIN));
        for (a, b) in fast[0].iter().zip(&orthogonal[0]) {
            assert!((a - b).abs() < 1e-12 * b.abs().max(1e-2), "{a} {b}");
        }
    }

    #[test]
    fn features_that_are_collinear_but_for_their_rounding_get_the_smallest_weights() {
        let mut rng = Rng::derive(5, "least-squares");
        for (rows, columns) in [(100, 4), (300, 120), (40, 64)] {
            // Shares that sum to one, each rounded to f32.
            let mut values = Vec::new();
            for _ in 0..rows {
                let row: Vec<f64> = (0..columns).map(|_| rng.normal().abs() + 0.1).collect();
                let sum: f64 = row.iter().sum();
                values.extend(row.iter().map(|x| (x / sum) as f32));
            }
            let x = Matrix::new(rows, columns, values).unwrap();
            let target: Vec<f64> = (0..rows).map(|_| rng.normal()).collect();
            let fitted = LeastSquares.fit(&x, &[target]).unwrap();
            let weights = &fitted.coefficients[0];
            let largest = weights.iter().fold(0.0_f64, |most, w| most.max(w.abs()));
            // The shares' own directions allow weights of some hundreds; rounding alone asks for 1e7.
            assert!(largest < 1e5 * columns as f64, "{rows} x {columns}: {largest}");
            let sum: f64 = weights.iter().sum();
            assert!(sum.abs() < 1e-3 * largest, "{rows} x {columns}: {sum} of {largest}");
        }
    }

    #[test]
    fn constant_features_get_no_weight() {
        let x = Matrix::new(3, 2, vec![1.0, 7.0, 2.0, 7.0, 4.0, 7.0]).unwrap();
        let fitted = LeastSquares.fit(&x, &[vec![2.0, 4.0, 8.0]]).unwrap();
        assert!((fitted.coefficients[0][0] - 2.0).abs() < 1e-12);
        assert_eq!(fitted.coefficients[0][1], 0.0);
    }
}
