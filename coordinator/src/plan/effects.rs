//! Effects of variants: zero-shot scores compared with measured effects, and fits of other data sets applied
//! to variants.
//!
//! Leaves out: which scores a set holds (scores), computing any of it (worker). Invariant: nothing here is trained; an applied fit waits for
//! the unit that makes it.

use super::fits::fit_id;
use super::known::Known;
use super::reads::{Features, extents};
use super::sets::PlannedSet;
use super::{Planner, UnitRange};
use glmeval_common::effect::{Score, published};
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::FitId;
use glmeval_common::job::published::ProbeInput;
use glmeval_common::job::{EffectsChoice, JobProbe, ProbeChoice};
use glmeval_common::network::Extent;
use glmeval_common::plan::{DatasetFacts, EntrySpec, PlanEntry};
use glmeval_common::representation::{FeatureSource, Pooling};
use glmeval_common::score::FitIdentity;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};

#[cfg(test)]
mod tests;

/// FLOPs of one comparison of a variant: a thousand resamples of some sums.
const FLOPS_PER_COMPARISON: f64 = 2e4;
/// Bytes that a comparison of a variant leaves.
const BYTES_PER_COMPARISON: u64 = 16;
/// What reports call the representation.
const ZERO_SHOT: &str = "zero-shot";

/// Compares every set of scores with the effects of its data set, if there are some.
pub(super) fn add_zero_shot(planner: &mut Planner<'_>, sets: &[PlannedSet]) -> Result<()> {
    for set in sets {
        let Some(effects) = &set.spec.effects else { continue };
        let facts = &planner.datasets[set.dataset];
        if facts.schema.targets.is_empty() {
            continue;
        }
        let layer = set.spec.layers.last().copied();
        let pooling = Pooling::Effect;
        let source = layer.unwrap_or(0);
        let source = FeatureSource::Embedding { set: set.spec.id.clone(), layer: source, pooling };
        let features = Features {
            source,
            name: format!("{ZERO_SHOT}{}", set.spec.options.label_of(pooling)),
            word: ZERO_SHOT,
            input: ProbeInput::Pooled,
            set: Some(&set.spec),
            model: None,
            model_name: Some(&set.spec.model.name),
            layer,
            extents: Vec::new(),
            uneven: None,
            shards: Some(set.shards),
        };
        let is_absolute = published(&planner.models[set.model].architecture).masked_is_absolute;
        let fits = effects.scores.iter().map(|&score| {
            let absolute = score == Score::MaskedLlr && is_absolute;
            let probe = ProbeSpec::ZeroShot { score, absolute };
            let mut identity = identity(planner, set.dataset, &features, score.name());
            identity.fit = fit_id(&identity, &features, (&probe, None), None)?;
            Ok(Fit { identity, probe })
        });
        let fits = fits.collect::<Result<Vec<_>>>()?;
        let prepared = planner.prepared_range(set.dataset);
        let before = prepared.into_iter().chain([set.shards]).collect();
        let flops = comparisons(facts, fits.len()) * FLOPS_PER_COMPARISON;
        push(planner, set.dataset, (features.source, fits), (before, flops))?;
    }
    Ok(())
}

fn identity(
    planner: &Planner<'_>,
    dataset: usize,
    features: &Features<'_>,
    probe: &str,
) -> FitIdentity {
    let job = planner.job;
    FitIdentity {
        fit: FitId::new(""),
        task: job.datasets[dataset].task.name().to_owned(),
        dataset: job.datasets[dataset].name.clone(),
        dataset_id: planner.datasets[dataset].id.clone(),
        model: features.model_name.map(str::to_owned),
        model_id: features.set.map(|set| set.model.id.clone()),
        layer: features.layer,
        representation: features.name.clone(),
        probe: probe.to_owned(),
        factor: 1.0,
        fraction: 1.0,
        repeat: 0,
        seed: job.seed,
        protocol: job.protocol.name().to_owned(),
        trained_on: None,
    }
}

fn comparisons(facts: &DatasetFacts, fits: usize) -> f64 {
    facts.rows as f64 * fits as f64
}

/// Adds a unit of comparisons.
fn push(
    planner: &mut Planner<'_>,
    dataset: usize,
    (features, fits): (FeatureSource, Vec<Fit>),
    (prerequisites, flops): (Vec<UnitRange>, f64),
) -> Result<()> {
    let facts = &planner.datasets[dataset];
    let targets = facts.schema.targets.len() as u64;
    let bytes = facts.rows.saturating_mul(fits.len() as u64).saturating_mul(targets);
    let bytes = bytes.saturating_mul(BYTES_PER_COMPARISON);
    let task = planner.job.datasets[dataset].task;
    let dataset = facts.id.clone();
    let (validated_on, training_class) = (None, None);
    let unit = FitUnit { dataset, task, features, fits, validated_on, training_class };
    let spec = EntrySpec::Fit(Box::new(unit));
    planner.push(PlanEntry { spec, prerequisites, flops, bytes })?;
    Ok(())
}

