//! Which scores there are, and which of them a gLM can give.
//!
//! Leaves out: how they are computed (`distance`, `likelihood`). Invariant: a score has the same
//! columns whatever the gLM.

use crate::model::Model;
use glmeval_common::model::TokenRule;

/// A score of a variant: one or more columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Score {
    /// Cosine of the states of both windows, and what it lacks of one.
    Cosine,
    /// Sum of products of the states.
    Dot,
    /// Sum of absolute differences of the states.
    L1,
    /// Sum of squared differences of the states, no root taken.
    L2,
    /// Logit of the alternative's token less that of the reference's, the token being masked.
    MaskedLlr,
    /// Log-likelihood of the alternative's window less that of the reference's, token by token.
    CausalLlr,
}

impl Score {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 6] =
        [Self::Cosine, Self::Dot, Self::L1, Self::L2, Self::MaskedLlr, Self::CausalLlr];

    /// Names of its columns.
    ///
    /// ```text
    /// cos            = sum R S / (|R| |S|), Frobenius, over the tokens of a TokenSet
    /// one_minus_cos  = 1/2 |R/|R| - S/|S||^2, which does not cancel
    /// dot            = sum R S
    /// l1             = sum |R - S|
    /// l2_squared     = sum (R - S)^2
    /// masked_llr     = z[alt] - z[ref] = log p(alt) - log p(ref), the variant's token masked in the
    ///                  reference's window
    /// causal_llr     = sum over nucleotides of log p(alt window) - log p(ref window); _all_tokens
    ///                  counts special tokens too, _acgt normalises over A, C, G, T alone and leaves
    ///                  other letters out
    /// ```
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Cosine => &["one_minus_cos", "cos"],
            Self::Dot => &["dot"],
            Self::L1 => &["l1"],
            Self::L2 => &["l2_squared"],
            Self::MaskedLlr => &["masked_llr"],
            Self::CausalLlr => &["causal_llr", "causal_llr_all_tokens", "causal_llr_acgt"],
        }
    }

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::MaskedLlr => "masked-llr",
            Self::CausalLlr => "causal-llr",
        }
    }

    /// Whether it is computed from the states of both windows.
    pub(super) fn needs_states(self) -> bool {
        self != Self::MaskedLlr
    }

    /// Why `model` cannot give it; `None` if it can.
    pub fn missing(self, model: &Model) -> Option<String> {
        let kind = &model.facts().architecture;
        let rule = model.facts().token_rule;
        let has_head = || model.head(&vec![0.0; model.facts().width as usize]).is_ok();
        let reason = match self {
            Self::Cosine | Self::Dot | Self::L1 | Self::L2 => return None,
            Self::MaskedLlr if model.is_causal() => "its tokens see only those before them",
            Self::MaskedLlr if model.tokenizer().mask_id().is_none() => "it has no mask token",
            Self::MaskedLlr if !matches!(rule, TokenRule::Blocks { .. }) => {
                "a variant changes several of its tokens"
            }
            Self::CausalLlr if !model.is_causal() => "its tokens see those behind them",
            Self::CausalLlr if !matches!(rule, TokenRule::Blocks { length: 1, .. }) => {
                "its tokens are no single nucleotides"
            }
            Self::MaskedLlr | Self::CausalLlr if !has_head() => {
                "these weights have no language-model head"
            }
            Self::MaskedLlr | Self::CausalLlr => return None,
        };
        Some(format!("{kind} gives no {}: {reason}", self.name()))
    }
}

/// Tokens whose states are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenSet {
    /// As in the published study: of Nucleotide Transformers all but CLS, of others all.
    #[default]
    Published,
    /// Every token, special and padding tokens included.
    All,
    /// Tokens that stand for nucleotides.
    Nucleotides,
}
