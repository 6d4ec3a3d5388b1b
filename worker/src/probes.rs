//! Which linear probes there are: one line per probe, nothing else.
//!
//! Leaves out: what a probe is (probe), networks (network). Invariant: every `ProbeSpec` that is no
//! network has its probe here.

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

/// The linear probe that `spec` describes; none for a network.
pub fn linear_probe(spec: &ProbeSpec) -> Option<Box<dyn Probe>> {
    Some(match *spec {
        ProbeSpec::Ridge { alpha } => Box::new(ridge::Ridge { alpha }),
        ProbeSpec::LeastSquares => Box::new(least_squares::LeastSquares),
        ProbeSpec::Logistic { c, iterations_max } => {
            Box::new(logistic::Logistic { c, iterations_max })
        }
        ProbeSpec::Network { .. }
        | ProbeSpec::ZeroShot { .. }
        | ProbeSpec::Applied { .. }
        | ProbeSpec::Attribution(_) => {
            return None;
        }
    })
}
