//! One pre-norm transformer block: attention, then a GELU feed-forward part, both residual.

use crate::config::EsmConfig;
use crate::layers::{LayerNorm, defect, load_linear, pack, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::attention::{PositionBias, attention};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

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
        Ok(Self {
            narrow: zeros(token_count, width)?,
            attended: zeros(token_count, width)?,
            wide: zeros(token_count, wide)?,
        })
    }
}

fn prefix(index: usize) -> String {
    format!("esm.encoder.layer.{index}")
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
        (eps, precision): (f32, Precision),
        index: usize,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, wide, prefix) = (config.hidden_size, config.intermediate_size, prefix(index));
        let name = |part: &str| format!("{prefix}.{part}");
        let linear_of = |part: &str, extents, tensors: &mut dyn TensorSource| {
            load_linear(&name(part), extents, precision, tensors)
        };
        Ok(Self {
            attention_norm: LayerNorm::load(&name("attention.LayerNorm"), width, eps, tensors)?,
            query_key_value: load_query_key_value(
                &name("attention.self"),
                width,
                precision,
                tensors,
            )?,
            attention_output: linear_of("attention.output.dense", (width, width), tensors)?,
            feed_forward_norm: LayerNorm::load(&name("LayerNorm"), width, eps, tensors)?,
            expand: linear_of("intermediate.dense", (wide, width), tensors)?,
            contract: linear_of("output.dense", (width, wide), tensors)?,
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
    precision: Precision,
    tensors: &mut dyn TensorSource,
) -> Result<PackedLinear> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in ["query", "key", "value"] {
        weight.extend(tensors.take_f32(&format!("{name}.{part}.weight"), &[width, width])?);
        bias.extend(tensors.take_f32(&format!("{name}.{part}.bias"), &[width])?);
    }
    pack(&weight, Some(&bias), (width.saturating_mul(3), width), precision)
}
