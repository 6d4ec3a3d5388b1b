//! Exponential function of each element.
//!
//! Leaves out: subnormal results, which become zero. Invariant: fused multiply-adds only, so every
//! instruction set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::parallel;

/// Replaces each element by its exponential.
///
/// Within 1 ulp; zero below -87.33 (results would be subnormal), infinite above 88.72, NaN stays.
///
/// Source: range reduction of Cody and Waite; minimax polynomial of degree 6, own fit.
pub fn exp(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| exp_part(isa, part));
}

per_isa!(fn exp_part(x: &mut [f32]) = exp_all);

#[inline(always)]
fn exp_all(x: &mut [f32]) {
    for x in x {
        *x = exp_of(*x);
    }
}

/// Largest argument with a finite result.
const ARGUMENT_MAX: f32 = 88.722_83;
/// Smallest argument whose result is not subnormal.
const ARGUMENT_MIN: f32 = -87.336_54;
/// Adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;
/// `(exp(r) - 1 - r) / r²` within half of ln 2 around zero, highest power first.
const EXP_TAIL: [f32; 5] = [1.381_454_3e-3, 8.368_745e-3, 4.166_839e-2, 0.166_665_2, 0.499_999_94];

/// Exponential of one value, without branches so that loops over it vectorise.
///
/// `exp(r) = 1 + r + r² q(r)` with `x = n ln 2 + r`; `n` is added to the exponent bits.
#[inline(always)]
pub(crate) fn exp_of(x: f32) -> f32 {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_HIGH, x);
    let r = n.mul_add(-LN_2_LOW, r);
    let q = polynomial(r, EXP_TAIL);
    let near_one = (r * r).mul_add(q, r) + 1.0;
    let scaled = f32::from_bits(near_one.to_bits().wrapping_add(shifted.to_bits() << 23));
    let bounded = if x > ARGUMENT_MAX { f32::INFINITY } else { scaled };
    let bounded = if x < ARGUMENT_MIN { 0.0 } else { bounded };
    if x.is_nan() { x } else { bounded }
}

/// `exp(x) - 1` for `x` in 0..=88, relative also next to zero; NaN stays.
#[inline(always)]
pub(crate) fn exp_minus_one_of(x: f32) -> f32 {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_HIGH, x);
    let r = n.mul_add(-LN_2_LOW, r);
    let q = polynomial(r, EXP_TAIL);
    let near_zero = (r * r).mul_add(q, r);
    let scale = f32::from_bits(1.0_f32.to_bits().wrapping_add(shifted.to_bits() << 23));
    scale.mul_add(near_zero, scale - 1.0)
}

/// Polynomial in `x` by Horner's rule, the coefficient of the highest power first.
#[inline(always)]
pub(crate) fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut value = 0.0;
    for (index, &coefficient) in coefficients.iter().enumerate() {
        value = if index == 0 { coefficient } else { x.mul_add(value, coefficient) };
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of `expected`.
    fn ulps(found: f32, expected: f64) -> f64 {
        let place = f64::from((expected as f32).next_up()) - f64::from(expected as f32);
        (f64::from(found) - expected).abs() / place
    }

    #[test]
    fn error_stays_within_one_unit_in_the_last_place() {
        let mut x: Vec<f32> = (0..2_000_000).map(|i| -87.3 + i as f32 * 8.8e-5).collect();
        let given = x.clone();
        exp(&mut x);
        let worst = x.iter().zip(&given).map(|(&y, &x)| ulps(y, f64::from(x).exp()));
        let worst = worst.fold(0.0, f64::max);
        assert!(worst <= 1.0, "{worst} ulp");
    }

    #[test]
    fn special_values_are_kept() {
        let mut x =
            [0.0, -0.0, 89.0, -88.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, ARGUMENT_MAX];
        exp(&mut x);
        assert_eq!(x[..6], [1.0, 1.0, f32::INFINITY, 0.0, f32::INFINITY, 0.0]);
        assert!(x[6].is_nan());
        assert!(x[7].is_finite());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let given: Vec<f32> = (0..1025).map(|i| (i as f32 - 512.0) * 0.173).collect();
        let run = |isa| {
            let mut x = given.clone();
            exp_part(isa, &mut x);
            x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
        }
    }
}
