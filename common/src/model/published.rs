//! The study's checkpoints: what a plan needs to know of each, where it comes from, how the study ran it.
//!
//! Leaves out: weights, and habits that differ from task to task (job files). Invariant: numbers are
//! those a checkpoint tells when it is opened; one that tells others is refused.

use super::{
    MemoryFacts, ModelFacts, ModelOptions, Padding, Precision, SpecialTokens, TokenRule,
    UndefinedBase, UnknownLetters,
};
use crate::digest::ContentDigest;
use crate::error::{InputError, Result};
use crate::ids::ModelId;

/// Share by which the number of weights may differ: heads and tied tables are published or left out.
const PARAMETERS_TOLERANCE: f64 = 0.05;
/// States held at a time by a forward pass, in widths of a state; an estimate until the gLM is there.
const STATES_HELD: u64 = 8;

/// One published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedModel {
    /// As a job file names it.
    pub name: &'static str,
    /// As the study's tables and our reports name it.
    pub title: &'static str,
    /// As [`ModelFacts::architecture`].
    pub architecture: &'static str,
    /// Weights, about.
    pub parameters: u64,
    /// Layers that can be asked for.
    pub layer_count: u32,
    /// Width of a state.
    pub width: u32,
    /// Most tokens of one sequence.
    pub tokens_max: u64,
    /// How many tokens a sequence becomes.
    pub token_rule: TokenRule,
    /// States of any sequence; `None` = one for each token.
    pub states_fixed: Option<u32>,
    /// FLOPs per token, and per pair of tokens, all blocks.
    pub flops: (f64, f64),
    /// Where it is fetched from; `None` = it comes with the study's archive.
    pub source: Option<&'static str>,
    /// How the study opened it for every task.
    pub habits: ModelOptions,
}

/// Choices as published, in a form that a constant can be made of.
const PLAIN: ModelOptions = ModelOptions {
    layer_norm_eps: None,
    unknown_letters: UnknownLetters::Refuse,
    special_tokens: SpecialTokens::Checkpoint,
    undefined_bases: UndefinedBase::Unknown,
    pad_to: None,
    precision: Precision::F32,
    random: None,
    quirk: None,
    padding: Padding::Attended,
};

/// FLOPs of `layers` encoder blocks of width `d` with `f` values between the two linear maps, of which
/// there are `maps`: 2 flops a weight, and 4 d for a pair of tokens.
const fn encoder(layers: u32, d: u32, f: u32, maps: u32) -> (f64, f64) {
    let (layers, d, f, maps) = (layers as f64, d as f64, f as f64, maps as f64);
    (layers * (8.0 * d * d + 2.0 * maps * d * f), layers * 4.0 * d)
}

/// A Nucleotide Transformer of the first generation, run by its authors' own code: six-mers behind one
/// special token, norms of epsilon 1e-5.
const fn nucleotide_transformer(
    (name, title, source): (&'static str, &'static str, &'static str),
    (layers, width): (u32, u32),
    parameters: u64,
) -> PublishedModel {
    PublishedModel {
        name,
        title,
        architecture: "nucleotide-transformer-v1",
        parameters,
        layer_count: layers,
        width,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 6, special: 1 },
        states_fixed: None,
        flops: encoder(layers, width, 4 * width, 2),
        source: Some(source),
        habits: ModelOptions { layer_norm_eps: Some(1e-5), ..PLAIN },
    }
}

/// DNABERT-2; its learned pieces are five nucleotides long on average.
const DNABERT_2: PublishedModel = PublishedModel {
    name: "dnabert-2",
    title: "DNABERT2",
    architecture: "dnabert-2",
    parameters: 117_000_000,
    layer_count: 12,
    width: 768,
    tokens_max: u64::MAX,
    token_rule: TokenRule::Pieces { mean_length: 5.0, special: 2 },
    states_fixed: None,
    flops: encoder(12, 768, 3_072, 3),
    source: Some("hf://zhihan1996/DNABERT-2-117M@main"),
    habits: PLAIN,
};

