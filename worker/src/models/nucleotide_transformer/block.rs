//! One pre-norm transformer block: attention, then a feed-forward part, both residual.

use crate::config::EsmConfig;
use crate::layers::{
    Activation, FeedForward, LayerNorm, Positions, Scratch, SelfAttention, Widths,
};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::Result;

/// D, H and F of a config.
pub(super) fn widths(config: &EsmConfig) -> Widths {
    Widths {
        width: config.hidden_size,
        head_count: config.num_attention_heads,
        feed_forward: config.intermediate_size,
    }
}

/// Names of one block's parts, and what is between the two maps of its feed-forward part.
pub(super) struct Parts {
    pub(super) attention_norm: String,
    pub(super) attention: String,
    pub(super) feed_forward_norm: String,
    /// Each with a bias or without.
    pub(super) maps: [(String, bool); 2],
    pub(super) activation: Activation,
}

impl Parts {
    pub(super) fn of(config: &EsmConfig, index: usize) -> Self {
        let name = |part: &str| format!("esm.encoder.layer.{index}.{part}");
        let bias = config.feed_forward_bias;
        Self {
            attention_norm: name("attention.LayerNorm"),
            attention: name("attention"),
            feed_forward_norm: name("LayerNorm"),
            maps: [(name("intermediate.dense"), bias), (name("output.dense"), bias)],
            activation: if config.gated { Activation::SiluGate } else { Activation::Gelu },
        }
    }
}

/// Weights of one block.
pub(super) struct Block {
    attention_norm: LayerNorm,
    attention: SelfAttention,
    feed_forward_norm: LayerNorm,
    feed_forward: FeedForward,
}

impl Block {
    pub(super) fn load(
        config: &EsmConfig,
        (eps, precision): (f32, Precision),
        index: usize,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let widths = widths(config);
        let parts = Parts::of(config, index);
        let norm = |name: &str, tensors: &mut dyn TensorSource| {
            LayerNorm::load(name, widths.width, eps, tensors)
        };
        let maps = parts.maps.each_ref().map(|(name, bias)| (name.as_str(), *bias));
        let activation = parts.activation;
        Ok(Self {
            attention_norm: norm(&parts.attention_norm, tensors)?,
            attention: SelfAttention::load(&parts.attention, widths, precision, tensors)?,
            feed_forward_norm: norm(&parts.feed_forward_norm, tensors)?,
            feed_forward: FeedForward::load(maps, widths, activation, precision, tensors)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output.
    ///
    /// ```text
    /// x += linear_o(attention(linear_qkv(LN(x))));  x += feed_forward(LN(x))
    /// ```
    pub(super) fn apply(
        &self,
        states: &mut [f32],
        offsets: &[usize],
        positions: Positions<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.attention_norm.apply(states, &mut scratch.narrow)?;
        self.attention.add(offsets, positions, scratch, states)?;
        self.feed_forward_norm.apply(states, &mut scratch.narrow)?;
        self.feed_forward.add(scratch, states)
    }
}
