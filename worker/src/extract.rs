//! Examples to one embedding shard.
//!
//! Leaves out: where examples come from and where the shard goes (`runner`).
//! Invariant: a row's bits depend on its sequence, the gLM and the numeric class, never on other rows;
//! what is held is the shard's bytes once, in the number format on disk, beside one batch.

use crate::batching;
use crate::model::{LayerRequest, Model, States, TokenBatch, does_not_fit, in_halves};
use crate::representation::{StrandStates, represent};
use glmeval_common::dna::DnaSequence;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Example;
use glmeval_common::representation::{
    FullRows, Pooling, RepresentationOptions, StoredDtype, Strands,
};
use glmeval_common::unit::SetSpec;
use pooled::pooled_rows;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tracing::info_span;

mod effects;
mod pooled;

/// Which examples a shard holds, and their numbers in the data set.
pub struct ShardExamples {
    /// First example of the range the shard stands for.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The examples; fewer than the range where windows were skipped.
    pub examples: Vec<Example>,
    /// Their numbers; `None` = all of `start..end`.
    pub indices: Option<Vec<u64>>,
}

/// Embeds `shard` with `model` into what `set` asks for; `done` is called with rows as they finish.
///
/// # Errors
/// `Invalid` naming the example for a letter outside the vocabulary, a sequence that is too long, or
/// a state that is not finite.
pub fn embed(
    model: &Model,
    set: &SetSpec,
    shard: &ShardExamples,
    done: &mut dyn FnMut(u64),
) -> Result<EmbeddingShard> {
    if let Some(scores) = &set.effects {
        return effects::score(model, (set, scores), shard, done);
    }
    embed_in_batches(model, set, shard, model.tokens_per_batch(), done)
}

fn embed_in_batches(
    model: &Model,
    set: &SetSpec,
    shard: &ShardExamples,
    tokens_per_batch_max: usize,
    done: &mut dyn FnMut(u64),
) -> Result<EmbeddingShard> {
    let tokenized = info_span!("tokenize").in_scope(|| tokenize(model, set, &shard.examples));
    let tokens = tokenized?;
    let _forward = info_span!("forward", examples = shard.examples.len()).entered();
    let mut rows = Rows::new(set, model, &shard.examples, &tokens)?;
    let request = LayerRequest::new(&set.layers, model.facts().layer_count)?;
    let counts: Vec<usize> = tokens.iter().map(ExampleTokens::count).collect();
    let budget = tokens_per_batch_max.min(model.tokens_per_batch());
    let batches = batching::pack(&counts, budget);
    let name_of = |member: usize| shard.examples.get(member).map_or("", |example| &example.id);
    let alone = |member: usize, count: usize, error: Error| {
        does_not_fit(&format!("example {}", name_of(member)), count, &error)
    };
    in_halves(model, &counts, batches, &alone, &mut |members| {
        forward(model, &request, members, &mut rows)?;
        done(members.len() as u64);
        Ok(())
    })?;
    Ok(rows.into_shard(set, shard))
}

/// One forward pass over the examples `members`, into their rows.
fn forward(
    model: &Model,
    request: &LayerRequest,
    members: &[usize],
    rows: &mut Rows<'_>,
) -> Result<()> {
    let tokens = rows.source.tokens;
    let sequences = members.iter().flat_map(|&index| &tokens[index].sequences);
    let strands = sequences.flatten().map(|strand| strand.ids.as_slice());
    let batch = TokenBatch::pack(strands);
    model.hand_out(&batch, request, &mut |layer, states| rows.take(layer, states, &batch, members))
}

/// Tokens of one strand.
struct StrandTokens {
    ids: Vec<u32>,
    /// Nucleotides each stands for; empty where the set does not ask for them.
    lengths: Vec<u32>,
}

/// Tokens of one example: of each sequence, then of its reverse complement if both are asked for.
struct ExampleTokens {
    sequences: Vec<Vec<StrandTokens>>,
}

impl ExampleTokens {
    /// Tokens of all strands of all sequences, which share a batch.
    fn count(&self) -> usize {
        self.sequences.iter().flatten().map(|strand| strand.ids.len()).sum()
    }
}

/// Sequences of each example; one where there is no example.
fn sequence_count(examples: &[Example]) -> usize {
    examples.first().map_or(1, |example| example.sequences.len())
}

