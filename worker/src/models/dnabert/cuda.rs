//! DNABERT and DNABERT-2 on a CUDA device.
//!
//! Leaves out: configs and names of tensors, which are the CPU's. Invariant: states between blocks are f32 in every class, and a
//! sequence's states depend on that sequence alone.

use super::block::{Parts, widths};
use super::ends::{Embedding, POOLER, has_pooler, head_names};
use super::slopes;
use crate::config::bert::BertConfig;
use crate::device::device_error;
use crate::layers::Kept;
use crate::layers::cuda::{
    Batch, DeviceLoader, FeedForward, Held, LayerNorm, Linear, MaskedHead, Positions, Room,
    Scratch, SelfAttention, sequences, upload,
};
use crate::model::{
    LayerRequest, LogitsSink, Network, Precision, Sink, States, TensorSource, TokenBatch,
};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Gpu, ViewMut};
use glmeval_kernels::ops::attention::cuda::SequenceTable;
use glmeval_kernels::ops::embedding::cuda::{TokenRows, embedding};
use glmeval_kernels::ops::tanh::tanh;

/// Takes the weights to the device, in the number format of the job.
pub(super) fn load(
    gpu: &Gpu,
    config: &BertConfig,
    (eps, precision, segments): (f32, Precision, Option<u32>),
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    let mut loader = DeviceLoader { gpu, tensors, precision };
    Ok(match precision {
        Precision::F32 | Precision::Tf32 => {
            Box::new(Encoder::<f32>::load(&mut loader, config, (eps, segments))?)
        }
        Precision::Bf16 => Box::new(Encoder::<Bf16>::load(&mut loader, config, (eps, segments))?),
    })
}

/// Tables of words and, if they are learned, of positions.
struct DeviceEmbedding {
    /// With the row of token type 0 added to each word.
    words: DeviceArray<f32>,
    positions: Option<DeviceArray<f32>>,
    norm: LayerNorm,
}

impl DeviceEmbedding {
    fn new(gpu: &Gpu, tables: &Embedding) -> Result<Self> {
        let positions = tables.positions.as_deref();
        Ok(Self {
            words: upload(gpu, &tables.words)?,
            positions: positions.map(|positions| upload(gpu, positions)).transpose()?,
            norm: LayerNorm::new(gpu, &tables.norm)?,
        })
    }

    /// As [`Embedding::states`], also in `narrow`.
    fn write<T: Held>(
        &self,
        batch: &TokenBatch,
        width: usize,
        states: &mut ViewMut<'_, f32>,
        narrow: &mut ViewMut<'_, T>,
    ) -> Result<()> {
        let places: Vec<u32> =
            batch.sequences().flat_map(|sequence| (0_u32..).take(sequence.len())).collect();
        let places = self.positions.is_some().then_some(places.as_slice());
        let tokens = TokenRows::new(states.gpu(), &batch.ids, places, None);
        let tokens = tokens.map_err(device_error)?;
        let positions = self.positions.as_ref().map(DeviceArray::view);
        embedding(&tokens, self.words.view(), positions, width, states).map_err(device_error)?;
        self.norm.apply_in_place(states, Some(narrow))
    }
}

/// Weights of one block.
struct Block<T: Held> {
    attention: SelfAttention<T>,
    attention_norm: LayerNorm,
    feed_forward: FeedForward<T>,
    feed_forward_norm: LayerNorm,
}

