//! L2 logistic regression at its true optimum, in f64.
//!
//! ```text
//! sum_i log(1 + exp(-s_i (w . x_i + b))) + ||w||^2 / (2 c),   s_i = +-1, b not penalised
//! ```
//!
//! Leaves out: the library's habit of stopping early. Invariant: features are centred, which
//! changes b only and leaves the objective as it is.
//!
//! Source: scikit-learn 1.2.2 `LogisticRegression` (objective); Newton's method and L-BFGS are ours.

use super::cholesky::Cholesky;
use super::design::{Design, Solution, dot, fit_targets, lacks_values};
use super::gram::gram;
use super::lbfgs;
use crate::probe::{FittedProbe, Link, Matrix, Probe, logistic};
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Split;

/// Up to this many features the second derivatives of every step cost next to nothing.
const NEWTON_FEATURES_FEW: usize = 64;
/// Up to this many features Newton's method finishes what L-BFGS brought close.
const NEWTON_FEATURES_MAX: usize = 1024;
/// Gradient, as a share of the first one, at which Newton's method takes over.
const HANDOVER_SHARE: f64 = 1e-5;
/// Share of the objective by which a converged step may still promise to lower it.
const DECREMENT_SHARE: f64 = 1e-16;
const HALVINGS_MAX: usize = 50;
const GRADIENT_SHARE: f64 = 1e-9;

pub(super) struct Logistic {
    pub(super) c: f64,
    pub(super) iterations_max: u32,
}

impl Probe for Logistic {
    fn splits(&self) -> &'static [Split] {
        &[Split::Train, Split::Valid]
    }

    fn fit(&self, x: &Matrix, targets: &[Vec<f64>]) -> Result<FittedProbe> {
        if !(self.c.is_finite() && self.c > 0.0) {
            return Err(Error::invalid(format!("logistic: expected c above 0, found {}", self.c)));
        }
        check_values(targets)?;
        fit_targets(x, targets, (Link::Logistic, lacks_a_class), &|x, targets| {
            let design = Design::new(x);
            targets.iter().map(|target| self.solve(&design, target)).collect()
        })
    }
}

impl Logistic {
    fn solve(&self, design: &Design<'_>, target: &[f64]) -> Result<Solution> {
        let objective = Objective { design, target, penalty: 1.0 / self.c };
        let start = vec![0.0; design.columns() + 1];
        let minimum = if design.columns() <= NEWTON_FEATURES_FEW {
            newton(&objective, start, self.iterations_max)
        } else if design.columns() <= NEWTON_FEATURES_MAX {
            let near = quasi_newton(&objective, self.iterations_max, HANDOVER_SHARE);
            let minimum = newton(&objective, near.point, self.iterations_max);
            let iterations = near.iterations.saturating_add(minimum.iterations);
            lbfgs::Minimum { iterations, ..minimum }
        } else {
            quasi_newton(&objective, self.iterations_max, GRADIENT_SHARE)
        };
        let (weights, centred) = split_last(&minimum.point);
        Ok(Solution {
            intercept: design.intercept(centred, weights),
            weights: weights.to_vec(),
            converged: minimum.converged,
            iterations: minimum.iterations,
        })
    }
}

