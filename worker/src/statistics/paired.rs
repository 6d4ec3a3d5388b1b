//! Whether one probe beats another on the same examples: a paired bootstrap.
//!
//! Leaves out: the statistic (scores) and families of comparisons (multiple). Invariant: both sides
//! see the same resamples, so what makes an example hard for both cancels.

use super::bootstrap::{DEFINED_SHARE_MIN, percentiles};

/// Difference A - B of a statistic over resamples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedDifference {
    /// Ends of the 95 % percentile interval.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p-value.
    pub p: f64,
    /// Resamples in which both sides are defined.
    pub resamples: usize,
}

/// Compares the statistics of A and B on the same resamples of the same examples.
///
/// With d_1 … d_R the differences,
///
/// ```text
/// p = min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (R + 1))
/// ```
///
/// `None` where fewer than 90 % of the resamples define both.
///
/// Source: Davison and Hinkley 1997, section 4.2 (the +1), Efron and Tibshirani 1993, section 15.4.
pub fn paired_difference(a: &[Option<f64>], b: &[Option<f64>]) -> Option<PairedDifference> {
    let differences: Vec<f64> = a.iter().zip(b).filter_map(|(a, b)| Some((*a)? - (*b)?)).collect();
    let (all, defined) = (a.len().min(b.len()), differences.len());
    if defined == 0 || (defined as f64) < DEFINED_SHARE_MIN * all as f64 {
        return None;
    }
    let below = differences.iter().filter(|difference| **difference <= 0.0).count();
    let above = differences.iter().filter(|difference| **difference >= 0.0).count();
    let p = 2.0 * (1 + below.min(above)) as f64 / (defined + 1) as f64;
    let interval = percentiles(differences, all);
    Some(PairedDifference { interval, p: p.min(1.0), resamples: defined })
}

/// Mean over repeats in each resample; undefined where any repeat is.
pub fn mean_over_repeats(series: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let resamples = series.iter().map(Vec::len).min().unwrap_or(0);
    let mean = |b: usize| {
        let values: Option<Vec<f64>> =
            series.iter().map(|repeat| repeat.get(b).copied().flatten()).collect();
        Some(values?.iter().sum::<f64>() / series.len() as f64)
    };
    (0..resamples).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_p_value_worked_by_hand() {
        // Differences 1 1 1 -1: one below, so 2 (1 + 1) / 5.
        let found = paired_difference(&some(&[2.0, 3.0, 4.0, 1.0]), &some(&[1.0, 2.0, 3.0, 2.0]));
        let found = found.unwrap();
        assert!((found.p - 0.8).abs() < 1e-15);
        assert_eq!((found.resamples, found.interval.unwrap().1), (4, 1.0));
    }

    #[test]
    fn a_clear_difference_has_the_smallest_p_value_and_none_has_one() {
        let (a, b) = (some(&[0.9; 999]), some(&[0.5; 999]));
        assert!((paired_difference(&a, &b).unwrap().p - 0.002).abs() < 1e-15);
        assert_eq!(paired_difference(&a, &a).unwrap().p, 1.0);
        assert_eq!(paired_difference(&a, &[None; 999]), None);
        assert_eq!(paired_difference(&[], &[]), None);
    }

    #[test]
    fn sides_swap_with_the_sign() {
        let (a, b) = (some(&[0.1, 0.4, 0.3, 0.9]), some(&[0.2, 0.3, 0.1, 0.2]));
        let (ab, ba) = (paired_difference(&a, &b).unwrap(), paired_difference(&b, &a).unwrap());
        assert_eq!(ab.p, ba.p);
        let (low, high) = ab.interval.unwrap();
        assert!((ba.interval.unwrap().0 + high).abs() < 1e-15);
        assert!((ba.interval.unwrap().1 + low).abs() < 1e-15);
    }

    #[test]
    fn repeats_are_averaged_within_a_resample() {
        let series = [vec![Some(1.0), None], vec![Some(2.0), Some(5.0)]];
        assert_eq!(mean_over_repeats(&series), [Some(1.5), None]);
        assert!(mean_over_repeats(&[]).is_empty());
    }
}