/// The example of sequence `row` for people, with the number of the sequence among several.
fn source_name(examples: &[Example], sequences: usize, row: usize) -> String {
    let id = examples.get(row / sequences).map_or("", |example| &example.id);
    match sequences {
        1 => id.to_owned(),
        count => format!("{id} (sequence {} of {count})", row % count + 1),
    }
}

fn tokenize(model: &Model, set: &SetSpec, examples: &[Example]) -> Result<Vec<ExampleTokens>> {
    let mut tokens = Vec::with_capacity(examples.len());
    let expected = sequence_count(examples);
    for example in examples {
        let (id, found) = (&example.id, example.sequences.len());
        if found != expected || found == 0 {
            return Err(Error::invalid(format!(
                "example {id}: expected {} sequences, found {found}",
                expected.max(1)
            )));
        }
        let strand = |sequence: &DnaSequence| {
            strand_tokens(model, set, sequence, id)
                .map_err(|e| e.context(format!("tokenize example {id}")))
        };
        let mut sequences = Vec::with_capacity(found);
        for sequence in &example.sequences {
            let mut strands = vec![strand(sequence)?];
            if set.options.strands == Strands::Averaged {
                strands.push(strand(&sequence.reverse_complement())?);
            }
            sequences.push(strands);
        }
        tokens.push(ExampleTokens { sequences });
    }
    Ok(tokens)
}

fn strand_tokens(
    model: &Model,
    set: &SetSpec,
    sequence: &DnaSequence,
    id: &str,
) -> Result<StrandTokens> {
    let ids = model.tokenize(sequence)?;
    batching::check_length(id, ids.len(), model.facts().tokens_max)?;
    let mut lengths = Vec::new();
    if set.options.needs_token_lengths() {
        if model.facts().states_fixed.is_some() {
            let error = Error::invalid("states of this gLM do not stand for nucleotides");
            return Err(error.of_all_rows());
        }
        lengths = model.tokenizer().lengths(sequence.as_str())?;
        let covered: usize = lengths.iter().map(|&length| length as usize).sum();
        if covered != sequence.as_str().len() {
            let expected = sequence.as_str().len();
            return Err(Error::invalid(format!(
                "expected tokens for {expected} nucleotides, found some for {covered}"
            )));
        }
    }
    Ok(StrandTokens { ids, lengths })
}

/// One output tensor while it fills.
struct Output {
    rows: usize,
    /// `[rows, D]` in the number format on disk; rows of a pooling are sequences.
    bytes: Vec<u8>,
}

/// What rows are made of.
struct Source<'a> {
    model: &'a Model,
    examples: &'a [Example],
    tokens: &'a [ExampleTokens],
    options: RepresentationOptions,
    dtype: StoredDtype,
    width: usize,
    /// S.
    sequences: usize,
    /// First row of each sequence in `full` tensors; E * S + 1 numbers.
    offsets: Vec<usize>,
}

impl Source<'_> {
    /// The example of sequence `row` for people, with the number of the sequence among several.
    fn name(&self, row: usize) -> String {
        source_name(self.examples, self.sequences, row)
    }

    /// Bytes of one row of any tensor.
    fn row_bytes(&self) -> usize {
        self.width.saturating_mul(self.dtype.bytes() as usize)
    }

    /// The rows of one sequence, in the number format on disk; `spans` bound its strands' states.
    fn row(
        &self,
        pooling: Pooling,
        states: &[f32],
        spans: &[usize],
        strands: &[StrandTokens],
        name: &str,
    ) -> Result<Vec<u8>> {
        let width = self.width;
        let of_span = |span: &[usize]| &states[span[0] * width..span[1] * width];
        let named = |_: usize| name.to_owned();
        if pooling == Pooling::Full && self.options == RepresentationOptions::default() {
            return narrow(of_span(spans), width, self.dtype, &named);
        }
        let strands: Vec<StrandStates<'_>> = spans
            .windows(2)
            .zip(strands)
            .map(|(span, tokens)| StrandStates { states: of_span(span), lengths: &tokens.lengths })
            .collect();
        let skips_first = self.model.mean_skips_first();
        let values = represent(pooling, self.options, &strands, width, skips_first)
            .map_err(|e| e.context(format!("example {name}")))?;
        narrow(&values, width, self.dtype, &named)
    }
}

/// All output tensors of a shard, rows in the order of the examples.
struct Rows<'a> {
    source: Source<'a>,
    outputs: BTreeMap<(u32, Pooling), Output>,
}

