//! Fits of probes and the report over them.
//!
//! Leaves out: how a probe is fitted (worker). Invariant: a fit's id covers everything that decides
//! its score and nothing else, so equal fits of other jobs are found; names are no part of it.

use super::sets::{self, PlannedSet};
use super::{Planner, UnitRange, cost};
use glmeval_common::dataset::TaskName;
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::FitId;
use glmeval_common::job::JobEmbedding;
use glmeval_common::plan::{PlannedUnit, UnitSpec};
use glmeval_common::representation::{FeatureSource, Pooling};
use glmeval_common::score::FitIdentity;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec, SetSpec};
use std::collections::BTreeSet;

/// What a probe reads, with all that planning its fit needs.
struct Features<'a> {
    source: FeatureSource,
    name: String,
    set: Option<&'a SetSpec>,
    layer: Option<u32>,
    width: u64,
    shards: Option<UnitRange>,
}

/// Adds every fit of the job and, if there is one, the report.
pub(super) fn add_fits(planner: &mut Planner<'_>, sets: &[PlannedSet]) -> Result<()> {
    let job = planner.job;
    let first = planner.units.len() as u32;
    let mut known = BTreeSet::new();
    for (probe_index, probe) in job.probes.iter().enumerate() {
        for &dataset in &probe.dataset_indices {
            if planner.datasets[dataset].schema.targets.is_empty() {
                let key = format!("probe[{probe_index}].datasets");
                let found = format!("{:?} without targets", job.datasets[dataset].name);
                return Err(planner.wrong(&key, "data sets with targets", found).into());
            }
            for features in dataset_features(planner, sets, dataset)? {
                add_fit(planner, dataset, &probe.probe, features, &mut known)?;
            }
        }
    }
    let past = planner.units.len() as u32;
    if first < past {
        planner.push(PlannedUnit {
            spec: UnitSpec::Report,
            prerequisites: vec![(first, past)],
            flops: 0.0,
            bytes: u64::from(past - first).saturating_mul(1_024),
        })?;
    } else if !job.probes.is_empty() {
        let expected = "a data set with targets and a representation of pooling cls or mean, \
                        one_hot or kmer to fit on";
        return Err(planner.wrong("probe", expected, "none").into());
    }
    Ok(())
}

/// Everything a linear probe can read of a data set: one vector per example.
fn dataset_features<'a>(
    planner: &Planner<'_>,
    sets: &'a [PlannedSet],
    dataset: usize,
) -> Result<Vec<Features<'a>>> {
    let facts = &planner.datasets[dataset];
    let mut list = Vec::new();
    for embedding in &planner.job.embeddings {
        let set = find_set(planner, sets, embedding, dataset)?;
        for layer in sets::layers(planner, embedding)? {
            // A token sequence is no vector; probes that read it come with their own kind.
            for pooling in embedding.poolings.iter().filter(|p| **p != Pooling::Full) {
                let sides = facts.schema.sequences.len().max(1) as u64;
                list.push(Features {
                    source: FeatureSource::Embedding {
                        set: set.spec.id.clone(),
                        layer,
                        pooling: *pooling,
                    },
                    name: format!("{pooling}{}", embedding.options.label()),
                    set: Some(&set.spec),
                    layer: Some(layer),
                    width: sides * u64::from(planner.models[set.model].width),
                    shards: Some(set.shards),
                });
            }
        }
    }
    list.extend(planner.job.features.iter().map(|feature| Features {
        source: FeatureSource::Sequence(*feature),
        name: feature.name(),
        set: None,
        layer: None,
        width: cost::feature_width(facts, *feature),
        shards: None,
    }));
    Ok(list)
}

fn find_set<'a>(
    planner: &Planner<'_>,
    sets: &'a [PlannedSet],
    embedding: &JobEmbedding,
    dataset: usize,
) -> Result<&'a PlannedSet> {
    let model = &planner.models[embedding.model_index].id;
    let options = planner.job.models[embedding.model_index].options;
    let class = (planner.numeric_class)(options.precision);
    let dataset = &planner.datasets[dataset].id;
    sets.iter()
        .find(|set| {
            set.spec.model.id == *model
                && set.spec.dataset == *dataset
                && set.spec.dtype == embedding.dtype
                && set.spec.options == embedding.options
                && set.spec.numeric_class == class
        })
        .ok_or_else(|| Error::bug("a set was planned for every representation and data set"))
}

fn add_fit(
    planner: &mut Planner<'_>,
    dataset: usize,
    probe: &ProbeSpec,
    features: Features<'_>,
    known: &mut BTreeSet<FitId>,
) -> Result<()> {
    let (job, facts) = (planner.job, &planner.datasets[dataset]);
    let task = job.datasets[dataset].task;
    let identity = FitIdentity {
        fit: fit_id(planner, dataset, task, probe, &features)?,
        task: task.name().to_owned(),
        dataset: job.datasets[dataset].name.clone(),
        dataset_id: facts.id.clone(),
        model: features.set.map(|set| set.model.name.clone()),
        model_id: features.set.map(|set| set.model.id.clone()),
        layer: features.layer,
        representation: features.name,
        probe: probe.label(),
        factor: 1.0,
        fraction: 1.0,
        repeat: 0,
        seed: job.seed,
        protocol: job.protocol.name().to_owned(),
    };
    if !known.insert(identity.fit.clone()) {
        return Ok(());
    }
    let prepared = planner.prepared_range(dataset);
    let unit = FitUnit {
        dataset: facts.id.clone(),
        task,
        features: features.source,
        fits: vec![Fit { identity, probe: probe.clone() }],
    };
    let (flops, bytes) =
        (cost::fit_flops(facts, features.width, probe), cost::fit_bytes(facts, features.width));
    let prerequisites = prepared.into_iter().chain(features.shards).collect();
    let spec = UnitSpec::Fit(Box::new(unit));
    planner.push(PlannedUnit { spec, prerequisites, flops, bytes })?;
    Ok(())
}

/// The set's own id stays out: which other layers it holds does not change this fit.
fn fit_id(
    planner: &Planner<'_>,
    dataset: usize,
    task: TaskName,
    probe: &ProbeSpec,
    features: &Features<'_>,
) -> Result<FitId> {
    let probe = serde_json::to_vec(probe)
        .map_err(|e| Error::bug("a probe cannot be serialised").with_source(e))?;
    let mut digest = ContentDigest::new("fit/1")
        .field("dataset", planner.datasets[dataset].id.as_str())
        .field("task", task.name())
        .field("representation", &features.name)
        .field("probe", probe)
        .field("factor", "1")
        .field("fraction", "1")
        .field("repeat", "0")
        .field("seed", planner.job.seed.to_string())
        .field("protocol", planner.job.protocol.name());
    if let (Some(set), Some(layer)) = (features.set, features.layer) {
        digest = digest
            .field("model", set.model.id.as_str())
            .field("layer", layer.to_string())
            .field("dtype", set.dtype.name())
            .field("numeric_class", &set.numeric_class);
    }
    Ok(FitId::new(digest.finish()))
}