/// Every published checkpoint.
pub static ALL: [PublishedModel; 10] = [
    nucleotide_transformer(
        ("nt-2b5-1000g", "NT-2B5-1000G", "hf://InstaDeepAI/nucleotide-transformer-2.5b-1000g@main"),
        (32, 2_560),
        2_537_000_000,
    ),
    nucleotide_transformer(
        (
            "nt-2b5-multi-species",
            "NT-2B5-multi-species",
            "hf://InstaDeepAI/nucleotide-transformer-2.5b-multi-species@main",
        ),
        (32, 2_560),
        2_537_000_000,
    ),
    nucleotide_transformer(
        (
            "nt-500m-human-ref",
            "NT-500M-human-ref",
            "hf://InstaDeepAI/nucleotide-transformer-500m-human-ref@main",
        ),
        (24, 1_280),
        480_000_000,
    ),
    nucleotide_transformer(
        (
            "nt-500m-1000g",
            "NT-500M-1000G",
            "hf://InstaDeepAI/nucleotide-transformer-500m-1000g@main",
        ),
        (24, 1_280),
        480_000_000,
    ),
    // Dilated convolutions of nine taps; undefined bases became padding.
    PublishedModel {
        name: "gpn-human",
        title: "GPN-human",
        architecture: "gpn",
        parameters: 65_880_000,
        layer_count: 25,
        width: 512,
        tokens_max: 1 << 24,
        token_rule: TokenRule::Blocks { length: 1, special: 0 },
        states_fixed: None,
        flops: (25.0 * 20.0 * 512.0 * 512.0, 0.0),
        source: None,
        habits: ModelOptions { undefined_bases: UndefinedBase::Pad, ..PLAIN },
    },
    DNABERT_2,
    // The same network before any training.
    PublishedModel {
        name: "dnabert-2-random",
        title: "DNABERT2-random-init",
        habits: ModelOptions { random: Some(0), ..PLAIN },
        ..DNABERT_2
    },
    // The second block's states and, after them, those of the last norm; FLOPs with the transforms.
    PublishedModel {
        name: "hyenadna-tiny-1k-d256",
        title: "HyenaDNA-tiny-1k-d256",
        architecture: "hyenadna",
        parameters: 1_640_000,
        layer_count: 3,
        width: 256,
        tokens_max: 1_026,
        token_rule: TokenRule::Blocks { length: 1, special: 2 },
        states_fixed: None,
        flops: (3.24e6, 0.0),
        source: Some("hf://LongSafari/hyenadna-tiny-1k-seqlen-d256@main"),
        habits: ModelOptions { special_tokens: SpecialTokens::Original, ..PLAIN },
    },
    // 960 channels of 16 spline coefficients, read as 960 states.
    PublishedModel {
        name: "sei",
        title: "Sei",
        architecture: "sei",
        parameters: 889_979_983,
        layer_count: 1,
        width: 16,
        tokens_max: 4_096,
        token_rule: TokenRule::Blocks { length: 1, special: 0 },
        states_fixed: Some(960),
        flops: (26_071_680.0, 0.0),
        source: None,
        habits: PLAIN,
    },
    // Trained on 120 proteins of K562.
    PublishedModel {
        name: "rbp-supervised",
        title: "RBP-supervised",
        architecture: "rbp-cnn",
        parameters: 383_480,
        layer_count: 1,
        width: 192,
        tokens_max: 1_000,
        token_rule: TokenRule::Blocks { length: 1, special: 0 },
        states_fixed: Some(100),
        flops: (206_600.0, 0.0),
        source: None,
        habits: PLAIN,
    },
];

/// The published checkpoint of that name.
pub fn find(name: &str) -> Option<&'static PublishedModel> {
    ALL.iter().find(|model| model.name == name)
}

