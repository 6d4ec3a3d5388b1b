//! The loss of predictions, and penalties of weights.
//!
//! Leaves out: formulas of losses (kernels). Invariant: sums are taken in order, in f64.

use super::{Network, NetworkState, defect, plan::Plan};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::Loss;
use glmeval_kernels::ops::arithmetic::l2_penalty;
use glmeval_kernels::ops::loss::{self, LossKind};

/// The loss that `plan` ends in.
pub(super) fn kind(network: &Network, plan: &Plan) -> LossKind {
    match network.loss {
        Loss::MeanSquaredError => LossKind::MeanSquaredError,
        Loss::SplicingDivergence => LossKind::SplicingDivergence,
        Loss::BinaryCrossEntropy if !plan.ends_in_sigmoid() => {
            LossKind::CrossEntropyOfProbabilities
        }
        Loss::BinaryCrossEntropy | Loss::BinaryCrossEntropyOfLogits => {
            LossKind::CrossEntropyOfLogits
        }
    }
}

/// Loss of `logits`, and its gradient; the mean over examples and outputs whose target is measured.
///
/// # Errors
/// `Bug` if the numbers of values do not fit.
pub(super) fn of_predictions(
    kind: LossKind,
    logits: &[f32],
    targets: &[f32],
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    let expected = match kind {
        LossKind::SplicingDivergence => 2 * logits.len(),
        _ => logits.len(),
    };
    if targets.len() != expected || logits.is_empty() {
        let found = targets.len();
        return Err(Error::bug(format!("loss: expected {expected} targets, found {found}")));
    }
    let observed = loss::observed(kind, targets);
    loss::loss(kind, logits, targets, observed, gradient).map_err(defect)
}

/// Penalties of the weights that predictions depend on; with `gradients`, what they contribute is
/// added there.
///
/// ```text
/// sum over kernels of f32(c) sum(w^2)
/// ```
///
/// # Errors
/// `Bug` if the gradients are another network's.
pub(super) fn penalties(
    plan: &Plan,
    state: &NetworkState,
    mut gradients: Option<&mut [Vec<f32>]>,
) -> Result<f64> {
    let mut sum = 0.0;
    for (index, (shape, values)) in state.weights().enumerate() {
        if shape.l2 == 0.0 || !plan.weights.contains(&index) {
            continue;
        }
        let gradient = gradients.as_mut().and_then(|all| all.get_mut(index));
        let gradient = gradient.map(Vec::as_mut_slice);
        sum += l2_penalty(shape.l2 as f32, values, gradient).map_err(defect)?;
    }
    Ok(sum)
}
