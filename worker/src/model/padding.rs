//! Padding that a gLM does not see: taken away before its layers, given back as zeros behind them.
//!
//! Leaves out: adding it ([`crate::tokenizers::Padded`]). Invariant: states of all other tokens are
//! those of the sequence without padding, bit for bit.
//!
//! Source: `unpad_input` and `pad_input` of DNABERT-2's published `bert_padding.py`.

use super::{LayerRequest, LogitsSink, Network, Sink, States, TokenBatch};
use crate::layers::zeros;
use glmeval_common::error::{Error, Result};

/// A gLM whose attention mask leaves out the padding that ends a sequence.
///
/// Where other published code leaves states of masked positions undefined, they are zeros here too.
pub struct MaskedPadding {
    network: Box<dyn Network>,
    pad_id: u32,
}

impl MaskedPadding {
    /// Hides tokens `pad_id` behind the last other token of each sequence from `network`, which gives
    /// a state for each token.
    pub fn new(network: Box<dyn Network>, pad_id: u32) -> Self {
        Self { network, pad_id }
    }

    /// The sequence up to its last token that is no padding, but for one of padding alone: its first.
    fn seen<'a>(&self, sequence: &'a [u32]) -> &'a [u32] {
        let last = sequence.iter().rposition(|&id| id != self.pad_id);
        sequence.get(..=last.unwrap_or(0)).unwrap_or(sequence)
    }
}

/// States `[N, D]` with those of `seen` `[M, D]` in the place of their tokens, and zeros elsewhere.
fn fill_up(states: &[f32], seen: &TokenBatch, batch: &TokenBatch) -> Result<Vec<f32>> {
    let width = states.len() / seen.token_count().max(1);
    let mut padded = zeros(batch.token_count(), width)?;
    for (from, &to) in seen.offsets.windows(2).zip(&batch.offsets) {
        let rows = states.get(from[0] * width..from[1] * width).unwrap_or_default();
        let place = padded.get_mut(to * width..to * width + rows.len());
        place.ok_or_else(|| Error::bug("states past their batch"))?.copy_from_slice(rows);
    }
    Ok(padded)
}

impl Network for MaskedPadding {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let seen = TokenBatch::pack(batch.sequences().map(|sequence| self.seen(sequence)));
        if seen.token_count() == batch.token_count() {
            return self.network.forward(batch, request, sink);
        }
        self.network.forward(&seen, request, &mut |layer, states| {
            sink(layer, States::Host(&fill_up(&states.on_host()?, &seen, batch)?))
        })
    }

    fn vocabulary_size(&self) -> usize {
        self.network.vocabulary_size()
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        self.network.head(states)
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        self.network.head_of(states, sink)
    }

    fn pooler(&self, first: &[f32]) -> Result<Option<Vec<f32>>> {
        self.network.pooler(first)
    }

    fn mean_skips_first(&self) -> bool {
        self.network.mean_skips_first()
    }

    fn is_causal(&self) -> bool {
        self.network.is_causal()
    }
}
