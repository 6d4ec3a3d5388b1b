//! Ridge regression in f64: `min ||y - Xw - b||^2 + alpha ||w||^2`, b not penalised.
//!
//! Leaves out: choosing alpha. Invariant: the smaller of the two equivalent systems is solved.
//!
//! Source: scikit-learn 1.2.2 `Ridge` (Cholesky of the primal or dual system, else SVD).

use super::cholesky::Cholesky;
use super::design::{Design, Solution, check_side, fit_targets, lacks_values};
use super::gram::gram;
use super::orthogonal;
use crate::probe::{FittedProbe, Link, Matrix, Probe};
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Split;

pub(super) struct Ridge {
    pub(super) alpha: f64,
}

impl Probe for Ridge {
    fn splits(&self) -> &'static [Split] {
        &[Split::Train]
    }

    fn fit(&self, x: &Matrix, targets: &[Vec<f64>]) -> Result<FittedProbe> {
        if !(self.alpha.is_finite() && self.alpha >= 0.0) {
            let found = self.alpha;
            return Err(Error::invalid(format!(
                "ridge: expected alpha of at least 0, found {found}"
            )));
        }
        check_side("ridge", x.rows().min(x.columns()))?;
        fit_targets(x, targets, (Link::Identity, lacks_values), &|x, targets| {
            Ok(solve_centred(x, targets, |design, centred| {
                solve_regular(design, centred, self.alpha).unwrap_or_else(|| {
                    let extent = design.rows().max(design.columns()) as f64;
                    orthogonal::solve(design, centred, (self.alpha, f64::EPSILON * extent))
                })
            }))
        })
    }
}

/// Centres features and targets, solves for the weights, and puts the intercepts back.
pub(super) fn solve_centred(
    x: &Matrix,
    targets: &[Vec<f64>],
    solve: impl Fn(&Design<'_>, &[Vec<f64>]) -> Vec<Vec<f64>>,
) -> Vec<Solution> {
    let design = Design::new(x);
    let means: Vec<f64> =
        targets.iter().map(|target| target.iter().sum::<f64>() / target.len() as f64).collect();
    let centred: Vec<Vec<f64>> = targets
        .iter()
        .zip(&means)
        .map(|(target, mean)| target.iter().map(|value| value - mean).collect())
        .collect();
    let solved = solve(&design, &centred).into_iter().zip(means);
    solved
        .map(|(weights, mean)| Solution {
            intercept: design.intercept(mean, &weights),
            weights,
            converged: true,
            iterations: 0,
        })
        .collect()
}

/// `None` if the penalised system is not numerically positive definite.
fn solve_regular(design: &Design<'_>, targets: &[Vec<f64>], alpha: f64) -> Option<Vec<Vec<f64>>> {
    let (rows, columns) = (design.rows(), design.columns());
    if rows >= columns {
        let system = penalised(gram(rows, columns, |r, c| design.value(r, c)), columns, alpha);
        let factor = Cholesky::factor(system, columns)?;
        let solve = |target: &Vec<f64>| {
            let mut weights = design.transposed_times(target);
            factor.solve(&mut weights);
            weights
        };
        return Some(targets.iter().map(solve).collect());
    }
    let system = penalised(gram(columns, rows, |c, r| design.value(r, c)), rows, alpha);
    let factor = Cholesky::factor(system, rows)?;
    let solve = |target: &Vec<f64>| {
        let mut dual = target.clone();
        factor.solve(&mut dual);
        design.transposed_times(&dual)
    };
    Some(targets.iter().map(solve).collect())
}

fn penalised(mut system: Vec<f64>, side: usize, alpha: f64) -> Vec<f64> {
    system.iter_mut().step_by(side + 1).for_each(|value| *value += alpha);
    system
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicated_features_without_penalty_share_the_weight() {
        let x = Matrix::new(4, 2, vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 5.0, 5.0]).unwrap();
        let fitted = Ridge { alpha: 0.0 }.fit(&x, &[vec![3.0, 5.0, 7.0, 11.0]]).unwrap();
        for weight in &fitted.coefficients[0] {
            assert!((weight - 1.0).abs() < 1e-12, "{weight}");
        }
        assert!((fitted.intercepts[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rows_without_a_target_are_left_out_and_noted() {
        let x = Matrix::new(4, 1, vec![1.0, 2.0, 3.0, 9.0]).unwrap();
        let targets = [vec![2.0, 4.0, 6.0, f64::NAN], vec![1.0, 2.0, 3.0, 9.0]];
        let fitted = Ridge { alpha: 0.0 }.fit(&x, &targets).unwrap();
        assert!((fitted.coefficients[0][0] - 2.0).abs() < 1e-12);
        assert!((fitted.coefficients[1][0] - 1.0).abs() < 1e-12);
        assert_eq!(fitted.notes.len(), 1);
    }

    #[test]
    fn a_target_without_values_is_told_and_the_others_are_fitted_as_if_it_were_not_there() {
        let x = Matrix::new(4, 1, vec![1.0, 2.0, 3.0, 9.0]).unwrap();
        let known = [vec![2.0, 4.0, 6.5, 18.0], vec![1.0, f64::NAN, 3.0, 9.0]];
        let ridge = Ridge { alpha: 0.5 };
        for known in [&known[..1], &known] {
            let expected = ridge.fit(&x, known).unwrap();
            let mut targets = known.to_vec();
            targets.insert(0, vec![f64::NAN; 4]);
            let fitted = ridge.fit(&x, &targets).unwrap();
            assert_eq!(fitted.unfitted, [(0, "expected a value, found none".to_owned())]);
            assert_eq!(fitted.coefficients[1..], expected.coefficients);
            assert_eq!(fitted.intercepts[1..], expected.intercepts);
            assert!(fitted.predict(&x).unwrap()[0].iter().all(|value| value.is_nan()));
            assert_eq!(fitted.arrays()[0].shape, [targets.len(), 1]);
        }
        let none = ridge.fit(&x, &[vec![f64::NAN; 4]]).unwrap();
        assert_eq!((none.unfitted.len(), none.converged), (1, true));
    }

    #[test]
    fn features_that_are_not_finite_are_named() {
        let x = Matrix::new(2, 2, vec![1.0, 2.0, f32::NAN, 4.0]).unwrap();
        let error = Ridge { alpha: 1.0 }.fit(&x, &[vec![1.0, 2.0]]).unwrap_err();
        assert!(error.to_string().contains("example 1, feature 0"), "{error}");
    }
}
