//! The head of masked language models: final states to logits over the vocabulary.
//!
//! Leaves out: heads of other forms. Invariant: a row's logits depend on that row alone.

use super::{LayerNorm, defect, load_linear, pack, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// What a publication calls the tensors of its head.
pub(crate) struct HeadNames<'a> {
    /// Without `.weight` and `.bias`.
    pub(crate) dense: &'a str,
    /// Without `.weight` and `.bias`.
    pub(crate) norm: &'a str,
    /// The decoder's matrix: the table of words where it is tied.
    pub(crate) decoder: &'a str,
    /// The decoder's bias.
    pub(crate) bias: &'a str,
}

/// Weights of the head.
pub(crate) struct MaskedHead {
    dense: PackedLinear,
    norm: LayerNorm,
    decoder: PackedLinear,
    width: usize,
    vocabulary_size: usize,
}

impl MaskedHead {
    /// Takes the tensors that `names` tells, for states of `width` and `size` words.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`].
    pub(crate) fn load(
        names: &HeadNames<'_>,
        (size, width): (usize, usize),
        (eps, precision): (f32, Precision),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let weight = tensors.take_f32(names.decoder, &[size, width])?;
        let bias = tensors.take_f32(names.bias, &[size])?;
        Ok(Self {
            dense: load_linear(names.dense, (width, width), precision, tensors)?,
            norm: LayerNorm::load(names.norm, width, eps, tensors)?,
            decoder: pack(&weight, Some(&bias), (size, width), precision)?,
            width,
            vocabulary_size: size,
        })
    }

    /// Logits `[N, V]` of the final states `[N, D]`.
    ///
    /// ```text
    /// decoder · LN(gelu(dense · x)) + bias
    /// ```
    ///
    /// # Errors
    /// `Bug` for states of another width.
    pub(crate) fn logits(&self, states: &[f32]) -> Result<Vec<f32>> {
        let mut hidden = vec![0.0; states.len()];
        linear(states, &self.dense, Epilogue::Gelu, &mut hidden).map_err(defect)?;
        self.norm.apply_in_place(&mut hidden)?;
        let mut logits = zeros(states.len() / self.width, self.vocabulary_size)?;
        linear(&hidden, &self.decoder, Epilogue::None, &mut logits).map_err(defect)?;
        Ok(logits)
    }
}