impl<'a> Rows<'a> {
    fn new(
        set: &SetSpec,
        model: &'a Model,
        examples: &'a [Example],
        tokens: &'a [ExampleTokens],
    ) -> Result<Self> {
        let mut offsets = vec![0];
        let sequences = examples.iter().flat_map(|example| &example.sequences);
        for (sequence, strands) in sequences.zip(tokens.iter().flat_map(|t| &t.sequences)) {
            let count = match (set.options.full_rows, strands.first()) {
                (FullRows::Nucleotides, _) => sequence.as_str().len(),
                (FullRows::Tokens, strand) => {
                    model.facts().states(strand.map_or(0, |strand| strand.ids.len()) as u64)
                        as usize
                }
            };
            offsets.push(offsets.last().copied().unwrap_or(0) + count);
        }
        let row_count = offsets.last().copied().unwrap_or(0);
        let (options, dtype) = (set.options, set.dtype);
        let width = model.facts().width as usize;
        let sequences = sequence_count(examples);
        let pooled_count = offsets.len() - 1;
        let source = Source { model, examples, tokens, options, dtype, width, sequences, offsets };
        let mut outputs = BTreeMap::new();
        for &layer in &set.layers {
            for &pooling in &set.poolings {
                let count = if pooling == Pooling::Full { row_count } else { pooled_count };
                let length = count.checked_mul(source.row_bytes()).ok_or_else(|| {
                    Error::invalid(format!("shard of {count} rows of {width} is too large"))
                })?;
                let output = Output { rows: count, bytes: vec![0; length] };
                outputs.insert((layer, pooling), output);
            }
        }
        Ok(Self { source, outputs })
    }

    /// Represents the states of one batch in the rows of its members.
    fn take(
        &mut self,
        layer: u32,
        states: States<'_>,
        batch: &TokenBatch,
        members: &[usize],
    ) -> Result<()> {
        let source = &self.source;
        let row_bytes = source.row_bytes();
        let offsets = source.model.state_offsets(batch);
        let poolings = (layer, Pooling::Cls)..=(layer, Pooling::AfterCls);
        let mut on_host = None;
        for ((_, pooling), output) in self.outputs.range_mut(poolings) {
            let made = match states {
                States::Device(states) => pooled_rows(source, *pooling, states, &offsets, members)?,
                States::Host(_) => None,
            };
            if made.is_none() && on_host.is_none() {
                on_host = Some(states.on_host()?);
            }
            let mut first = 0;
            let sequences = members.iter().flat_map(|&member| {
                (member * source.sequences..).zip(&source.tokens[member].sequences)
            });
            for (sequence, (row, strands)) in sequences.enumerate() {
                let spans = &offsets[first..=first + strands.len()];
                first += strands.len();
                let bytes = match (&made, &on_host) {
                    (Some(made), _) => Cow::Borrowed(made.of(sequence, row_bytes)),
                    (None, states) => {
                        let name = format!("{} of layer {layer} {pooling}", source.name(row));
                        let states = states.as_deref().unwrap_or_default();
                        Cow::Owned(source.row(*pooling, states, spans, strands, &name)?)
                    }
                };
                let to = if *pooling == Pooling::Full { source.offsets[row] } else { row };
                output.bytes[to * row_bytes..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn into_shard(self, set: &SetSpec, shard: &ShardExamples) -> EmbeddingShard {
        let width = self.source.width as u64;
        let sequences = self.source.sequences;
        let tensors = self.outputs.into_iter().map(|((layer, pooling), output)| {
            let is_full = pooling == Pooling::Full;
            let rows = if is_full { output.rows } else { output.rows / sequences } as u64;
            let values = output.bytes.into();
            ShardTensor { layer, pooling, rows, width, values }
        });
        let full = set.poolings.contains(&Pooling::Full);
        EmbeddingShard {
            identity: ShardIdentity::of(set),
            start: shard.start,
            end: shard.end,
            row_ids: self.source.examples.iter().map(|example| example.id.clone()).collect(),
            example_indices: shard.indices.clone(),
            sequences: sequences as u32,
            tensors: tensors.collect(),
            token_offsets: full
                .then(|| self.source.offsets.iter().map(|&offset| offset as u64).collect()),
        }
    }
}

#[cfg(test)]
mod tests;
