//! gLMs as jobs, plans and workers speak of them: how one is opened, and what it tells about itself.
//!
//! Leaves out: opening one (worker). Invariant: options and facts are plain values that travel in plans.

pub mod published;
mod written;

use crate::ids::ModelId;
use serde::{Deserialize, Serialize};

/// What happens to letters that a vocabulary does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownLetters {
    /// They are an error that names letter and column. `N` is the letter for an undefined base:
    /// where a vocabulary has no `N`, it is the unknown token, as in the original tokenizer.
    #[default]
    Refuse,
    /// They become unknown tokens exactly as in the published tokenizer of the gLM; special tokens
    /// may be written out in the text.
    Replace,
}

impl UnknownLetters {
    /// `refuse` or `replace`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Replace => "replace",
        }
    }
}

/// What `N` becomes in the tokens of GPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndefinedBase {
    /// The unknown token, as any letter outside the vocabulary. In a vocabulary without one it is
    /// refused, or vanishes where unknown letters are replaced, and the sequence gets shorter.
    #[default]
    Unknown,
    /// The padding token: the rule of the study that used a vocabulary without an unknown token.
    Pad,
}

impl UndefinedBase {
    /// `unknown` or `pad`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pad => "pad",
        }
    }
}

/// Which special tokens stand around a sequence, for gLMs that were published with two habits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecialTokens {
    /// As the code published with this form of the checkpoint does.
    #[default]
    Checkpoint,
    /// As the authors' own first code does, which the paper ran (HyenaDNA: `[CLS]` … `[SEP]`).
    Original,
    /// As the Hugging Face port does (HyenaDNA: … `[SEP]`).
    HuggingFace,
}

/// Number format of weights and of the left operands of matrix products; sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// IEEE single throughout.
    #[default]
    F32,
    /// bfloat16 operands.
    Bf16,
    /// Single rounded to 10 bits of fraction; on CUDA devices only.
    Tf32,
}

impl Precision {
    /// `f32`, `bf16` or `tf32`, the first part of a numeric class.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Tf32 => "tf32",
        }
    }
}

/// Whether a gLM sees the tokens that fill a sequence up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// They are read like any other token; so did the paper.
    #[default]
    Attended,
    /// They are hidden from all others, and their states are zeros; published means count them all the
    /// same. A gLM that was published without a mask (GPN, HyenaDNA) reads them.
    Masked,
}

impl Padding {
    /// Whether it is the default; such a choice is not written.
    fn is_attended(&self) -> bool {
        *self == Self::Attended
    }
}

/// Choices when a gLM is opened; the default is what the published code does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelOptions {
    /// Replaces the epsilon of every layer norm (InstaDeep's JAX code runs with 1e-5).
    pub layer_norm_eps: Option<f64>,
    /// What happens to letters outside the vocabulary.
    pub unknown_letters: UnknownLetters,
    /// Special tokens, where there are two habits.
    pub special_tokens: SpecialTokens,
    /// What `N` becomes, where a vocabulary leaves it open (GPN).
    pub undefined_bases: UndefinedBase,
    /// Pads every sequence to this many tokens. The paper did so with DNABERT-2.
    pub pad_to: Option<u32>,
    /// Number format of matrix products; part of the numeric class, not of the gLM's id.
    pub precision: Precision,
    /// What the study did to the inputs of one gLM on one task; plans set it, job files do not. Part of
    /// the sets that it changes, not of the gLM's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quirk: Option<InputQuirk>,
    /// Draws the weights from this seed instead of reading them: the control without pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<u32>,
    /// Whether padding is seen.
    #[serde(skip_serializing_if = "Padding::is_attended")]
    pub padding: Padding,
}

/// What the study's code did to inputs without meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputQuirk {
    /// Sei runs on this many positions, its splines rebuilt for them: sequences that probes of
    /// variants read were padded by the width of the channel axis.
    Length(u32),
    /// DNABERT-2's attention mask is read as segments: tokens are of segment 1, padding of segment 0.
    MaskAsSegments,
}

impl InputQuirk {
    /// A text that tells it from every other.
    pub fn name(self) -> String {
        match self {
            Self::Length(length) => format!("length {length}"),
            Self::MaskAsSegments => "mask as segments".to_owned(),
        }
    }
}

/// How many tokens a sequence becomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TokenRule {
    /// One token for `length` nucleotides, and one for each of the remainder.
    Blocks {
        /// Nucleotides of a full token.
        length: u32,
        /// Special tokens of each sequence.
        special: u32,
    },
    /// One token for every window of `length` nucleotides.
    Overlapping {
        /// Nucleotides of a window.
        length: u32,
        /// Special tokens of each sequence.
        special: u32,
    },
    /// Learned pieces; only the sequence itself tells how many.
    Pieces {
        /// Nucleotides of a piece on average.
        mean_length: f64,
        /// Special tokens of each sequence.
        special: u32,
    },
    /// Always as many tokens: shorter sequences are padded.
    Fixed {
        /// Tokens of every sequence.
        tokens: u32,
    },
}

