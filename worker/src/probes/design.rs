//! The centred design that every linear probe works on, and products with it.
//!
//! Leaves out: how equations are solved. Invariant: all sums are f64 and run in a fixed order.

use crate::probe::{FittedProbe, Link, Matrix};
use glmeval_common::error::{Error, Result};
use rayon::prelude::*;

/// Rows that one thread sums before partial sums are added in order.
const CHUNK_ROWS: usize = 1024;
/// Largest side of a dense system; its matrix takes 2 GiB.
const SIDE_MAX: usize = 16_384;

/// Dot product with four running sums, for speed and less rounding.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0_f64; 4];
    for (a, b) in a4.iter().zip(b4) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Features minus their column means.
pub(super) struct Design<'a> {
    pub(super) x: &'a Matrix,
    pub(super) means: Vec<f64>,
}

impl<'a> Design<'a> {
    /// Centres the columns of `x`.
    pub(super) fn new(x: &'a Matrix) -> Self {
        let mut means = column_sums(x, |row, sums| {
            for (sum, &value) in sums.iter_mut().zip(x.row(row)) {
                *sum += f64::from(value);
            }
        });
        means.iter_mut().for_each(|sum| *sum /= x.rows().max(1) as f64);
        Self { x, means }
    }

    pub(super) fn rows(&self) -> usize {
        self.x.rows()
    }

    pub(super) fn columns(&self) -> usize {
        self.x.columns()
    }

    /// Centred value.
    pub(super) fn value(&self, row: usize, column: usize) -> f64 {
        f64::from(self.x.values()[row * self.x.columns() + column]) - self.means[column]
    }

    /// Xc w.
    pub(super) fn times(&self, weights: &[f64]) -> Vec<f64> {
        let product = |row: usize| {
            let terms = self.x.row(row).iter().zip(weights).zip(&self.means);
            terms.map(|((&x, w), mean)| (f64::from(x) - mean) * w).sum::<f64>()
        };
        (0..self.rows()).into_par_iter().map(product).collect()
    }

    /// Xc' r.
    pub(super) fn transposed_times(&self, residual: &[f64]) -> Vec<f64> {
        column_sums(self.x, |row, sums| {
            let r = residual[row];
            for ((sum, &x), mean) in sums.iter_mut().zip(self.x.row(row)).zip(&self.means) {
                *sum += (f64::from(x) - mean) * r;
            }
        })
    }

    /// The intercept on uncentred features.
    pub(super) fn intercept(&self, centred: f64, weights: &[f64]) -> f64 {
        centred - dot(&self.means, weights)
    }
}

/// Sums over rows, by chunks of fixed size whose partial sums are added in order.
fn column_sums(x: &Matrix, add: impl Fn(usize, &mut [f64]) + Sync) -> Vec<f64> {
    let partial = |chunk: usize| {
        let mut sums = vec![0.0; x.columns()];
        let first = chunk * CHUNK_ROWS;
        for row in first..(first + CHUNK_ROWS).min(x.rows()) {
            add(row, &mut sums);
        }
        sums
    };
    let chunks = x.rows().div_ceil(CHUNK_ROWS);
    let partials: Vec<Vec<f64>> = (0..chunks).into_par_iter().map(partial).collect();
    let mut total = vec![0.0; x.columns()];
    for partial in &partials {
        for (total, value) in total.iter_mut().zip(partial) {
            *total += value;
        }
    }
    total
}

/// Refuses systems that do not fit in memory.
///
/// # Errors
/// `Invalid` if a dense system of `side` unknowns would take more than 2 GiB.
pub(super) fn check_side(probe: &str, side: usize) -> Result<()> {
    if side <= SIDE_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{probe}: expected at most {SIDE_MAX} features or examples, whichever are fewer, found {side}"
    )))
}

/// A solver of one shared design for several complete targets.
pub(super) type Solve<'a> = dyn Fn(&Matrix, &[Vec<f64>]) -> Result<Vec<Solution>> + 'a;