/// Fits of one unit that are applied to one data set of variants.
struct Applied {
    dataset: usize,
    /// What they read of the variants.
    features: FeatureSource,
    shards: Option<UnitRange>,
    /// Number of the unit that makes them.
    unit: u32,
    fits: Vec<Fit>,
    flops: f64,
}

/// Applies fits of the units from `first` on to variants, as the job's probes ask for.
///
/// # Errors
/// `Invalid` naming the probe's key where no fit suits it, or one reads other windows than there are.
pub(super) fn add_applied(
    planner: &mut Planner<'_>,
    sets: &[PlannedSet],
    first: u32,
) -> Result<()> {
    let mut known = Known::of("fits");
    for probe in &planner.job.probes {
        let ProbeChoice::Effects(choice) = &probe.choice else { continue };
        for &dataset in &probe.dataset_indices {
            let table = Table { planner: &*planner, sets, probe, choice, dataset };
            table.check_targets()?;
            let planned = planner.entries.iter().filter(|(unit, _)| *unit >= first);
            let mut all = Vec::new();
            for (unit, entry) in planned {
                if let EntrySpec::Fit(made) = &entry.spec {
                    all.extend(table.of_unit(unit, made)?);
                }
            }
            if all.is_empty() {
                return Err(table.nothing_suits());
            }
            for applied in all {
                let Applied { dataset, features, shards, unit, fits: all, flops } = applied;
                let mut fits = Vec::new();
                for fit in all {
                    if known.is_new(planner, &probe.key, &fit.identity)? {
                        fits.push(fit);
                    }
                }
                if fits.is_empty() {
                    continue;
                }
                let prepared = planner.prepared_range(dataset);
                let made = [(unit, unit + 1)];
                let before = prepared.into_iter().chain(shards).chain(made).collect();
                push(planner, dataset, (features, fits), (before, flops))?;
            }
        }
    }
    Ok(())
}

/// A probe of kind `variant-effect` with one of its data sets.
struct Table<'a> {
    planner: &'a Planner<'a>,
    sets: &'a [PlannedSet],
    probe: &'a JobProbe,
    choice: &'a EffectsChoice,
    dataset: usize,
}

