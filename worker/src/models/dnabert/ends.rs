//! What stands before and behind the blocks: embedding, pooled output, names of the head.

use crate::config::bert::{BIASES, BertConfig};
use crate::layers::{HeadNames, LayerNorm, MaskedHead, defect, load_linear, table_row, zeros};
use crate::model::{Precision, TensorSource, TokenBatch};
use glmeval_common::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::tanh::tanh;

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const TYPES: &str = "bert.embeddings.token_type_embeddings.weight";
const POSITIONS: &str = "bert.embeddings.position_embeddings.weight";
/// The pooled output's map; some weights were published without.
pub(super) const POOLER: &str = "bert.pooler.dense";

/// Tables of words and, if they are learned, of positions.
pub(super) struct Embedding {
    /// With the row of its token type added to each word: 0, the only one DNA has, unless a job says
    /// otherwise.
    pub(super) words: Vec<f32>,
    pub(super) positions: Option<Vec<f32>>,
    pub(super) norm: LayerNorm,
    width: usize,
}

impl Embedding {
    pub(super) fn load(
        config: &BertConfig,
        eps: f32,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let width = config.hidden_size;
        let mut words = tensors.take_f32(WORDS, &[config.vocab_size, width])?;
        let types = tensors.take_f32(TYPES, &[config.type_vocab_size, width])?;
        for (id, word) in words.chunks_exact_mut(width).enumerate() {
            let is_second = config.first_type_only.is_some_and(|first| first != id);
            let of_type = types.get(if is_second { width.. } else { 0.. }).unwrap_or_default();
            word.iter_mut().zip(of_type).for_each(|(x, of_type)| *x += of_type);
        }
        let positions = match config.positions {
            Some(rows) => Some(tensors.take_f32(POSITIONS, &[rows, width])?),
            None => None,
        };
        let norm = LayerNorm::load("bert.embeddings.LayerNorm", width, eps, tensors)?;
        Ok(Self { words, positions, norm, width })
    }

    /// States `[N, D]` before the first block.
    ///
    /// ```text
    /// x[t,:] = LN(words[id[t],:] + types[0,:] + positions[t,:])     the last if learned
    /// ```
    pub(super) fn states(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let mut states = zeros(batch.token_count(), self.width)?;
        let mut rows = states.chunks_exact_mut(self.width);
        for sequence in batch.sequences() {
            for ((&id, place), row) in sequence.iter().zip(0_u32..).zip(&mut rows) {
                row.copy_from_slice(table_row(&self.words, self.width, id)?);
                if let Some(positions) = &self.positions {
                    let place = table_row(positions, self.width, place)?;
                    row.iter_mut().zip(place).for_each(|(x, place)| *x += place);
                }
            }
        }
        self.norm.apply_in_place(&mut states)?;
        Ok(states)
    }
}

/// Whether the weights were published with a pooled output.
pub(super) fn has_pooler(tensors: &dyn TensorSource) -> bool {
    tensors.contains("bert.pooler.dense.weight")
}

/// The published pooled output of a sequence's first state.
pub(super) struct Pooler(PackedLinear);

impl Pooler {
    /// `None` if the weights were published without.
    pub(super) fn load(
        width: usize,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Option<Self>> {
        if !has_pooler(tensors) {
            return Ok(None);
        }
        Ok(Some(Self(load_linear(POOLER, (width, width), precision, tensors)?)))
    }

    /// Pooled outputs `[B, D]` of first states `[B, D]`.
    ///
    /// ```text
    /// tanh(dense · x)
    /// ```
    pub(super) fn apply(&self, first: &[f32]) -> Result<Vec<f32>> {
        let mut pooled = vec![0.0; first.len()];
        linear(first, &self.0, Epilogue::None, &mut pooled).map_err(defect)?;
        tanh(&mut pooled);
        Ok(pooled)
    }
}

/// Names of the head; `None` if the weights were published without. A tied decoder is the word
/// table, whatever else is stored, as in upstream.
pub(super) fn head_names(
    config: &BertConfig,
    tensors: &dyn TensorSource,
) -> Option<HeadNames<'static>> {
    let tied = config.tie_word_embeddings;
    let bias = if tensors.contains(BIASES[0]) { BIASES[0] } else { BIASES[1] };
    tensors.contains("cls.predictions.transform.dense.weight").then_some(HeadNames {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: if tied { WORDS } else { "cls.predictions.decoder.weight" },
        bias,
    })
}

/// As [`head_names`], with the weights.
pub(super) fn load_head(
    config: &BertConfig,
    choices: (f32, Precision),
    tensors: &mut dyn TensorSource,
) -> Result<Option<MaskedHead>> {
    let extents = (config.vocab_size, config.hidden_size);
    head_names(config, tensors)
        .map(|names| MaskedHead::load(&names, extents, choices, tensors))
        .transpose()
}
