//! What the published code did to the inputs of one gLM on one task, where a job keeps to it.
//!
//! Leaves out: doing it (worker). Invariant: a quirk changes the id of every set it touches, and no
//! other id.

use super::Planner;
use glmeval_common::dataset::TaskName;
use glmeval_common::job::{JobEmbedding, Protocol};
use glmeval_common::model::InputQuirk;

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
/// On lentiMPRA, DNABERT-2's mask was given where segments are expected.
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
        ("dnabert-2", TaskName::LentiMpra) => Some(InputQuirk::MaskAsSegments),
        _ => None,
    }
}
