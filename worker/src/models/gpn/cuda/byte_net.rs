//! The later form on a device.
//!
//! Leaves out: the config, the CPU's form (`gpn::byte_net`). Source: songlab-cal/gpn, `ByteNetLayer` and `GPNModel`.

use super::head::Head;
use super::{Space, one_hot_table, without_batch};
use crate::config::GpnConfig;
use crate::config::gpn::{ByteNetForm, FINAL_NORM, WORDS, block_name};
use crate::device::device_error;
use crate::layers::Kept;
use crate::layers::cuda::{DeviceLoader, LayerNorm};
use crate::model::{LayerRequest, LogitsSink, Network, Sink, States, TokenBatch};
use crate::models::gpn::Form;
use crate::models::gpn::head::Parts;
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{DeviceArray, Gpu, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::branch_norm::cuda::{branch_norm, token_rows};
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvValue, DeviceConv1d, DeviceEpilogue, Residual, TokenRanges, conv1d, dense,
};

/// A loaded gLM of the later form, whose products read `T`.
pub(super) struct ByteNet<T: ConvValue> {
    gpu: Gpu,
    /// The learned embedding `[V, D]`, or the one-hot.
    words: DeviceArray<f32>,
    blocks: Vec<Block<T>>,
    final_norm: LayerNorm,
    head: Option<Head<T>>,
    width: usize,
    inner_size: usize,
    vocabulary_size: usize,
    kept: Kept<Space<T>>,
}

impl<T: ConvValue> ByteNet<T> {
    pub(super) fn load(
        config: &GpnConfig,
        byte_net: ByteNetForm,
        form: Form,
        loader: &mut DeviceLoader<'_>,
    ) -> Result<Self> {
        let (width, size) = (config.hidden_size, config.vocab_size);
        let words = match byte_net.is_learned {
            true => Some(loader.tensors.take_f32(WORDS, &[size, width])?),
            false => None,
        };
        let blocks = (0..config.layer_count)
            .map(|index| Block::load(config, byte_net, (index, form), loader))
            .collect::<Result<_>>()?;
        let parts = Parts {
            transform: byte_net.head_transform.then_some(("cls.transform.0", "cls.transform.2")),
            decoder: "cls.decoder",
            has_bias: byte_net.has_bias,
            extents: (width, size),
            tied: words.as_deref().filter(|_| byte_net.is_tied),
        };
        Ok(Self {
            gpu: loader.gpu.clone(),
            blocks,
            final_norm: loader.norm(FINAL_NORM, (width, byte_net.has_bias), form.eps)?,
            head: Head::load(&parts, form, loader)?,
            words: match &words {
                Some(words) => loader.array(words)?,
                None => one_hot_table(loader, size, width)?,
            },
            width,
            inner_size: byte_net.inner_size,
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
        let mut narrow = space.branch.fit(gpu, count, self.inner_size.max(self.width))?;
        let mut left = space.left.fit(gpu, count, self.inner_size.max(self.width))?;
        token_rows(ids.view(), self.words.view(), self.width, &mut states).map_err(device_error)?;
        if request.wants(0) {
            sink(0, States::Device(states.view()))?;
        }
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            let rooms = (&mut narrow, &mut left);
            block.apply(ranges, &mut states, rooms).map_err(device_error)?;
            if request.wants(layer) {
                sink(layer, States::Device(states.view()))?;
            }
        }
        if request.deepest() as usize > self.blocks.len() {
            let mut last = narrow.part(0..count * self.width);
            let norm = self.final_norm.norm();
            branch_norm(states.view(), norm, false, None, Some(&mut last)).map_err(device_error)?;
            sink(request.deepest(), States::Device(last.view()))?;
        }
        Ok(())
    }
}

impl<T: ConvValue> Network for ByteNet<T> {
    /// The layer after the last block's is the final layer norm's output, the published embedding.
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

/// Weights of one block.
struct Block<T: ConvValue> {
    first_norm: LayerNorm,
    contract: DeviceConv1d<T>,
    second_norm: LayerNorm,
    convolution: DeviceConv1d<T>,
    third_norm: LayerNorm,
    expand: DeviceConv1d<T>,
}

impl<T: ConvValue> Block<T> {
    fn load(
        config: &GpnConfig,
        byte_net: ByteNetForm,
        (index, form): (usize, Form),
        loader: &mut DeviceLoader<'_>,
    ) -> Result<Self> {
        let (width, inner, has_bias) = (config.hidden_size, byte_net.inner_size, byte_net.has_bias);
        let block = block_name(index, true);
        let name = |part: u32| format!("{block}.{part}");
        let shape = Conv1dShape {
            output_width: inner,
            input_width: inner,
            kernel: config.kernel_size(index),
            dilation: config.dilations.get(index).copied().unwrap_or(1),
        };
        Ok(Self {
            first_norm: loader.norm(&name(0), (width, has_bias), form.eps)?,
            contract: loader.linear(&name(2), ((inner, width), has_bias))?,
            second_norm: loader.norm(&name(3), (inner, has_bias), form.eps)?,
            convolution: loader.conv(&name(6), (shape, has_bias))?,
            third_norm: loader.norm(&name(8), (inner, has_bias), form.eps)?,
            expand: loader.linear(&name(10), ((width, inner), has_bias))?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; the rooms hold `[N, max(D, m)]`.
    ///
    /// ```text
    /// x += expand(gelu(LN(conv(gelu(LN(contract(gelu(LN(x)))))))))
    /// ```
    fn apply(
        &self,
        ranges: &TokenRanges,
        states: &mut ViewMut<'_, f32>,
        (narrow, left): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, T>),
    ) -> Result<(), KernelError> {
        let inner = ranges.token_count() * self.convolution.shape().input_width;
        let mut narrow = narrow.part(0..inner);
        let none = DeviceEpilogue::default();
        let mut wide = left.part(0..states.len());
        branch_norm(states.view(), self.first_norm.norm(), true, None, Some(&mut wide))?;
        dense(wide.view(), &self.contract, none, &mut narrow)?;
        let mut left = left.part(0..inner);
        branch_norm(narrow.view(), self.second_norm.norm(), true, None, Some(&mut left))?;
        conv1d(left.view(), ranges, &self.convolution, none, &mut narrow)?;
        branch_norm(narrow.view(), self.third_norm.norm(), true, None, Some(&mut left))?;
        let own = DeviceEpilogue { residual: Residual::Own, ..none };
        dense(left.view(), &self.expand, own, states)
    }
}
