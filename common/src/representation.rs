//! What a probe reads: a layer and a pooling of a gLM, or a feature of the sequence itself.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How token states of one sequence become what a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Token 0.
    Cls,
    /// Mean over tokens; which tokens is the model's published habit (NT: all but CLS).
    Mean,
    /// Every token.
    Full,
    /// Token 1: what the study took for its class token on splicing. No job file asks for it.
    AfterCls,
    /// No states: scores of a variant, whose two windows are the sequences of an example. A row has one
    /// value for each column of [`EffectSpec`](crate::effect::EffectSpec).
    Effect,
}

impl Pooling {
    /// All poolings in the order shards store them.
    pub const ALL: [Self; 5] = [Self::Cls, Self::Mean, Self::Full, Self::AfterCls, Self::Effect];

    /// `cls`, `mean`, `full`, `after-cls` or `effect`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Full => "full",
            Self::AfterCls => "after-cls",
            Self::Effect => "effect",
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Strands that a representation is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strands {
    /// The sequence as it is given.
    #[default]
    Forward,
    /// The mean of the sequence's representation and that of its reverse complement.
    Averaged,
}

/// Which tokens a mean is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanOver {
    /// As in the published study: the gLM's own habit (NT: all but CLS; HyenaDNA: all).
    #[default]
    Published,
    /// Tokens that stand for nucleotides; no special token.
    Nucleotides,
    /// Every token.
    All,
}

/// What the rows of a full representation stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullRows {
    /// Tokens, special ones too.
    #[default]
    Tokens,
    /// Nucleotides: each has the state of the token it is part of.
    Nucleotides,
}

/// Choices about how states become a representation; the default is the published one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepresentationOptions {
    /// One strand or both.
    pub strands: Strands,
    /// Tokens of a mean.
    pub mean_over: MeanOver,
    /// Rows of a full representation.
    pub full_rows: FullRows,
}

impl RepresentationOptions {
    /// Whether tokens must be matched with nucleotides.
    pub fn needs_token_lengths(self) -> bool {
        self.mean_over == MeanOver::Nucleotides || self.full_rows == FullRows::Nucleotides
    }

    /// What fits call rows of `pooling`: `mean`, `full (both strands)`, ….
    pub fn representation(self, pooling: Pooling) -> String {
        format!("{pooling}{}", self.label_of(pooling))
    }

    /// As [`label`](Self::label), without the choices that do not concern `pooling`.
    pub fn label_of(self, pooling: Pooling) -> String {
        let mut own = self;
        if pooling != Pooling::Mean {
            own.mean_over = MeanOver::Published;
        }
        if pooling != Pooling::Full {
            own.full_rows = FullRows::Tokens;
        }
        own.label()
    }

    /// What differs from the published choices, such as ` (both strands)`; empty if nothing does.
    pub fn label(self) -> String {
        let mut parts = Vec::new();
        if self.strands == Strands::Averaged {
            parts.push("both strands");
        }
        match self.mean_over {
            MeanOver::Published => {}
            MeanOver::Nucleotides => parts.push("mean over nucleotides"),
            MeanOver::All => parts.push("mean over all tokens"),
        }
        if self.full_rows == FullRows::Nucleotides {
            parts.push("per nucleotide");
        }
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }
}

/// Number format of stored embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredDtype {
    /// IEEE single.
    #[default]
    F32,
    /// IEEE half; values beyond 65,504 are an error, never infinity.
    F16,
    /// bfloat16.
    Bf16,
}

impl StoredDtype {
    /// Bytes of one value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Features computed from the sequence alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SequenceFeature {
    /// L x 4, flattened position-major; undefined letters are zeros.
    OneHot,
    /// Counts of the 4^k overlapping k-mers.
    Kmer {
        /// Length of the k-mers, 1 to 8.
        k: u32,
        /// What becomes of k-mers with an undefined letter.
        #[serde(default)]
        undefined: UndefinedInKmers,
    },
    /// Shares of A, C, G and T in the length; undefined letters count in the length only.
    Nucleotides,
}

/// What becomes of k-mers with an undefined letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndefinedInKmers {
    /// They are not counted.
    #[default]
    LeftOut,
    /// The letter is read as A, as the published dinucleotide counts do: the largest of four zeros
    /// is taken to be the first.
    ReadAsA,
}

impl SequenceFeature {
    /// Counts of k-mers with defined letters.
    pub fn kmer(k: u32) -> Self {
        Self::Kmer { k, undefined: UndefinedInKmers::LeftOut }
    }

    /// `one-hot`, `kmer-5` or `nucleotides`.
    pub fn name(self) -> String {
        match self {
            Self::OneHot => "one-hot".to_owned(),
            Self::Kmer { k, .. } => format!("kmer-{k}"),
            Self::Nucleotides => "nucleotides".to_owned(),
        }
    }
}

/// What one fit reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureSource {
    /// One tensor of an embedding set.
    Embedding {
        /// The set.
        set: crate::ids::SetId,
        /// 1-based layer (0 = input of the first block).
        layer: u32,
        /// Pooling.
        pooling: Pooling,
    },
    /// Computed from the examples.
    Sequence(SequenceFeature),
}
