//! How far a network of a gLM's states heeds the state of each token.
//!
//! Leaves out: the gradient through the gLM itself, which stays frozen. Invariant: norms are f64 sums
//! over f32 gradients in the order of channels; a sequence has the same bits among any others.

use crate::batching::{self, check_length};
use crate::model::{LayerRequest, Model, TokenBatch};
use crate::variants::VariantProbe;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::network::Extent;
use glmeval_common::representation::Pooling;
use std::borrow::Borrow;

/// What a network of a gLM's states says of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingGradient {
    /// f: the output, before a final sigmoid.
    pub output: f32,
    /// L2 norm of df/dE over channels, one for each token, `[T]`; padding that the gLM did not ask for left out.
    pub norms: Vec<f64>,
}

/// A network that reads all states of one gLM, and the gLM.
pub struct EmbeddingGradients<'m> {
    model: &'m Model,
    probe: VariantProbe,
    request: LayerRequest,
    /// Tokens that each sequence is padded to.
    pad_to: usize,
    width: usize,
}

impl<'m> EmbeddingGradients<'m> {
    /// Lets `probe` read `model`; with `pads`, sequences are padded to the tokens that it reads.
    ///
    /// # Errors
    /// `Invalid` for a network that does not read all states of a layer of this gLM.
    pub fn new(model: &'m Model, probe: VariantProbe, pads: bool) -> Result<Self> {
        let (request, pooling) = probe.layer_of(model)?;
        let refused = |found: String| -> Error {
            let expected = "a network of all states of a layer (pooling full)";
            InputError::new("embedding probe", "", expected, found).into()
        };
        if pooling != Pooling::Full {
            return Err(refused(format!("one of {}", pooling.name())));
        }
        let facts = model.facts();
        match probe.input() {
            Extent::Sequence { length, channels } if channels == facts.width as usize => {
                let pad_to = if pads { length } else { 0 };
                Ok(Self { model, probe, request, pad_to, width: channels })
            }
            other => Err(refused(format!("{other}, where states have {} channels", facts.width))),
        }
    }

    /// Refuses a sequence that [`EmbeddingGradients::of`] would refuse.
    ///
    /// # Errors
    /// `Invalid` for a sequence that the gLM or the network cannot take.
    pub fn check(&self, sequence: &DnaSequence) -> Result<()> {
        self.tokens(sequence).map(drop)
    }

    /// Output and norms of each of `sequences`.
    ///
    /// # Errors
    /// `Invalid` for a sequence that the gLM or the network cannot take.
    pub fn of<S: Borrow<DnaSequence>>(
        &mut self,
        sequences: &[S],
    ) -> Result<Vec<EmbeddingGradient>> {
        let mut tokens = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            tokens.push(self.tokens(sequence.borrow())?);
        }
        let counts: Vec<usize> = tokens.iter().map(|(ids, _)| ids.len()).collect();
        let mut found = vec![EmbeddingGradient { output: 0.0, norms: Vec::new() }; tokens.len()];
        for members in batching::pack(&counts, TOKENS_PER_BATCH_MAX) {
            let sequences = members.iter().map(|&member| tokens[member].0.as_slice());
            let batch = TokenBatch::pack(sequences);
            let mut states = Vec::new();
            let mut keep = |_: u32, layer: &[f32]| states.extend_from_slice(layer);
            self.model.forward(&batch, &self.request, &mut keep)?;
            let outputs = self.probe.predict(&states)?;
            let gradients = self.probe.gradients(&states)?;
            let rows = gradients.chunks_exact(self.probe.input().values().max(1));
            for ((member, output), gradient) in members.into_iter().zip(outputs).zip(rows) {
                let norms = gradient.chunks_exact(self.width.max(1)).map(norm);
                let norms = norms.take(tokens[member].1).collect();
                found[member] = EmbeddingGradient { output, norms };
            }
        }
        Ok(found)
    }

    /// Padded tokens, and how many they are without.
    fn tokens(&self, sequence: &DnaSequence) -> Result<(Vec<u32>, usize)> {
        let mut ids = self.model.tokenize(sequence)?;
        let count = ids.len();
        if let Some(pad) = self.model.tokenizer().pad_id() {
            ids.resize(count.max(self.pad_to), pad);
        }
        check_length("to be embedded", ids.len(), self.model.facts().tokens_max)?;
        let rows = self.model.facts().states_fixed.map_or(ids.len(), |rows| rows as usize);
        if rows * self.width != self.probe.input().values() {
            let expected = format!("{}, which the network reads", self.probe.input());
            let found = format!("{rows} states of {}", self.width);
            return Err(InputError::new("embedding probe", "states", expected, found).into());
        }
        Ok((ids, count))
    }
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}
