//! The masked-language-model head: final states to logits over the vocabulary.

use super::embedding::WORDS;
use crate::config::EsmConfig;
use crate::layers::{LayerNorm, defect, load_linear, pack, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// The tensor that tells whether there is a head.
const FIRST: &str = "lm_head.dense.weight";
pub(super) const DECODER: &str = "lm_head.decoder.weight";
const BIAS: &str = "lm_head.bias";
const DENSE: &str = "lm_head.dense";
const NORM: &str = "lm_head.layer_norm";

/// Weights of the head; published ones have a decoder of their own, tied ones share the word table.
pub(super) struct Head {
    dense: PackedLinear,
    norm: LayerNorm,
    decoder: PackedLinear,
    width: usize,
    vocabulary_size: usize,
}

impl Head {
    /// `None` if the weights were published without a head.
    pub(super) fn load(
        config: &EsmConfig,
        (eps, precision): (f32, Precision),
        tensors: &mut dyn TensorSource,
    ) -> Result<Option<Self>> {
        if !tensors.contains(FIRST) {
            return Ok(None);
        }
        let (width, size) = (config.hidden_size, config.vocab_size);
        let tied = config.tie_word_embeddings && !tensors.contains(DECODER);
        let weight = tensors.take_f32(if tied { WORDS } else { DECODER }, &[size, width])?;
        let bias = tensors.take_f32(BIAS, &[size])?;
        Ok(Some(Self {
            dense: load_linear(DENSE, (width, width), precision, tensors)?,
            norm: LayerNorm::load(NORM, width, eps, tensors)?,
            decoder: pack(&weight, Some(&bias), (size, width), precision)?,
            width,
            vocabulary_size: size,
        }))
    }

    /// Logits `[N, V]` of the final states `[N, D]`.
    ///
    /// ```text
    /// decoder · LN(gelu(dense · x)) + bias
    /// ```
    pub(super) fn logits(&self, states: &[f32]) -> Result<Vec<f32>> {
        let mut hidden = vec![0.0; states.len()];
        let mut normed = vec![0.0; states.len()];
        linear(states, &self.dense, Epilogue::Gelu, &mut hidden).map_err(defect)?;
        self.norm.apply(&hidden, &mut normed)?;
        let mut logits = zeros(states.len() / self.width, self.vocabulary_size)?;
        linear(&normed, &self.decoder, Epilogue::None, &mut logits).map_err(defect)?;
        Ok(logits)
    }
}
