//! What a frozen gLM is: tokens of many sequences in, states of the asked layers out.
//!
//! Leaves out: which there are ([`crate::models`]), pooling ([`crate::representation`]), the device.
//! Invariant: states of a sequence never depend, in any bit, on what else is in its batch.

mod architecture;
mod batch;
mod padding;
mod random;
mod room;
mod states;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;

use crate::device::device_error;
use crate::tokenizer::Tokenizer;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::model::ModelFacts;
use glmeval_kernels::ops::entropy::cuda::entropies;
use glmeval_kernels::ops::entropy::entropy;
use rayon::iter::{ParallelExtend, ParallelIterator};
use rayon::slice::ParallelSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use architecture::{Architecture, Blueprint, Checkpoint, ModelShape};
pub use batch::{LayerRequest, TokenBatch};
pub use glmeval_common::model::{ModelOptions, Precision, SpecialTokens};
pub use padding::MaskedPadding;
pub use random::RandomTensors;
pub use room::{does_not_fit, in_halves};
pub use states::{KeptStates, LogitsSink, Sink, States};
pub use tensors::{TensorShape, TensorSource, write_safetensors};

/// Rows whose logits are held at once.
const HEAD_ROWS: usize = 4_096;

/// The layers of one gLM with its weights; what a model file implements.
pub trait Network: Send + Sync {
    /// Hands the states `[R, D]` of each asked layer to `sink`, shallowest first, and stops at the
    /// deepest. Batch and request were checked.
    ///
    /// R is the tokens of the batch, or as many for each sequence as the gLM always gives.
    ///
    /// # Errors
    /// `Invalid` for a sequence that the gLM cannot take; nothing has been handed out then. Those of `sink`.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()>;

    /// Rows of the embedding table: token ids are below it.
    fn vocabulary_size(&self) -> usize;

    /// Outputs of the published head for states of the last layer: logits `[R, V]` of a language
    /// model; one row for each sequence's states of a supervised one.
    ///
    /// # Errors
    /// `Invalid` if these weights have no head.
    fn head(&self, _states: &[f32]) -> Result<Vec<f32>> {
        Err(Error::invalid("these weights have no language-model head"))
    }

    /// As [`Network::head`], of states where they are: what it gives is handed to `sink` where that was computed.
    ///
    /// # Errors
    /// As [`Network::head`]; those of `sink`.
    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        sink(States::Host(&self.head(&states.on_host()?)?))
    }

    /// The published pooled output `[B, D]` for the last layer's states of first tokens `[B, D]`;
    /// `None` if there is none.
    ///
    /// # Errors
    /// `Bug` for states that do not fit.
    fn pooler(&self, _first: &[f32]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Whether the published mean leaves out token 0.
    fn mean_skips_first(&self) -> bool {
        false
    }

    /// Whether logits of a token are those of the next one, from it and those before it alone.
    fn is_causal(&self) -> bool {
        false
    }
}

/// A frozen gLM, ready to run.
pub struct Model {
    facts: ModelFacts,
    tokenizer: Box<dyn Tokenizer>,
    network: Box<dyn Network>,
    tokens_per_batch: AtomicUsize,
}

impl Model {
    /// Joins what was opened.
    pub fn new(
        facts: ModelFacts,
        tokenizer: Box<dyn Tokenizer>,
        network: Box<dyn Network>,
    ) -> Self {
        let tokens_per_batch = AtomicUsize::new(TOKENS_PER_BATCH_MAX);
        Self { facts, tokenizer, network, tokens_per_batch }
    }

    /// With another budget of tokens for one forward pass.
    #[must_use]
    pub fn with_tokens_per_batch(self, tokens: usize) -> Self {
        Self { tokens_per_batch: AtomicUsize::new(tokens.max(1)), ..self }
    }

    /// Tokens that one forward pass should take; a single longer sequence is taken alone.
    pub fn tokens_per_batch(&self) -> usize {
        self.tokens_per_batch.load(Ordering::Relaxed)
    }

    /// Takes note that a batch of so many tokens found no room: the next ones are half as large.
    pub fn found_no_room(&self, tokens: usize) {
        self.tokens_per_batch.fetch_min((tokens / 2).max(1), Ordering::Relaxed);
    }

    /// The same with its network wrapped.
    #[cfg(test)]
    pub(crate) fn wrapped(self, wrap: impl FnOnce(Box<dyn Network>) -> Box<dyn Network>) -> Self {
        Self { network: wrap(self.network), ..self }
    }

