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
        let name = |part: &str| format!("bert.encoder.layer.{index}.{part}");
        let (attention, maps, activation, norm) = match config.form {
            BertForm::Original => (
                SelfAttention::load(&name("attention"), widths, precision, tensors)?,
                [(name("intermediate.dense"), true), (name("output.dense"), true)],
                Activation::Gelu,
                name("output.LayerNorm"),
            ),
            BertForm::Alibi => (
                SelfAttention::load_fused(&name("attention"), widths, precision, tensors)?,
                [(name("mlp.gated_layers"), false), (name("mlp.wo"), true)],
                Activation::GeluGate,
                name("mlp.layernorm"),
            ),
        };
        let maps = maps.each_ref().map(|(name, bias)| (name.as_str(), *bias));
        let attention_norm = name("attention.output.LayerNorm");
        Ok(Self {
            attention,
            attention_norm: LayerNorm::load(&attention_norm, widths.width, eps, tensors)?,
            feed_forward: FeedForward::load(maps, widths, activation, precision, tensors)?,
            feed_forward_norm: LayerNorm::load(&norm, widths.width, eps, tensors)?,
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
