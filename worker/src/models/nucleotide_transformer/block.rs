//! One pre-norm transformer block: attention, then a GELU feed-forward part, both residual.

use super::{defect, linear_tensors, norm_tensors};
use crate::config::EsmConfig;
use crate::model::{TensorShape, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::attention::{PositionBias, attention};
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// Scale and shift of a layer norm.
pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(super) fn load(
        name: &str,
        width: usize,
        eps: f32,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let weight = tensors.take_f32(&format!("{name}.weight"), &[width])?;
        let bias = tensors.take_f32(&format!("{name}.bias"), &[width])?;
        Ok(Self { weight, bias, eps })
    }

    /// Normalises each row of `x` into `out`, both `[N, D]`.
    pub(super) fn apply(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        layer_norm(x, &self.weight, Some(&self.bias), self.eps, out).map_err(defect)
    }
}

/// Loads `name.weight` and `name.bias` as one linear map.
pub(super) fn load_linear(
    name: &str,
    output_width: usize,
    input_width: usize,
    tensors: &mut dyn TensorSource,
) -> Result<PackedLinear> {
    let weight = tensors.take_f32(&format!("{name}.weight"), &[output_width, input_width])?;
    let bias = tensors.take_f32(&format!("{name}.bias"), &[output_width])?;
    PackedLinear::pack(&weight, Some(&bias), output_width, input_width).map_err(defect)
}

/// Activations of one forward pass, shared by all blocks.
pub(super) struct Scratch {
    /// Normalised states, then attention's result: `[N, D]`.
    pub(super) narrow: Vec<f32>,
    /// `[N, D]`.
    attended: Vec<f32>,
    /// Queries, keys and values `[N, 3D]`, then the feed-forward part `[N, F]`.
    wide: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(config: &EsmConfig, token_count: usize) -> Result<Self> {
        let width = config.hidden_size;
        let wide = width.saturating_mul(3).max(config.intermediate_size);
        let zeros = |width: usize| {
            let count = token_count.checked_mul(width);
            let count = count.ok_or_else(|| Error::bug("activations are past all memory"))?;
            Ok::<_, Error>(vec![0.0; count])
        };
        Ok(Self { narrow: zeros(width)?, attended: zeros(width)?, wide: zeros(wide)? })
    }
}

fn prefix(index: usize) -> String {
    format!("esm.encoder.layer.{index}")
}

/// Names and shapes of the tensors of block `index`.
pub(super) fn tensors(config: &EsmConfig, index: usize) -> Vec<TensorShape> {
    let (width, wide, prefix) = (config.hidden_size, config.intermediate_size, prefix(index));
    let attention = format!("{prefix}.attention");
    let mut tensors = norm_tensors(&format!("{attention}.LayerNorm"), width).to_vec();
    for part in ["self.query", "self.key", "self.value", "output.dense"] {
        tensors.extend(linear_tensors(&format!("{attention}.{part}"), width, width));
    }
    tensors.extend(norm_tensors(&format!("{prefix}.LayerNorm"), width));
    tensors.extend(linear_tensors(&format!("{prefix}.intermediate.dense"), wide, width));
    tensors.extend(linear_tensors(&format!("{prefix}.output.dense"), width, wide));
    tensors
}

/// Weights of one block.
pub(super) struct Block {
    attention_norm: LayerNorm,
    /// Queries, keys and values in one map, `[3D, D]`.
    query_key_value: PackedLinear,
    attention_output: PackedLinear,
    feed_forward_norm: LayerNorm,
    expand: PackedLinear,
    contract: PackedLinear,
    head_count: usize,
    width: usize,
    feed_forward_width: usize,
}

impl Block {
    pub(super) fn load(
        config: &EsmConfig,
        eps: f32,
        index: usize,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, wide, prefix) = (config.hidden_size, config.intermediate_size, prefix(index));
        let name = |part: &str| format!("{prefix}.{part}");
        Ok(Self {
            attention_norm: LayerNorm::load(&name("attention.LayerNorm"), width, eps, tensors)?,
            query_key_value: load_query_key_value(&name("attention.self"), width, tensors)?,
            attention_output: load_linear(&name("attention.output.dense"), width, width, tensors)?,
            feed_forward_norm: LayerNorm::load(&name("LayerNorm"), width, eps, tensors)?,
            expand: load_linear(&name("intermediate.dense"), wide, width, tensors)?,
            contract: load_linear(&name("output.dense"), width, wide, tensors)?,
            head_count: config.num_attention_heads,
            width,
            feed_forward_width: wide,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output.
    ///
    /// ```text
    /// x += linear_o(attention(linear_qkv(LN(x))));  x += linear_2(gelu(linear_1(LN(x))))
    /// ```
    pub(super) fn apply(
        &self,
        states: &mut [f32],
        offsets: &[usize],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let token_count = states.len() / self.width;
        let Scratch { narrow, attended, wide } = scratch;
        let past = || Error::bug("scratch of another batch");

        self.attention_norm.apply(states, narrow)?;
        let qkv = wide.get_mut(..token_count * 3 * self.width).ok_or_else(past)?;
        linear(narrow, &self.query_key_value, Epilogue::None, qkv).map_err(defect)?;
        let scale = ((self.width / self.head_count) as f64).powf(-0.5) as f32;
        attention(qkv, offsets, self.head_count, scale, PositionBias::None, attended)
            .map_err(defect)?;
        linear(attended, &self.attention_output, Epilogue::Add, states).map_err(defect)?;

        self.feed_forward_norm.apply(states, narrow)?;
        let hidden = wide.get_mut(..token_count * self.feed_forward_width).ok_or_else(past)?;
        linear(narrow, &self.expand, Epilogue::Gelu, hidden).map_err(defect)?;
        linear(hidden, &self.contract, Epilogue::Add, states).map_err(defect)
    }
}

fn load_query_key_value(
    name: &str,
    width: usize,
    tensors: &mut dyn TensorSource,
) -> Result<PackedLinear> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in ["query", "key", "value"] {
        weight.extend(tensors.take_f32(&format!("{name}.{part}.weight"), &[width, width])?);
        bias.extend(tensors.take_f32(&format!("{name}.{part}.bias"), &[width])?);
    }
    let output_width = width.saturating_mul(3);
    PackedLinear::pack(&weight, Some(&bias), output_width, width).map_err(defect)
}