/// What a solver found for one target.
pub(super) struct Solution {
    pub(super) weights: Vec<f64>,
    pub(super) intercept: f64,
    pub(super) converged: bool,
    pub(super) iterations: u32,
}

/// Why nothing can be fitted on a target with these values, if so; NaN = not measured.
pub(super) type Lack = fn(&[f64]) -> Option<String>;

/// Nothing is known of the target.
pub(super) fn lacks_values(target: &[f64]) -> Option<String> {
    let is_unknown = target.iter().all(|value| value.is_nan());
    is_unknown.then(|| "expected a value, found none".to_owned())
}

/// Fits all targets without a `lack` with `solve`: together where every one is complete, else one by one on
/// the rows where that target is measured.
pub(super) fn fit_targets(
    x: &Matrix,
    targets: &[Vec<f64>],
    (link, lack): (Link, Lack),
    solve: &Solve<'_>,
) -> Result<FittedProbe> {
    check_input(x, targets)?;
    let lacks: Vec<Option<String>> = targets.iter().map(|target| lack(target)).collect();
    let sound = || targets.iter().zip(&lacks).enumerate().filter(|(_, (_, lack))| lack.is_none());
    let mut notes = Vec::new();
    let complete = sound().all(|(_, (target, _))| target.iter().all(|value| !value.is_nan()));
    let mut solutions = Vec::new();
    if complete && sound().count() == targets.len() {
        solutions = solve(x, targets)?;
    } else if complete && sound().count() > 0 {
        let targets: Vec<Vec<f64>> = sound().map(|(_, (target, _))| target.clone()).collect();
        solutions = solve(x, &targets)?;
    } else {
        for (i, (target, _)) in sound() {
            let kept: Vec<usize> =
                (0..x.rows()).filter(|&row| target.get(row).is_some_and(|v| !v.is_nan())).collect();
            if kept.len() < x.rows() {
                let left_out = x.rows() - kept.len();
                notes.push(format!("target {i}: {left_out} rows without a target were left out"));
            }
            let values = kept.iter().map(|&row| target[row]).collect();
            solutions.extend(solve(&x.select(&kept), &[values])?);
        }
    }
    let converged = solutions.iter().all(|solution| solution.converged);
    let iterations = solutions.iter().map(|solution| solution.iterations).max().unwrap_or(0);
    if !converged {
        notes.push(format!("the optimiser stopped after {iterations} iterations, unconverged"));
    }
    let mut solutions = solutions.into_iter();
    let (mut coefficients, mut intercepts) = (Vec::new(), Vec::new());
    for lack in &lacks {
        let solution = if lack.is_none() { solutions.next() } else { None };
        let (weights, intercept) = match solution {
            Some(solution) => (solution.weights, solution.intercept),
            None => (vec![f64::NAN; x.columns()], f64::NAN),
        };
        coefficients.push(weights);
        intercepts.push(intercept);
    }
    let unfitted = lacks.into_iter().enumerate().filter_map(|(i, lack)| Some((i, lack?))).collect();
    Ok(FittedProbe { coefficients, intercepts, link, converged, iterations, notes, unfitted })
}

fn check_input(x: &Matrix, targets: &[Vec<f64>]) -> Result<()> {
    if x.rows() == 0 {
        return Err(Error::invalid("expected examples to fit on, found none"));
    }
    if let Some(target) = targets.iter().find(|target| target.len() != x.rows()) {
        let (rows, found) = (x.rows(), target.len());
        return Err(Error::bug(format!("expected {rows} values of each target, found {found}")));
    }
    if let Some(place) = x.values().par_iter().position_first(|value| !value.is_finite()) {
        let (row, column) = (place / x.columns().max(1), place % x.columns().max(1));
        let found = x.values().get(place).copied().unwrap_or(f32::NAN);
        return Err(Error::invalid(format!(
            "example {row}, feature {column}: expected a finite number, found {found}"
        )));
    }
    if targets.iter().flatten().any(|value| value.is_infinite()) {
        return Err(Error::invalid("targets: expected finite numbers or NaN, found infinity"));
    }
    Ok(())
}
