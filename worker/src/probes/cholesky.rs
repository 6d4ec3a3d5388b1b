//! Cholesky factors of symmetric positive definite matrices in f64.
//!
//! Leaves out: singular matrices (orthogonal). Invariant: `factor` either succeeds with positive
//! diagonal entries only or returns `None`.

use super::design::dot;
use rayon::prelude::*;

const BLOCK: usize = 64;

/// Lower factor L of A = L L', row-major.
pub(super) struct Cholesky {
    side: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `a`, `[side, side]`; `None` if it is not numerically positive definite.
    pub(super) fn factor(mut a: Vec<f64>, side: usize) -> Option<Self> {
        for first in (0..side).step_by(BLOCK) {
            let past = (first + BLOCK).min(side);
            // Rows of the block, finished up to column `first`; later rows read this copy.
            let finished: Vec<Vec<f64>> =
                (first..past).map(|row| a[row * side..row * side + first].to_vec()).collect();
            a[first * side..].par_chunks_mut(side).for_each(|row| {
                let (head, tail) = row.split_at_mut(first);
                for (value, panel) in tail.iter_mut().zip(&finished) {
                    *value -= dot(head, panel);
                }
            });
            factor_diagonal(&mut a, side, first, past)?;
            let diagonal: Vec<Vec<f64>> = (first..past)
                .map(|row| a[row * side + first..row * side + past].to_vec())
                .collect();
            a[past * side..].par_chunks_mut(side).for_each(|row| {
                let row = &mut row[first..past];
                for (k, pivots) in diagonal.iter().enumerate() {
                    row[k] = (row[k] - dot(&row[..k], &pivots[..k])) / pivots[k];
                }
            });
        }
        Some(Self { side, lower: a })
    }

    /// Replaces `b` by the solution of A x = b.
    pub(super) fn solve(&self, b: &mut [f64]) {
        for i in 0..self.side {
            let row = &self.lower[i * self.side..i * self.side + i + 1];
            b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
        }
        for i in (0..self.side).rev() {
            let row = &self.lower[i * self.side..i * self.side + i + 1];
            let value = b[i] / row[i];
            b[i] = value;
            for (b, l) in b[..i].iter_mut().zip(row) {
                *b -= value * l;
            }
        }
    }

    /// The smallest eigenvalue of A, from above: inverse iteration, from the same vector each time.
    pub(super) fn smallest_value(&self) -> f64 {
        const STEPS: usize = 8;
        // No symmetry of features is a symmetry of this vector.
        let mut vector: Vec<f64> =
            (0..self.side).map(|i| 1.0 + 0.5 * ((i * 7919 + 13) as f64).sin()).collect();
        let mut smallest = f64::INFINITY;
        for _ in 0..STEPS {
            let length = dot(&vector, &vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= length);
            self.solve(&mut vector);
            smallest = smallest.min(1.0 / dot(&vector, &vector).sqrt());
        }
        smallest
    }

    /// Smallest over largest diagonal entry of L: a cheap bound on how singular A is.
    pub(super) fn diagonal_ratio(&self) -> f64 {
        let diagonal = (0..self.side).map(|i| self.lower[i * self.side + i]);
        let (low, high) =
            diagonal.fold((f64::INFINITY, 0.0_f64), |(low, high), d| (low.min(d), high.max(d)));
        if high > 0.0 { low / high } else { 0.0 }
    }
}

fn factor_diagonal(a: &mut [f64], side: usize, first: usize, past: usize) -> Option<()> {
    for i in first..past {
        for j in first..=i {
            let above = dot(&a[i * side + first..i * side + j], &a[j * side + first..j * side + j]);
            let value = a[i * side + j] - above;
            if i == j {
                let original = a[i * side + i];
                if !(value.is_finite() && value > f64::EPSILON * original.abs()) {
                    return None;
                }
                a[i * side + i] = value.sqrt();
            } else {
                a[i * side + j] = value / a[j * side + j];
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::gram::gram;
    use super::*;
    use glmeval_common::rng::Rng;

    #[test]
    fn solution_satisfies_the_equations() {
        let side = 150;
        let mut rng = Rng::derive(2, "cholesky");
        let x: Vec<f64> = (0..200 * side).map(|_| rng.normal()).collect();
        let a = gram(200, side, |r, c| x[r * side + c]);
        let b: Vec<f64> = (0..side).map(|_| rng.normal()).collect();
        let mut solution = b.clone();
        Cholesky::factor(a.clone(), side).unwrap().solve(&mut solution);
        for (row, b) in a.chunks(side).zip(&b) {
            assert!((dot(row, &solution) - b).abs() < 1e-9);
        }
    }

    #[test]
    fn singular_matrices_are_refused() {
        assert!(Cholesky::factor(vec![1.0, 1.0, 1.0, 1.0], 2).is_none());
        assert!(Cholesky::factor(vec![0.0], 1).is_none());
        assert!(Cholesky::factor(vec![f64::NAN], 1).is_none());
        assert!(Cholesky::factor(Vec::new(), 0).is_some());
    }
}
