//! Areas as `tf.keras.metrics.AUC` computes them: evenly spaced thresholds, float32 buckets.
//!
//! Leaves out: exact areas (ranking). Invariant: counts of parts merge by addition.

use super::correlation::defined;

/// Thresholds that Keras takes if not told otherwise.
pub const KERAS_THRESHOLDS: usize = 200;

/// Positives and negatives by bucket of their score.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasCounts {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

/// Bucket of a score: the highest threshold index that it exceeds, scores clipped to [0, 1].
///
/// In f32 as in Keras: in f64 some scores on a threshold would fall on its other side.
pub(super) fn bucket(score: f64, thresholds: usize) -> usize {
    let scaled = (score as f32).clamp(0.0, 1.0) * thresholds.saturating_sub(1) as f32;
    (scaled.ceil() as usize).saturating_sub(1)
}

impl KerasCounts {
    /// No counts, for `thresholds` thresholds -1e-7, 1/(n-1), …, (n-2)/(n-1), 1 + 1e-7; at least two.
    pub fn empty(thresholds: usize) -> Self {
        let buckets = thresholds.max(2);
        Self { positives: vec![0.0; buckets], negatives: vec![0.0; buckets] }
    }

    /// Counts of `targets` and `scores` with 200 thresholds; matrices are given flattened.
    pub fn new(targets: &[f64], scores: &[f64]) -> Self {
        Self::with_thresholds(targets, scores, KERAS_THRESHOLDS)
    }

    /// Counts of `targets` and `scores` with `thresholds` thresholds, at least two.
    ///
    /// Source: Keras 2.12 `metrics.AUC(num_thresholds=…)`.
    pub fn with_thresholds(targets: &[f64], scores: &[f64], thresholds: usize) -> Self {
        let mut counts = Self::empty(thresholds);
        let buckets = counts.positives.len();
        for (&target, &score) in targets.iter().zip(scores) {
            counts.add(target > 0.5, bucket(score, buckets), 1.0);
        }
        counts
    }

    pub(super) fn add(&mut self, positive: bool, bucket: usize, weight: f64) {
        let side = if positive { &mut self.positives } else { &mut self.negatives };
        side[bucket] += weight;
    }

    /// Adds the counts of `other`, which must have as many thresholds.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        debug_assert_eq!(self.positives.len(), other.positives.len(), "buckets of one width");
        let add = |into: &mut [f64], from: &[f64]| {
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        };
        add(&mut self.positives, &other.positives);
        add(&mut self.negatives, &other.negatives);
        self
    }

    /// True positives at each threshold.
    pub fn true_positives(&self) -> Vec<f64> {
        reverse_cumulative(&self.positives)
    }

    /// False positives at each threshold.
    pub fn false_positives(&self) -> Vec<f64> {
        reverse_cumulative(&self.negatives)
    }

    /// Trapezoid area under the ROC curve; 0 / 0 counts as 0.
    ///
    /// Source: Keras 2.12 `metrics.AUC(curve="ROC")`.
    pub fn roc(&self) -> Option<f64> {
        let (tp, fp) = (self.true_positives(), self.false_positives());
        let positives: f64 = self.positives.iter().sum();
        let negatives: f64 = self.negatives.iter().sum();
        let mut area = 0.0;
        for (tp, fp) in tp.windows(2).zip(fp.windows(2)).filter_map(pairs) {
            let width = ratio(fp.0 - fp.1, negatives);
            area += width * (ratio(tp.0, positives) + ratio(tp.1, positives)) / 2.0;
        }
        defined(area)
    }

    /// Area under the interpolated precision-recall curve (Davis and Goadrich); 0 / 0 counts as 0.
    ///
    /// Source: Keras 2.12 `metrics.AUC(curve="PR")`.
    pub fn precision_recall(&self) -> Option<f64> {
        let (tp, fp) = (self.true_positives(), self.false_positives());
        let positives: f64 = self.positives.iter().sum();
        let mut area = 0.0;
        for (tp, fp) in tp.windows(2).zip(fp.windows(2)).filter_map(pairs) {
            let (here, next) = (tp.0 + fp.0, tp.1 + fp.1);
            let slope = ratio(tp.0 - tp.1, (here - next).max(0.0));
            let intercept = tp.1 - slope * next;
            let log_ratio = if here > 0.0 && next > 0.0 { (here / next).ln() } else { 0.0 };
            // TP + FN is the number of positives at every threshold.
            area += ratio(slope * (tp.0 - tp.1 + intercept * log_ratio), positives);
        }
        defined(area)
    }
}

type Steps = ((f64, f64), (f64, f64));

fn pairs(windows: (&[f64], &[f64])) -> Option<Steps> {
    let (&[tp0, tp1], &[fp0, fp1]) = windows else { return None };
    Some(((tp0, tp1), (fp0, fp1)))
}

fn ratio(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

fn reverse_cumulative(counts: &[f64]) -> Vec<f64> {
    let mut sums = counts.to_vec();
    let mut sum = 0.0;
    for value in sums.iter_mut().rev() {
        sum += *value;
        *value = sum;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_ranking_has_area_one() {
        let counts = KerasCounts::new(&[0.0, 0.0, 1.0], &[0.0, 0.0, 1.0]);
        assert_eq!(counts.roc(), Some(1.0));
        assert!((counts.precision_recall().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn counts_of_parts_merge() {
        let (targets, scores) = ([1.0, 0.0, 1.0, 0.0], [0.7, 0.2, 0.4, 1.5]);
        let parts = KerasCounts::new(&targets[..1], &scores[..1])
            .merge(&KerasCounts::new(&targets[1..], &scores[1..]));
        assert_eq!(parts, KerasCounts::new(&targets, &scores));
    }

    #[test]
    fn three_thresholds_part_the_scores_at_one_half() {
        // Above -1e-7: all; above 1/2: one positive, one negative; above 1 + 1e-7: none.
        let counts = KerasCounts::with_thresholds(&[1.0, 1.0, 0.0, 0.0], &[0.9, 0.5, 0.6, 0.1], 3);
        assert_eq!(counts.true_positives(), [2.0, 1.0, 0.0]);
        assert_eq!(counts.false_positives(), [2.0, 1.0, 0.0]);
        assert_eq!(counts.roc(), Some(0.5));
    }

    #[test]
    fn two_thresholds_say_nothing_but_one_half() {
        let counts = KerasCounts::with_thresholds(&[1.0, 0.0], &[0.9, 0.1], 2);
        assert_eq!((counts.true_positives(), counts.roc()), (vec![1.0, 0.0], Some(0.5)));
        assert_eq!(KerasCounts::empty(0), KerasCounts::empty(2));
    }
}
