//! Losses of predictions against targets, and their gradients.
//!
//! Leaves out: penalties on weights. Invariant: terms are f64 and added in order, so a loss depends
//! on nothing but its operands.

pub mod cuda;

use crate::error::{KernelError, Result, check_length};
use crate::ops::logarithm::{exp, ln, ln_one_plus, sigmoid};

/// What a loss measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// `(p - y)²`
    MeanSquaredError,
    /// `max(z, 0) - z y + ln(1 + exp(-|z|))`; the predictions are logits `z`.
    CrossEntropyOfLogits,
    /// `-(y ln(c + e) + (1 - y) ln(1 - c + e))` with `c` the prediction within `e..1 - e` and
    /// `e` = 1e-7, as Keras 2 has it; outside there is no gradient.
    CrossEntropyOfProbabilities,
    /// `-(y ln c + (1 - y) ln(1 - c))` with `c` the prediction within `e..1 - e`, as Keras 3 has it.
    CrossEntropyOfProbabilitiesKeras3,
    /// Kullback-Leibler divergence of splicing; the targets are pairs, see [`loss`].
    SplicingDivergence,
}

/// Probabilities of the cross-entropy are kept this far from 0 and 1, in f32.
const PROBABILITY_MARGIN: f32 = 1e-7;
/// Probabilities of the splicing divergence are kept this far from 0 and 1.
const SPLICING_MARGIN: f64 = 1e-5;

/// Sum of the terms of all entries over `denominator`, and its gradient.
///
/// - `predictions`: `[N]`, in any shape
/// - `targets`: `[N]`, NaN = not observed; for the splicing divergence `[N, 2]`: the difference `d` of the logits and
///   the logit `m` of the mean, for predictions of `d`
/// - `denominator`: observed entries of the batch, see [`observed`]; for the splicing divergence all
///   `B * Y`, as published
/// - `gradient`: as long as `predictions`, overwritten
///
/// ```text
/// splicing: p = sigmoid(d + m),  q = sigmoid(prediction + m),  both within 1e-5..1 - 1e-5
/// term = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) where d + m is not NaN, else 0
/// others:   term as LossKind has it where the target is not NaN, else 0
/// ```
///
/// # Errors
/// `Shape` if operands do not fit, or the denominator is zero.
///
/// Source: Keras `binary_crossentropy` (versions 2.12 and 3); Cheng et al. 2021 for splicing.
pub fn loss(
    kind: LossKind,
    predictions: &[f32],
    targets: &[f32],
    denominator: usize,
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    const OP: &str = "loss";
    let count = predictions.len();
    let per_entry = if kind == LossKind::SplicingDivergence { 2 } else { 1 };
    check_length(OP, "targets", targets.len(), count.saturating_mul(per_entry))?;
    check_length(OP, "gradient", gradient.as_ref().map_or(count, |g| g.len()), count)?;
    if denominator == 0 {
        let (expected, found) = ("at least one entry".to_owned(), "0".to_owned());
        return Err(KernelError::Shape { op: OP, operand: "denominator", expected, found });
    }
    let share = 1.0 / denominator as f64;
    let entry = |index: usize| -> (f64, f64) {
        let (prediction, target) = (predictions[index], &targets[index * per_entry..]);
        if per_entry == 1 && target[0].is_nan() {
            return (0.0, 0.0);
        }
        match kind {
            LossKind::MeanSquaredError => squared_error(prediction, target[0]),
            LossKind::CrossEntropyOfLogits => of_logits(prediction, target[0]),
            LossKind::CrossEntropyOfProbabilities => {
                of_probabilities(prediction, target[0], f64::from(PROBABILITY_MARGIN))
            }
            LossKind::CrossEntropyOfProbabilitiesKeras3 => {
                of_probabilities(prediction, target[0], 0.0)
            }
            LossKind::SplicingDivergence => splicing(prediction, target[0], target[1]),
        }
    };
    let mut sum = 0.0;
    match gradient {
        Some(gradient) => {
            for (index, gradient) in gradient.iter_mut().enumerate() {
                let (term, slope) = entry(index);
                sum += term;
                *gradient = (slope * share) as f32;
            }
        }
        None => (0..count).for_each(|index| sum += entry(index).0),
    }
    Ok(sum / denominator as f64)
}

/// Entries that a loss is the mean over: those whose target is not NaN, one at least; for the splicing
/// divergence all of them, as published.
pub fn observed(kind: LossKind, targets: &[f32]) -> usize {
    match kind {
        LossKind::SplicingDivergence => targets.len() / 2,
        _ => targets.iter().filter(|target| !target.is_nan()).count().max(1),
    }
}

/// Term and derivative by the prediction.
fn squared_error(prediction: f32, target: f32) -> (f64, f64) {
    let apart = f64::from(prediction) - f64::from(target);
    (apart * apart, 2.0 * apart)
}

/// The form that no logit overflows.
fn of_logits(logit: f32, target: f32) -> (f64, f64) {
    let (z, y) = (f64::from(logit), f64::from(target));
    let term = z.max(0.0) - z * y + ln_one_plus(exp(-z.abs()));
    (term, sigmoid(z) - y)
}

