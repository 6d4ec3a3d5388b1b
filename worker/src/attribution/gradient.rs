//! How far a network of a gLM's states heeds the state of each token.
//!
//! Leaves out: the gradient through the gLM itself, which stays frozen. Invariant: norms are f64 sums
//! over f32 gradients in the order of channels; a sequence has the same bits among any others.

use crate::batching::{self, check_length};
use crate::model::{LayerRequest, Model, TokenBatch, does_not_fit, in_halves};
use crate::representation::{StrandStates, represent};
use crate::variants::VariantProbe;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::network::Extent;
use glmeval_common::representation::{FullRows, Pooling, RepresentationOptions};
use std::borrow::Borrow;

/// What a network of a gLM's states says of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingGradient {
    /// f: the output, before a final sigmoid.
    pub output: f32,
    /// L2 norm of df/dE over channels, one for each token, `[T]`; padding that the gLM did not ask for left out.
    pub norms: Vec<f64>,
}

/// Takes the network, numbers of some sequences, all tokens and the rows that the network reads of those
/// sequences.
type EachBatch<'a> = dyn FnMut(&mut VariantProbe, &[usize], &[Tokens], &[f32]) -> Result<()> + 'a;

/// A network that reads all states of one gLM, and the gLM.
pub struct EmbeddingGradients<'m> {
    model: &'m Model,
    probe: VariantProbe,
    request: LayerRequest,
    /// Tokens that each sequence is padded to.
    pad_to: usize,
    width: usize,
    /// Whether the network reads a row for each nucleotide rather than for each token.
    is_per_nucleotide: bool,
}

/// Tokens of a sequence.
struct Tokens {
    /// Padded.
    ids: Vec<u32>,
    /// How many they are without the padding that the gLM did not ask for.
    count: usize,
    /// Nucleotides that each stands for; empty unless rows are those of nucleotides.
    lengths: Vec<u32>,
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
                let width = channels;
                Ok(Self { model, probe, request, pad_to, width, is_per_nucleotide: false })
            }
            other => Err(refused(format!("{other}, where states have {} channels", facts.width))),
        }
    }

    /// Says that the network reads a row for each nucleotide, the state of its token.
    #[must_use]
    pub fn per_nucleotide(self) -> Self {
        Self { is_per_nucleotide: true, pad_to: 0, ..self }
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
        let mut found = vec![EmbeddingGradient { output: 0.0, norms: Vec::new() }; sequences.len()];
        let (width, is_per_nucleotide) = (self.width.max(1), self.is_per_nucleotide);
        self.each_batch(sequences, &mut |probe, members, tokens, states| {
            let outputs = probe.predict(states)?;
            let gradients = probe.gradients(states)?;
            let rows = gradients.chunks_exact(probe.input().values().max(1));
            for ((&member, output), gradient) in members.iter().zip(outputs).zip(rows) {
                let Tokens { count, lengths, .. } = &tokens[member];
                let rows = gradient.chunks_exact(width);
                let norms = match is_per_nucleotide {
                    true => norms_of_tokens(rows, lengths, width),
                    false => rows.map(norm).take(*count).collect(),
                };
                found[member] = EmbeddingGradient { output, norms };
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Output of each of `sequences`, as [`EmbeddingGradients::of`] has it, without any gradient.
    ///
    /// # Errors
    /// As [`EmbeddingGradients::of`].
    pub fn outputs<S: Borrow<DnaSequence>>(&mut self, sequences: &[S]) -> Result<Vec<f32>> {
        let mut found = vec![0.0; sequences.len()];
        self.each_batch(sequences, &mut |probe, members, _, states| {
            for (&member, output) in members.iter().zip(probe.predict(states)?) {
                found[member] = output;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `each` with the rows of some sequences after others.
    fn each_batch<S: Borrow<DnaSequence>>(
        &mut self,
        sequences: &[S],
        each: &mut EachBatch<'_>,
    ) -> Result<()> {
        let mut tokens = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            tokens.push(self.tokens(sequence.borrow())?);
        }
        let counts: Vec<usize> = tokens.iter().map(|tokens| tokens.ids.len()).collect();
        let alone = |member: usize, tokens: usize, error: Error| {
            does_not_fit(&format!("sequence {}", member + 1), tokens, &error)
        };
        let model = self.model;
        let batches = batching::pack(&counts, model.tokens_per_batch());
        in_halves(model, &counts, batches, &alone, &mut |members| {
            let sequences = members.iter().map(|&member| tokens[member].ids.as_slice());
            let batch = TokenBatch::pack(sequences);
            let mut states = Vec::new();
            let mut keep = |_: u32, layer: &[f32]| states.extend_from_slice(layer);
            model.forward(&batch, &self.request, &mut keep)?;
            if self.is_per_nucleotide {
                let rows = batch.offsets.windows(2).zip(members).map(|(span, &member)| {
                    let states = &states[span[0] * self.width..span[1] * self.width];
                    rows_of_nucleotides(states, &tokens[member].lengths, self.width)
                });
                states = rows.collect::<Result<Vec<_>>>()?.concat();
            }
            each(&mut self.probe, members, &tokens, &states)
        })
    }

    fn tokens(&self, sequence: &DnaSequence) -> Result<Tokens> {
        let mut ids = self.model.tokenize(sequence)?;
        let count = ids.len();
        if let Some(pad) = self.model.tokenizer().pad_id() {
            ids.resize(count.max(self.pad_to), pad);
        }
        check_length("to be embedded", ids.len(), self.model.facts().tokens_max)?;
        let mut lengths = Vec::new();
        let mut rows = self.model.facts().states_fixed.map_or(ids.len(), |rows| rows as usize);
        if self.is_per_nucleotide {
            lengths = self.model.tokenizer().lengths(sequence.as_str())?;
            lengths.resize(ids.len(), 0);
            rows = lengths.iter().map(|&length| length as usize).sum();
        }
        if rows * self.width != self.probe.input().values() {
            let expected = format!("{}, which the network reads", self.probe.input());
            let found = format!("{rows} states of {}", self.width);
            return Err(InputError::new("embedding probe", "states", expected, found).into());
        }
        Ok(Tokens { ids, count, lengths })
    }
}

/// States of one sequence, a row for each nucleotide.
fn rows_of_nucleotides(states: &[f32], lengths: &[u32], width: usize) -> Result<Vec<f32>> {
    let options = RepresentationOptions { full_rows: FullRows::Nucleotides, ..Default::default() };
    represent(Pooling::Full, options, &[StrandStates { states, lengths }], width, false)
}

/// The gradient at a token's state is the sum over the rows that hold it; 0 where none does.
fn norms_of_tokens<'a>(
    mut rows: impl Iterator<Item = &'a [f32]>,
    lengths: &[u32],
    width: usize,
) -> Vec<f64> {
    let of_token = |&length: &u32| {
        let mut sum = vec![0.0_f32; width];
        for row in rows.by_ref().take(length as usize) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        norm(&sum)
    };
    lengths.iter().map(of_token).collect()
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}
