//! The later form: blocks of the ByteNet kind, narrow convolutions between pre-activated linear maps.
//!
//! Leaves out: the config. Source: songlab-cal/gpn, `ByteNetLayer` and `GPNModel`.

use super::head::{Head, Parts};
use super::{Form, one_hot};
use crate::config::GpnConfig;
use crate::config::gpn::{ByteNetForm, FINAL_NORM, WORDS, block_name};
use crate::layers::{
    LayerNorm, defect, load_linear_form, pack_conv1d, table_row, take_conv1d, zeros,
};
use crate::model::{LayerRequest, Network, Sink, States, TensorSource, TokenBatch};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::conv1d::{Conv1dShape, PackedConv1d, conv1d};
use glmeval_kernels::ops::gelu::gelu;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// A loaded gLM of the later form.
pub(super) struct ByteNet {
    /// The learned embedding `[V, D]`; a one-hot without.
    words: Option<Vec<f32>>,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    head: Option<Head>,
    width: usize,
    inner_size: usize,
    vocabulary_size: usize,
}

impl ByteNet {
    pub(super) fn load(
        config: &GpnConfig,
        byte_net: ByteNetForm,
        form: Form,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, size) = (config.hidden_size, config.vocab_size);
        let words = match byte_net.is_learned {
            true => Some(tensors.take_f32(WORDS, &[size, width])?),
            false => None,
        };
        let blocks = (0..config.layer_count)
            .map(|index| Block::load(config, byte_net, (index, form), tensors))
            .collect::<Result<_>>()?;
        let norm = (width, byte_net.has_bias);
        let parts = Parts {
            transform: byte_net.head_transform.then_some(("cls.transform.0", "cls.transform.2")),
            decoder: "cls.decoder",
            has_bias: byte_net.has_bias,
            extents: (width, size),
            tied: words.as_deref().filter(|_| byte_net.is_tied),
        };
        Ok(Self {
            blocks,
            final_norm: LayerNorm::load_form(FINAL_NORM, norm, form.eps, tensors)?,
            head: Head::load(&parts, form, tensors)?,
            words,
            width,
            inner_size: byte_net.inner_size,
            vocabulary_size: size,
        })
    }

    /// States `[N, D]` before the first block.
    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let Some(words) = &self.words else { return one_hot(ids, self.width) };
        let mut states = zeros(ids.len(), self.width)?;
        for (&id, row) in ids.iter().zip(states.chunks_exact_mut(self.width)) {
            row.copy_from_slice(table_row(words, self.width, id)?);
        }
        Ok(states)
    }
}

impl Network for ByteNet {
    /// The layer after the last block's is the final layer norm's output, the published embedding.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = self.embed(&batch.ids)?;
        if request.wants(0) {
            sink(0, States::Host(&states))?;
        }
        let token_count = batch.token_count();
        let mut wide = zeros(token_count, self.width)?;
        let mut narrow = zeros(token_count, self.inner_size)?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(&batch.offsets, &mut states, (&mut wide, &mut narrow))?;
            if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        if request.deepest() as usize > self.blocks.len() {
            self.final_norm.apply_in_place(&mut states)?;
            sink(request.deepest(), States::Host(&states))?;
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

/// Weights of one block.
struct Block {
    first_norm: LayerNorm,
    contract: PackedLinear,
    second_norm: LayerNorm,
    convolution: PackedConv1d,
    third_norm: LayerNorm,
    expand: PackedLinear,
}

impl Block {
    fn load(
        config: &GpnConfig,
        byte_net: ByteNetForm,
        (index, form): (usize, Form),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, inner, has_bias) = (config.hidden_size, byte_net.inner_size, byte_net.has_bias);
        let block = block_name(index, true);
        let name = |part: u32| format!("{block}.{part}");
        let norm = |part, width, tensors: &mut dyn TensorSource| {
            LayerNorm::load_form(&name(part), (width, has_bias), form.eps, tensors)
        };
        let linear_of = |part, extents, tensors: &mut dyn TensorSource| {
            load_linear_form(&name(part), (extents, has_bias), form.precision, tensors)
        };
        let shape = Conv1dShape {
            output_width: inner,
            input_width: inner,
            kernel: config.kernel_size(index),
            dilation: config.dilations.get(index).copied().unwrap_or(1),
        };
        let (weight, bias) = take_conv1d(&name(6), (shape, has_bias), tensors)?;
        Ok(Self {
            first_norm: norm(0, width, tensors)?,
            contract: linear_of(2, (inner, width), tensors)?,
            second_norm: norm(3, inner, tensors)?,
            convolution: pack_conv1d(&weight, bias.as_deref(), shape, form.precision)?,
            third_norm: norm(8, inner, tensors)?,
            expand: linear_of(10, (width, inner), tensors)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; work space is `[N, D]` and `[N, m]`.
    ///
    /// ```text
    /// x += expand(gelu(LN(conv(gelu(LN(contract(gelu(LN(x)))))))))
    /// ```
    fn apply(
        &self,
        offsets: &[usize],
        states: &mut [f32],
        (wide, narrow): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        self.first_norm.apply(states, wide)?;
        gelu(wide);
        linear(wide, &self.contract, Epilogue::None, narrow).map_err(defect)?;
        self.second_norm.apply_in_place(narrow)?;
        gelu(narrow);
        // The wide rows are used up, so the convolution's narrow ones may take their place.
        let convolved = wide.get_mut(..narrow.len());
        let convolved = convolved.ok_or_else(|| Error::bug("a block wider than its states"))?;
        conv1d(narrow, offsets, &self.convolution, Epilogue::None, convolved).map_err(defect)?;
        self.third_norm.apply_in_place(convolved)?;
        gelu(convolved);
        linear(convolved, &self.expand, Epilogue::Add, states).map_err(defect)
    }
}
