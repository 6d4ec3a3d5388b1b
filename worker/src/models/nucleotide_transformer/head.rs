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
pub(super) fn load(
    config: &EsmConfig,
    (eps, precision): (f32, Precision),
    tensors: &mut dyn TensorSource,
) -> Result<Option<MaskedHead>> {
    if !tensors.contains(FIRST) {
        return Ok(None);
    }
    let names = HeadNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: if config.tie_word_embeddings { WORDS } else { DECODER },
        bias: "lm_head.bias",
    };
    let extents = (config.vocab_size, config.hidden_size);
    MaskedHead::load(&names, extents, (eps, precision), tensors).map(Some)
}