    /// What it tells about itself.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &dyn Tokenizer {
        self.tokenizer.as_ref()
    }

    /// Token ids of a sequence, special tokens included.
    ///
    /// # Errors
    /// `Invalid` with letter and column where the vocabulary lacks a letter.
    pub fn tokenize(&self, sequence: &DnaSequence) -> Result<Vec<u32>> {
        self.tokenizer.encode(sequence.as_str())
    }

    /// Where the states of each sequence begin: `[B + 1]` rows.
    pub fn state_offsets(&self, batch: &TokenBatch) -> Vec<usize> {
        match self.facts.states_fixed {
            None => batch.offsets.clone(),
            Some(rows) => (0..=batch.sequence_count()).map(|b| b * rows as usize).collect(),
        }
    }

    /// Hands the states `[R, D]` of each asked layer to `sink` where they were computed, shallowest
    /// first, and stops at the deepest.
    ///
    /// # Errors
    /// As [`TokenBatch::check`]; a layer that is not there; nothing has been handed out then. Those of
    /// `sink`.
    pub fn hand_out(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        if request.deepest() > self.facts.layer_count {
            let (limit, found) = (self.facts.layer_count, request.deepest());
            return Err(Error::invalid(format!("expected layers to {limit}, found {found}")));
        }
        if self.facts.states_fixed.is_some() && request.wants(0) {
            let kind = &self.facts.architecture;
            return Err(Error::invalid(format!("{kind} has no layer 0: its input is one-hot")));
        }
        batch.check(self.facts.tokens_max, self.network.vocabulary_size())?;
        self.network.forward(batch, request, sink)
    }

    /// As [`Model::hand_out`], with states in host memory.
    ///
    /// # Errors
    /// As [`Model::hand_out`].
    pub fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<()> {
        self.hand_out(batch, request, &mut |layer, states| {
            sink(layer, &states.on_host()?);
            Ok(())
        })
    }

    /// States `[R, D]` of the last layer.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn last_states(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let last = LayerRequest::new(&[self.facts.layer_count], self.facts.layer_count)?;
        let mut states = Vec::new();
        self.forward(batch, &last, &mut |_, layer| states.extend_from_slice(layer))?;
        Ok(states)
    }

    /// Outputs of the published head for states of the last layer, as [`Network::head`] gives them.
    ///
    /// # Errors
    /// `Invalid` if these weights have no head.
    pub fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        self.network.head(states)
    }

    /// Logits over the vocabulary `[N, V]`; of a supervised gLM, its outputs `[B, outputs]`.
    ///
    /// # Errors
    /// As [`Network::head`] and [`Model::forward`].
    pub fn logits(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        self.network.head(&self.last_states(batch)?)
    }

    /// As [`Model::head`], of states where they are.
    ///
    /// # Errors
    /// As [`Model::head`].
    pub fn head_of(&self, states: States<'_>) -> Result<Vec<f32>> {
        if let States::Host(states) = states {
            return self.network.head(states);
        }
        let mut outputs = Vec::new();
        self.head_in_parts(states, &mut |_, logits| {
            outputs.extend_from_slice(&logits.on_host()?);
            Ok(())
        })?;
        Ok(outputs)
    }

    /// Logits of the tokens `rows` of the batch only, `[rows.len(), V]`.
    ///
    /// # Errors
    /// `Invalid` for a row past the batch; as [`Model::logits`].
    pub fn logits_at(&self, batch: &TokenBatch, rows: &[usize]) -> Result<Vec<f32>> {
        self.head_of(self.last_states_at(batch, rows)?.states())
    }

    /// Entropies in nats of the distributions at the tokens `rows` of the batch, over the whole vocabulary or over its
    /// `columns`; logits stay where they were computed.
    ///
    /// # Errors
    /// As [`Model::logits_at`]; `Bug` for a column that is not there.
    pub fn entropies_at(
        &self,
        batch: &TokenBatch,
        rows: &[usize],
        columns: Option<&[u32]>,
    ) -> Result<Vec<f64>> {
        let states = self.last_states_at(batch, rows)?;
        let mut found = Vec::with_capacity(rows.len());
        self.head_in_parts(states.states(), &mut |count, logits| {
            let width = (logits.len() / count.max(1)).max(1);
            match logits {
                States::Host(logits) => {
                    let rows = logits.par_chunks_exact(width);
                    found.par_extend(rows.map(|row| entropy(row, columns)));
                }
                States::Device(logits) => {
                    found.extend(entropies(logits, width, columns).map_err(device_error)?);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Last states of the tokens `rows` of the batch, where they were computed.
    fn last_states_at(&self, batch: &TokenBatch, rows: &[usize]) -> Result<KeptStates> {
        let (last, width) = (self.facts.layer_count, self.facts.width as usize);
        let mut kept = KeptStates::Host(Vec::new());
        self.hand_out(batch, &LayerRequest::new(&[last], last)?, &mut |_, states| {
            kept = states.rows(rows, width)?;
            Ok(())
        })?;
        Ok(kept)
    }

    /// Hands what the head gives of some rows at a time to `sink`, with their number.
    fn head_in_parts(
        &self,
        states: States<'_>,
        sink: &mut dyn FnMut(usize, States<'_>) -> Result<()>,
    ) -> Result<()> {
        let width = (self.facts.width as usize).max(1);
        let rows = states.len() / width;
        for first in (0..rows).step_by(HEAD_ROWS) {
            let past = rows.min(first + HEAD_ROWS);
            let part = states.part(first * width..past * width)?;
            self.network.head_of(part, &mut |logits| sink(past - first, logits))?;
        }
        Ok(())
    }

    /// The published pooled output `[B, D]`, `None` if there is none.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn pooled(&self, batch: &TokenBatch) -> Result<Option<Vec<f32>>> {
        let width = self.facts.width as usize;
        let states = self.last_states(batch)?;
        let first = self.state_offsets(batch);
        let first = first.iter().take(batch.sequence_count());
        let first: Vec<f32> =
            first.flat_map(|row| &states[row * width..(row + 1) * width]).copied().collect();
        self.network.pooler(&first)
    }

    /// Whether the published mean leaves out token 0.
    pub fn mean_skips_first(&self) -> bool {
        self.network.mean_skips_first()
    }

    /// Whether logits of a token are those of the next one.
    pub fn is_causal(&self) -> bool {
        self.network.is_causal()
    }
}
