//! Examples to one embedding shard.
//!
//! Leaves out: where examples come from and where the shard goes (`runner`).
//! Invariant: a row's bits depend on its sequence, the gLM and the numeric class, never on other rows;
//! what is held is the shard's bytes once, in the number format on disk, beside one batch.

use crate::batching;
use crate::model::{LayerRequest, Model, TokenBatch};
use crate::representation::pool;
use glmeval_common::embedding::{EmbeddingShard, ShardIdentity, ShardTensor, narrow};
use glmeval_common::error::{Error, Result};
use glmeval_common::example::Example;
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_common::model::ModelFacts;
use glmeval_common::representation::{Pooling, StoredDtype};
use glmeval_common::unit::SetSpec;
use std::collections::BTreeMap;

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
    embed_in_batches(model, set, shard, TOKENS_PER_BATCH_MAX, done)
}

fn embed_in_batches(
    model: &Model,
    set: &SetSpec,
    shard: &ShardExamples,
    tokens_per_batch_max: usize,
    done: &mut dyn FnMut(u64),
) -> Result<EmbeddingShard> {
    let tokens = tokenize(model, &shard.examples)?;
    let mut rows = Rows::new(set, model.facts(), &shard.examples, &tokens)?;
    let request = LayerRequest::new(&set.layers, model.facts().layer_count)?;
    let counts: Vec<usize> = tokens.iter().map(Vec::len).collect();
    for members in batching::pack(&counts, tokens_per_batch_max) {
        let batch = TokenBatch::pack(members.iter().map(|&index| tokens[index].as_slice()));
        let mut failed = None;
        model.forward(&batch, &request, &mut |layer, states| {
            if failed.is_none() {
                failed = rows.take(model, layer, states, &batch, &members).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        done(members.len() as u64);
    }
    Ok(rows.into_shard(set, shard))
}

fn tokenize(model: &Model, examples: &[Example]) -> Result<Vec<Vec<u32>>> {
    let tokens_max = model.facts().tokens_max;
    let mut tokens = Vec::with_capacity(examples.len());
    for example in examples {
        let [sequence] = example.sequences.as_slice() else {
            let count = example.sequences.len();
            let id = &example.id;
            return Err(Error::invalid(format!(
                "example {id}: expected one sequence, found {count}"
            )));
        };
        let ids = model
            .tokenize(sequence)
            .map_err(|e| e.context(format!("tokenize example {}", example.id)))?;
        batching::check_length(&example.id, ids.len(), tokens_max)?;
        tokens.push(ids);
    }
    Ok(tokens)
}

/// One output tensor while it fills.
struct Output {
    rows: usize,
    /// `[rows, D]` in the number format on disk.
    bytes: Vec<u8>,
}

/// All output tensors of a shard, rows in the order of the examples.
struct Rows<'a> {
    examples: &'a [Example],
    dtype: StoredDtype,
    width: usize,
    outputs: BTreeMap<(u32, Pooling), Output>,
    /// First state of each example in `full` tensors; E + 1 numbers.
    offsets: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(
        set: &SetSpec,
        facts: &ModelFacts,
        examples: &'a [Example],
        tokens: &[Vec<u32>],
    ) -> Result<Self> {
        let mut offsets = vec![0];
        for ids in tokens {
            let states = facts.states(ids.len() as u64) as usize;
            offsets.push(offsets.last().copied().unwrap_or(0) + states);
        }
        let state_count = offsets.last().copied().unwrap_or(0);
        let width = facts.width as usize;
        let mut rows =
            Self { examples, dtype: set.dtype, width, outputs: BTreeMap::new(), offsets };
        for &layer in &set.layers {
            for &pooling in &set.poolings {
                let count = if pooling == Pooling::Full { state_count } else { tokens.len() };
                let length = count.checked_mul(rows.row_bytes()).ok_or_else(|| {
                    Error::invalid(format!("shard of {count} rows of {width} is too large"))
                })?;
                let output = Output { rows: count, bytes: vec![0; length] };
                rows.outputs.insert((layer, pooling), output);
            }
        }
        Ok(rows)
    }

    /// Bytes of one row of any tensor.
    fn row_bytes(&self) -> usize {
        self.width.saturating_mul(self.dtype.bytes() as usize)
    }

    /// Pools the states of one batch into the rows of its members.
    fn take(
        &mut self,
        model: &Model,
        layer: u32,
        states: &[f32],
        batch: &TokenBatch,
        members: &[usize],
    ) -> Result<()> {
        let row_bytes = self.row_bytes();
        let offsets = model.state_offsets(batch);
        let poolings = (layer, Pooling::Cls)..=(layer, Pooling::Full);
        for ((_, pooling), output) in self.outputs.range_mut(poolings) {
            let is_full = *pooling == Pooling::Full;
            let name = |row: usize| {
                let ends = offsets.get(1..).unwrap_or_default();
                let place = if is_full { ends.partition_point(|&end| end <= row) } else { row };
                let example = members.get(place).and_then(|&member| self.examples.get(member));
                let id = example.map_or("?", |example| example.id.as_str());
                format!("{id} of layer {layer} {pooling}")
            };
            let pooled;
            let values = if is_full {
                states
            } else {
                pooled = pool(*pooling, states, &offsets, model.mean_skips_first())?;
                &pooled
            };
            let bytes = narrow(values, self.width, self.dtype, &name)?;
            for (index, (&member, span)) in members.iter().zip(offsets.windows(2)).enumerate() {
                let (to, from) = if is_full {
                    (self.offsets[member], span[0]..span[1])
                } else {
                    (member, index..index + 1)
                };
                let rows = &bytes[from.start * row_bytes..from.end * row_bytes];
                output.bytes[to * row_bytes..][..rows.len()].copy_from_slice(rows);
            }
        }
        Ok(())
    }

    fn into_shard(self, set: &SetSpec, shard: &ShardExamples) -> EmbeddingShard {
        let width = self.width as u64;
        let tensors = self.outputs.into_iter().map(|((layer, pooling), output)| {
            let (rows, values) = (output.rows as u64, output.bytes.into());
            ShardTensor { layer, pooling, rows, width, values }
        });
        let full = set.poolings.contains(&Pooling::Full);
        EmbeddingShard {
            identity: ShardIdentity::of(set),
            start: shard.start,
            end: shard.end,
            row_ids: self.examples.iter().map(|example| example.id.clone()).collect(),
            example_indices: shard.indices.clone(),
            tensors: tensors.collect(),
            token_offsets: full.then(|| self.offsets.iter().map(|&offset| offset as u64).collect()),
        }
    }
}

#[cfg(test)]
mod tests;
