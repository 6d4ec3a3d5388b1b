//! Which probes there are: one line per probe, nothing else.
//!
//! Leaves out: what a probe is (probe). Invariant: every `ProbeSpec` has its probe here.

mod cholesky;
mod design;
mod gram;
mod lbfgs;
mod least_squares;
mod logistic;
mod orthogonal;
mod ridge;

use crate::probe::Probe;
use glmeval_common::unit::ProbeSpec;

/// The probe that `spec` describes.
pub fn probe(spec: &ProbeSpec) -> Box<dyn Probe> {
    match *spec {
        ProbeSpec::Ridge { alpha } => Box::new(ridge::Ridge { alpha }),
        ProbeSpec::LeastSquares => Box::new(least_squares::LeastSquares),
        ProbeSpec::Logistic { c, iterations_max } => {
            Box::new(logistic::Logistic { c, iterations_max })
        }
    }
}
