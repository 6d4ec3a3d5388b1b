//! Embedding shards: some layers and poolings of a range of examples, as one safetensors file.
//!
//! ```text
//! u64 LE header length | header JSON, padded with spaces to 8 | tensor bytes, little-endian, in header order
//! example_indices  I64 [E]      only where some examples of start..end are left out
//! token_offsets    I64 [E + 1]  only beside `full`: tokens of example e are rows offsets[e]..offsets[e+1]
//! layer_12.cls     dtype [E, D]      layer_12.mean  dtype [E, D]      layer_12.full  dtype [N, D]
//! ```
//! A set of variants' scores has one tensor, `layer_12.effect` F32 [E, columns], with the names of the
//! columns in `columns`, and S = 1.
//!
//! Where each example has S > 1 sequences: `cls` and `mean` are [E, S, D], `token_offsets` [E * S + 1],
//! and the tokens of sequence s of example e are rows offsets[e * S + s]..offsets[e * S + s + 1].
//!
//! `__metadata__` (all text): `axes`, `columns` (JSON list, only of scores), `dataset`, `dtype`, `end`, `format_version`, `model`, `numeric_class`,
//! `row_ids` (JSON list), `sequences` (S, only above 1), `set`, `start`.
//!
//! `safetensors.numpy.load_file` opens f32 and f16 shards as they are; numpy has no bf16, `safetensors.torch` does.
//!
//! Leaves out: where shards rest (store). Invariant: equal shards have equal bytes.

use crate::error::Result;
use crate::ids::{DatasetId, ModelId, SetId};
use crate::representation::{Pooling, StoredDtype};
use crate::unit::SetSpec;
use bytes::Bytes;

pub mod anndata;
mod decode;
mod encode;
pub mod export;
mod numbers;
#[cfg(test)]
mod tests;

pub use numbers::{narrow, widen};

/// Name of the tensor of example numbers.
const EXAMPLE_INDICES: &str = "example_indices";
/// Name of the tensor of token offsets.
const TOKEN_OFFSETS: &str = "token_offsets";
/// Name of the text that names the columns of scores.
const COLUMNS: &str = "columns";
/// Name of the text that says how many sequences each example has.
const SEQUENCES: &str = "sequences";

/// What a shard belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The embedding set.
    pub set: SetId,
    /// The gLM.
    pub model: ModelId,
    /// The data set.
    pub dataset: DatasetId,
    /// Number format of every tensor of layers.
    pub dtype: StoredDtype,
    /// Numeric class, such as `f32.cpu.1`.
    pub numeric_class: String,
    /// Names of the columns of scores; empty for states.
    pub columns: Vec<String>,
}

impl ShardIdentity {
    /// The identity of every shard of `set`.
    pub fn of(set: &SetSpec) -> Self {
        Self {
            set: set.id.clone(),
            model: set.model.id.clone(),
            dataset: set.dataset.clone(),
            dtype: set.dtype,
            numeric_class: set.numeric_class.clone(),
            columns: set.columns(),
        }
    }
}

/// One layer under one pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTensor {
    /// 0 = input of the first block, n = output of block n.
    pub layer: u32,
    /// How token states were joined.
    pub pooling: Pooling,
    /// E for `cls` and `mean`, N tokens for `full`.
    pub rows: u64,
    /// D.
    pub width: u64,
    /// `[E, S, D]` or `[N, D]`, little-endian, in the shard's number format.
    pub values: Bytes,
}

/// Embeddings of the examples `start..end` of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingShard {
    /// What it belongs to.
    pub identity: ShardIdentity,
    /// First example.
    pub start: u64,
    /// One past the last example.
    pub end: u64,
    /// Ids of the examples held, E of them.
    pub row_ids: Vec<String>,
    /// Numbers of the examples held, rising; `None` = all of `start..end`.
    pub example_indices: Option<Vec<u64>>,
    /// S, sequences of each example, from 1.
    pub sequences: u32,
    /// Layers and poolings, in any order.
    pub tensors: Vec<ShardTensor>,
    /// `[E * S + 1]`, from 0, never falling; `None` without a `full` tensor.
    pub token_offsets: Option<Vec<u64>>,
}

impl EmbeddingShard {
    /// The file's bytes; tensors are sorted by layer, then pooling.
    ///
    /// # Errors
    /// `Bug` when the parts contradict each other, `Invalid` when row ids are too long for a header.
    pub fn encode(&self) -> Result<Bytes> {
        encode::encode(self)
    }

