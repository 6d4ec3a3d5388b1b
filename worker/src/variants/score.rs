//! Which scores a gLM can give.
//!
//! Leaves out: how they are computed (`distance`, `likelihood`). Invariant: a score that is not missing
//! can be computed of every window that the gLM takes.

use crate::model::Model;
use glmeval_common::effect::Score;

/// Why `model` cannot give `score`; `None` if it can.
pub fn missing(score: Score, model: &Model) -> Option<String> {
    let kind = &model.facts().architecture;
    let rule = model.facts().token_rule;
    let has_head = || model.head(&vec![0.0; model.facts().width as usize]).is_ok();
    let reason = match score {
        Score::Cosine | Score::Dot | Score::L1 | Score::L2 => return None,
        Score::MaskedLlr if model.is_causal() => "its tokens see only those before them",
        Score::MaskedLlr if model.tokenizer().mask_id().is_none() => "it has no mask token",
        Score::CausalLlr if !model.is_causal() => "its tokens see those behind them",
        Score::MaskedLlr | Score::CausalLlr => match score.missing_for(rule) {
            Some(reason) => reason,
            None if !has_head() => "these weights have no language-model head",
            None => return None,
        },
    };
    Some(format!("{kind} gives no {}: {reason}", score.name()))
}
