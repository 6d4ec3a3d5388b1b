//! Hyperbolic tangent of each element.
//!
//! Leaves out: other hyperbolic functions. Invariant: no branch and no cancellation, so every
//! instruction set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::exp_minus_one_of;
use crate::parallel;

/// Replaces each element by its hyperbolic tangent.
///
/// ```text
/// tanh(x) = sign(x) e / (e + 2),  e = exp(2 |x|) - 1
/// ```
///
/// Within 4 ulp, also next to zero; NaN stays.
pub fn tanh(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| tanh_part(isa, part));
}

per_isa!(
    /// [`tanh`] on this thread alone.
    pub(crate) fn tanh_part(x: &mut [f32]) = tanh_all
);

#[inline(always)]
fn tanh_all(x: &mut [f32]) {
    for x in x {
        *x = tanh_of(*x);
    }
}

/// Beyond it the result rounds to one.
const ARGUMENT_MAX: f32 = 10.0;

#[inline(always)]
pub(crate) fn tanh_of(x: f32) -> f32 {
    let size = x.abs();
    let bounded = if size > ARGUMENT_MAX { ARGUMENT_MAX } else { size };
    let e = exp_minus_one_of(2.0 * bounded);
    (e / (e + 2.0)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::exactness::{check_bits, check_error};

    #[test]
    fn worked_values() {
        let mut x = [0.0, 3.0_f32.ln(), -(3.0_f32.ln()), 1e-20, -1e-30];
        tanh(&mut x);
        assert_eq!((x[0], x[3], x[4]), (0.0, 1e-20, -1e-30));
        assert!((x[1] - 0.8).abs() < 1e-7 && (x[2] + 0.8).abs() < 1e-7, "{x:?}");
    }

    #[test]
    fn error_stays_within_four_units_in_the_last_place() {
        check_error(tanh, f64::tanh, -12.0..12.0, 4.0);
        check_error(tanh, f64::tanh, -0.01..0.01, 4.0);
    }

    #[test]
    fn far_ends_are_one_and_not_a_number_stays() {
        let mut x = [f32::INFINITY, f32::NEG_INFINITY, 50.0, -50.0, f32::NAN, -0.0];
        tanh(&mut x);
        assert_eq!(x[..4], [1.0, -1.0, 1.0, -1.0]);
        assert!(x[4].is_nan() && x[5].is_sign_negative());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check_bits(tanh_part);
    }
}
