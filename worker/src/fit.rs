//! Embeddings or sequence features to fitted probes and their scores.
//!
//! Leaves out: the probes, their training and the statistics themselves. Invariant: features are read
//! once for all fits of a unit; what a fit becomes does not depend on the others.

use crate::attempt::{UnitContext, is_sound, lost_input};
use crate::device::{Device, SharedDevice};
use crate::training::cache::default_budget;
use bytes::Bytes;
use evaluation::Evaluated;
use glmeval_common::error::{Error, Result};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::score::FitScores;
use glmeval_common::store::examples::read_manifest;
use glmeval_common::store::fits::{
    EpochRecord, FitObjects, check_fit, commit_fit, delete_checkpoints, find_scores,
};
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};
use glmeval_kernels::cuda::Gpu;

mod effects;
mod evaluation;
mod linear;
mod measured;
mod memory;
mod networks;
mod reading;
mod refused;
#[cfg(test)]
mod tests;
mod watching;
mod work;

use refused::Refused;

/// Fits, scores and commits each probe of a unit that is not committed yet; networks on `device` if that
/// is what was planned. A fit that cannot be made keeps no other from being committed.
///
/// # Errors
/// `Invalid` at the end, with the reason of each fit whose examples lack splits or targets or do not suit the
/// probe; at once when nothing can be read, or when the unit was planned for another kind of device; `Unavailable` once told to stop; `Corrupt`; store errors.
pub(crate) async fn fit(
    context: &UnitContext<'_>,
    unit: &FitUnit,
    device: &SharedDevice,
) -> Result<bool> {
    fit_within(context, unit, (device, default_budget())).await
}

/// As [`fit`], with `budget_bytes` of features in memory.
async fn fit_within(
    context: &UnitContext<'_>,
    unit: &FitUnit,
    (device, budget_bytes): (&SharedDevice, u64),
) -> Result<bool> {
    let gpu = training_device(unit, device.get())?;
    let store = context.store;
    let mut open = Vec::new();
    for fit in &unit.fits {
        let standing = find_scores(store, fit.id()).await;
        if !is_sound(standing, async |scores| check_fit(store, &scores).await).await? {
            open.push(fit);
        }
    }
    if open.is_empty() {
        return Ok(false);
    }
    let manifest = read_manifest(store, &unit.dataset).await.map_err(lost_input)?;
    let (open, compared): (Vec<&Fit>, Vec<&Fit>) =
        open.into_iter().partition(|fit| fit.probe.is_fitted());
    let mut refused = Refused::new(unit);
    let read_from = (&manifest, budget_bytes);
    let mut is_won =
        effects::evaluate_all(context, unit, &compared, read_from, &mut refused).await?;
    if open.is_empty() {
        return refused.end(is_won);
    }
    let examples =
        reading::read(store, (&unit.features, unit.validated_on), &manifest, budget_bytes).await?;
    let names = &manifest.schema.targets;
    let is_network = |fit: &&Fit| matches!(fit.probe, ProbeSpec::Network { .. });
    let (networks, linear): (Vec<&Fit>, Vec<&Fit>) = open.into_iter().partition(is_network);
    for fit in linear {
        context.check_stop()?;
        let made = tokio::task::block_in_place(|| linear::evaluate(unit, fit, names, &examples));
        let Some((evaluated, weights)) = refused.sort_out(fit, made)? else { continue };
        is_won |= commit(context, fit, evaluated, (Some(weights), None)).await?;
    }
    let _turn = match gpu.filter(|_| !networks.is_empty()) {
        Some(_) => device.alone(context).await?,
        None => None,
    };
    let read = (names.as_slice(), &examples);
    is_won |= networks::fit_all((context, gpu), unit, &networks, read, &mut refused).await?;
    refused.end(is_won)
}

/// What the networks of a unit are trained on; `None` for the CPU.
///
/// # Errors
/// `Invalid` for a unit that was planned for another kind of device.
fn training_device<'a>(unit: &FitUnit, device: &'a Device) -> Result<Option<&'a Gpu>> {
    let Some(planned) = &unit.training_class else { return Ok(None) };
    let kind = device.kind();
    let other = unit.fits.iter().find_map(|fit| match &fit.probe {
        ProbeSpec::Network { training, .. } => {
            let class = crate::numeric_class_on(&kind, training.precision);
            (class != *planned).then_some(class)
        }
        _ => None,
    });
    match (other, device) {
        (None, Device::Cuda(gpu)) => Ok(Some(gpu)),
        (other, _) => {
            let found = other.unwrap_or(kind);
            let expected = format!("a worker of numeric class {planned}");
            let defect = Error::invalid(format!("networks: expected {expected}, found {found}"));
            Err(defect.of_place())
        }
    }
}

/// Commits one fit; whether this attempt's is the one that stands.
async fn commit(
    context: &UnitContext<'_>,
    fit: &Fit,
    evaluated: Evaluated,
    (weights, history): (Option<Bytes>, Option<&[EpochRecord]>),
) -> Result<bool> {
    let scores = FitScores {
        version: FORMAT_VERSION,
        identity: fit.identity.clone(),
        statistics: evaluated.statistics,
        objects: Vec::new(),
        seconds: context.seconds(),
        worker: context.worker.to_string(),
        notes: evaluated.notes,
    };
    let objects = FitObjects { weights, history, predictions: &evaluated.predictions };
    let outcome = commit_fit(context.store, context.attempt, scores, objects).await?;
    if history.is_some()
        && let Err(error) = delete_checkpoints(context.store, fit.id()).await
    {
        // The sweep takes what is left.
        tracing::debug!(error = error.chain(), "checkpoints stay behind");
    }
    Ok(outcome.is_won())
}
