//! Fits of probes and the report over them.
//!
//! Leaves out: which probe reads what (probes), how one is fitted (worker). Invariant: a fit's id
//! covers everything that decides its score and nothing else, so equal fits of other jobs are found;
//! names are no part of it. Fits of one unit read the same features.

use super::known::Known;
use super::probes::{Fitting, ProbeOn};
use super::reads::{Features, dataset_features};
use super::sets::PlannedSet;
use super::{Planner, TrainingClass, cost, quirks};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::FitId;
use glmeval_common::job::{JobProbe, ProbeChoice};
use glmeval_common::model::Padding;
use glmeval_common::plan::{EntrySpec, PlanEntry};
use glmeval_common::representation::{FeatureSource, Pooling};
use glmeval_common::score::FitIdentity;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};

#[cfg(test)]
mod tests;

/// Fits that share one reading of their features, which then costs each of them an eighth; more would
/// save little and keep a cluster waiting for one worker.
const FITS_PER_UNIT_MAX: usize = 8;
/// FLOPs of a unit of several fits: five minutes of the slowest device, so that losing a worker costs
/// little. A fit that costs more is a unit of its own.
const UNIT_FLOPS_MAX: f64 = 300.0 * cost::DEVICE_FLOPS_PER_SECOND;

/// The same of fits on a device, which is that much faster than any CPU: a sixth of the f32 rate of the
/// slowest one, as data sheets have it. Fits of a unit also share what the device holds of the examples.
const DEVICE_UNIT_FLOPS_MAX: f64 = 300.0 * 2e12;

/// A fit with what it costs.
struct Costed {
    fit: Fit,
    flops: f64,
    bytes: u64,
    validated_on: Option<Pooling>,
    training_class: Option<String>,
}

/// Adds every fit of the job.
pub(super) fn add_fits(planner: &mut Planner<'_>, sets: &[PlannedSet]) -> Result<()> {
    let job = planner.job;
    if let Some(probe) = job.probes.iter().find(|probe| probe.dataset_indices.is_empty()) {
        let expected = "at least one data set with targets that the probe suits";
        return Err(planner.wrong(&format!("{}.datasets", probe.key), expected, "none").into());
    }
    let mut known = Known::of("fits");
    for dataset in 0..job.datasets.len() {
        let is_fitted = |probe: &&JobProbe| !matches!(probe.choice, ProbeChoice::Effects(_));
        let probes = job.probes.iter().filter(is_fitted);
        let probes: Vec<_> =
            probes.filter(|probe| probe.dataset_indices.contains(&dataset)).collect();
        if probes.is_empty() {
            continue;
        }
        let all = dataset_features(planner, sets, dataset)?;
        let mut fits_of: Vec<Vec<Costed>> = all.iter().map(|_| Vec::new()).collect();
        for probe in probes {
            if planner.datasets[dataset].schema.targets.is_empty() {
                let key = format!("{}.datasets", probe.key);
                let found = format!("{:?} without targets", job.datasets[dataset].name);
                return Err(planner.wrong(&key, "data sets with targets", found).into());
            }
            let fittings = ProbeOn { planner, probe, dataset }.fittings(&all)?;
            for ((features, fittings), fits) in all.iter().zip(&fittings).zip(&mut fits_of) {
                for fitting in fittings {
                    let at = (probe.key.as_str(), dataset);
                    add_repeats(planner, at, (features, fitting), &mut known, fits)?;
                }
            }
        }
        for (features, fits) in all.iter().zip(fits_of) {
            push_units(planner, dataset, features, fits)?;
        }
    }
    Ok(())
}

/// Adds the report over the units from `first` on, if there are some.
pub(super) fn add_report(planner: &mut Planner<'_>, first: u32) -> Result<()> {
    let past = planner.entries.unit_count();
    if first < past {
        planner.push(PlanEntry {
            spec: EntrySpec::Report,
            prerequisites: vec![(first, past)],
            flops: 0.0,
            bytes: u64::from(past - first).saturating_mul(1_024),
        })?;
    }
    Ok(())
}

