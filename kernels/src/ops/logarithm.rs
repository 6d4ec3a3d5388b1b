//! Logarithm and exponential of f64 that are the same on every machine.
//!
//! Leaves out: f32 arrays, which have operations of their own. Invariant: plain sums and products
//! in one order, where a system's library may differ with the CPU.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// High part of ln 2, exact times any exponent; with [`LN_2_LOW`] it is ln 2.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Natural logarithm, within 4 ulp for normal positive numbers; else as the system has it.
pub(crate) fn ln(x: f64) -> f64 {
    if !x.is_normal() || x < 0.0 {
        return x.ln();
    }
    let bits = x.to_bits();
    let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let exponent = f64::from((bits >> 52) as i32 - 1023);
    let (fraction, exponent) =
        if fraction > SQRT_2 { (fraction / 2.0, exponent + 1.0) } else { (fraction, exponent) };
    exponent * LN_2_HIGH + (ln_near_one(fraction - 1.0) + exponent * LN_2_LOW)
}

/// `ln(1 + x)` for `x` in -0.3..=1, relative also next to zero.
pub(crate) fn ln_one_plus(x: f64) -> f64 {
    if x > SQRT_2 - 1.0 {
        return ln_near_one((1.0 + x) / 2.0 - 1.0) + LN_2;
    }
    ln_near_one(x)
}

/// `ln(1 + x)` within -0.3..=0.42: `2 (s + s³/3 + s⁵/5 + …)` with `s = x / (2 + x)`.
fn ln_near_one(x: f64) -> f64 {
    let s = x / (2.0 + x);
    let square = s * s;
    let mut sum = 0.0;
    for term in (1..=12).rev() {
        sum = square * (sum + 1.0 / f64::from(2 * term + 1));
    }
    2.0 * s + 2.0 * s * sum
}

/// Exponential, within 3 ulp; zero below -700, infinite above 709, NaN stays.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -700.0 {
        return 0.0;
    }
    let n = (x * LOG2_E).round();
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 0.0;
    for term in (1..=14).rev() {
        sum = r / f64::from(term) * (1.0 + sum);
    }
    f64::from_bits((((n as i64) + 1023) as u64) << 52) * (1.0 + sum)
}

/// `1 / (1 + exp(-x))`
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64, what: f64) {
        let error = (found - expected).abs();
        assert!(error <= 4.0 * f64::EPSILON * expected.abs(), "{what}: {found} {expected}");
    }

    #[test]
    fn values_are_those_of_the_system_to_the_last_places() {
        for i in 0..20_000 {
            let x = f64::from(i) * 0.07 - 699.0;
            check(exp(x), x.exp(), x);
            let x = 1e-9 * 1.003_f64.powi(i);
            check(ln(x), x.ln(), x);
            let x = f64::from(i) * 5e-5;
            check(ln_one_plus(x), x.ln_1p(), x);
        }
        check(ln_one_plus(1e-12), 1e-12_f64.ln_1p(), 1e-12);
        assert_eq!((ln(1.0), exp(0.0), ln_one_plus(0.0)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn far_ends() {
        assert_eq!((exp(-1e9), exp(1e9), ln(0.0)), (0.0, f64::INFINITY, f64::NEG_INFINITY));
        assert!(exp(f64::NAN).is_nan() && ln(f64::NAN).is_nan() && ln(-1.0).is_nan());
        assert_eq!((sigmoid(0.0), sigmoid(1e9), sigmoid(-1e9)), (0.5, 1.0, 0.0));
    }
}
