//! What a probe is: a small model fitted on frozen representations; its input and its result.
//!
//! Leaves out: which probes there are (probes), which examples they see (fit).
//! Invariant: a fit depends on its inputs alone, to the bit, on any number of threads.

use glmeval_common::error::{Error, Result};
use glmeval_common::example::Split;
use rayon::prelude::*;

/// A row-major f32 matrix: one row per example.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Wraps `values`, `[rows, columns]` row-major.
    ///
    /// # Errors
    /// `Bug` if the number of values is not `rows * columns`.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self> {
        if rows.checked_mul(columns) == Some(values.len()) {
            return Ok(Self { rows, columns, values });
        }
        let found = values.len();
        Err(Error::bug(format!("matrix: expected {rows} x {columns} values, found {found}")))
    }

    /// Examples.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Features of example `row`; empty past the end.
    pub fn row(&self, row: usize) -> &[f32] {
        row.checked_mul(self.columns)
            .and_then(|start| self.values.get(start..start + self.columns))
            .unwrap_or(&[])
    }

    /// The matrix of the given rows, in the given order; rows past the end are left out.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let kept: Vec<usize> = rows.iter().copied().filter(|&row| row < self.rows).collect();
        let values = kept.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { rows: kept.len(), columns: self.columns, values }
    }
}

/// How a linear predictor becomes a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The predictor itself.
    Identity,
    /// 1 / (1 + exp(-z)).
    Logistic,
}

/// A fitted linear probe: `link(x . coefficients[y,:] + intercepts[y])`.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedProbe {
    /// `[targets, features]`.
    pub coefficients: Vec<Vec<f64>>,
    /// `[targets]`.
    pub intercepts: Vec<f64>,
    /// From predictor to prediction.
    pub link: Link,
    /// Whether every target's optimiser reached its tolerance; closed forms always do.
    pub converged: bool,
    /// Most iterations any target took; 0 for closed forms.
    pub iterations: u32,
    /// What a reader of the score should know: rows left out, an unconverged optimiser.
    pub notes: Vec<String>,
    /// Targets that nothing can be fitted on, by number, with the reason; their coefficients and predictions are
    /// NaN.
    pub unfitted: Vec<(usize, String)>,
}

/// One array of a fitted probe, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// `coefficients` or `intercepts`.
    pub name: &'static str,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f64>,
}

impl FittedProbe {
    /// Predictions for each row of `x`, one vector per target.
    ///
    /// # Errors
    /// `Bug` if `x` has another number of features than the probe.
    pub fn predict(&self, x: &Matrix) -> Result<Vec<Vec<f64>>> {
        let targets = self.coefficients.iter().zip(&self.intercepts);
        targets.map(|(weights, &intercept)| self.predict_target(x, weights, intercept)).collect()
    }

    fn predict_target(&self, x: &Matrix, weights: &[f64], intercept: f64) -> Result<Vec<f64>> {
        if weights.len() != x.columns() {
            let (expected, found) = (weights.len(), x.columns());
            return Err(Error::bug(format!("probe: expected {expected} features, found {found}")));
        }
        let predict = |row: usize| {
            let pairs = x.row(row).iter().zip(weights);
            let z = pairs.map(|(&x, w)| f64::from(x) * w).sum::<f64>() + intercept;
            match self.link {
                Link::Identity => z,
                Link::Logistic => logistic(z),
            }
        };
        Ok((0..x.rows()).into_par_iter().map(predict).collect())
    }

    /// The arrays to store: `coefficients` `[targets, features]` and `intercepts` `[targets]`.
    pub fn arrays(&self) -> Vec<NamedArray> {
        let features = self.coefficients.first().map_or(0, Vec::len);
        vec![
            NamedArray {
                name: "coefficients",
                shape: vec![self.coefficients.len(), features],
                values: self.coefficients.concat(),
            },
            NamedArray {
                name: "intercepts",
                shape: vec![self.intercepts.len()],
                values: self.intercepts.clone(),
            },
        ]
    }
}

/// 1 / (1 + exp(-z)), accurate for large |z|; above one half exactly if z is above 0.
pub(crate) fn logistic(z: f64) -> f64 {
    if z >= 0.0 {
        let p = 1.0 / (1.0 + (-z).exp());
        // Rounding must not turn a positive predictor into the label 0.
        if z > 0.0 { p.max(0.5_f64.next_up()) } else { p }
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

/// A probe with its settings.
pub trait Probe: Send + Sync {
    /// Splits it is fitted on; the paper tunes no linear probe on `valid`.
    fn splits(&self) -> &'static [Split];

    /// Fits one predictor per target.
    ///
    /// `targets` has one vector per target, each with one value per row of `x`; rows whose target
    /// is NaN are left out for that target. A target that is not known or of one class keeps no other from
    /// being fitted.
    ///
    /// # Errors
    /// `Invalid` if features are not finite, there is no row or the values of a target do not suit the probe.
    fn fit(&self, x: &Matrix, targets: &[Vec<f64>]) -> Result<FittedProbe>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_and_sign_of_the_predictor_agree() {
        for z in [1e-300, 1e-18, 1e-3, 40.0, 800.0] {
            assert!(logistic(z) > 0.5 && logistic(-z) <= 0.5, "{z}");
        }
        assert_eq!(logistic(0.0), 0.5);
    }

    #[test]
    fn matrix_refuses_a_wrong_number_of_values() {
        assert!(Matrix::new(2, 3, vec![0.0; 5]).is_err());
        let matrix = Matrix::new(2, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(matrix.row(2), &[] as &[f32]);
        assert_eq!(matrix.select(&[1, 7, 1]).values(), &[3.0, 4.0, 3.0, 4.0]);
    }
}
