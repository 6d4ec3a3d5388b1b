//! What probes of a data set can read, and the extents it has.
//!
//! Leaves out: which probe reads what (probes). Invariant: the list depends on the job's tables alone
//! and has their order.

use super::sets::{self, PlannedSet};
use super::{Planner, UnitRange, quirks};
use glmeval_common::error::{Error, Result};
use glmeval_common::job::published::ProbeInput;
use glmeval_common::job::{JobEmbedding, JobFeature};
use glmeval_common::model::{ModelFacts, TokenRule};
use glmeval_common::network::Extent;
use glmeval_common::plan::DatasetFacts;
use glmeval_common::representation::{
    FeatureSource, FullRows, Pooling, RepresentationOptions, SequenceFeature,
};
use glmeval_common::unit::SetSpec;

/// What a probe reads, with all that planning its fit needs.
#[derive(Clone)]
pub(super) struct Features<'a> {
    pub(super) source: FeatureSource,
    /// As reports name it: `mean`, `one-hot`, `kmer-5`, ….
    pub(super) name: String,
    /// As a job file asks for it: `mean`, `one-hot`, `kmer`, ….
    pub(super) word: &'static str,
    pub(super) input: ProbeInput,
    pub(super) set: Option<&'a SetSpec>,
    pub(super) model: Option<&'a ModelFacts>,
    /// As the job calls the gLM; the set, which two names may share, has the first one's.
    pub(super) model_name: Option<&'a str>,
    pub(super) layer: Option<u32>,
    /// Extents of what a network reads, one per side of an example.
    pub(super) extents: Vec<Extent>,
    /// Positions of the shortest and longest example, where they differ and no token rule evens them.
    pub(super) uneven: Option<(u64, u64)>,
    pub(super) shards: Option<UnitRange>,
}

impl Features<'_> {
    /// Values of one example.
    pub(super) fn width(&self) -> u64 {
        self.extents.iter().map(|extent| extent.values() as u64).sum()
    }
}

/// Everything the job's representations give of a data set.
pub(super) fn dataset_features<'a>(
    planner: &Planner<'a>,
    sets: &'a [PlannedSet],
    dataset: usize,
) -> Result<Vec<Features<'a>>> {
    let facts = &planner.datasets[dataset];
    let mut list = Vec::new();
    let states = |embedding: &&JobEmbedding| embedding.zero_shot.is_none();
    let embeddings = planner.job.embeddings.iter().filter(states);
    for embedding in embeddings.filter(|embedding| embedding.reads(dataset)) {
        let set = find_set(planner, sets, embedding, dataset)?;
        let model = &planner.models[set.model];
        for layer in sets::layers(planner, embedding)? {
            for &asked in &embedding.poolings {
                let pooling = quirks::pooling(planner, model, dataset, asked);
                let source = FeatureSource::Embedding { set: set.spec.id.clone(), layer, pooling };
                let extents = extents(&source, facts, Some((model, set.spec.options)));
                let is_full = pooling == Pooling::Full;
                list.push(Features {
                    source,
                    name: set.spec.options.representation(pooling),
                    word: asked.name(),
                    input: input_of(model, pooling),
                    set: Some(&set.spec),
                    model: Some(model),
                    model_name: Some(&planner.job.models[embedding.model_index].name),
                    layer: Some(layer),
                    extents,
                    uneven: is_full.then(|| uneven(facts, model, set.spec.options)).flatten(),
                    shards: Some(set.shards),
                });
            }
        }
    }
    let features = planner.job.features.iter().filter(|one| one.reads(dataset));
    list.extend(features.map(|&JobFeature { feature, .. }| {
        let source = FeatureSource::Sequence(feature);
        let lengths = (facts.length_min, facts.length_max);
        let is_uneven = feature == SequenceFeature::OneHot && lengths.0 != lengths.1;
        let (word, input) = match feature {
            SequenceFeature::OneHot => ("one-hot", ProbeInput::OneHot),
            SequenceFeature::Kmer { .. } => ("kmer", ProbeInput::Composition),
            SequenceFeature::Nucleotides => ("nucleotides", ProbeInput::Composition),
        };
        Features {
            extents: extents(&source, facts, None),
            source,
            name: feature.name(),
            word,
            input,
            set: None,
            model: None,
            model_name: None,
            layer: None,
            uneven: is_uneven.then_some(lengths),
            shards: None,
        }
    }));
    Ok(list)
}

fn input_of(model: &ModelFacts, pooling: Pooling) -> ProbeInput {
    if pooling != Pooling::Full {
        ProbeInput::Pooled
    } else if model.architecture.starts_with("nucleotide-transformer") {
        ProbeInput::NucleotideTransformer
    } else {
        ProbeInput::Tokens
    }
}

/// Rows of a full representation of a sequence of `length`; an estimate for learned pieces.
fn positions(model: &ModelFacts, options: RepresentationOptions, length: u64) -> u64 {
    match options.full_rows {
        FullRows::Tokens => model.states(model.tokens(length)),
        FullRows::Nucleotides => length,
    }
}

/// Rows of the shortest and the longest example, where their lengths make them differ.
fn uneven(
    facts: &DatasetFacts,
    model: &ModelFacts,
    options: RepresentationOptions,
) -> Option<(u64, u64)> {
    let of_tokens = options.full_rows == FullRows::Tokens;
    let is_estimate = of_tokens && matches!(model.token_rule, TokenRule::Pieces { .. });
    let rows = |length| positions(model, options, length);
    let ends = (rows(facts.length_min), rows(facts.length_max));
    (!is_estimate && ends.0 != ends.1).then_some(ends)
}

/// Extents of the features of the longest example, one per side.
pub(super) fn extents(
    source: &FeatureSource,
    facts: &DatasetFacts,
    model: Option<(&ModelFacts, RepresentationOptions)>,
) -> Vec<Extent> {
    let sides = facts.schema.sequences.len().max(1);
    let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let vector = |channels: usize| vec![Extent::Vector { channels }; sides];
    let sequences =
        |length: u64, channels| vec![Extent::Sequence { length: whole(length), channels }; sides];
    match source {
        FeatureSource::Sequence(SequenceFeature::OneHot) => sequences(facts.length_max, 4),
        FeatureSource::Sequence(SequenceFeature::Kmer { k, .. }) => {
            vector(4_usize.saturating_pow(*k))
        }
        FeatureSource::Sequence(SequenceFeature::Nucleotides) => vector(4),
        FeatureSource::Embedding { pooling, .. } => {
            let Some((model, options)) = model else { return vector(0) };
            let width = whole(u64::from(model.width));
            match pooling {
                Pooling::Full => sequences(positions(model, options, facts.length_max), width),
                Pooling::Cls | Pooling::AfterCls | Pooling::Mean => vector(width),
                Pooling::Effect => vector(0),
            }
        }
    }
}

fn find_set<'a>(
    planner: &Planner<'_>,
    sets: &'a [PlannedSet],
    embedding: &JobEmbedding,
    dataset: usize,
) -> Result<&'a PlannedSet> {
    let model = &planner.models[embedding.model_index].id;
    let options = planner.job.models[embedding.model_index].options;
    let of_states = quirks::options(planner, embedding);
    let class = (planner.numeric_class)(options.precision);
    let dataset = &planner.datasets[dataset].id;
    sets.iter()
        .find(|set| {
            set.spec.model.id == *model
                && set.spec.dataset == *dataset
                && set.spec.dtype == embedding.dtype
                && set.spec.options == of_states
                && set.spec.numeric_class == class
                && set.spec.effects.is_none()
        })
        .ok_or_else(|| Error::bug("a set was planned for every representation and data set"))
}
