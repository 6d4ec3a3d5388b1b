//! One statistic over the repeats of one probe: moments, and an interval over repeats and examples.
//!
//! Leaves out: comparing two probes (paired). Invariant: undefined repeats are counted, never
//! averaged.

use super::bootstrap::percentiles;
use super::correlation::mean;
use glmeval_common::rng::Rng;

/// Repeats behind every published error band, whatever their real number.
const PUBLISHED_REPEATS: f64 = 5.0;

/// A statistic over repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepeatSummary {
    /// Repeats that define the statistic.
    pub repeats: usize,
    /// Repeats that do not.
    pub undefined: usize,
    /// Mean of the defined ones; `None` without any.
    pub mean: Option<f64>,
    /// Sample standard deviation (ddof 1); `None` below two.
    pub deviation: Option<f64>,
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
}

impl RepeatSummary {
    /// Summary of one value per repeat, `None` where undefined.
    pub fn new(values: &[Option<f64>]) -> Self {
        let defined: Vec<f64> = values.iter().copied().flatten().collect();
        let (average, count) = (mean(&defined), defined.len());
        let squares: f64 = defined.iter().map(|value| (value - average).powi(2)).sum();
        Self {
            repeats: count,
            undefined: values.len() - count,
            mean: (count > 0).then_some(average),
            deviation: (count > 1).then(|| (squares / (count - 1) as f64).sqrt()),
            min: defined.iter().copied().min_by(f64::total_cmp),
            max: defined.iter().copied().max_by(f64::total_cmp),
        }
    }

    /// Half the width of the band around a curve: sd (ddof 1) / sqrt(n).
    pub fn band(&self) -> Option<f64> {
        Some(self.deviation? / (self.repeats as f64).sqrt())
    }

    /// The published band: sd (ddof 0) / sqrt(5), for any number of repeats.
    pub fn published_band(&self) -> Option<f64> {
        let count = self.repeats as f64;
        Some(self.deviation? * ((count - 1.0) / count).sqrt() / PUBLISHED_REPEATS.sqrt())
    }
}

/// The 95 % percentile interval over repeats and examples, drawn one inside the other.
///
/// `series[r][b]` is the statistic of repeat r on resample b of the examples, the same examples
/// for every repeat. With r_1 … r_n drawn with replacement for each b,
///
/// ```text
/// T_b = 1/n sum over k of series[r_k][b]
/// ```
///
/// One repeat leaves the interval over examples alone. `None` where fewer than 90 % of the T_b
/// are defined.
pub fn two_level_interval(series: &[&[Option<f64>]], seed: u64) -> Option<(f64, f64)> {
    let resamples = series.iter().map(|repeat| repeat.len()).min()?;
    let drawn = |b: usize| {
        let mut rng = Rng::derive(seed, &format!("repeats/{b}"));
        let mut sum = 0.0;
        for _ in series {
            let repeat = usize::try_from(rng.below(series.len() as u64)).unwrap_or(0);
            sum += series.get(repeat)?.get(b).copied().flatten()?;
        }
        Some(sum / series.len() as f64)
    };
    percentiles((0..resamples).filter_map(drawn).collect(), resamples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_worked_by_hand() {
        let summary = RepeatSummary::new(&[Some(1.0), None, Some(2.0), Some(6.0)]);
        assert_eq!((summary.repeats, summary.undefined), (3, 1));
        assert_eq!((summary.mean, summary.min, summary.max), (Some(3.0), Some(1.0), Some(6.0)));
        // Squares 4 + 1 + 9 = 14; over 2, and over 3 for the published band.
        assert!((summary.deviation.unwrap() - 7.0_f64.sqrt()).abs() < 1e-15);
        assert!((summary.band().unwrap() - (7.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        let published = (14.0_f64 / 3.0).sqrt() / 5.0_f64.sqrt();
        assert!((summary.published_band().unwrap() - published).abs() < 1e-15);
    }

    #[test]
    fn one_repeat_has_a_mean_and_no_deviation() {
        let summary = RepeatSummary::new(&[Some(0.5)]);
        assert_eq!((summary.mean, summary.deviation, summary.band()), (Some(0.5), None, None));
        assert_eq!(RepeatSummary::new(&[None, None]).mean, None);
    }

    #[test]
    fn repeats_widen_the_interval_over_examples() {
        let mut rng = Rng::derive(3, "test");
        let examples: Vec<f64> = (0..2_000).map(|_| rng.normal()).collect();
        let repeat = |shift: f64| -> Vec<Option<f64>> {
            examples.iter().map(|value| Some(value + shift)).collect()
        };
        let width = |series: &[&[Option<f64>]]| {
            let (low, high) = two_level_interval(series, 1).unwrap();
            high - low
        };
        let alone = width(&[&repeat(0.0)]);
        assert!((alone - 2.0 * 1.96).abs() < 0.3, "{alone}");
        // Two repeats 6 apart: their mean has variance 9/2 under the draw, beside 1 of examples.
        let both = width(&[&repeat(-3.0), &repeat(3.0)]);
        assert!(both > alone + 3.0, "{both} {alone}");
        assert_eq!(two_level_interval(&[], 1), None);
        assert_eq!(two_level_interval(&[&[None; 100]], 1), None);
    }
}
