//! Embedding sets and their shards.
//!
//! Leaves out: what reads them (fits). Invariant: one set per gLM, data set and dtype, holding the
//! union of the layers and poolings asked for; its shards tile the rows without gap or overlap.

use super::{Planner, UnitRange, cost, model_ref, quirks, scores};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, Result};
use glmeval_common::ids::{DatasetId, ModelId, SetId};
use glmeval_common::job::{JobEmbedding, LayerChoice};
use glmeval_common::model::Padding;
use glmeval_common::plan::{EntrySpec, PlanEntry};
use glmeval_common::representation::{RepresentationOptions, StoredDtype};
use glmeval_common::unit::SetSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A set, where its rows come from and which units fill it.
pub(super) struct PlannedSet {
    pub(super) spec: SetSpec,
    pub(super) dataset: usize,
    pub(super) model: usize,
    pub(super) shards: UnitRange,
}

/// The last two are the numeric class and the columns of scores.
type SetKey = (ModelId, DatasetId, StoredDtype, RepresentationOptions, String, Vec<String>);

/// Layers a representation asks for, sorted.
///
/// # Errors
/// `Invalid` when the list is empty or names a layer the gLM lacks.
pub(super) fn layers(planner: &Planner<'_>, embedding: &JobEmbedding) -> Result<Vec<u32>> {
    let count = planner.models[embedding.model_index].layer_count;
    let key = format!("{}.layers", embedding.key);
    let list = match &embedding.layers {
        LayerChoice::Word(word) if word == "all" => (1..=count).collect(),
        LayerChoice::Word(_) => vec![count],
        LayerChoice::List(list) => list.clone(),
    };
    if let Some(missing) = list.iter().find(|layer| **layer > count) {
        return Err(planner.wrong(&key, format!("0 to {count}"), missing).into());
    }
    let list: BTreeSet<u32> = list.into_iter().collect();
    if list.is_empty() {
        let expected = format!("at least one layer from 0 to {count}");
        return Err(planner.wrong(&key, expected, "none").into());
    }
    Ok(list.into_iter().collect())
}

/// Plans every set of the job and adds the units that fill them.
pub(super) fn add_extracts(planner: &mut Planner<'_>) -> Result<Vec<PlannedSet>> {
    let mut sets: Vec<PlannedSet> = Vec::new();
    let mut known: BTreeMap<SetKey, usize> = BTreeMap::new();
    for embedding in &planner.job.embeddings {
        let layers = layers(planner, embedding)?;
        for dataset in (0..planner.datasets.len()).filter(|&dataset| embedding.reads(dataset)) {
            let poolings = quirks::poolings(planner, embedding, dataset);
            let fresh = empty_set(planner, embedding, dataset)?;
            let spec = &fresh.spec;
            let class = spec.numeric_class.clone();
            let columns = spec.columns();
            let (model, dataset) = (spec.model.id.clone(), spec.dataset.clone());
            let key = (model, dataset, spec.dtype, spec.options, class, columns);
            let index = *known.entry(key).or_insert(sets.len());
            if index == sets.len() {
                sets.push(fresh);
            } else {
                check_names(planner, embedding, &fresh, &sets[index])?;
            }
            let spec = &mut sets[index].spec;
            merge(&mut spec.layers, &layers);
            merge(&mut spec.poolings, &poolings);
        }
    }
    for (index, set) in sets.iter_mut().enumerate() {
        set.spec.id = set_id(&set.spec);
        set.shards = add_shards(planner, index, set)?;
    }
    Ok(sets)
}

/// Refuses scores that are compared under other names already; states are probed under names of their own.
fn check_names(
    planner: &Planner<'_>,
    embedding: &JobEmbedding,
    fresh: &PlannedSet,
    known: &PlannedSet,
) -> Result<()> {
    let has_effects = !planner.datasets[fresh.dataset].schema.targets.is_empty();
    let dataset = |set: &PlannedSet| planner.job.datasets[set.dataset].name.as_str();
    let [fresh_names, known_names] =
        [fresh, known].map(|set| (set.spec.model.name.as_str(), dataset(set)));
    if fresh.spec.effects.is_none() || !has_effects || fresh_names == known_names {
        return Ok(());
    }
    let [fresh, known] = [fresh_names, known_names]
        .map(|(model, dataset)| format!("gLM {model} on data set {dataset}"));
    let expected = format!("scores of its own for {fresh}");
    let found = format!("those of {known} under another name");
    Err(planner.wrong(&embedding.key, expected, found).into())
}