/// Refuses values that are no class.
fn check_values(targets: &[Vec<f64>]) -> Result<()> {
    let is_other = |value: &f64| !value.is_nan() && *value != 0.0 && *value != 1.0;
    for (i, target) in targets.iter().enumerate() {
        if let Some(found) = target.iter().copied().find(is_other) {
            let message = format!("target {i}: expected 0 or 1 for logistic, found {found}");
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

/// A target that is not known, or of which one class is not there.
fn lacks_a_class(target: &[f64]) -> Option<String> {
    let missing = || [0.0, 1.0].into_iter().find(|class| !target.contains(class));
    lacks_values(target)
        .or_else(|| Some(format!("expected 0 and 1 for logistic, found no {}", missing()?)))
}

/// Weights and, last, the intercept.
fn split_last(point: &[f64]) -> (&[f64], f64) {
    point.split_last().map_or((&[], 0.0), |(last, weights)| (weights, *last))
}

struct Objective<'a> {
    design: &'a Design<'a>,
    target: &'a [f64],
    penalty: f64,
}

impl Objective<'_> {
    /// w . x + b of every example.
    fn predictors(&self, point: &[f64]) -> Vec<f64> {
        let (weights, intercept) = split_last(point);
        let mut z = self.design.times(weights);
        z.iter_mut().for_each(|z| *z += intercept);
        z
    }

    fn value(&self, point: &[f64], predictors: &[f64]) -> f64 {
        let (weights, _) = split_last(point);
        let loss = |(&z, &y): (&f64, &f64)| {
            let t = if y > 0.5 { -z } else { z };
            t.max(0.0) + (-t.abs()).exp().ln_1p()
        };
        let losses: f64 = predictors.iter().zip(self.target).map(loss).sum();
        losses + self.penalty * dot(weights, weights) / 2.0
    }

    fn gradient(&self, point: &[f64], predictors: &[f64]) -> Vec<f64> {
        let (weights, _) = split_last(point);
        let error = |(&z, &y): (&f64, &f64)| {
            // 1 - p is taken as p(-z) so that a good fit keeps its digits.
            if y > 0.5 { -share(-z) } else { share(z) }
        };
        let errors: Vec<f64> = predictors.iter().zip(self.target).map(error).collect();
        let mut gradient = self.design.transposed_times(&errors);
        gradient.iter_mut().zip(weights).for_each(|(g, w)| *g += self.penalty * w);
        gradient.push(errors.iter().sum());
        gradient
    }

    /// Second derivatives, `[features + 1]` squared.
    fn hessian(&self, predictors: &[f64]) -> Vec<f64> {
        let features = self.design.columns();
        let roots: Vec<f64> = predictors.iter().map(|&z| (share(z) * share(-z)).sqrt()).collect();
        let mut hessian = gram(self.design.rows(), features + 1, |row, column| {
            let value = if column < features { self.design.value(row, column) } else { 1.0 };
            roots[row] * value
        });
        hessian.iter_mut().step_by(features + 2).take(features).for_each(|d| *d += self.penalty);
        hessian
    }
}

/// The logistic function.
fn share(z: f64) -> f64 {
    if z == 0.0 { 0.5 } else { logistic(z) }
}

/// Newton's method with step halving.
fn newton(objective: &Objective<'_>, start: Vec<f64>, iterations_max: u32) -> lbfgs::Minimum {
    let side = objective.design.columns() + 1;
    let mut point = start;
    let mut predictors = objective.predictors(&point);
    let mut value = objective.value(&point, &predictors);
    for iteration in 0..iterations_max {
        let gradient = objective.gradient(&point, &predictors);
        let Some(factor) = Cholesky::factor(objective.hessian(&predictors), side) else {
            return lbfgs::Minimum { point, converged: false, iterations: iteration };
        };
        let mut step = gradient.clone();
        factor.solve(&mut step);
        let decrement = dot(&gradient, &step);
        let last = decrement <= DECREMENT_SHARE * value;
        let mut length = 1.0;
        let mut moved = false;
        for _ in 0..HALVINGS_MAX {
            let next: Vec<f64> = point.iter().zip(&step).map(|(p, s)| p - length * s).collect();
            let next_predictors = objective.predictors(&next);
            let next_value = objective.value(&next, &next_predictors);
            // Below this decrement the objective's own rounding hides the descent.
            let rounding = if decrement < 1e-10 * value { f64::INFINITY } else { 0.0 };
            if next_value <= value - 1e-4 * length * decrement + rounding {
                (point, predictors, value) = (next, next_predictors, next_value);
                moved = true;
                break;
            }
            length /= 2.0;
        }
        if last || !moved {
            return lbfgs::Minimum { point, converged: last, iterations: iteration + 1 };
        }
    }
    lbfgs::Minimum { point, converged: false, iterations: iterations_max }
}

/// L-BFGS on features scaled by the square roots of the Hessian's diagonal at 0.
fn quasi_newton(
    objective: &Objective<'_>,
    iterations_max: u32,
    gradient_share: f64,
) -> lbfgs::Minimum {
    let design = objective.design;
    let mut squares = vec![0.0; design.columns()];
    for row in 0..design.rows() {
        for ((square, &x), mean) in squares.iter_mut().zip(design.x.row(row)).zip(&design.means) {
            *square += (f64::from(x) - mean).powi(2);
        }
    }
    let diagonal = squares.iter().map(|square| objective.penalty + square / 4.0);
    let scales: Vec<f64> =
        diagonal.chain([design.rows() as f64 / 4.0]).map(|second| 1.0 / second.sqrt()).collect();
    let scaled = |point: &[f64]| -> Vec<f64> {
        point.iter().zip(&scales).map(|(value, scale)| value * scale).collect()
    };
    let function = |point: &[f64]| {
        let point = scaled(point);
        let predictors = objective.predictors(&point);
        let gradient = objective.gradient(&point, &predictors);
        (objective.value(&point, &predictors), scaled(&gradient))
    };
    let start = vec![0.0; scales.len()];
    let mut minimum = lbfgs::minimise(function, start, iterations_max, gradient_share);
    minimum.point = scaled(&minimum.point);
    minimum
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::rng::Rng;

    fn data(rows: usize, columns: usize) -> (Matrix, Vec<f64>) {
        let mut rng = Rng::derive(6, "logistic");
        let values: Vec<f32> = (0..rows * columns).map(|_| rng.normal() as f32 + 3.0).collect();
        let x = Matrix::new(rows, columns, values).unwrap();
        let target = (0..rows).map(|row| {
            let z: f64 = x.row(row).iter().take(3).map(|&x| f64::from(x) - 3.0).sum();
            f64::from(u8::from(rng.uniform() < logistic(z)))
        });
        let target = target.collect();
        (x, target)
    }

    #[test]
    fn newton_and_lbfgs_reach_the_same_optimum() {
        let (x, target) = data(300, 12);
        let design = Design::new(&x);
        let objective = Objective { design: &design, target: &target, penalty: 1.0 };
        let a = newton(&objective, vec![0.0; 13], 100);
        let b = quasi_newton(&objective, 1000, GRADIENT_SHARE);
        assert!(a.converged && b.converged, "{} {}", a.iterations, b.iterations);
        for (a, b) in a.point.iter().zip(&b.point) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }

    #[test]
    fn gradient_vanishes_after_the_handover_to_newton() {
        let (x, target) = data(200, NEWTON_FEATURES_FEW + 6);
        let fitted = Logistic { c: 1.0, iterations_max: 100 }
            .fit(&x, std::slice::from_ref(&target))
            .unwrap();
        let design = Design { x: &x, means: vec![0.0; x.columns()] };
        let objective = Objective { design: &design, target: &target, penalty: 1.0 };
        let mut point = fitted.coefficients[0].clone();
        point.push(fitted.intercepts[0]);
        let gradient = objective.gradient(&point, &objective.predictors(&point));
        assert!(fitted.converged && gradient.iter().all(|g| g.abs() < 1e-8), "{gradient:?}");
    }

    #[test]
    fn a_target_of_one_class_is_told_and_keeps_no_other_from_being_fitted() {
        let (x, target) = data(40, 2);
        let logistic = Logistic { c: 1.0, iterations_max: 50 };
        let of_class = |class: f64| format!("expected 0 and 1 for logistic, found no {class}");
        let alone = logistic.fit(&x, std::slice::from_ref(&target)).unwrap();
        let targets = [vec![1.0; 40], target.clone(), vec![0.0; 40], vec![f64::NAN; 40]];
        let fitted = logistic.fit(&x, &targets).unwrap();
        let none = "expected a value, found none".to_owned();
        assert_eq!(fitted.unfitted, [(0, of_class(0.0)), (2, of_class(1.0)), (3, none)]);
        assert_eq!(fitted.coefficients[1], alone.coefficients[0]);
        let error = logistic.fit(&x, &[target, vec![0.5; 40]]).unwrap_err();
        assert_eq!(error.to_string(), "target 1: expected 0 or 1 for logistic, found 0.5");
    }

    #[test]
    fn a_spent_budget_is_noted() {
        let (x, target) = data(60, 4);
        let fitted = Logistic { c: 1.0, iterations_max: 1 }.fit(&x, &[target]).unwrap();
        assert!(!fitted.converged && fitted.notes[0].contains("unconverged"));
    }
}
