//! Rectified linear unit of each element.
//!
//! Leaves out: leaky forms. Invariant: exact; the result is the input or zero.

use crate::isa::{Isa, per_isa};
use crate::parallel;

/// Replaces each element that is not positive by zero; NaN stays.
///
/// ```text
/// x = max(x, 0)
/// ```
pub fn relu(x: &mut [f32]) {
    let isa = Isa::best();
    parallel::for_rows(x, 1, |_, part| relu_part(isa, part));
}

per_isa!(
    /// [`relu`] on this thread alone.
    pub(crate) fn relu_part(x: &mut [f32]) = relu_all
);

#[inline(always)]
fn relu_all(x: &mut [f32]) {
    for x in x {
        *x = if *x <= 0.0 { 0.0 } else { *x };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::exactness::check_bits;

    #[test]
    fn only_positive_values_and_not_a_number_stay() {
        let mut x = [2.5, -2.5, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::NAN];
        relu(&mut x);
        assert_eq!(x[..4], [2.5, 0.0, f32::INFINITY, 0.0]);
        assert!(x[4].is_sign_positive() && x[5].is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check_bits(relu_part);
    }
}