/// `inner` is what Keras 2 adds inside the logarithms.
fn of_probabilities(prediction: f32, target: f32, inner: f64) -> (f64, f64) {
    const LARGEST: f32 = 1.0 - PROBABILITY_MARGIN;
    let y = f64::from(target);
    let clipped = prediction.clamp(PROBABILITY_MARGIN, LARGEST);
    // Rounded to f32 as the bound is, or a saturated entry would cost more.
    let (c, rest) = (f64::from(clipped) + inner, f64::from(1.0 - clipped) + inner);
    let term = -(y * ln(c) + (1.0 - y) * ln(rest));
    let inside = clipped == prediction;
    (term, if inside { (1.0 - y) / rest - y / c } else { 0.0 })
}

/// Zero, and no gradient, where the target was not observed.
fn splicing(prediction: f32, difference: f32, mean: f32) -> (f64, f64) {
    let margin = |p: f64| p.clamp(SPLICING_MARGIN, 1.0 - SPLICING_MARGIN);
    let (difference, mean) = (f64::from(difference), f64::from(mean));
    let observed = sigmoid(difference + mean);
    if observed.is_nan() {
        return (0.0, 0.0);
    }
    let free = sigmoid(f64::from(prediction) + mean);
    let (p, q) = (margin(observed), margin(free));
    let term = p * ln(p / q) + (1.0 - p) * ln((1.0 - p) / (1.0 - q));
    (term, if free == q { q - p } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(kind: LossKind, prediction: f32, target: &[f32]) -> (f64, f32) {
        let mut gradient = [9.0];
        let value = loss(kind, &[prediction], target, 1, Some(&mut gradient)).unwrap();
        assert_eq!(loss(kind, &[prediction], target, 1, None), Ok(value));
        (value, gradient[0])
    }

    #[test]
    fn gradients_are_the_slopes_of_the_terms() {
        use LossKind as K;
        let targets: [(LossKind, &[f32]); 5] = [
            (K::MeanSquaredError, &[0.3]),
            (K::CrossEntropyOfLogits, &[0.8]),
            (K::CrossEntropyOfProbabilities, &[0.8]),
            (K::CrossEntropyOfProbabilitiesKeras3, &[0.2]),
            (K::SplicingDivergence, &[-0.5, 0.7]),
        ];
        for (kind, target) in targets {
            let slope = (both(kind, 0.46, target).0 - both(kind, 0.44, target).0) / 0.02;
            let found = f64::from(both(kind, 0.45, target).1);
            assert!((slope - found).abs() < 2e-3, "{kind:?}: {slope} {found}");
        }
    }

    #[test]
    fn a_saturated_probability_costs_what_f32_makes_of_its_bound() {
        let (value, slope) = both(LossKind::CrossEntropyOfProbabilities, 1.0, &[0.0]);
        assert!((value - 15.333).abs() < 1e-3 && slope == 0.0, "{value}");
        let (value, slope) = both(LossKind::CrossEntropyOfProbabilitiesKeras3, 2.0, &[0.0]);
        assert!((value - 15.942).abs() < 1e-3 && slope == 0.0, "{value}");
        assert_eq!(both(LossKind::CrossEntropyOfProbabilities, -0.3, &[0.0]).1, 0.0);
    }

    #[test]
    fn large_logits_stay_finite() {
        assert_eq!(both(LossKind::CrossEntropyOfLogits, 1000.0, &[0.0]), (1000.0, 1.0));
        assert_eq!(both(LossKind::CrossEntropyOfLogits, -1000.0, &[0.0]), (0.0, 0.0));
    }

    #[test]
    fn entries_not_observed_count_but_give_nothing() {
        let mut gradient = [9.0; 2];
        let targets = [f32::NAN, 0.4, 1.0, 0.4];
        let kind = LossKind::SplicingDivergence;
        let value = loss(kind, &[5.0, 0.0], &targets, 2, Some(&mut gradient)).unwrap();
        assert_eq!(gradient[0], 0.0);
        assert!((value - both(kind, 0.0, &[1.0, 0.4]).0 / 2.0).abs() < 1e-12);
        assert_eq!(both(kind, f32::NAN, &[f32::NAN, 0.4]), (0.0, 0.0));
        assert_eq!(both(kind, 100.0, &[1.0, 0.4]).1, 0.0);
    }

    #[test]
    fn missing_targets_are_in_no_sum_and_no_gradient() {
        let kinds = [
            LossKind::MeanSquaredError,
            LossKind::CrossEntropyOfLogits,
            LossKind::CrossEntropyOfProbabilities,
            LossKind::CrossEntropyOfProbabilitiesKeras3,
        ];
        let (predictions, targets) = ([0.3, 0.6, 0.8, f32::NAN], [1.0, f32::NAN, 0.0, f32::NAN]);
        for kind in kinds {
            let (mut masked, mut alone) = ([9.0; 4], [9.0; 2]);
            let count = observed(kind, &targets);
            assert_eq!((count, observed(kind, &[f32::NAN])), (2, 1));
            let value = loss(kind, &predictions, &targets, count, Some(&mut masked)).unwrap();
            let expected = loss(kind, &[0.3, 0.8], &[1.0, 0.0], 2, Some(&mut alone)).unwrap();
            assert_eq!(value, expected);
            assert_eq!(masked, [alone[0], 0.0, alone[1], 0.0]);
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let kind = LossKind::SplicingDivergence;
        assert!(loss(kind, &[0.0], &[0.0], 1, None).is_err());
        assert!(loss(kind, &[0.0], &[0.0; 2], 0, None).is_err());
        assert!(loss(kind, &[0.0], &[0.0; 2], 1, Some(&mut [0.0; 2])).is_err());
    }
}
