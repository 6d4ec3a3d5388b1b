//! Scores of variants that a frozen gLM gives: which there are, their columns, and what an embedding
//! set holds of them.
//!
//! Leaves out: computing them (worker). Invariant: a score has the same columns whatever the gLM.

use crate::model::{ModelFacts, TokenRule};
use serde::{Deserialize, Serialize};

mod published;

pub use published::{PROBE_WINDOW, Published, published, published_cell};

/// A score of a variant: one or more columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

    /// Names of its columns; the first is the one that is compared with measured effects.
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

    /// The word for it in job files and on the command line.
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
    pub fn needs_states(self) -> bool {
        self != Self::MaskedLlr
    }

    /// Why no gLM with these tokens has it; `None` where only opening the gLM tells.
    pub fn missing_for(self, rule: TokenRule) -> Option<&'static str> {
        match self {
            Self::MaskedLlr if !matches!(rule, TokenRule::Blocks { .. }) => {
                Some("a variant changes several of its tokens")
            }
            Self::CausalLlr if !matches!(rule, TokenRule::Blocks { length: 1, .. }) => {
                Some("its tokens are no single nucleotides")
            }
            _ => None,
        }
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

/// What an embedding set holds of variants instead of states; strands are those of its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectSpec {
    /// Scores, sorted, without repeats.
    pub scores: Vec<Score>,
    /// Tokens that every window is padded to, without a mask.
    #[serde(default)]
    pub pad_to: Option<u32>,
}

impl EffectSpec {
    /// Names of the values of a row.
    pub fn columns(&self) -> Vec<String> {
        let columns = self.scores.iter().flat_map(|score| score.columns());
        columns.map(|&name| name.to_owned()).collect()
    }

    /// Place of the column of `score` that is compared with measured effects.
    pub fn column(&self, score: Score) -> Option<usize> {
        let name = score.columns().first()?;
        self.columns().iter().position(|column| column == name)
    }

    /// Windows of a variant that pass through the gLM: a masked one stands for both.
    pub fn windows(&self) -> u64 {
        let states = self.scores.iter().any(|score| score.needs_states());
        let masked = self.scores.contains(&Score::MaskedLlr);
        2 * u64::from(states) + u64::from(masked)
    }
}

/// The scores of the published study for a gLM.
pub fn published_scores(facts: &ModelFacts) -> Vec<Score> {
    published(&facts.architecture).scores.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_the_order_of_the_scores() {
        let spec = EffectSpec { scores: vec![Score::Cosine, Score::MaskedLlr], pad_to: None };
        assert_eq!(spec.columns(), ["one_minus_cos", "cos", "masked_llr"]);
        let places = [Score::Cosine, Score::MaskedLlr, Score::L1].map(|score| spec.column(score));
        assert_eq!((places, spec.windows()), ([Some(0), Some(2), None], 3));
    }

    #[test]
    fn scores_have_one_word_everywhere() {
        for score in Score::ALL {
            let text = serde_json::to_string(&score).unwrap();
            assert_eq!(text, format!("{:?}", score.name()));
        }
    }
}