impl TokenRule {
    /// Tokens of a sequence of `length` defined nucleotides; an estimate for learned pieces.
    pub fn tokens(&self, length: u64) -> u64 {
        match *self {
            Self::Blocks { length: block, special } => {
                let block = u64::from(block.max(1));
                u64::from(special) + length / block + length % block
            }
            Self::Overlapping { length: window, special } => {
                u64::from(special) + (length + 1).saturating_sub(u64::from(window))
            }
            Self::Pieces { mean_length, special } => {
                u64::from(special) + (length as f64 / mean_length.max(1.0)).ceil() as u64
            }
            Self::Fixed { tokens } => u64::from(tokens),
        }
    }

    /// Most tokens a sequence of `length` nucleotides can become.
    pub fn tokens_max(&self, length: u64) -> u64 {
        match *self {
            Self::Blocks { special, .. } | Self::Pieces { special, .. } => {
                length.saturating_add(u64::from(special))
            }
            Self::Overlapping { .. } | Self::Fixed { .. } => self.tokens(length),
        }
    }
}

/// Bytes a forward pass holds beside the examples and the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryFacts {
    /// Weights as they are kept for computing, and tables made of them.
    pub weights: u64,
    /// For every token of a batch.
    pub per_token: u64,
    /// For every token of the longest sequence, whatever else is in the batch.
    pub per_longest_token: u64,
    /// For every token of the longest sequence and every thread.
    pub per_longest_token_and_thread: u64,
}

/// What a gLM tells a planner about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "written::ModelFacts")]
pub struct ModelFacts {
    /// Digest of architecture, tensors and tokenizer.
    pub id: ModelId,
    /// `nucleotide-transformer-v1`, …
    pub architecture: String,
    /// Weights.
    pub parameters: u64,
    /// Layers that can be asked for, beside 0.
    pub layer_count: u32,
    /// Width of a state.
    pub width: u32,
    /// Most tokens of one sequence, special tokens included.
    pub tokens_max: u64,
    /// How many tokens a sequence becomes.
    pub token_rule: TokenRule,
    /// States of any sequence; `None` = one for each of its tokens.
    pub states_fixed: Option<u32>,
    /// FLOPs per token that do not depend on length, all blocks.
    pub flops_per_token: f64,
    /// FLOPs per pair of tokens, all blocks.
    pub flops_per_token_pair: f64,
    /// Bytes held while it runs.
    pub memory: MemoryFacts,
}

impl ModelFacts {
    /// Tokens of a sequence of `length` defined nucleotides.
    pub fn tokens(&self, length: u64) -> u64 {
        self.token_rule.tokens(length)
    }

    /// States that a sequence of `tokens` tokens has at any layer.
    pub fn states(&self, tokens: u64) -> u64 {
        self.states_fixed.map_or(tokens, u64::from)
    }

    /// Whether gLMs of its architecture predict masked tokens; only opening it tells whether these
    /// weights have the head for it.
    pub fn is_masked(&self) -> bool {
        let kinds = ["nucleotide-transformer", "gpn", "dnabert"];
        kinds.iter().any(|kind| self.architecture.starts_with(kind))
    }

    /// FLOPs of one forward pass over a sequence of `tokens` up to layer `layer`.
    ///
    /// Where every sequence has as many states, each is padded to the longest.
    pub fn flops(&self, tokens: u64, layer: u32) -> f64 {
        let tokens = self.states_fixed.map_or(tokens, |_| self.tokens_max) as f64;
        let share = f64::from(layer) / f64::from(self.layer_count.max(1));
        share * tokens * (self.flops_per_token + self.flops_per_token_pair * tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_from_the_length() {
        let blocks = TokenRule::Blocks { length: 6, special: 1 };
        assert_eq!([6, 41, 200, 5994].map(|n| blocks.tokens(n)), [2, 12, 36, 1000]);
        let windows = TokenRule::Overlapping { length: 6, special: 2 };
        assert_eq!([5, 6, 515].map(|n| windows.tokens(n)), [2, 3, 512]);
        let pieces = TokenRule::Pieces { mean_length: 5.0, special: 2 };
        assert_eq!((pieces.tokens(21), pieces.tokens_max(21)), (7, 23));
        assert_eq!(TokenRule::Fixed { tokens: 4096 }.tokens(7), 4096);
    }

    #[test]
    fn options_left_out_are_the_published_ones() {
        let options: ModelOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, ModelOptions::default());
        serde_json::from_str::<ModelOptions>("{\"precison\":\"f32\"}").unwrap_err();
    }
}
