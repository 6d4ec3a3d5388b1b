//! Token ids to the input of the first block.

use crate::config::EsmConfig;
use crate::config::esm::PositionEmbedding;
use crate::layers::{LayerNorm, table_row, zeros};
use crate::model::{TensorSource, TokenBatch};
use glmeval_common::error::{Error, Result};

pub(super) const WORDS: &str = "esm.embeddings.word_embeddings.weight";
const POSITIONS: &str = "esm.embeddings.position_embeddings.weight";
const NORM: &str = "esm.embeddings.layer_norm";

/// Share of tokens kept in training: 15 % were chosen, 80 % of them masked.
const KEPT_IN_TRAINING: f64 = 1.0 - 0.15 * 0.8;

/// How tokens choose rows of the tables.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pad_id: u32,
    /// `Some` if masked tokens were dropped in training.
    dropped_id: Option<u32>,
}

/// What each token of a batch takes: `[N]`.
pub(super) struct Rows {
    /// Rows of the table of positions.
    pub(super) places: Vec<u32>,
    /// Factors of words.
    pub(super) scales: Vec<f32>,
}

impl Rules {
    /// - scales are 1 without token dropout, 0 for a mask token, else 0.88 / (1 - share of masks)
    /// - places count the tokens so far that are no padding, from `pad + 1`; padding is at `pad`
    ///
    /// # Errors
    /// `Invalid` for a sequence of nothing but mask tokens, whose scale is infinite.
    pub(super) fn rows(&self, batch: &TokenBatch) -> Result<Rows> {
        let count = batch.token_count();
        let mut rows =
            Rows { places: Vec::with_capacity(count), scales: Vec::with_capacity(count) };
        for (index, sequence) in batch.sequences().enumerate() {
            let scale = self.scale(index, sequence)?;
            let mut position = self.pad_id;
            for &id in sequence {
                if id != self.pad_id {
                    position += 1;
                }
                rows.places.push(if id == self.pad_id { self.pad_id } else { position });
                rows.scales.push(if self.dropped_id == Some(id) { 0.0 } else { scale });
            }
        }
        Ok(rows)
    }

    fn scale(&self, index: usize, sequence: &[u32]) -> Result<f32> {
        let Some(dropped_id) = self.dropped_id else { return Ok(1.0) };
        let kept = sequence.iter().filter(|&&id| id != dropped_id).count();
        if kept == 0 {
            return Err(Error::invalid(format!(
                "sequence {index} of the batch is all mask tokens"
            )));
        }
        Ok((KEPT_IN_TRAINING * sequence.len() as f64 / kept as f64) as f32)
    }
}

/// Tables of words and, if they are learned, of positions.
pub(super) struct Embedding {
    pub(super) words: Vec<f32>,
    pub(super) positions: Option<Vec<f32>>,
    pub(super) norm: Option<LayerNorm>,
    pub(super) rules: Rules,
    width: usize,
}

impl Embedding {
    pub(super) fn load(
        config: &EsmConfig,
        eps: f32,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let width = config.hidden_size;
        let norm = if config.emb_layer_norm_before {
            Some(LayerNorm::load(NORM, width, eps, tensors)?)
        } else {
            None
        };
        let positions = match config.position_embedding {
            PositionEmbedding::Rotary => None,
            PositionEmbedding::Absolute => {
                Some(tensors.take_f32(POSITIONS, &[config.max_position_embeddings, width])?)
            }
        };
        Ok(Self {
            words: tensors.take_f32(WORDS, &[config.vocab_size, width])?,
            positions,
            norm,
            width,
            rules: Rules {
                pad_id: config.pad_token_id,
                dropped_id: config.token_dropout.then_some(config.mask_token_id),
            },
        })
    }

    /// States `[N, D]` before the first block.
    ///
    /// ```text
    /// x[t,:] = scales[t] * words[id[t],:] + positions[places[t],:]     the latter if learned
    /// ```
    ///
    /// # Errors
    /// As [`Rules::rows`].
    pub(super) fn states(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let mut states = zeros(batch.token_count(), self.width)?;
        let Rows { places, scales } = self.rules.rows(batch)?;
        let tokens = batch.ids.iter().zip(places.into_iter().zip(scales));
        for (row, (&id, (place, scale))) in states.chunks_exact_mut(self.width).zip(tokens) {
            let word = table_row(&self.words, self.width, id)?;
            row.iter_mut().zip(word).for_each(|(x, word)| *x = scale * word);
            if let Some(positions) = &self.positions {
                let place = table_row(positions, self.width, place)?;
                row.iter_mut().zip(place).for_each(|(x, place)| *x += place);
            }
        }
        if let Some(norm) = &self.norm {
            norm.apply_in_place(&mut states)?;
        }
        Ok(states)
    }
}
