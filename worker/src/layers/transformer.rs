//! What transformer blocks are made of: self-attention and a feed-forward part.
//!
//! Leaves out: norms, and the order of the parts. Invariant: a sequence's result depends on that
//! sequence alone, so that blocks of rows change no bit.

use super::{defect, fit, load_linear, load_linear_form, pack, pack_gated, part_rows};
use crate::model::{Precision, TensorSource};
use crate::weights::ExpectedTensor;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::MemoryFacts;
use glmeval_kernels::ops::attention::{PositionBias, attention};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::rotary::{RotaryTable, rotary};

/// Tokens whose hidden feed-forward values are held at once, at most: enough to read the weights
/// rarely.
const FEED_FORWARD_ROWS: usize = 2_304;
/// Columns of a packed panel; shorter ones are filled up.
const PANEL_COLUMNS: u64 = 32;
/// Rows whose scores attention holds at once, twice.
const SCORE_ROWS: u64 = 12;

/// D, H and F of a transformer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    /// D.
    pub(crate) width: usize,
    /// H; divides D.
    pub(crate) head_count: usize,
    /// F, of one half if gated.
    pub(crate) feed_forward: usize,
}

impl Widths {
    /// Bytes held by a gLM of `tensors` with these widths, from above.
    pub(crate) fn memory(&self, tensors: &[ExpectedTensor], precision: Precision) -> MemoryFacts {
        const F32: u64 = size_of::<f32>() as u64;
        let operand = match precision {
            Precision::F32 | Precision::Tf32 => F32,
            Precision::Bf16 => F32 / 2,
        };
        let bytes = |tensor: &ExpectedTensor| match tensor.shape.as_slice() {
            [outputs, inputs] if !tensor.name.contains("embeddings") => (*outputs as u64)
                .next_multiple_of(PANEL_COLUMNS)
                .saturating_mul(*inputs as u64)
                .saturating_mul(operand),
            _ => tensor.count().saturating_mul(F32),
        };
        let weights = tensors.iter().map(bytes).fold(0, u64::saturating_add);
        let hidden = F32 * (FEED_FORWARD_ROWS as u64).saturating_mul(self.feed_forward as u64);
        let head = (self.width / self.head_count.max(1)) as u64;
        // Keys, values, scores and their weights; cosines and sines.
        let attention = head + head.next_multiple_of(PANEL_COLUMNS) + 2 * SCORE_ROWS + head;
        MemoryFacts {
            weights: weights.saturating_add(hidden),
            // States, what is normalised, what was attended to, and queries, keys and values.
            per_token: 6 * F32 * self.width as u64,
            per_longest_token: 0,
            per_longest_token_and_thread: F32 * attention,
        }
    }
}

/// Activations of one forward pass, shared by all blocks.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Input of the next part: `[N, D]`.
    pub(crate) narrow: Vec<f32>,
    /// `[N, D]`.
    attended: Vec<f32>,
    /// Queries, keys and values `[N, 3D]`, then hidden feed-forward values of some rows.
    wide: Vec<f32>,
}

impl Scratch {
    /// Makes it work space for `token_count` tokens.
    ///
    /// # Errors
    /// `Bug` for more than can be addressed.
    pub(crate) fn fit(&mut self, widths: Widths, token_count: usize) -> Result<()> {
        let hidden = token_count.min(FEED_FORWARD_ROWS).saturating_mul(widths.feed_forward);
        let wide = token_count.saturating_mul(widths.width.saturating_mul(3)).max(hidden);
        fit(&mut self.narrow, token_count, widths.width)?;
        fit(&mut self.attended, token_count, widths.width)?;
        fit(&mut self.wide, wide, 1)
    }
}

fn past() -> Error {
    Error::bug("scratch of another batch")
}

