//! One post-norm transformer block: attention, then a feed-forward part, each normed with its residual.

use crate::config::bert::{BertConfig, BertForm};
use crate::layers::{
    Activation, FeedForward, LayerNorm, Positions, Scratch, SelfAttention, Widths,
};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::Result;

/// D, H and F of a config.
pub(super) fn widths(config: &BertConfig) -> Widths {
    Widths {
        width: config.hidden_size,
        head_count: config.num_attention_heads,
        feed_forward: config.intermediate_size,
    }
}

/// Names of one block's parts, and what is between the two maps of its feed-forward part.
pub(super) struct Parts {
    pub(super) attention: String,
    /// Whether queries, keys and values are one map.
    pub(super) is_fused: bool,
    pub(super) attention_norm: String,
    /// Each with a bias or without.
    pub(super) maps: [(String, bool); 2],
    pub(super) activation: Activation,
    pub(super) feed_forward_norm: String,
}

impl Parts {
    pub(super) fn of(config: &BertConfig, index: usize) -> Self {
        let name = |part: &str| format!("bert.encoder.layer.{index}.{part}");
        let is_fused = config.form == BertForm::Alibi;
        let (maps, activation, norm) = match config.form {
            BertForm::Original => (
                [(name("intermediate.dense"), true), (name("output.dense"), true)],
                Activation::Gelu,
                name("output.LayerNorm"),
            ),
            BertForm::Alibi => (
                [(name("mlp.gated_layers"), false), (name("mlp.wo"), true)],
                Activation::GeluGate,
                name("mlp.layernorm"),
            ),
        };
        let (attention, attention_norm) = (name("attention"), name("attention.output.LayerNorm"));
        Self { attention, is_fused, attention_norm, maps, activation, feed_forward_norm: norm }
    }
}

/// Weights of one block.
pub(super) struct Block {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
}

impl Block {
    pub(super) fn load(
        config: &BertConfig,
        (eps, precision): (f32, Precision),
        index: usize,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let widths = widths(config);
        let parts = Parts::of(config, index);
        let maps = parts.maps.each_ref().map(|(name, bias)| (name.as_str(), *bias));
        let load = if parts.is_fused { SelfAttention::load_fused } else { SelfAttention::load };
        let norm = |name: &str, tensors: &mut dyn TensorSource| {
            LayerNorm::load(name, widths.width, eps, tensors)
        };
        let activation = parts.activation;
        Ok(Self {
            attention: load(&parts.attention, widths, precision, tensors)?,
            attention_norm: norm(&parts.attention_norm, tensors)?,
            feed_forward: FeedForward::load(maps, widths, activation, precision, tensors)?,
            feed_forward_norm: norm(&parts.feed_forward_norm, tensors)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output.
    ///
    /// ```text
    /// x = LN(x + linear_o(attention(linear_qkv(x))));  x = LN(x + feed_forward(x))
    /// ```
    pub(super) fn apply(
        &self,
        states: &mut [f32],
        offsets: &[usize],
        positions: Positions<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        scratch.narrow.copy_from_slice(states);
        self.attention.add(offsets, positions, scratch, states)?;
        self.attention_norm.apply_in_place(states)?;
        scratch.narrow.copy_from_slice(states);
        self.feed_forward.add(scratch, states)?;
        self.feed_forward_norm.apply_in_place(states)
    }
}
