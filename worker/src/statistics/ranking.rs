//! AUROC, average precision and accuracy of binary targets.
//!
//! Leaves out: Keras' 200-threshold areas (keras). Invariant: scores are sorted once; each
//! evaluation is one pass over runs of tied scores.

use super::correlation::{Order, defined};

/// Binary targets in the order of their scores, ready for statistics under any counts.
pub(super) struct RankedBinary {
    order: Order,
    positive: Vec<bool>,
}

impl RankedBinary {
    /// Sorts `scores` once; a target above 0.5 is positive; no score may be NaN.
    pub(super) fn new(targets: &[f64], scores: &[f64]) -> Self {
        let positive = targets.iter().map(|&target| target > 0.5).collect();
        Self { order: Order::new(scores), positive }
    }

    /// Counted positives and negatives of each run of tied scores, ascending.
    pub(super) fn runs<'a>(
        &'a self,
        counts: &'a [u32],
    ) -> impl DoubleEndedIterator<Item = (f64, f64)> + 'a {
        self.order.runs().map(|run| {
            let (mut positives, mut negatives) = (0.0, 0.0);
            for &i in run {
                let count = f64::from(counts[i as usize]);
                if self.positive[i as usize] {
                    positives += count;
                } else {
                    negatives += count;
                }
            }
            (positives, negatives)
        })
    }

    /// Probability that a positive scores above a negative, ties one half.
    pub(super) fn auroc(&self, counts: &[u32]) -> Option<f64> {
        let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
        for (p, n) in self.runs(counts) {
            wins += p * (below + n / 2.0);
            below += n;
            positives += p;
        }
        defined(wins / (positives * below))
    }

    /// Sum over thresholds, descending, of (R_n - R_{n-1}) P_n.
    pub(super) fn average_precision(&self, counts: &[u32]) -> Option<f64> {
        let (mut positives, mut predicted, mut sum) = (0.0, 0.0, 0.0);
        for (p, n) in self.runs(counts).rev() {
            positives += p;
            predicted += p + n;
            if p > 0.0 {
                sum += p * positives / predicted;
            }
        }
        defined(sum / positives)
    }
}

/// Exact area under the ROC curve (Mann and Whitney); `None` if a class is missing or a score NaN.
///
/// Source: scikit-learn `roc_auc_score`.
pub fn auroc(targets: &[f64], scores: &[f64]) -> Option<f64> {
    let complete = !scores.iter().any(|score| score.is_nan());
    complete.then(|| RankedBinary::new(targets, scores).auroc(&vec![1; scores.len()])).flatten()
}

/// Average precision without interpolation; `None` without positives or with a NaN score.
///
/// Source: scikit-learn `average_precision_score`.
pub fn average_precision(targets: &[f64], scores: &[f64]) -> Option<f64> {
    let complete = !scores.iter().any(|score| score.is_nan());
    let ranked = complete.then(|| RankedBinary::new(targets, scores))?;
    ranked.average_precision(&vec![1; scores.len()])
}

/// Share of examples whose score lies above 0.5 exactly when their target is 1; `None` without any.
pub fn accuracy(targets: &[f64], scores: &[f64]) -> Option<f64> {
    accuracy_counted(&hits(targets, scores), &vec![1; scores.len()])
}

pub(super) fn hits(targets: &[f64], scores: &[f64]) -> Vec<bool> {
    targets.iter().zip(scores).map(|(&target, &score)| (score > 0.5) == (target > 0.5)).collect()
}

pub(super) fn accuracy_counted(hits: &[bool], counts: &[u32]) -> Option<f64> {
    let (mut right, mut all) = (0_u64, 0_u64);
    for (&hit, &count) in hits.iter().zip(counts) {
        all += u64::from(count);
        right += if hit { u64::from(count) } else { 0 };
    }
    defined(right as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_has_no_auroc() {
        assert_eq!(auroc(&[1.0, 1.0], &[0.2, 0.7]), None);
        assert_eq!(average_precision(&[0.0, 0.0], &[0.2, 0.7]), None);
        assert_eq!(accuracy(&[], &[]), None);
    }

    #[test]
    fn hard_labels_give_the_mean_of_sensitivity_and_specificity() {
        let targets = [1.0, 1.0, 1.0, 0.0, 0.0];
        let labels = [1.0, 1.0, 0.0, 0.0, 1.0];
        let area = auroc(&targets, &labels).unwrap();
        assert!((area - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-15);
    }

    #[test]
    fn counts_act_as_repeated_examples() {
        let ranked = RankedBinary::new(&[1.0, 0.0, 1.0, 0.0], &[0.9, 0.8, 0.3, 0.3]);
        let counts = [1, 2, 3, 1];
        let targets = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        let scores = [0.9, 0.8, 0.8, 0.3, 0.3, 0.3, 0.3];
        assert_eq!(ranked.auroc(&counts), auroc(&targets, &scores));
        assert_eq!(ranked.average_precision(&counts), average_precision(&targets, &scores));
    }
}
