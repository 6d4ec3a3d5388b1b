//! Names of the masked-language-model head.

use super::embedding::WORDS;
use crate::config::EsmConfig;
use crate::layers::{HeadNames, MaskedHead};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::Result;

/// The tensor that tells whether there is a head.
const FIRST: &str = "lm_head.dense.weight";
const DECODER: &str = "lm_head.decoder.weight";

/// `None` if the weights were published without a head. A tied decoder is the word table, whatever
/// else is stored, as in upstream.
pub(super) fn names(config: &EsmConfig, tensors: &dyn TensorSource) -> Option<HeadNames<'static>> {
    tensors.contains(FIRST).then_some(HeadNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: if config.tie_word_embeddings { WORDS } else { DECODER },
        bias: "lm_head.bias",
    })
}

/// As [`names`], with the weights.
pub(super) fn load(
    config: &EsmConfig,
    choices: (f32, Precision),
    tensors: &mut dyn TensorSource,
) -> Result<Option<MaskedHead>> {
    let extents = (config.vocab_size, config.hidden_size);
    names(config, tensors)
        .map(|names| MaskedHead::load(&names, extents, choices, tensors))
        .transpose()
}