impl Table<'_> {
    fn wrong(&self, key: &str, expected: String, found: impl std::fmt::Display) -> Error {
        self.planner.wrong(&format!("{}.{key}", self.probe.key), expected, found).into()
    }

    fn name(&self, dataset: usize) -> &str {
        self.planner.job.datasets.get(dataset).map_or("", |dataset| &dataset.name)
    }

    fn check_targets(&self) -> Result<()> {
        let known = &self.planner.datasets[self.dataset].schema.targets;
        let name = self.name(self.dataset);
        if known.is_empty() {
            let expected = "data sets of variants with effects".to_owned();
            return Err(self.wrong("datasets", expected, format!("{name:?} without any")));
        }
        let mut asked = self.choice.targets.iter().flatten();
        match asked.find(|target| !known.contains(target)) {
            None => Ok(()),
            Some(target) => {
                let expected = format!("elements of {name}: {}", known.join(", "));
                Err(self.wrong("targets", expected, format!("{target:?}")))
            }
        }
    }

    fn nothing_suits(&self) -> Error {
        let probes = match &self.choice.probes {
            Some(names) => names.join(" or "),
            None => "some probe".to_owned(),
        };
        let (base, variants) = (self.name(self.choice.trained_on), self.name(self.dataset));
        let expected = format!(
            "fits of {probes} on {base} whose representation is made of {variants} as well"
        );
        self.wrong("trained_on", expected, "none")
    }

    /// What of the fits of unit `unit` is applied.
    fn of_unit(&self, unit: u32, made: &FitUnit) -> Result<Option<Applied>> {
        let base = &self.planner.datasets[self.choice.trained_on];
        let fits: Vec<&Fit> = made.fits.iter().filter(|fit| self.suits(fit)).collect();
        if made.dataset != base.id || fits.is_empty() {
            return Ok(None);
        }
        let (features, set) = match &made.features {
            FeatureSource::Sequence(feature) => (FeatureSource::Sequence(*feature), None),
            FeatureSource::Embedding { set, layer, pooling } => {
                let Some(found) = self.set_like(set, *layer, *pooling) else { return Ok(None) };
                let (set, layer, pooling) = (found.spec.id.clone(), *layer, *pooling);
                (FeatureSource::Embedding { set, layer, pooling }, Some(found))
            }
        };
        let extent = self.extent(made, &features, set)?;
        let rows = self.planner.datasets[self.dataset].rows as f64;
        let products = |fit: &&Fit| match &fit.probe {
            ProbeSpec::Network { architecture, .. } => {
                let network = architecture.network(&[extent], 1);
                let network = network.and_then(|network| network.resolve(&[extent]));
                network.map_or(0.0, |network| network.products() as f64)
            }
            _ => extent.values() as f64,
        };
        // Two windows, two operations for each product.
        let flops = fits.iter().map(products).sum::<f64>() * 4.0 * rows
            + rows * fits.len() as f64 * FLOPS_PER_COMPARISON;
        let fits = fits.into_iter().map(|fit| self.applied(fit, &features, set));
        let fits = fits.collect::<Result<_>>()?;
        let shards = set.map(|set| set.shards);
        Ok(Some(Applied { dataset: self.dataset, features, shards, unit, fits, flops }))
    }

    /// Whether a fit is one that the table names.
    fn suits(&self, fit: &Fit) -> bool {
        let FitIdentity { probe, factor, fraction, representation, .. } = &fit.identity;
        // A label goes on with what differs from the study: `resnet, 5 epochs`.
        let plain = probe.split(", ").next().unwrap_or(probe);
        let known = [probe.as_str(), plain, fit.probe.name()];
        let is_named =
            |names: &Vec<String>| names.iter().any(|name| known.contains(&name.as_str()));
        let reads = |names: &Vec<String>| names.iter().any(|name| representation.starts_with(name));
        fit.probe.is_fitted()
            && *fraction == 1.0
            && self.probe.factors.contains(factor)
            && self.choice.probes.as_ref().is_none_or(is_named)
            && self.probe.representations.as_ref().is_none_or(reads)
    }

    /// The set of the variants that was made as the set `id` of the other data set is.
    fn set_like(
        &self,
        id: &glmeval_common::ids::SetId,
        layer: u32,
        pooling: Pooling,
    ) -> Option<&PlannedSet> {
        let base = &self.sets.iter().find(|set| set.spec.id == *id)?.spec;
        let variants = &self.planner.datasets[self.dataset].id;
        self.sets.iter().find(|set| {
            let spec = &set.spec;
            spec.dataset == *variants
                && spec.model.id == base.model.id
                && (spec.dtype, spec.options) == (base.dtype, base.options)
                && spec.numeric_class == base.numeric_class
                && spec.effects.is_none()
                && spec.layers.contains(&layer)
                && spec.poolings.contains(&pooling)
        })
    }

    /// What each window gives, after a check that the fits were trained on such.
    fn extent(
        &self,
        made: &FitUnit,
        features: &FeatureSource,
        set: Option<&PlannedSet>,
    ) -> Result<Extent> {
        let planner = self.planner;
        let read = set.map(|set| (&planner.models[set.model], set.spec.options));
        let base = &planner.datasets[self.choice.trained_on];
        let variants = &planner.datasets[self.dataset];
        let [trained, windows] =
            [extents(&made.features, base, read), extents(features, variants, read)];
        match (trained.as_slice(), windows.first()) {
            ([trained], Some(window)) if trained == window && base.schema.targets.len() == 1 => {
                Ok(*trained)
            }
            ([trained], Some(window)) if base.schema.targets.len() == 1 => {
                let name = self.name(self.dataset);
                let expected = format!(
                    "windows as in {}, whose probes read {trained}",
                    self.name(self.choice.trained_on)
                );
                Err(self.wrong("datasets", expected, format!("{name:?}, which gives {window}")))
            }
            _ => {
                let expected = "a data set of one sequence and one target".to_owned();
                let found = format!("{:?}", self.name(self.choice.trained_on));
                Err(self.wrong("trained_on", expected, found))
            }
        }
    }

    fn applied(&self, fit: &Fit, source: &FeatureSource, set: Option<&PlannedSet>) -> Result<Fit> {
        let features = Features {
            source: source.clone(),
            name: fit.identity.representation.clone(),
            word: "",
            input: ProbeInput::Pooled,
            set: set.map(|set| &set.spec),
            model: None,
            model_name: fit.identity.model.as_deref(),
            layer: fit.identity.layer,
            extents: Vec::new(),
            uneven: None,
            shards: None,
        };
        let base = &fit.identity;
        let mut identity = identity(self.planner, self.dataset, &features, &base.probe);
        (identity.factor, identity.repeat) = (base.factor, base.repeat);
        identity.trained_on = Some(base.dataset.clone());
        let targets = self.choice.targets.clone().unwrap_or_default();
        let probe = ProbeSpec::Applied { fit: base.fit.clone(), targets };
        identity.fit = fit_id(&identity, &features, (&probe, None), None)?;
        Ok(Fit { identity, probe })
    }
}
