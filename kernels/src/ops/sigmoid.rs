//! Logistic sigmoid of each element.
//!
//! Leaves out: subnormal results, which become zero. Invariant: no branch and no cancellation, so
//! every instruction set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::exp_of;
use crate::parallel;

/// Replaces each element by its sigmoid.
///
/// ```text
/// x = 1 / (1 + exp(-x))
/// ```
///
/// Within 3 ulp down to -87.33; below that, within 1.3e-38. NaN stays.
pub fn sigmoid(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| sigmoid_part(isa, part));
}

per_isa!(
    /// [`sigmoid`] on this thread alone.
    pub(crate) fn sigmoid_part(x: &mut [f32]) = sigmoid_all
);

#[inline(always)]
fn sigmoid_all(x: &mut [f32]) {
    for x in x {
        *x = sigmoid_of(*x);
    }
}

/// The exponential is relative to the small tail on one side and vanishes beside 1 on the other.
#[inline(always)]
pub(crate) fn sigmoid_of(x: f32) -> f32 {
    1.0 / (1.0 + exp_of(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::exactness::{check_bits, check_error};

    #[test]
    fn worked_values() {
        let mut x = [0.0, 3.0_f32.ln(), -(3.0_f32.ln()), f32::INFINITY, f32::NEG_INFINITY];
        sigmoid(&mut x);
        assert_eq!((x[0], x[3], x[4]), (0.5, 1.0, 0.0));
        assert!((x[1] - 0.75).abs() < 1e-7 && (x[2] - 0.25).abs() < 1e-7, "{x:?}");
    }

    #[test]
    fn error_stays_within_three_units_in_the_last_place() {
        check_error(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -87.3..60.0, 3.0);
    }

    #[test]
    fn far_ends_vanish_and_not_a_number_stays() {
        let mut x = [-88.0, -200.0, 200.0, f32::NAN];
        sigmoid(&mut x);
        assert!(x[0] < 1.3e-38 && x[1] == 0.0 && x[2] == 1.0 && x[3].is_nan(), "{x:?}");
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check_bits(sigmoid_part);
    }
}
