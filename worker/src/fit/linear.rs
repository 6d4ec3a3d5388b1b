//! Linear probes: one closed form or one optimiser over a matrix in memory.
//!
//! Leaves out: the probes themselves. Invariant: a probe is fitted on the splits it asks for.

use super::evaluation::{Evaluated, Predicted};
use super::measured::choose;
use super::reading::Examples;
use crate::probe::FittedProbe;
use crate::probes::linear_probe;
use bytes::Bytes;
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Split;
use glmeval_common::unit::{Fit, FitUnit};
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Fits on the probe's splits and scores on the test split.
///
/// # Errors
/// `Invalid` when examples lack a split or targets do not suit the probe.
pub(super) fn evaluate(
    unit: &FitUnit,
    fit: &Fit,
    target_names: &[String],
    examples: &Examples,
) -> Result<(Evaluated, Bytes)> {
    let probe =
        linear_probe(&fit.probe).ok_or_else(|| Error::bug("a network is trained by steps"))?;
    let measured = &examples.measured;
    let chosen = choose(&fit.identity, unit.task, measured)?;
    let mut rows = chosen.train;
    if probe.splits().contains(&Split::Valid) {
        rows.extend(chosen.valid);
        rows.sort_unstable();
    }
    let fitted = probe.fit(&examples.matrix(&rows)?, &measured.targets_of(&rows))?;
    let predicted = Predicted {
        task: unit.task,
        fit,
        target_names,
        measured,
        rows: &chosen.test,
        predictions: fitted.predict(&examples.matrix(&chosen.test)?)?,
        failure: None,
    };
    let mut evaluated = predicted.evaluate();
    evaluated.notes.splice(0..0, fitted.notes.clone());
    Ok((evaluated, encode_weights(&fitted)?))
}

/// The fitted probe as safetensors of f64.
fn encode_weights(fitted: &FittedProbe) -> Result<Bytes> {
    let failed = |e| Error::bug("encode probe weights").with_source(e);
    let arrays = fitted.arrays();
    let buffers: Vec<Vec<u8>> = arrays
        .iter()
        .map(|array| array.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let mut views = Vec::with_capacity(arrays.len());
    for (array, buffer) in arrays.iter().zip(&buffers) {
        let view = TensorView::new(Dtype::F64, array.shape.clone(), buffer).map_err(failed)?;
        views.push((array.name, view));
    }
    Ok(Bytes::from(serialize(views, None).map_err(failed)?))
}
