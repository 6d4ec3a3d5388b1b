//! What an epoch found of one run: its loss and the measures of binary targets.
//!
//! Leaves out: what follows from it (run). Invariant: batches are added in order, in f64, so the sums of an epoch are the same
//! wherever its steps were computed.

use super::measures::BinaryCounts;
use glmeval_common::store::fits::BinaryMeasures;

/// Losses and measures of one run in one epoch.
#[derive(Clone, Debug, Default)]
pub struct EpochSums {
    loss: f64,
    /// Examples, or their share whose targets are measured.
    weight: f64,
    binary: Option<BinaryCounts>,
}

impl EpochSums {
    /// Nothing yet; with the measures of labels where targets are binary.
    pub fn new(is_binary: bool) -> Self {
        Self { binary: is_binary.then(BinaryCounts::default), ..Self::default() }
    }

    /// Adds a batch of `rows` examples with these targets, for each of which `outputs` values were predicted; `predictions` are
    /// only asked for where targets are binary.
    pub fn add(
        &mut self,
        loss: f64,
        (rows, outputs): (usize, usize),
        targets: &[f32],
        predictions: &[f32],
    ) {
        // A batch counts as far as its targets are measured; pairs are always counted whole.
        let is_plain = targets.len() == rows * outputs;
        let known = targets.iter().filter(|target| !is_plain || !target.is_nan()).count();
        let weight = rows as f64 * (known as f64 / targets.len().max(1) as f64);
        self.loss += loss * weight;
        self.weight += weight;
        if let Some(binary) = &mut self.binary {
            binary.add(predictions, targets);
        }
    }

    /// Whether all losses so far are numbers; nothing is added to others.
    pub fn is_sound(&self) -> bool {
        self.loss.is_finite()
    }

    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// Measures of binary targets.
    pub fn measures(&self) -> Option<BinaryMeasures> {
        self.binary.as_ref()?.measures()
    }
}
