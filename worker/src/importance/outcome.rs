//! Predictions over backgrounds, their differences, and tests of them.
//!
//! Leaves out: which network predicts. Invariant: backgrounds are paired: prediction i of an
//! experiment and of the backgrounds belong to the same background.

use super::experiment::Experiment;
use crate::statistics::{Alternative, MannWhitney, Method, mann_whitney_by};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};

/// Pairs at most of which the exact p is found.
const EXACT_PAIRS_MAX: usize = 40_000;

/// Predictions of sequences of one length: logits or the scalar output of a network.
pub type Predict<'p> = dyn FnMut(&[DnaSequence]) -> Result<Vec<f64>> + 'p;

/// Backgrounds with what is predicted of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    backgrounds: Vec<DnaSequence>,
    /// f(background), one for each.
    pub predictions: Vec<f64>,
}

/// What the motifs of an experiment add.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// f(background with the motifs), one for each background.
    pub predictions: Vec<f64>,
    /// Mean of the predictions.
    pub mean: f64,
    /// Median of the predictions.
    pub median: f64,
    /// Mean of f(with the motifs) - f(without them).
    pub importance: f64,
    /// Standard deviation of those differences, with n - 1; none for a single background.
    pub importance_sd: Option<f64>,
}

/// Two samples of predictions under the Mann-Whitney test, two-sided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// U of the first sample, and p by the normal approximation with continuity correction.
    pub asymptotic: MannWhitney,
    /// The exact p: none with ties, or beyond 40,000 pairs, where both agree and this one takes long.
    pub exact: Option<MannWhitney>,
}

impl Analysis {
    /// Predicts `backgrounds`.
    ///
    /// # Errors
    /// `Invalid` without backgrounds; those of `predict`.
    pub fn new(backgrounds: Vec<DnaSequence>, predict: &mut Predict<'_>) -> Result<Self> {
        if backgrounds.is_empty() {
            return Err(Error::invalid("importance: expected at least one background, found none"));
        }
        let predictions = predicted(&backgrounds, predict)?;
        Ok(Self { backgrounds, predictions })
    }

    /// The backgrounds.
    pub fn backgrounds(&self) -> &[DnaSequence] {
        &self.backgrounds
    }

    /// Predicts every background with the motifs of `experiment`.
    ///
    /// # Errors
    /// `Invalid` for a motif that has no room; those of `predict`.
    pub fn run(&self, experiment: &Experiment, predict: &mut Predict<'_>) -> Result<Importance> {
        let embedded = self.backgrounds.iter().map(|background| experiment.embed(background));
        self.of_sequences(&embedded.collect::<Result<Vec<_>>>()?, predict)
    }

    /// As [`Analysis::run`], of sequences that were made of the backgrounds in another way.
    ///
    /// # Errors
    /// Those of `predict`; `Bug` for another number of sequences.
    pub fn of_sequences(
        &self,
        sequences: &[DnaSequence],
        predict: &mut Predict<'_>,
    ) -> Result<Importance> {
        if sequences.len() != self.backgrounds.len() {
            return Err(Error::bug("importance: one sequence for each background"));
        }
        let predictions = predicted(sequences, predict)?;
        let pairs = predictions.iter().zip(&self.predictions);
        let differences: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
        let importance = mean(&differences);
        let squares = differences.iter().map(|value| (value - importance).powi(2)).sum::<f64>();
        let spread = || (squares / (differences.len() - 1) as f64).sqrt();
        Ok(Importance {
            mean: mean(&predictions),
            median: median(&predictions),
            importance,
            importance_sd: (differences.len() > 1).then(spread),
            predictions,
        })
    }
}

/// What two motifs do together beyond what they do alone.
///
/// ```text
/// mean over backgrounds of f(both) - f(first) - f(second) + f(neither)
/// ```
pub fn interaction(
    analysis: &Analysis,
    both: &Importance,
    first: &Importance,
    second: &Importance,
) -> f64 {
    both.mean - first.mean - second.mean + mean(&analysis.predictions)
}

/// Tests whether two samples of predictions come from one distribution; `None` for empty samples or NaN.
pub fn compare(first: &[f64], second: &[f64]) -> Option<Comparison> {
    let is_small = first.len().saturating_mul(second.len()) <= EXACT_PAIRS_MAX;
    let by = |method| mann_whitney_by(first, second, Alternative::TwoSided, method);
    let exact = || is_small.then(|| by(Method::Exact)).flatten();
    Some(Comparison { asymptotic: by(Method::Asymptotic)?, exact: exact() })
}

fn predicted(sequences: &[DnaSequence], predict: &mut Predict<'_>) -> Result<Vec<f64>> {
    let found = predict(sequences)?;
    if found.len() != sequences.len() {
        return Err(Error::bug("importance: one prediction for each sequence"));
    }
    Ok(found)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The middle value, or the mean of both.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let lower = sorted.len().saturating_sub(1) / 2;
    match (sorted.get(lower), sorted.get(upper)) {
        (Some(lower), Some(upper)) => (lower + upper) / 2.0,
        _ => f64::NAN,
    }
}
