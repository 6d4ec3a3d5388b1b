//! The first form on a device.
//!
//! Leaves out: the config, the CPU's form (`gpn::conv_net`). Source: songlab-cal/gpn, `gpn/legacy.py`.

use super::head::Head;
use super::{Space, one_hot_table, without_batch};
use crate::config::GpnConfig;
use crate::config::gpn::block_name;
use crate::device::device_error;
use crate::layers::cuda::{DeviceLoader, LayerNorm};
use crate::layers::{Kept, take_conv1d};
use crate::model::{LayerRequest, LogitsSink, Network, Sink, States, TokenBatch};
use crate::models::gpn::Form;
use crate::models::gpn::head::Parts;
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{DeviceArray, Gpu, View, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::branch_norm::cuda::{branch_norm, token_rows};
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvValue, DeviceActivation, DeviceConv1d, TokenRanges, conv1d, dense,
};

/// A one-hot's channels are padded to whole 16 bytes.
const CHANNELS: usize = 4;

/// A loaded gLM of the first form, whose products read `T`.
pub(super) struct ConvNet<T: ConvValue> {
    gpu: Gpu,
    /// One-hot rows as wide as the states `[V, D]`, and as the first convolution reads them.
    wide: DeviceArray<f32>,
    narrow: DeviceArray<f32>,
    channels: usize,
    blocks: Vec<Block<T>>,
    head: Option<Head<T>>,
    width: usize,
    vocabulary_size: usize,
    kept: Kept<Space<T>>,
}

impl<T: ConvValue> ConvNet<T> {
    pub(super) fn load(
        config: &GpnConfig,
        form: Form,
        loader: &mut DeviceLoader<'_>,
    ) -> Result<Self> {
        let (width, size) = (config.hidden_size, config.vocab_size);
        let channels = size.next_multiple_of(CHANNELS);
        let blocks = (0..config.layer_count)
            .map(|index| Block::load(config, (index, channels), form, loader))
            .collect::<Result<_>>()?;
        let parts = Parts {
            transform: Some(("cls.decoder.0", "cls.decoder.2")),
            decoder: "cls.decoder.3",
            has_bias: true,
            extents: (width, size),
            tied: None,
        };
        Ok(Self {
            gpu: loader.gpu.clone(),
            wide: one_hot_table(loader, size, width)?,
            narrow: one_hot_table(loader, size, channels)?,
            channels,
            blocks,
            head: Head::load(&parts, form, loader)?,
            width,
            vocabulary_size: size,
            kept: Kept::default(),
        })
    }

    fn pass(
        &self,
        space: &mut Space<T>,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let (gpu, count) = (&self.gpu, batch.token_count());
        space.set_batch(gpu, batch)?;
        let ids = space.ids.fit(gpu, count, 1)?;
        let ranges = space.ranges.as_ref().ok_or_else(without_batch)?;
        let mut states = space.states.fit(gpu, count, self.width)?;
        let mut hot = space.hot.fit(gpu, count, self.channels)?;
        let mut branch = space.branch.fit(gpu, count, self.width)?;
        let mut left = space.left.fit(gpu, count, self.width)?;
        token_rows(ids.view(), self.wide.view(), self.width, &mut states).map_err(device_error)?;
        let narrow = self.narrow.view();
        token_rows(ids.view(), narrow, self.channels, &mut hot).map_err(device_error)?;
        if request.wants(0) {
            sink(0, States::Device(states.view()))?;
        }
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            let rooms = (&mut branch, &mut left);
            block.apply(ranges, hot.view(), &mut states, rooms).map_err(device_error)?;
            if request.wants(layer) {
                sink(layer, States::Device(states.view()))?;
            }
        }
        Ok(())
    }
}

impl<T: ConvValue> Network for ConvNet<T> {
    /// Layer 0 is the one-hot of the tokens; the last layer has no norm after it.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.kept.lend(batch.token_count(), |space| self.pass(space, batch, request, sink))
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        Head::logits(self.head.as_ref(), states)
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        Head::apply(self.head.as_ref(), states, sink)
    }
}

/// A convolution of states, or of the one-hot that the first block sees, which is f32 at any precision.
enum Convolution<T: ConvValue> {
    Tokens(DeviceConv1d<f32>),
    States(DeviceConv1d<T>),
}

/// Weights of one block.
struct Block<T: ConvValue> {
    convolution: Convolution<T>,
    convolution_norm: LayerNorm,
    dense: DeviceConv1d<T>,
    dense_norm: LayerNorm,
}

impl<T: ConvValue> Block<T> {
    fn load(
        config: &GpnConfig,
        (index, channels): (usize, usize),
        form: Form,
        loader: &mut DeviceLoader<'_>,
    ) -> Result<Self> {
        let (width, block) = (config.hidden_size, block_name(index, false));
        let name = |part: &str| format!("{block}.{part}");
        let shape = Conv1dShape {
            output_width: width,
            input_width: width,
            kernel: config.kernel_size(index),
            dilation: config.dilations.get(index).copied().unwrap_or(1),
        };
        let convolution = if index == 0 {
            let (weight, bias) = take_conv1d(&name("conv.1"), (shape, true), loader.tensors)?;
            // Channels that no token sets are left out, and padding ones are never set.
            let kept: Vec<f32> = weight
                .chunks_exact(width * shape.kernel)
                .flat_map(|output| {
                    let channel = |channel: usize| {
                        let taps = output.chunks_exact(shape.kernel).nth(channel);
                        taps.map_or_else(|| vec![0.0; shape.kernel], <[f32]>::to_vec)
                    };
                    (0..channels).flat_map(channel)
                })
                .collect();
            let shape = Conv1dShape { input_width: channels, ..shape };
            Convolution::Tokens(loader.lay_out(&kept, bias.as_deref(), shape)?)
        } else {
            Convolution::States(loader.conv(&name("conv.1"), (shape, true))?)
        };
        Ok(Self {
            convolution,
            convolution_norm: loader.norm(&name("conv.4"), (width, true), form.eps)?,
            dense: loader.linear(&name("ffn.0"), ((width, width), true))?,
            dense_norm: loader.norm(&name("ffn.2"), (width, true), form.eps)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; `left` is their copy that products read, set by the block before.
    ///
    /// ```text
    /// x += LN(gelu(conv(x)));  x += LN(gelu(linear(x)))
    /// ```
    fn apply(
        &self,
        ranges: &TokenRanges,
        hot: View<'_, f32>,
        states: &mut ViewMut<'_, f32>,
        (branch, left): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, T>),
    ) -> Result<(), KernelError> {
        let gelu = DeviceActivation::Gelu;
        match &self.convolution {
            Convolution::Tokens(weights) => conv1d(hot, ranges, weights, gelu.into(), branch)?,
            Convolution::States(weights) => {
                conv1d(left.view(), ranges, weights, gelu.into(), branch)?;
            }
        }
        let norm = self.convolution_norm.norm();
        branch_norm(branch.view(), norm, false, Some(&mut *states), Some(&mut *left))?;
        dense(left.view(), &self.dense, gelu.into(), branch)?;
        branch_norm(branch.view(), self.dense_norm.norm(), false, Some(states), Some(left))
    }
}