/// How positions enter attention.
#[derive(Clone, Copy)]
pub(crate) enum Positions<'a> {
    /// They do not.
    None,
    /// Queries and keys are rotated.
    Rotary(&'a RotaryTable),
    /// Distance is a penalty, with the slope of each head.
    Alibi(&'a [f32]),
}

/// Takes weights `[3D, D]` and biases `[3D]` of `name.self.{query,key,value}`, one after the other.
///
/// # Errors
/// As [`TensorSource::take_f32`].
pub(super) fn take_query_key_value(
    name: &str,
    width: usize,
    tensors: &mut dyn TensorSource,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in ["query", "key", "value"] {
        let name = format!("{name}.self.{part}");
        weight.extend(tensors.take_f32(&format!("{name}.weight"), &[width, width])?);
        bias.extend(tensors.take_f32(&format!("{name}.bias"), &[width])?);
    }
    Ok((weight, bias))
}

/// Self-attention with its output map.
pub(crate) struct SelfAttention {
    /// Queries, keys and values in one map, `[3D, D]`.
    query_key_value: PackedLinear,
    output: PackedLinear,
    width: usize,
    head_count: usize,
}

impl SelfAttention {
    /// Takes `name.self.{query,key,value}` and `name.output.dense`.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`].
    pub(crate) fn load(
        name: &str,
        widths: Widths,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (weight, bias) = take_query_key_value(name, widths.width, tensors)?;
        let extents = (widths.width.saturating_mul(3), widths.width);
        let query_key_value = pack(&weight, Some(&bias), extents, precision)?;
        Self::with_output(name, query_key_value, widths, precision, tensors)
    }

    /// Takes `name.self.Wqkv`, whose rows are queries, keys, then values, and `name.output.dense`.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`].
    pub(crate) fn load_fused(
        name: &str,
        widths: Widths,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let extents = (widths.width.saturating_mul(3), widths.width);
        let fused = load_linear(&format!("{name}.self.Wqkv"), extents, precision, tensors)?;
        Self::with_output(name, fused, widths, precision, tensors)
    }

    fn with_output(
        name: &str,
        query_key_value: PackedLinear,
        widths: Widths,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let Widths { width, head_count, .. } = widths;
        let name = format!("{name}.output.dense");
        let output = load_linear(&name, (width, width), precision, tensors)?;
        Ok(Self { query_key_value, output, width, head_count })
    }

    /// Adds attention over `scratch.narrow` to `states`, both `[N, D]`.
    ///
    /// ```text
    /// states += output(attention(query_key_value(narrow)))
    /// ```
    ///
    /// # Errors
    /// `Bug` for scratch of another batch.
    pub(crate) fn add(
        &self,
        offsets: &[usize],
        positions: Positions<'_>,
        scratch: &mut Scratch,
        states: &mut [f32],
    ) -> Result<()> {
        let Scratch { narrow, attended, wide } = scratch;
        let qkv = wide.get_mut(..narrow.len().saturating_mul(3)).ok_or_else(past)?;
        linear(narrow, &self.query_key_value, Epilogue::None, qkv).map_err(defect)?;
        let bias = match positions {
            Positions::None => PositionBias::None,
            Positions::Rotary(table) => {
                rotary(qkv, offsets, self.head_count, table).map_err(defect)?;
                PositionBias::None
            }
            Positions::Alibi(slopes) => PositionBias::Alibi { slopes },
        };
        let scale = ((self.width / self.head_count) as f64).powf(-0.5) as f32;
        attention(qkv, offsets, self.head_count, scale, bias, attended).map_err(defect)?;
        linear(attended, &self.output, Epilogue::Add, states).map_err(defect)
    }
}

/// What happens between the two maps of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `gelu(x)`
    Gelu,
    /// `silu(x[..F]) x[F..]`
    SiluGate,
    /// `gelu(x[..F]) x[F..]`
    GeluGate,
}

impl Activation {
    pub(super) fn is_gate(self) -> bool {
        self != Self::Gelu
    }

    fn epilogue(self) -> Epilogue {
        match self {
            Self::Gelu => Epilogue::Gelu,
            Self::SiluGate => Epilogue::SiluGate,
            Self::GeluGate => Epilogue::GeluGate,
        }
    }
}

/// Two maps with an activation between.
pub(crate) struct FeedForward {
    expand: PackedLinear,
    contract: PackedLinear,
    activation: Activation,
}

impl FeedForward {
    /// Takes two linear maps by name, each with a bias or without.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`].
    pub(crate) fn load(
        [(expand, expand_bias), (contract, contract_bias)]: [(&str, bool); 2],
        widths: Widths,
        activation: Activation,
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let Widths { width, feed_forward: hidden, .. } = widths;
        let rows = if activation.is_gate() { hidden.saturating_mul(2) } else { hidden };
        let weight = tensors.take_f32(&format!("{expand}.weight"), &[rows, width])?;
        let bias = if expand_bias {
            Some(tensors.take_f32(&format!("{expand}.bias"), &[rows])?)
        } else {
            None
        };
        let pack = if activation.is_gate() { pack_gated } else { pack };
        let expand = pack(&weight, bias.as_deref(), (hidden, width), precision)?;
        drop(weight);
        let form = ((width, hidden), contract_bias);
        let contract = load_linear_form(contract, form, precision, tensors)?;
        Ok(Self { expand, contract, activation })
    }

    /// Adds what it makes of `scratch.narrow` to `states`, both `[N, D]`.
    ///
    /// ```text
    /// states += contract(activation(expand(narrow)))
    /// ```
    ///
    /// # Errors
    /// `Bug` for scratch of another batch.
    pub(crate) fn add(&self, scratch: &mut Scratch, states: &mut [f32]) -> Result<()> {
        let Scratch { narrow, wide, .. } = scratch;
        let width = self.expand.input_width();
        let part = part_rows(narrow.len() / width, FEED_FORWARD_ROWS);
        let block = part.saturating_mul(width);
        for (x, states) in narrow.chunks(block).zip(states.chunks_mut(block)) {
            let length = (x.len() / width).saturating_mul(self.expand.output_width());
            let hidden = wide.get_mut(..length).ok_or_else(past)?;
            linear(x, &self.expand, self.activation.epilogue(), hidden).map_err(defect)?;
            linear(hidden, &self.contract, Epilogue::Add, states).map_err(defect)?;
        }
        Ok(())
    }
}
