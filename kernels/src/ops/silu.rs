//! Sigmoid linear unit of each element, also called swish.
//!
//! Leaves out: results next to the smallest normal number, which become zero. Invariant: no branch
//! and no cancellation, so every instruction set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::exp_of;
use crate::parallel;

/// Replaces each element by its SiLU.
///
/// ```text
/// x = x / (1 + exp(-x))
/// ```
///
/// Within 3 ulp down to -88.7; below that, within 3e-37. NaN stays.
///
/// Source: Elfwing et al. 2017, eq. 5.
pub fn silu(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| silu_part(isa, part));
}

per_isa!(
    /// [`silu`] on this thread alone.
    pub(crate) fn silu_part(x: &mut [f32]) = silu_all
);

#[inline(always)]
fn silu_all(x: &mut [f32]) {
    for x in x {
        *x = silu_of(*x);
    }
}

/// Below it the divisor is infinite.
const ARGUMENT_MIN: f32 = -100.0;

#[inline(always)]
pub(crate) fn silu_of(x: f32) -> f32 {
    // Negative infinity itself would end as infinity over infinity.
    let bounded = if x < ARGUMENT_MIN { ARGUMENT_MIN } else { x };
    bounded / (1.0 + exp_of(-bounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::exactness::{check_bits, check_error};

    #[test]
    fn worked_values() {
        let mut x = [0.0, 3.0_f32.ln(), -(3.0_f32.ln())];
        silu(&mut x);
        assert_eq!(x[0], 0.0);
        assert!((x[1] - 0.823_959_2).abs() < 2e-7 && (x[2] + 0.274_653_1).abs() < 2e-7, "{x:?}");
    }

    #[test]
    fn error_stays_within_three_units_in_the_last_place() {
        check_error(silu, |x| x / (1.0 + (-x).exp()), -88.7..60.0, 3.0);
    }

    #[test]
    fn far_ends_are_the_input_or_zero() {
        let mut x = [f32::INFINITY, f32::NEG_INFINITY, 200.0, -200.0, f32::NAN];
        silu(&mut x);
        assert_eq!(x[..4], [f32::INFINITY, 0.0, 200.0, 0.0]);
        assert!(x[4].is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check_bits(silu_part);
    }
}