impl<T: Held> Block<T> {
    fn load(
        loader: &mut DeviceLoader<'_>,
        config: &BertConfig,
        eps: f32,
        index: usize,
    ) -> Result<Self> {
        let (parts, widths) = (Parts::of(config, index), widths(config));
        let form = (widths.width, true);
        let attention = (parts.attention.as_str(), parts.is_fused);
        let (maps, activation) = (&parts.maps, parts.activation);
        Ok(Self {
            attention: SelfAttention::load(loader, attention, widths)?,
            attention_norm: loader.norm(&parts.attention_norm, form, eps)?,
            feed_forward: FeedForward::load(loader, maps, widths, activation)?,
            feed_forward_norm: loader.norm(&parts.feed_forward_norm, form, eps)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; `narrow` holds them too, before and after.
    fn apply(
        &self,
        (states, narrow): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, T>),
        table: &SequenceTable,
        positions: Positions<'_>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let gpu = states.gpu();
        let batch = Batch { table, narrow: narrow.view(), states: states.again() };
        self.attention.add(gpu, batch, positions, scratch)?;
        self.attention_norm.apply_in_place(states, Some(narrow))?;
        let batch = Batch { table, narrow: narrow.view(), states: states.again() };
        self.feed_forward.add(gpu, batch, scratch)?;
        self.feed_forward_norm.apply_in_place(states, Some(narrow))
    }
}

/// Memory of one forward pass.
struct Work<T: Held> {
    states: Room<f32>,
    narrow: Room<T>,
    table: Option<SequenceTable>,
    scratch: Scratch<T>,
}

impl<T: Held> Default for Work<T> {
    fn default() -> Self {
        let (states, narrow) = (Room::default(), Room::default());
        Self { states, narrow, table: None, scratch: Scratch::default() }
    }
}

/// A loaded model.
struct Encoder<T: Held> {
    gpu: Gpu,
    width: usize,
    vocabulary_size: usize,
    embedding: DeviceEmbedding,
    slopes: Option<DeviceArray<f32>>,
    blocks: Vec<Block<T>>,
    pooler: Option<Linear<T>>,
    head: Option<MaskedHead<T>>,
    work: Kept<Work<T>>,
}

impl<T: Held> Encoder<T> {
    fn load(
        loader: &mut DeviceLoader<'_>,
        config: &BertConfig,
        (eps, segments): (f32, Option<u32>),
    ) -> Result<Self> {
        let (width, vocabulary_size) = (config.hidden_size, config.vocab_size);
        let tables = Embedding::load(config, (eps, segments), loader.tensors)?;
        let embedding = DeviceEmbedding::new(loader.gpu, &tables)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(loader, config, eps, index))
            .collect::<Result<_>>()?;
        let pooler = has_pooler(loader.tensors)
            .then(|| loader.map(POOLER, ((width, width), true)))
            .transpose()?;
        let form = ((vocabulary_size, width), config.head_eps(eps));
        let head = head_names(config, loader.tensors)
            .map(|names| MaskedHead::load(loader, &names, form))
            .transpose()?;
        let slopes = slopes(config).map(|slopes| loader.array(&slopes)).transpose()?;
        let (gpu, work) = (loader.gpu.clone(), Kept::default());
        Ok(Self { gpu, width, vocabulary_size, embedding, slopes, blocks, pooler, head, work })
    }

    /// [`Network::forward`] in `work`.
    fn run(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        work: &mut Work<T>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let Self { gpu, width, .. } = self;
        let count = batch.token_count().saturating_mul(*width);
        let Work { states, narrow, table, scratch } = work;
        let (mut states, mut narrow) = (states.take(gpu, count)?, narrow.take(gpu, count)?);
        self.embedding.write(batch, *width, &mut states, &mut narrow)?;
        if request.wants(0) {
            sink(0, States::Device(states.view()))?;
        }
        let table = sequences(gpu, &batch.offsets, table)?;
        let slopes = self.slopes.as_ref().map(DeviceArray::view);
        let positions = slopes.map_or(Positions::None, Positions::Alibi);
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply((&mut states, &mut narrow), table, positions, scratch)?;
            if request.wants(layer) {
                sink(layer, States::Device(states.view()))?;
            }
        }
        Ok(())
    }
}

impl<T: Held> Network for Encoder<T> {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.work.lend(batch.token_count(), |work| self.run(batch, request, work, sink))
    }

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        match &self.head {
            Some(head) => head.logits(states),
            None => Err(Error::invalid("these weights have no language-model head (cls)")),
        }
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        match &self.head {
            Some(head) => head.apply(states, sink),
            None => Err(Error::invalid("these weights have no language-model head (cls)")),
        }
    }

    /// The product on the device, the hyperbolic tangents of its few values here.
    fn pooler(&self, first: &[f32]) -> Result<Option<Vec<f32>>> {
        let Some(pooler) = &self.pooler else { return Ok(None) };
        let first = DeviceArray::from_slice(&self.gpu, &T::nearest(first)).map_err(device_error)?;
        let mut pooled = DeviceArray::<f32>::new(&self.gpu, first.len()).map_err(device_error)?;
        pooler.apply(first.view(), pooled.view_mut())?;
        let mut pooled = pooled.to_vec().map_err(device_error)?;
        tanh(&mut pooled);
        Ok(Some(pooled))
    }

    fn mean_skips_first(&self) -> bool {
        true
    }
}
