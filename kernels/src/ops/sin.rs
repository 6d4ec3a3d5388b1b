//! Sine of each element.
//!
//! Leaves out: arguments beyond ten million, which become NaN. Invariant: fused multiply-adds
//! only, so every instruction set gives the same bits.

use crate::isa::{Isa, per_isa};
use crate::ops::exp::polynomial;
use crate::parallel;

/// Replaces each element by its sine.
///
/// Within 1.2e-7 up to 1e5 and within 1e-6 up to 1e7; beyond that and for NaN, NaN.
///
/// Source: range reduction of Cody and Waite; minimax polynomial of degree 11, own fit.
pub fn sin(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| sin_part(isa, part));
}

per_isa!(fn sin_part(x: &mut [f32]) = sin_all);

#[inline(always)]
fn sin_all(x: &mut [f32]) {
    for x in x {
        *x = sin_of(*x);
    }
}

/// Largest argument whose multiple of pi is an exact integer.
const ARGUMENT_MAX: f32 = 1.0e7;
/// Adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const PI_HIGH: f32 = std::f32::consts::PI;
/// What `PI_HIGH` lacks.
const PI_LOW: f32 = -8.742_278e-8;

/// Of `(sin(r) - r) / r³` in `r²`, the highest power first.
const SERIES: [f32; 5] =
    [-2.388_844_5e-8, 2.752_536e-6, -1.984_086_7e-4, 8.333_331e-3, -0.166_666_67];

/// Sine of one value, without branches so that loops over it vectorise.
///
/// `sin(x) = (-1)^n sin(r)` with `x = n pi + r`; the first difference is exact.
#[inline(always)]
pub(crate) fn sin_of(x: f32) -> f32 {
    let shifted = x.mul_add(std::f32::consts::FRAC_1_PI, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-PI_HIGH, x);
    let r = n.mul_add(-PI_LOW, r);
    let square = r * r;
    let q = polynomial(square, SERIES);
    let sine = (r * square).mul_add(q, r);
    let signed = f32::from_bits(sine.to_bits() ^ (shifted.to_bits() << 31));
    if x.abs() <= ARGUMENT_MAX { signed } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(count: u32, argument: impl Fn(f64) -> f64) -> f64 {
        let given: Vec<f32> = (0..count).map(|i| argument(f64::from(i)) as f32).collect();
        let mut x = given.clone();
        sin(&mut x);
        let error = |(&found, &x): (&f32, &f32)| (f64::from(found) - f64::from(x).sin()).abs();
        x.iter().zip(&given).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn error_stays_within_its_bounds() {
        let near = worst(1_000_000, |i| (i - 500_000.0) * 2.3e-5);
        assert!(near <= 1.2e-7, "{near}");
        let far = worst(1_000_000, |i| (i - 500_000.0) * 0.2 + i * 1.7e-7);
        assert!(far <= 1.2e-7, "{far}");
        let farthest = worst(1_000_000, |i| i * 9.999_99);
        assert!(farthest <= 1e-6, "{farthest}");
    }

    #[test]
    fn multiples_of_pi_keep_their_small_sines() {
        for n in [1.0_f64, 2.0, 355.0, 31_000.0] {
            let given = (n * std::f64::consts::PI) as f32;
            let mut x = [given];
            sin(&mut x);
            let expected = f64::from(given).sin();
            assert!((f64::from(x[0]) - expected).abs() <= 1e-6 * expected.abs() + 1e-10, "{n}");
        }
    }

    #[test]
    fn what_has_no_sine_is_not_a_number() {
        let mut x = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 2.0e7];
        sin(&mut x);
        assert_eq!(x[..2], [0.0, 0.0]);
        assert!(x[2..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let given: Vec<f32> = (0..1025).map(|i| (i as f32 - 512.0) * 17.73).collect();
        let run = |isa| {
            let mut x = given.clone();
            sin_part(isa, &mut x);
            x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
        }
    }
}
