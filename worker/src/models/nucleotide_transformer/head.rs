//! The masked-language-model head: final states to logits over the vocabulary.

use super::block::{LayerNorm, load_linear};
use super::embedding::WORDS;
use super::{defect, linear_tensors, norm_tensors, tensor};
use crate::config::EsmConfig;
use crate::model::{TensorShape, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// The tensor that tells whether there is a head.
pub(super) const FIRST: &str = "lm_head.dense.weight";
const DECODER: &str = "lm_head.decoder.weight";
const BIAS: &str = "lm_head.bias";
const DENSE: &str = "lm_head.dense";
const NORM: &str = "lm_head.layer_norm";

/// Names and shapes of the tensors below.
pub(super) fn tensors(config: &EsmConfig) -> Vec<TensorShape> {
    let width = config.hidden_size;
    let mut tensors = linear_tensors(DENSE, width, width).to_vec();
    tensors.extend(norm_tensors(NORM, width));
    tensors.push(tensor(DECODER.to_owned(), &[config.vocab_size, width]));
    tensors.push(tensor(BIAS.to_owned(), &[config.vocab_size]));
    tensors
}

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
        eps: f32,
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
            dense: load_linear(DENSE, width, width, tensors)?,
            norm: LayerNorm::load(NORM, width, eps, tensors)?,
            decoder: PackedLinear::pack(&weight, Some(&bias), size, width).map_err(defect)?,
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
        let count = (states.len() / self.width).checked_mul(self.vocabulary_size);
        let mut logits = vec![0.0; count.ok_or_else(|| Error::bug("logits are past all memory"))?];
        linear(&normed, &self.decoder, Epilogue::None, &mut logits).map_err(defect)?;
        Ok(logits)
    }
}
