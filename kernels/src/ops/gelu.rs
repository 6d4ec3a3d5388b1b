//! Gaussian error linear unit, the exact form with erf.
//!
//! Leaves out: the tanh approximation. Invariant: fused multiply-adds only, so every instruction
//! set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::{exp_of, polynomial};
use crate::parallel;

/// Replaces each element by its GELU.
///
/// ```text
/// x = x P(x),  P(x) = (1 + erf(x / sqrt 2)) / 2
/// ```
///
/// Within 6 ulp down to -12.9, also where erf is next to -1; below that, within 1e-37. NaN stays.
///
/// Source: Hendrycks and Gimpel 2016, section 2; polynomial of the tail, own fit.
pub fn gelu(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| gelu_part(isa, part));
}

per_isa!(
    /// [`gelu`] on this thread alone.
    pub(crate) fn gelu_part(x: &mut [f32]) = gelu_all
);

#[inline(always)]
fn gelu_all(x: &mut [f32]) {
    for x in x {
        *x = gelu_of(*x);
    }
}

/// Beyond it the tail is below the smallest normal number.
const TAIL_MAX: f32 = 14.0;

/// From the smaller tail `P(-|x|)`, so that nothing cancels on either side.
#[inline(always)]
pub(crate) fn gelu_of(x: f32) -> f32 {
    let bounded = if x > TAIL_MAX { TAIL_MAX } else { x };
    let bounded = if bounded < -TAIL_MAX { -TAIL_MAX } else { bounded };
    let tail = normal_tail(bounded.abs());
    if x < 0.0 { bounded * tail } else { (-bounded).mul_add(tail, x) }
}

/// Derivative of [`gelu_of`]: `P(x) + x exp(-x²/2) / sqrt(2 pi)`; NaN stays.
#[inline(always)]
pub(crate) fn gelu_slope_of(x: f32) -> f32 {
    const DENSITY_MAX: f32 = 0.398_942_3;
    let bounded = if x > TAIL_MAX { TAIL_MAX } else { x };
    let bounded = if bounded < -TAIL_MAX { -TAIL_MAX } else { bounded };
    let tail = normal_tail(bounded.abs());
    let probability = if x < 0.0 { tail } else { 1.0 - tail };
    let density = DENSITY_MAX * exp_of(-0.5 * bounded * bounded);
    bounded.mul_add(density, probability)
}

/// Probability that a standard normal exceeds `t`, for `t` in 0..=14: `erfc(t / sqrt 2) / 2`.
///
/// `exp(-t²/2) w g(2 w - 1)` with `w = 1 / (1 + 5/16 t)`; what `t²` loses to rounding is put back.
#[inline(always)]
fn normal_tail(t: f32) -> f32 {
    const G: [f32; 10] = [
        -3.675_260_8e-5,
        2.194_506_2e-5,
        3.393_322e-4,
        -2.221_290_2e-4,
        -2.583_732_6e-3,
        -5.077_393e-4,
        2.313_499_4e-2,
        8.307_528e-2,
        0.166_813_84,
        0.229_964_96,
    ];
    let square = t * t;
    let lost = t.mul_add(t, -square);
    let bell = exp_of(-0.5 * square);
    let bell = bell.mul_add(-0.5 * lost, bell);
    let w = 1.0 / t.mul_add(0.3125, 1.0);
    bell * w * polynomial(w.mul_add(2.0, -1.0), G)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `erfc(t / sqrt 2) / 2`: Taylor series near zero, Lentz continued fraction in the tail.
    fn tail64(t: f64) -> f64 {
        let density = (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        if t < 2.5 {
            let (mut term, mut sum) = (t, t);
            for n in 1..80 {
                term *= t * t / f64::from(2 * n + 1);
                sum += term;
            }
            return 0.5 - density * sum;
        }
        let mut fraction = t;
        for n in (1..200).rev() {
            fraction = t + f64::from(n) / fraction;
        }
        density / fraction
    }

    #[test]
    fn worked_values() {
        let mut x = [0.0, 1.0, -1.0, 3.0, -3.0];
        gelu(&mut x);
        let expected = [0.0, 0.841_344_8, -0.158_655_25, 2.995_950_4, -0.004_049_693_5];
        for (found, expected) in x.iter().zip(expected) {
            assert!((found - expected).abs() <= 2e-7 * expected.abs(), "{found} {expected}");
        }
    }

    #[test]
    fn error_stays_within_six_units_in_the_last_place() {
        let mut x: Vec<f32> = (0..258_001).map(|i| (i - 129_000) as f32 * 1e-4).collect();
        let given = x.clone();
        gelu(&mut x);
        for (&found, &x) in x.iter().zip(&given) {
            let exact = f64::from(x);
            let tail = tail64(exact.abs());
            let expected = exact * if x < 0.0 { tail } else { 1.0 - tail };
            let place = f64::from((expected.abs() as f32).next_up()) - expected.abs();
            let error = (f64::from(found) - expected).abs();
            let place = place.max(expected.abs() * f64::from(f32::EPSILON) / 2.0);
            assert!(error <= 6.0 * place, "gelu({x}) = {found}, expected {expected}");
        }
    }

    #[test]
    fn far_ends_are_the_input_or_zero() {
        let mut x = [f32::INFINITY, f32::NEG_INFINITY, 40.0, -40.0, f32::NAN];
        gelu(&mut x);
        assert_eq!(x[..4], [f32::INFINITY, 0.0, 40.0, 0.0]);
        assert!(x[4].is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for count in [1, 31, 33, 1025] {
            let given: Vec<f32> = (0..count).map(|i| (i as f32 * 0.71).sin() * 7.0).collect();
            let run = |isa| {
                let mut x = given.clone();
                gelu_part(isa, &mut x);
                x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            for isa in Isa::available() {
                assert_eq!(run(isa), run(Isa::Baseline), "{isa:?} {count}");
            }
        }
    }
}
