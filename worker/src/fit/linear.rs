//! Linear probes: one closed form or one optimiser over a matrix in memory.
//!
//! Leaves out: the probes themselves. Invariant: a probe is fitted on the splits it asks for; a target that it
//! cannot be fitted on takes no other along.

use super::evaluation::{Evaluated, Predicted};
use super::measured::choose;
use super::reading::Examples;
use crate::probe::FittedProbe;
use crate::probes::linear_probe;
use bytes::Bytes;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::example::Split;
use glmeval_common::unit::{Fit, FitUnit};
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Fits on the probe's splits and scores on the test split.
///
/// # Errors
/// `Invalid` when examples lack a split or no target suits the probe.
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
    let targets = measured.targets_of(&rows);
    let fitted = probe.fit(&examples.matrix(&rows)?, &targets);
    let fitted = fitted.map_err(|error| match error.kind() {
        ErrorKind::Invalid => Error::invalid(named(&error.chain(), target_names)),
        _ => error,
    })?;
    let splits: Vec<&str> = probe.splits().iter().map(|split| split.name()).collect();
    let within = format!("in the examples of {}", splits.join(" and "));
    let of_splits = |(target, reason): &(usize, String)| (*target, format!("{reason} {within}"));
    let unfitted: Vec<(usize, String)> = fitted.unfitted.iter().map(of_splits).collect();
    if let Some((target, reason)) = unfitted.first().filter(|_| unfitted.len() == targets.len()) {
        let all = match targets.len() {
            1 => String::new(),
            all => format!("; none of {all} targets can be fitted"),
        };
        let reason = named(&format!("target {target}: {reason}"), target_names);
        return Err(Error::invalid(format!("{reason}{all}")));
    }
    let predicted = Predicted {
        task: unit.task,
        fit,
        target_names,
        measured,
        rows: &chosen.test,
        predictions: fitted.predict(&examples.matrix(&chosen.test)?)?,
        failure: None,
        unfitted,
    };
    let mut evaluated = predicted.evaluate();
    evaluated.notes.splice(0..0, fitted.notes.iter().map(|note| named(note, target_names)));
    Ok((evaluated, encode_weights(&fitted)?))
}

/// What a probe, which knows targets by their number, says of one, with the name instead.
fn named(note: &str, target_names: &[String]) -> String {
    let numbered = note.strip_prefix("target ").and_then(|rest| rest.split_once(": "));
    let of_name = numbered.and_then(|(number, what)| {
        let name = target_names.get(number.parse::<usize>().ok()?)?;
        Some(format!("target {name}: {what}"))
    });
    of_name.unwrap_or_else(|| note.to_owned())
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