    /// Reads and checks a file; `name` goes into errors. Values share the memory of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` naming file, place, expected and found; `Invalid` for a newer format version.
    pub fn decode(bytes: &Bytes, name: &str) -> Result<Self> {
        decode::decode(bytes, name)
    }

    /// The tensor of `layer` under `pooling`, if the shard holds it.
    pub fn tensor(&self, layer: u32, pooling: Pooling) -> Option<&ShardTensor> {
        self.tensors.iter().find(|tensor| tensor.layer == layer && tensor.pooling == pooling)
    }

    /// Rows of the shard that stand for the examples `from..to`.
    pub fn rows_of(&self, from: u64, to: u64) -> std::ops::Range<usize> {
        let position = |example: u64| match &self.example_indices {
            Some(indices) => indices.partition_point(|&index| index < example),
            None => {
                let past = example.saturating_sub(self.start);
                usize::try_from(past).unwrap_or(usize::MAX).min(self.row_ids.len())
            }
        };
        let first = position(from);
        first..position(to).max(first)
    }

    /// Tokens before each sequence of the example rows `rows`, and after the last; empty in a shard
    /// without `full` tensors.
    pub fn token_bounds(&self, rows: &std::ops::Range<usize>) -> &[u64] {
        let sequences = usize::try_from(self.sequences).unwrap_or(usize::MAX);
        let [first, last] = [rows.start, rows.end].map(|row| row.saturating_mul(sequences));
        let offsets = self.token_offsets.as_deref().unwrap_or_default();
        offsets.get(first..=last).unwrap_or_default()
    }

    /// Values of example rows `rows` of one tensor, widened: `[E, S, D]`, or `[N, D]` for `full`.
    ///
    /// # Errors
    /// `NotFound` when the shard lacks the tensor, `Corrupt` when rows lie outside.
    pub fn values_f32(
        &self,
        layer: u32,
        pooling: Pooling,
        rows: std::ops::Range<usize>,
    ) -> Result<Vec<f32>> {
        use crate::error::Error;
        let name = tensor_name(layer, pooling);
        let tensor = self.tensor(layer, pooling).ok_or_else(|| {
            Error::not_found(format!("{name} in shard {}-{}", self.start, self.end))
        })?;
        let outside = || {
            Error::corrupt(format!(
                "{name} in shard {}-{}: expected rows {rows:?}, found {} rows",
                self.start, self.end, tensor.rows
            ))
        };
        let sequences = match pooling {
            Pooling::Effect => 1,
            _ => usize::try_from(self.sequences).unwrap_or(usize::MAX),
        };
        let row = |index: usize| {
            let sequence = index.checked_mul(sequences)?;
            match (&self.token_offsets, pooling) {
                (Some(offsets), Pooling::Full) => {
                    offsets.get(sequence).and_then(|&offset| usize::try_from(offset).ok())
                }
                _ => Some(sequence),
            }
        };
        let row_bytes = usize::try_from(tensor.width.saturating_mul(self.identity.dtype.bytes()));
        let at = |index: usize| row(index)?.checked_mul(row_bytes.ok()?);
        let (Some(from), Some(to)) = (at(rows.start), at(rows.end)) else { return Err(outside()) };
        let bytes = tensor.values.get(from..to).ok_or_else(outside)?;
        Ok(widen(bytes, self.identity.dtype))
    }
}

/// `layer_12.cls`.
pub fn tensor_name(layer: u32, pooling: Pooling) -> String {
    format!("layer_{layer}.{pooling}")
}

/// The inverse of [`tensor_name`].
pub fn parse_tensor_name(name: &str) -> Option<(u32, Pooling)> {
    let (layer, pooling) = name.strip_prefix("layer_")?.split_once('.')?;
    let layer = layer.parse().ok()?;
    let pooling = Pooling::ALL.into_iter().find(|choice| choice.name() == pooling)?;
    (tensor_name(layer, pooling) == name).then_some((layer, pooling))
}

/// Axis names of a tensor of examples of `sequences` sequences.
fn axes_of(pooling: Pooling, sequences: u32) -> &'static [&'static str] {
    match (pooling, sequences) {
        (Pooling::Full, _) => &["token", "width"],
        (Pooling::Effect, _) => &["example", "score"],
        (Pooling::Cls | Pooling::Mean | Pooling::AfterCls, 1) => &["example", "width"],
        (Pooling::Cls | Pooling::Mean | Pooling::AfterCls, _) => &["example", "sequence", "width"],
    }
}