impl PublishedModel {
    /// What it will tell about itself when it is there, as far as a plan can know; its id is its own.
    pub fn facts(&self, options: &ModelOptions) -> ModelFacts {
        let held = u64::from(self.width).saturating_mul(4 * STATES_HELD);
        let id = ContentDigest::new("published-model/1")
            .field("name", self.name)
            .field("options", format!("{options:?}"));
        ModelFacts {
            id: ModelId::new(id.finish()),
            architecture: self.architecture.to_owned(),
            parameters: self.parameters,
            layer_count: self.layer_count,
            width: self.width,
            tokens_max: self.tokens_max,
            token_rule: match options.pad_to {
                Some(tokens) => TokenRule::Fixed { tokens },
                None => self.token_rule,
            },
            states_fixed: self.states_fixed,
            flops_per_token: self.flops.0,
            flops_per_token_pair: self.flops.1,
            memory: MemoryFacts {
                weights: self.parameters.saturating_mul(4),
                per_token: held,
                ..MemoryFacts::default()
            },
        }
    }

    /// Refuses a checkpoint that is not this one: other layers, another width, or a number of weights
    /// that differs by more than a head.
    ///
    /// # Errors
    /// `Invalid` naming `place`, what differs, and both values.
    pub fn check(&self, place: &str, found: &ModelFacts) -> Result<()> {
        let of = |what: &str| format!("{what} of {}", self.name);
        if found.layer_count != self.layer_count {
            let count = self.layer_count;
            return Err(InputError::new(place, of("layers"), count, found.layer_count).into());
        }
        if found.width != self.width {
            return Err(InputError::new(place, of("width"), self.width, found.width).into());
        }
        let (expected, parameters) = (self.parameters as f64, found.parameters as f64);
        if (parameters - expected).abs() > PARAMETERS_TOLERANCE * expected {
            let expected = format!("about {}", self.parameters);
            return Err(InputError::new(place, of("parameters"), expected, parameters).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> &'static PublishedModel {
        find(name).unwrap()
    }

    /// Tokens of sequences of the study's lengths: activity, binding, a side of splicing, elongation.
    #[test]
    fn token_counts_are_those_of_the_study() {
        let tokens = |name: &str| {
            let facts = of(name).facts(&of(name).habits);
            [230, 200, 400, 173].map(|length| facts.states(facts.tokens(length)))
        };
        assert_eq!(tokens("nt-2b5-1000g"), [41, 36, 71, 34]);
        assert_eq!(tokens("gpn-human"), [230, 200, 400, 173]);
        assert_eq!(tokens("hyenadna-tiny-1k-d256"), [232, 202, 402, 175]);
        assert_eq!(tokens("sei"), [960; 4]);
        assert_eq!(tokens("rbp-supervised"), [100; 4]);
        let padded = ModelOptions { pad_to: Some(59), ..PLAIN };
        assert_eq!(of("dnabert-2").facts(&padded).tokens(230), 59);
        assert_eq!(of("nt-500m-1000g").facts(&PLAIN).tokens(5_994), 1_000);
    }

    /// GFLOP of one sequence, as the study's cost model has them.
    #[test]
    fn forward_passes_cost_what_the_study_counts() {
        for (name, pad_to, length, expected) in [
            ("nt-2b5-1000g", None, 230, 207.0),
            ("nt-2b5-1000g", None, 5_994, 5_361.0),
            ("nt-500m-human-ref", None, 5_994, 1_067.0),
            ("gpn-human", None, 230, 30.2),
            ("dnabert-2", Some(270), 400, 63.8),
            ("hyenadna-tiny-1k-d256", None, 230, 0.742),
            ("sei", None, 200, 106.8),
            ("rbp-supervised", None, 173, 0.206),
        ] {
            let facts = of(name).facts(&ModelOptions { pad_to, ..PLAIN });
            let found = facts.flops(facts.tokens(length), facts.layer_count) / 1e9;
            assert!((found / expected - 1.0).abs() < 0.015, "{name}: {found} {expected}");
        }
    }

    #[test]
    fn another_checkpoint_under_a_published_name_is_refused_with_what_differs() {
        let published = of("gpn-human");
        let facts = published.facts(&PLAIN);
        published.check("/gpn", &facts).unwrap();
        let shallow = ModelFacts { layer_count: 4, ..facts.clone() };
        let error = published.check("/gpn", &shallow).unwrap_err().chain();
        assert_eq!(error, "/gpn: layers of gpn-human: expected 25, found 4");
        let small = ModelFacts { parameters: 1_000, ..facts };
        assert!(published.check("/gpn", &small).unwrap_err().chain().contains("parameters"));
    }
}