fn merge<T: Ord + Copy>(into: &mut Vec<T>, more: &[T]) {
    into.extend_from_slice(more);
    into.sort_unstable();
    into.dedup();
}

/// A sequence that is too long for a gLM, as the cause of the plan's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Index of its data set in the job.
    pub dataset: usize,
    /// Its length.
    pub nucleotides: u64,
    /// What the gLM makes of it.
    pub tokens: u64,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {} nucleotides or {} tokens", self.nucleotides, self.tokens)
    }
}

impl std::error::Error for TooLong {}

/// A set without layers and poolings, after checking that the gLM can read the data set.
fn empty_set(
    planner: &Planner<'_>,
    embedding: &JobEmbedding,
    dataset: usize,
) -> Result<PlannedSet> {
    let model = embedding.model_index;
    let job_model = &planner.job.models[model];
    let name = &job_model.name;
    let (facts, model_facts) = (&planner.datasets[dataset], &planner.models[model]);
    let tokens = model_facts.tokens(facts.length_max);
    if facts.rows > 0 && tokens > model_facts.tokens_max {
        let place = format!("dataset[{dataset}] ({})", planner.job.datasets[dataset].name);
        let expected =
            format!("sequences of at most {} tokens for model {name}", model_facts.tokens_max);
        let longest = TooLong { dataset, nucleotides: facts.length_max, tokens };
        let defect: Error = planner.wrong(&place, expected, &longest).into();
        return Err(defect.with_source(longest));
    }
    let mut of_model = model_ref(&model_facts.id, job_model);
    of_model.options.quirk = quirks::input(planner, embedding, dataset);
    let spec = SetSpec {
        id: SetId::new(""),
        model: of_model,
        dataset: facts.id.clone(),
        layers: Vec::new(),
        poolings: Vec::new(),
        dtype: embedding.dtype,
        options: quirks::options(planner, embedding),
        numeric_class: (planner.numeric_class)(job_model.options.precision),
        effects: scores::spec(planner, embedding, dataset)?,
    };
    Ok(PlannedSet { spec, dataset, model, shards: (0, 0) })
}

fn set_id(spec: &SetSpec) -> SetId {
    let layers: Vec<_> = spec.layers.iter().map(u32::to_string).collect();
    let poolings: Vec<_> = spec.poolings.iter().map(|pooling| pooling.name()).collect();
    let mut digest = ContentDigest::new("embeddings/1")
        .field("model", spec.model.id.as_str())
        .field("dataset", spec.dataset.as_str())
        .field("layers", layers.join(","))
        .field("poolings", poolings.join(","))
        .field("dtype", spec.dtype.name())
        .field("options", spec.options.label())
        .field("numeric_class", &spec.numeric_class);
    if let Some(effects) = &spec.effects {
        let pad_to = effects.pad_to.unwrap_or(0).to_string();
        digest = digest.field("scores", spec.columns().join(",")).field("pad_to", pad_to);
        // Windows are padded behind the gLM's tokenizer, so that its id does not tell.
        if effects.pad_to.is_some() && spec.model.options.padding == Padding::Masked {
            digest = digest.field("padding", "masked");
        }
    }
    if let Some(quirk) = spec.model.options.quirk {
        digest = digest.field("quirk", quirk.name());
    }
    SetId::new(digest.finish())
}

/// Adds the run of shards that fills the set, one unit each.
fn add_shards(planner: &mut Planner<'_>, index: usize, set: &PlannedSet) -> Result<UnitRange> {
    let facts = &planner.datasets[set.dataset];
    let model = &planner.models[set.model];
    let flops = cost::flops_per_row(facts, model, &set.spec);
    let bytes = cost::bytes_per_row(facts, model, &set.spec);
    let bytes_max = cost::bytes_per_row_max(facts, model, &set.spec);
    let rows_per_unit = cost::shard_rows(planner.job.shard_rows, flops, bytes_max);
    let (start, end) = (0, facts.rows);
    let first = planner.entries.unit_count();
    if start < end {
        let prerequisites = planner.prepared_range(set.dataset).into_iter().collect();
        let dataset = set.dataset;
        let spec = EntrySpec::Shards { set: index, dataset, start, end, rows_per_unit };
        planner.push(PlanEntry { spec, prerequisites, flops, bytes })?;
    }
    Ok((first, planner.entries.unit_count()))
}
