//! Gaussian error linear unit, the approximation with tanh.
//!
//! Leaves out: the exact form. Invariant: no branch and no cancellation, so every instruction set
//! gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::exp_of;
use crate::parallel;

/// Replaces each element by the tanh form of its GELU.
///
/// ```text
/// x = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))
/// ```
///
/// Within 5 ulp down to -10; below that, within 1e-35. NaN stays.
///
/// Source: Hendrycks and Gimpel 2016, section 2.
pub fn gelu_tanh(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| gelu_tanh_part(isa, part));
}

per_isa!(
    /// [`gelu_tanh`] on this thread alone.
    pub(crate) fn gelu_tanh_part(x: &mut [f32]) = gelu_tanh_all
);

#[inline(always)]
fn gelu_tanh_all(x: &mut [f32]) {
    for x in x {
        *x = gelu_tanh_of(*x);
    }
}

/// Beyond it the tail is below the smallest normal number.
const TAIL_MAX: f32 = 12.0;
/// `2 sqrt(2/pi)`, and what its rounding loses.
const LINEAR: f32 = 1.595_769_2;
const LINEAR_LOST: f32 = -4.534_068e-8;
/// `0.044715` times that, and what its rounding loses.
const CUBIC: f32 = 7.135_481_4e-2;
const CUBIC_LOST: f32 = 2.398_832_4e-9;

/// `(1 + tanh u) / 2 = 1 / (1 + exp(-2u))`: relative to the small tail on either side.
///
/// An error of `2u` is one of the result times `2u`, up to 88, so what rounding loses on the way
/// is carried along and put back.
#[inline(always)]
fn gelu_tanh_of(x: f32) -> f32 {
    let floor = if x < -TAIL_MAX { -TAIL_MAX } else { x };
    let bounded = if floor > TAIL_MAX { TAIL_MAX } else { floor };
    let square = bounded * bounded;
    let square_lost = bounded.mul_add(bounded, -square);
    let cubic = CUBIC * square;
    let cubic_lost = CUBIC.mul_add(square, -cubic);
    let factor = LINEAR + cubic;
    let shared = factor - LINEAR;
    let factor_lost = (LINEAR - (factor - shared)) + (cubic - shared);
    let lost = CUBIC.mul_add(square_lost, CUBIC_LOST.mul_add(square, LINEAR_LOST));
    let lost = factor_lost + (cubic_lost + lost);
    let twice = bounded * factor;
    let twice_lost = bounded.mul_add(lost, bounded.mul_add(factor, -twice));
    let tail = exp_of(-twice) * (1.0 - twice_lost);
    floor / (1.0 + tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::exactness::{check_bits, check_error};

    #[test]
    fn worked_values() {
        let mut x = [0.0, 1.0, -1.0, 3.0, -3.0];
        gelu_tanh(&mut x);
        let expected = [0.0, 0.841_192, -0.158_808, 2.996_362_7, -0.003_637_392];
        for (found, expected) in x.iter().zip(expected) {
            assert!((found - expected).abs() <= 5e-7, "{found} {expected}");
        }
    }

    #[test]
    fn error_stays_within_five_units_in_the_last_place() {
        let exact = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            x / (1.0 + (-2.0 * u).exp())
        };
        check_error(gelu_tanh, exact, -10.0..14.0, 5.0);
    }

    #[test]
    fn far_ends_are_the_input_or_zero() {
        let mut x = [f32::INFINITY, f32::NEG_INFINITY, 40.0, -40.0, -10.3, f32::NAN];
        gelu_tanh(&mut x);
        assert_eq!(x[..4], [f32::INFINITY, 0.0, 40.0, 0.0]);
        assert!(x[4].abs() < 1e-35 && x[5].is_nan(), "{x:?}");
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check_bits(gelu_tanh_part);
    }
}
