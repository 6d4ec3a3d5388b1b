//! Accuracy and Keras' areas of binary targets, batch by batch.
//!
//! Leaves out: exact areas (statistics). Invariant: the measures of an epoch depend on its
//! predictions, not on the batches they came in.

use crate::statistics::KerasCounts;
use glmeval_common::store::fits::BinaryMeasures;

/// Counts of the predictions seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct BinaryCounts {
    hits: u64,
    values: u64,
    keras: Option<KerasCounts>,
}

impl BinaryCounts {
    /// Adds predictions and targets of one batch, all outputs side by side.
    pub(super) fn add(&mut self, predictions: &[f32], targets: &[f32]) {
        let (mut labels, mut scores) = (Vec::new(), Vec::new());
        let pairs = predictions.iter().zip(targets);
        for (&prediction, &target) in pairs.filter(|(_, target)| !target.is_nan()) {
            // As Keras: a prediction of exactly one half is the label 0.
            let label = if prediction > 0.5 { 1.0 } else { 0.0 };
            self.hits += u64::from(label == target);
            self.values += 1;
            labels.push(f64::from(target));
            scores.push(f64::from(prediction));
        }
        let counts = KerasCounts::new(&labels, &scores);
        self.keras = Some(match self.keras.take() {
            Some(before) => before.merge(&counts),
            None => counts,
        });
    }

    /// The measures; none before the first prediction.
    pub(super) fn measures(&self) -> Option<BinaryMeasures> {
        let keras = self.keras.as_ref()?;
        Some(BinaryMeasures {
            accuracy: self.hits as f64 / self.values.max(1) as f64,
            auroc: keras.roc().unwrap_or(f64::NAN),
            aupr: keras.precision_recall().unwrap_or(f64::NAN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_targets_are_not_counted() {
        let measured = |predictions: &[f32], targets: &[f32]| {
            let mut counts = BinaryCounts::default();
            counts.add(predictions, targets);
            counts.measures().unwrap()
        };
        let holed = measured(&[0.9, 0.2, 0.7, 0.1], &[1.0, f32::NAN, 0.0, f32::NAN]);
        assert_eq!(holed, measured(&[0.9, 0.7], &[1.0, 0.0]));
    }

    #[test]
    fn batches_do_not_change_the_measures() {
        let predictions = [0.9, 0.2, 0.7, 0.4, 0.5, 0.55];
        let targets = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
        let measured = |size: usize| {
            let mut counts = BinaryCounts::default();
            assert_eq!(counts.measures(), None);
            for (p, t) in predictions.chunks(size).zip(targets.chunks(size)) {
                counts.add(p, t);
            }
            counts.measures().unwrap()
        };
        assert_eq!(measured(1), measured(6));
        assert_eq!(measured(4).accuracy, 4.0 / 6.0);
        assert!((measured(4).auroc - 6.0 / 9.0).abs() < 1e-6);
    }
}
