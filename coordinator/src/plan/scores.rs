//! Which zero-shot scores an embedding set holds.
//!
//! Leaves out: what they are compared with (effects). Invariant: all that decides a score stands in the
//! set; what windows are padded to is one number for a data set.

use super::Planner;
use glmeval_common::effect::{EffectSpec, published, published_scores};
use glmeval_common::error::Result;
use glmeval_common::job::JobEmbedding;

/// The scores that a set of `embedding` on data set `dataset` holds; `None` for states.
///
/// # Errors
/// `Invalid` for a score that such a gLM never has, and for a data set that is no pair of windows.
pub(super) fn spec(
    planner: &Planner<'_>,
    embedding: &JobEmbedding,
    dataset: usize,
) -> Result<Option<EffectSpec>> {
    let Some(asked) = &embedding.zero_shot else { return Ok(None) };
    let (model, facts) = (&planner.models[embedding.model_index], &planner.datasets[dataset]);
    let name = &planner.job.models[embedding.model_index].name;
    if facts.schema.sequences.len() != 2 {
        let expected = "data sets whose examples are a reference and an alternative";
        let found = format!("{:?}", planner.job.datasets[dataset].name);
        let key = format!("{}.datasets", embedding.key);
        return Err(planner.wrong(&key, expected, found).into());
    }
    let scores = asked.scores.clone().unwrap_or_else(|| published_scores(model));
    for score in &scores {
        if let Some(reason) = score.missing_for(model.token_rule) {
            let key = format!("{}.scores", embedding.key);
            let found = format!("{}: {reason}", score.name());
            return Err(planner.wrong(&key, format!("scores that {name} gives"), found).into());
        }
    }
    let longest = asked.longest.get(&dataset).copied().unwrap_or(0);
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    let pad_to = published(&model.architecture).pad_to(facts.length_max, longest);
    let pad_to = pad_to.filter(|tokens| *tokens > 0).map(|tokens| tokens as u64);
    if let Some(tokens) = pad_to.filter(|tokens| *tokens > model.tokens_max) {
        let expected = format!("windows of at most {} tokens for model {name}", model.tokens_max);
        return Err(planner.wrong("dataset", expected, tokens).into());
    }
    Ok(Some(EffectSpec { scores, pad_to: pad_to.and_then(|tokens| u32::try_from(tokens).ok()) }))
}
