//! Percentile bootstrap of any statistic that takes counts of examples.
//!
//! Leaves out: what is computed. Invariant: resample r of a seed is the same on any thread count.

use glmeval_common::rng::Rng;
use rayon::prelude::*;

/// Resamples behind each reported interval.
pub const RESAMPLES: usize = 1000;
/// Share of resamples that must have a value for an interval to be reported.
pub(super) const DEFINED_SHARE_MIN: f64 = 0.9;

/// A statistic of examples with counts; called from many threads.
pub(super) type Counted<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + Sync + 'a>;

/// `statistics` of how often each of `examples` examples was drawn, for each of `resamples` resamples.
///
/// Resample b of one seed and number of examples is the same in every call.
pub(super) fn resample<T: Send>(
    (examples, resamples): (usize, usize),
    seed: u64,
    statistics: impl Fn(&[u32]) -> T + Sync,
) -> Vec<T> {
    (0..resamples)
        .into_par_iter()
        .map_init(
            || vec![0_u32; examples],
            |counts, resample| {
                draw(counts, seed, resample);
                statistics(counts)
            },
        )
        .collect()
}

/// The 95 % percentile interval of one statistic that takes the count of each example.
///
/// `None` where fewer than 90 % of the resamples define the statistic, or below two examples.
pub fn bootstrap_interval(
    examples: usize,
    statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
    seed: u64,
) -> Option<(f64, f64)> {
    if examples < 2 {
        return None;
    }
    let values = resample((examples, RESAMPLES), seed, statistic);
    percentiles(values.into_iter().flatten().collect(), RESAMPLES)
}

fn draw(counts: &mut [u32], seed: u64, resample: usize) {
    let mut rng = Rng::derive(seed, &format!("bootstrap/{resample}"));
    counts.fill(0);
    for _ in 0..counts.len() {
        let i = usize::try_from(rng.below(counts.len() as u64)).expect("below a usize");
        counts[i] += 1;
    }
}

/// The 2.5 and 97.5 percentiles of the `values` that are defined among `resamples`; `None` if too few are.
pub(super) fn percentiles(mut values: Vec<f64>, resamples: usize) -> Option<(f64, f64)> {
    if (values.len() as f64) < DEFINED_SHARE_MIN * resamples as f64 {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    Some((quantile(&values, 0.025)?, quantile(&values, 0.975)?))
}

/// Linear interpolation between order statistics (numpy's default).
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let low = sorted.get(place.floor() as usize)?;
    let high = sorted.get(place.ceil() as usize)?;
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::ranking::RankedBinary;

    #[test]
    fn interval_of_a_mean_has_the_width_of_its_standard_error() {
        let mut rng = Rng::derive(3, "test");
        let values: Vec<f64> = (0..400).map(|_| rng.normal()).collect();
        let mean = |counts: &[u32]| {
            Some(counts.iter().zip(&values).map(|(&c, v)| f64::from(c) * v).sum::<f64>() / 400.0)
        };
        let (low, high) = bootstrap_interval(400, mean, 1).unwrap();
        assert!((high - low - 2.0 * 1.96 / 20.0).abs() < 0.03, "{low} {high}");
        assert_eq!(bootstrap_interval(400, mean, 1), Some((low, high)));
    }

    #[test]
    fn interval_does_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::derive(5, "test");
        let scores: Vec<f64> = (0..200).map(|_| rng.uniform()).collect();
        let targets: Vec<f64> =
            scores.iter().map(|s| f64::from(u8::from(rng.uniform() < *s))).collect();
        let ranked = RankedBinary::new(&targets, &scores);
        let interval = || bootstrap_interval(200, |counts| ranked.auroc(counts), 9);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(interval), interval());
    }

    #[test]
    fn statistics_that_are_mostly_undefined_have_no_interval() {
        assert_eq!(bootstrap_interval(10, |_| None, 0), None);
        assert_eq!(bootstrap_interval(1, |_| Some(1.0), 0), None);
    }
}