/// Adds the fits of every fraction and repeat that are not `known` yet.
fn add_repeats(
    planner: &Planner<'_>,
    (key, dataset): (&str, usize),
    (features, fitting): (&Features<'_>, &Fitting),
    known: &mut Known,
    fits: &mut Vec<Costed>,
) -> Result<()> {
    let (job, facts) = (planner.job, &planner.datasets[dataset]);
    let pooling = match &features.source {
        FeatureSource::Embedding { pooling, .. } => Some(*pooling),
        FeatureSource::Sequence(_) => None,
    };
    let validated_on = features.model.zip(pooling).and_then(|(model, pooling)| {
        quirks::validated_on(planner, model, dataset, (pooling, &fitting.probe))
    });
    for &fraction in &fitting.fractions {
        let (flops, bytes) = match &fitting.network {
            Some((network, _)) => cost::training_cost(
                facts,
                network,
                &fitting.probe,
                (job.datasets[dataset].task, fraction),
            ),
            None => cost::linear_cost(facts, features.width(), &fitting.probe),
        };
        for repeat in 0..fitting.repeats {
            planner.room_for(fits.len() as u64 / FITS_PER_UNIT_MAX as u64)?;
            let mut identity = FitIdentity {
                fit: FitId::new(""),
                task: job.datasets[dataset].task.name().to_owned(),
                dataset: job.datasets[dataset].name.clone(),
                dataset_id: facts.id.clone(),
                model: features.model_name.map(str::to_owned),
                model_id: features.set.map(|set| set.model.id.clone()),
                layer: features.layer,
                representation: features.name.clone(),
                probe: fitting.label.clone(),
                factor: fitting.factor,
                fraction,
                repeat,
                seed: job.seed,
                protocol: job.protocol.name().to_owned(),
                trained_on: None,
            };
            let class = fitting.network.as_ref().map(|(_, class)| class);
            identity.fit = fit_id(&identity, features, (&fitting.probe, class), validated_on)?;
            if known.is_new(planner, key, &identity)? {
                let fit = Fit { identity, probe: fitting.probe.clone() };
                let training_class = class.and_then(TrainingClass::required);
                fits.push(Costed { fit, flops, bytes, validated_on, training_class });
            }
        }
    }
    Ok(())
}

/// Adds units of neighbouring fits within the bounds of one unit.
fn push_units(
    planner: &mut Planner<'_>,
    dataset: usize,
    features: &Features<'_>,
    mut fits: Vec<Costed>,
) -> Result<()> {
    // Neighbours share a unit only if they share a worker.
    fits.sort_by(|one, other| one.training_class.cmp(&other.training_class));
    let prepared = planner.prepared_range(dataset);
    let prerequisites: Vec<_> = prepared.into_iter().chain(features.shards).collect();
    let mut fits = fits.into_iter().peekable();
    while let Some(first) = fits.next() {
        let (mut flops, mut bytes) = (first.flops, first.bytes);
        let mut together = vec![first.fit];
        let (validated_on, training_class) = (first.validated_on, first.training_class);
        let flops_max =
            if training_class.is_some() { DEVICE_UNIT_FLOPS_MAX } else { UNIT_FLOPS_MAX };
        let has_room = |count: usize, next: &Costed, flops: f64| {
            count < FITS_PER_UNIT_MAX
                && flops + next.flops <= flops_max
                && (next.validated_on, &next.training_class) == (validated_on, &training_class)
        };
        while let Some(next) = fits.next_if(|next| has_room(together.len(), next, flops)) {
            flops += next.flops;
            bytes = bytes.saturating_add(next.bytes);
            together.push(next.fit);
        }
        let unit = FitUnit {
            dataset: planner.datasets[dataset].id.clone(),
            task: planner.job.datasets[dataset].task,
            features: features.source.clone(),
            fits: together,
            validated_on,
            training_class,
        };
        let spec = EntrySpec::Fit(Box::new(unit));
        planner.push(PlanEntry { spec, prerequisites: prerequisites.clone(), flops, bytes })?;
    }
    Ok(())
}

/// The set's own id stays out: which other layers it holds does not change this fit. Of a network the
/// kernels it is trained with count, as they do for an embedding.
pub(super) fn fit_id(
    identity: &FitIdentity,
    features: &Features<'_>,
    (probe, class): (&ProbeSpec, Option<&TrainingClass>),
    validated_on: Option<Pooling>,
) -> Result<FitId> {
    let bytes = serde_json::to_vec(probe)
        .map_err(|e| Error::bug("a probe cannot be serialised").with_source(e))?;
    let mut digest = ContentDigest::new("fit/2")
        .field("dataset", identity.dataset_id.as_str())
        .field("task", &identity.task)
        .field("representation", &identity.representation)
        .field("probe", bytes)
        .field("factor", identity.factor.to_string())
        .field("fraction", identity.fraction.to_string())
        .field("repeat", identity.repeat.to_string())
        .field("seed", identity.seed.to_string())
        .field("protocol", &identity.protocol);
    if let Some(class) = class {
        digest = digest.field("training_class", class.name());
    }
    let effects = features.set.and_then(|set| set.effects.as_ref());
    if let Some(tokens) = effects.and_then(|effects| effects.pad_to) {
        digest = digest.field("pad_to", tokens.to_string());
        if features.set.is_some_and(|set| set.model.options.padding == Padding::Masked) {
            digest = digest.field("padding", "masked");
        }
    }
    if let Some(quirk) = features.set.and_then(|set| set.model.options.quirk) {
        digest = digest.field("quirk", quirk.name());
    }
    if let Some(pooling) = validated_on {
        digest = digest.field("validated_on", pooling.name());
    }
    if let (Some(set), Some(layer)) = (features.set, features.layer) {
        digest = digest
            .field("model", set.model.id.as_str())
            .field("layer", layer.to_string())
            .field("dtype", set.dtype.name())
            .field("numeric_class", &set.numeric_class);
    }
    Ok(FitId::new(digest.finish()))
}
