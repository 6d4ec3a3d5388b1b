//! What the published code did to the inputs of one gLM on one task, where a job keeps to it.
//!
//! Leaves out: doing it (worker). Invariant: a quirk changes the id of every set it touches, and no
//! other id.

use super::Planner;
use glmeval_common::dataset::TaskName;
use glmeval_common::job::{JobEmbedding, NetworkKind, ProbeChoice, Protocol};
use glmeval_common::model::{InputQuirk, ModelFacts, Padding};
use glmeval_common::network::Architecture;
use glmeval_common::representation::{MeanOver, Pooling, RepresentationOptions};
use glmeval_common::unit::ProbeSpec;

#[cfg(test)]
mod tests;

/// Channels of one-hot sequences, which the published padding took for their length.
const CHANNELS: u64 = 4;

/// The quirk of `embedding` on data set `dataset`; `None` where there is none or it is corrected.
///
/// Where probes of variants read Sei's states, each window was padded on both sides by half of what 4
/// positions lack of a whole input:
///
/// ```text
/// length = L + 2 floor((input - 4) / 2)        230 + 2 x 2046 = 4322 of 4096
/// ```
///
/// On lentiMPRA, DNABERT-2's mask was given where segments are expected; a job that asks for a mask has
/// one.
pub(super) fn input(
    planner: &Planner<'_>,
    embedding: &JobEmbedding,
    dataset: usize,
) -> Option<InputQuirk> {
    if planner.job.protocol == Protocol::Corrected || embedding.zero_shot.is_some() {
        return None;
    }
    let model = planner.models.get(embedding.model_index)?;
    let (facts, task) = (planner.datasets.get(dataset)?, planner.job.datasets.get(dataset)?.task);
    match (model.architecture.as_str(), task) {
        ("sei", TaskName::VariantEffect) => {
            let sides = model.tokens_max.saturating_sub(CHANNELS) / 2 * 2;
            let length = facts.length_max.saturating_add(sides);
            u32::try_from(length).ok().map(InputQuirk::Length)
        }
        ("dnabert-2", TaskName::LentiMpra) => {
            let padding = planner.job.models.get(embedding.model_index)?.options.padding;
            (padding == Padding::Attended).then_some(InputQuirk::MaskAsSegments)
        }
        _ => None,
    }
}

/// gLMs whose published means take in special tokens and padding.
const MEANS_OF_ALL: [&str; 2] = ["dnabert-2", "hyenadna"];

/// How the states of `embedding` become representations: corrected, a mean that a job leaves to the
/// study is over tokens that stand for nucleotides.
pub(super) fn options(planner: &Planner<'_>, embedding: &JobEmbedding) -> RepresentationOptions {
    let mut options = embedding.options;
    let model = planner.models.get(embedding.model_index);
    if planner.job.protocol == Protocol::Corrected
        && options.mean_over == MeanOver::Published
        && embedding.poolings.contains(&Pooling::Mean)
        && model.is_some_and(|model| MEANS_OF_ALL.contains(&model.architecture.as_str()))
    {
        options.mean_over = MeanOver::Nucleotides;
    }
    options
}

/// Whether the class token of `model` was cut at the wrong place on `dataset`: the study's scripts for
/// splicing, which read the Nucleotide Transformer only, take token 1 for it.
fn misses_cls(planner: &Planner<'_>, model: &ModelFacts, dataset: usize) -> bool {
    let task = planner.job.datasets.get(dataset).map(|dataset| dataset.task);
    planner.job.protocol == Protocol::Published
        && task == Some(TaskName::Splicing)
        && model.architecture.starts_with("nucleotide-transformer")
}

/// What a set holds where a job asks for `pooling` of `model` on `dataset`.
pub(super) fn pooling(
    planner: &Planner<'_>,
    model: &ModelFacts,
    dataset: usize,
    pooling: Pooling,
) -> Pooling {
    match pooling {
        Pooling::Cls if misses_cls(planner, model, dataset) => Pooling::AfterCls,
        _ => pooling,
    }
}

/// The pooling that validates `probe` on `pooling`, where it is another: in the study's scripts for
/// splicing the dense networks on means are stopped by the class token's features.
pub(super) fn validated_on(
    planner: &Planner<'_>,
    model: &ModelFacts,
    dataset: usize,
    (pooling, probe): (Pooling, &ProbeSpec),
) -> Option<Pooling> {
    let ProbeSpec::Network { architecture, .. } = probe else { return None };
    let is_dense = matches!(architecture, Architecture::RepMlp { .. } | Architecture::Linear);
    let is_quirk = pooling == Pooling::Mean && is_dense && misses_cls(planner, model, dataset);
    is_quirk.then_some(Pooling::AfterCls)
}

/// Every pooling that the set of `embedding` and `dataset` holds.
pub(super) fn poolings(
    planner: &Planner<'_>,
    embedding: &JobEmbedding,
    dataset: usize,
) -> Vec<Pooling> {
    let Some(model) = planner.models.get(embedding.model_index) else { return Vec::new() };
    let mut poolings: Vec<Pooling> =
        embedding.poolings.iter().map(|&one| pooling(planner, model, dataset, one)).collect();
    let is_dense = |choice: &ProbeChoice| match choice {
        ProbeChoice::Published => true,
        ProbeChoice::Network(network) => {
            matches!(network.kind, NetworkKind::RepMlp | NetworkKind::Linear)
        }
        _ => false,
    };
    let mut probes =
        planner.job.probes.iter().filter(|probe| probe.dataset_indices.contains(&dataset));
    if poolings.contains(&Pooling::Mean)
        && misses_cls(planner, model, dataset)
        && probes.any(|probe| is_dense(&probe.choice))
    {
        poolings.push(Pooling::AfterCls);
    }
    poolings
}
