//! Facts of a gLM as records of every version write them.
//!
//! Leaves out: writing; records are written in the newest form. Invariant: facts that an older record
//! does not have become what they were when it was written.

use super::{MemoryFacts, TokenRule};
use crate::ids::ModelId;
use serde::Deserialize;

/// Fields of any version, the newest ones first and in their order, as some records have no names;
/// see [`super::ModelFacts`].
#[derive(Deserialize)]
pub(super) struct ModelFacts {
    id: ModelId,
    architecture: String,
    parameters: u64,
    layer_count: u32,
    width: u32,
    tokens_max: u64,
    token_rule: Option<TokenRule>,
    #[serde(default)]
    states_fixed: Option<u32>,
    flops_per_token: f64,
    flops_per_token_pair: f64,
    #[serde(default)]
    memory: MemoryFacts,
    /// Until 0.1, when there were no other rules than blocks.
    #[serde(default)]
    tokens_special: u32,
    /// Until 0.1.
    #[serde(default)]
    nucleotides_per_token: u32,
}

impl From<ModelFacts> for super::ModelFacts {
    fn from(written: ModelFacts) -> Self {
        let blocks = TokenRule::Blocks {
            length: written.nucleotides_per_token,
            special: written.tokens_special,
        };
        Self {
            id: written.id,
            architecture: written.architecture,
            parameters: written.parameters,
            layer_count: written.layer_count,
            width: written.width,
            tokens_max: written.tokens_max,
            token_rule: written.token_rule.unwrap_or(blocks),
            states_fixed: written.states_fixed,
            flops_per_token: written.flops_per_token,
            flops_per_token_pair: written.flops_per_token_pair,
            memory: written.memory,
        }
    }
}
