//! The first form: a dense convolution and a linear map in each block, layer norms inside the branches.
//!
//! Leaves out: the config. Source: songlab-cal/gpn, `gpn/legacy.py`.

use super::head::{Head, Parts};
use super::{Form, one_hot};
use crate::config::GpnConfig;
use crate::config::gpn::block_name;
use crate::layers::{LayerNorm, defect, load_linear, pack_conv1d, take_conv1d, zeros};
use crate::model::{LayerRequest, Network, Sink, States, TensorSource, TokenBatch};
use glmeval_common::error::Result;
use glmeval_kernels::ops::conv1d::{
    Conv1dShape, PackedConv1d, PackedTokenConv1d, conv1d, conv1d_tokens,
};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// A loaded gLM of the first form.
pub(super) struct ConvNet {
    blocks: Vec<Block>,
    head: Option<Head>,
    width: usize,
    vocabulary_size: usize,
}

impl ConvNet {
    pub(super) fn load(
        config: &GpnConfig,
        form: Form,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, size) = (config.hidden_size, config.vocab_size);
        let blocks = (0..config.layer_count)
            .map(|index| Block::load(config, index, form, tensors))
            .collect::<Result<_>>()?;
        let parts = Parts {
            transform: Some(("cls.decoder.0", "cls.decoder.2")),
            decoder: "cls.decoder.3",
            has_bias: true,
            extents: (width, size),
            tied: None,
        };
        let head = Head::load(&parts, form, tensors)?;
        Ok(Self { blocks, head, width, vocabulary_size: size })
    }
}

impl Network for ConvNet {
    /// Layer 0 is the one-hot of the tokens; the last layer has no norm after it.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = one_hot(&batch.ids, self.width)?;
        if request.wants(0) {
            sink(0, States::Host(&states))?;
        }
        let mut branch = zeros(batch.token_count(), self.width)?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(batch, &mut states, &mut branch)?;
            if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        Ok(())
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        Head::logits(self.head.as_ref(), states)
    }
}

/// A convolution of states, or of the tokens that the first block sees.
enum Convolution {
    Tokens(PackedTokenConv1d),
    States(PackedConv1d),
}

/// Weights of one block.
struct Block {
    convolution: Convolution,
    convolution_norm: LayerNorm,
    dense: PackedLinear,
    dense_norm: LayerNorm,
}

impl Block {
    fn load(
        config: &GpnConfig,
        index: usize,
        form: Form,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, block) = (config.hidden_size, block_name(index, false));
        let name = |part: &str| format!("{block}.{part}");
        let shape = Conv1dShape {
            output_width: width,
            input_width: width,
            kernel: config.kernel_size(index),
            dilation: config.dilations.get(index).copied().unwrap_or(1),
        };
        let (weight, bias) = take_conv1d(&name("conv.1"), (shape, true), tensors)?;
        let bias = bias.as_deref();
        let convolution = if index == 0 {
            let table = PackedTokenConv1d::pack(&weight, bias, shape, config.vocab_size);
            Convolution::Tokens(table.map_err(defect)?)
        } else {
            Convolution::States(pack_conv1d(&weight, bias, shape, form.precision)?)
        };
        Ok(Self {
            convolution,
            convolution_norm: LayerNorm::load(&name("conv.4"), width, form.eps, tensors)?,
            dense: load_linear(&name("ffn.0"), (width, width), form.precision, tensors)?,
            dense_norm: LayerNorm::load(&name("ffn.2"), width, form.eps, tensors)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; `branch` is work space of that size.
    ///
    /// ```text
    /// x += LN(gelu(conv(x)));  x += LN(gelu(linear(x)))
    /// ```
    fn apply(&self, batch: &TokenBatch, states: &mut [f32], branch: &mut [f32]) -> Result<()> {
        let offsets = &batch.offsets;
        match &self.convolution {
            Convolution::Tokens(weights) => {
                conv1d_tokens(&batch.ids, offsets, weights, Epilogue::Gelu, branch)
            }
            Convolution::States(weights) => {
                conv1d(states, offsets, weights, Epilogue::Gelu, branch)
            }
        }
        .map_err(defect)?;
        self.convolution_norm.add(branch, states)?;
        linear(states, &self.dense, Epilogue::Gelu, branch).map_err(defect)?;
        self.dense_norm.add(branch, states)
    }
}
