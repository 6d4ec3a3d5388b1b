//! Checks that element-wise operations share: error against f64, and the bits of each CPU.
//!
//! Leaves out: values of one operation, which stand beside it. Invariant: compiled for tests alone.

use crate::isa::Isa;
use std::ops::Range;

/// Asserts that `f` is within `bound` units in the last place of `exact`, over all of `domain`.
pub(crate) fn check_error(
    f: impl Fn(&mut [f32]),
    exact: impl Fn(f64) -> f64,
    domain: Range<f64>,
    bound: f64,
) {
    const COUNT: u32 = 300_000;
    let step = (domain.end - domain.start) / f64::from(COUNT);
    let given: Vec<f32> = (0..COUNT).map(|i| (domain.start + step * f64::from(i)) as f32).collect();
    let mut x = given.clone();
    f(&mut x);
    for (&found, &x) in x.iter().zip(&given) {
        let expected = exact(f64::from(x));
        let size = expected.abs() as f32;
        let place = f64::from(size.next_up()) - f64::from(size);
        let error = (f64::from(found) - expected).abs();
        assert!(error <= bound * place, "f({x}) = {found}, expected {expected}: {}", error / place);
    }
}

/// Asserts that every instruction set gives the bits of the baseline, at odd lengths too.
pub(crate) fn check_bits(part: impl Fn(Isa, &mut [f32])) {
    for count in [1, 31, 33, 1025] {
        let given: Vec<f32> = (0..count).map(|i| (i as f32 * 0.71).sin() * 14.0).collect();
        let run = |isa| {
            let mut x = given.clone();
            part(isa, &mut x);
            x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?} {count}");
        }
    }
}
