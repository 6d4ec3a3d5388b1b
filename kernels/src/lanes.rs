//! Sums and maxima of a row in sixteen interleaved lanes.
//!
//! Leaves out: element-wise functions; plain loops over scalar code vectorise by themselves.
//! Invariant: element `i` goes to lane `i % 16` and lanes fold in one fixed tree, so every
//! instruction set gives the same bits.

/// Lanes of a row.
pub(crate) const LANES: usize = 16;

/// Sum of `f` over a row, where `f(sum, x)` adds one element to its lane.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    fold(row, 0.0, f, |a, b| a + b)
}

/// Largest element of a row; NaN if any is, negative infinity if there is none.
#[inline(always)]
pub(crate) fn max(row: &[f32]) -> f32 {
    fold(row, f32::NEG_INFINITY, larger, larger)
}

/// The larger of two values; NaN if either is.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// Folds elements into lanes that start as `start`, then halves: eight apart, four, two, one.
#[inline(always)]
fn fold(
    row: &[f32],
    start: f32,
    element: impl Fn(f32, f32) -> f32,
    lane: impl Fn(f32, f32) -> f32,
) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in whole {
        for (folded, &value) in lanes.iter_mut().zip(chunk) {
            *folded = element(*folded, value);
        }
    }
    for (folded, &value) in lanes.iter_mut().zip(rest) {
        *folded = element(*folded, value);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = lane(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_folds_halves_in_one_order() {
        let mut row = [0.0; LANES];
        (row[0], row[8], row[4]) = (1.0e8, -1.0e8, 1.0);
        assert_eq!(sum(&row, |sum, x| sum + x), 1.0);
    }

    #[test]
    fn rows_of_any_length_fold_whole() {
        for count in [0_u8, 1, 15, 16, 17, 31, 33, 100] {
            let row: Vec<f32> = (1..=count).map(f32::from).collect();
            let expected = f32::from(count) * (f32::from(count) + 1.0) / 2.0;
            assert_eq!(sum(&row, |sum, x| sum + x), expected);
            assert_eq!(max(&row), row.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }

    #[test]
    fn not_a_number_is_the_largest() {
        for at in [0, 16, 20] {
            let mut row = [1.0; 21];
            row[at] = f32::NAN;
            assert!(max(&row).is_nan());
        }
    }
}
