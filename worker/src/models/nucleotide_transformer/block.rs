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
        let name = |part: &str| format!("esm.encoder.layer.{index}.{part}");
        let norm = |part: &str, tensors: &mut dyn TensorSource| {
            LayerNorm::load(&name(part), widths.width, eps, tensors)
        };
        let activation = if config.gated { Activation::SiluGate } else { Activation::Gelu };
        let bias = config.feed_forward_bias;
        let maps = [name("intermediate.dense"), name("output.dense")];
        let maps = maps.each_ref().map(|name| (name.as_str(), bias));
        Ok(Self {
            attention_norm: norm("attention.LayerNorm", tensors)?,
            attention: SelfAttention::load(&name("attention"), widths, precision, tensors)?,
            feed_forward_norm: norm("LayerNorm", tensors)?,
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
