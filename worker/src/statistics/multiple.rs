//! Corrections for making many comparisons at once.
//!
//! Leaves out: which comparisons form one family (report). Invariant: corrected values are in the
//! order of their input, at least as large as it, at most 1, and keep its ranking.

/// Holm's step-down values: the chance of any false claim stays below the level.
///
/// ```text
/// p_(i)' = max over j <= i of min(1, (m - j + 1) p_(j)),  p_(1) <= … <= p_(m)
/// ```
///
/// Source: Holm 1979.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut corrected = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (before, i) in ascending(p).into_iter().enumerate() {
        largest = largest.max((p.len() - before) as f64 * p[i]).min(1.0);
        corrected[i] = largest;
    }
    corrected
}

/// Benjamini and Hochberg's values: the expected share of false claims stays below the level.
///
/// ```text
/// p_(i)' = min over j >= i of min(1, m / j p_(j)),  p_(1) <= … <= p_(m)
/// ```
///
/// Source: Benjamini and Hochberg 1995.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut corrected = vec![0.0; p.len()];
    let mut smallest = 1.0_f64;
    for (before, i) in ascending(p).into_iter().enumerate().rev() {
        smallest = smallest.min(p.len() as f64 / (before + 1) as f64 * p[i]);
        corrected[i] = smallest;
    }
    corrected
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
    }

    #[test]
    fn five_values_worked_by_hand() {
        // Sorted: .005 .01 .03 .04 .5; times 5 4 3 2 1, then running maximum.
        let p = [0.01, 0.04, 0.03, 0.005, 0.5];
        assert_near(&holm(&p), &[0.04, 0.09, 0.09, 0.025, 0.5]);
        // Times 5/1 5/2 5/3 5/4 1, then running minimum from the end.
        assert_near(&benjamini_hochberg(&p), &[0.025, 0.05, 0.05, 0.025, 0.5]);
    }

    #[test]
    fn fifteen_values_of_benjamini_and_hochberg_have_four_discoveries() {
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let count = |corrected: Vec<f64>| corrected.iter().filter(|&&p| p <= 0.05).count();
        assert_eq!((count(benjamini_hochberg(&p)), count(holm(&p))), (4, 3));
    }

    #[test]
    fn nothing_and_certainty_stay() {
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
        assert_eq!((holm(&[0.02]), benjamini_hochberg(&[0.02])), (vec![0.02], vec![0.02]));
        assert_eq!(
            (holm(&[1.0, 0.9]), benjamini_hochberg(&[1.0, 0.9])),
            (vec![1.0; 2], vec![1.0; 2])
        );
    }
}
