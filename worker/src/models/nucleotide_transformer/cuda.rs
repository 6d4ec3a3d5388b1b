//! Nucleotide Transformer v1 and v2 on a CUDA device.
//!
//! Leaves out: configs and names of tensors, which are the CPU's. Invariant: states between blocks are f32 in every class, and a
//! sequence's states depend on that sequence alone.

use super::block::{Parts, widths};
use super::embedding::{Embedding, Rows, Rules};
use super::rotation::Rotation;
use super::{FINAL_NORM, head};
use crate::config::EsmConfig;
use crate::device::device_error;
use crate::layers::Kept;
use crate::layers::cuda::{
    Batch, DeviceLoader, FeedForward, Held, LayerNorm, MaskedHead, Positions, Room, Scratch,
    SelfAttention, sequences, upload,
};
use crate::model::{
    LayerRequest, LogitsSink, Network, Precision, Sink, States, TensorSource, TokenBatch,
};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Gpu, ViewMut};
use glmeval_kernels::ops::attention::cuda::SequenceTable;
use glmeval_kernels::ops::embedding::cuda::{TokenRows, embedding};
use glmeval_kernels::ops::rotary::cuda::{DeviceRotaryTable, TokenPlaces};

/// Takes the weights to the device, in the number format of the job.
pub(super) fn load(
    gpu: &Gpu,
    config: &EsmConfig,
    (eps, precision): (f32, Precision),
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    let mut loader = DeviceLoader { gpu, tensors, precision };
    Ok(match precision {
        Precision::F32 | Precision::Tf32 => {
            Box::new(Encoder::<f32>::load(&mut loader, config, eps)?)
        }
        Precision::Bf16 => Box::new(Encoder::<Bf16>::load(&mut loader, config, eps)?),
    })
}

/// Tables of words and, if they are learned, of positions.
struct DeviceEmbedding {
    words: DeviceArray<f32>,
    positions: Option<DeviceArray<f32>>,
    norm: Option<LayerNorm>,
    rules: Rules,
}

impl DeviceEmbedding {
    fn new(gpu: &Gpu, tables: &Embedding) -> Result<Self> {
        let positions = tables.positions.as_deref();
        Ok(Self {
            words: upload(gpu, &tables.words)?,
            positions: positions.map(|positions| upload(gpu, positions)).transpose()?,
            norm: tables.norm.as_ref().map(|norm| LayerNorm::new(gpu, norm)).transpose()?,
            rules: tables.rules,
        })
    }

    /// As [`Embedding::states`].
    fn write(&self, batch: &TokenBatch, width: usize, states: &mut ViewMut<'_, f32>) -> Result<()> {
        let Rows { places, scales } = self.rules.rows(batch)?;
        let places = self.positions.is_some().then_some(places.as_slice());
        let tokens = TokenRows::new(states.gpu(), &batch.ids, places, Some(&scales));
        let tokens = tokens.map_err(device_error)?;
        let positions = self.positions.as_ref().map(DeviceArray::view);
        embedding(&tokens, self.words.view(), positions, width, states).map_err(device_error)?;
        match &self.norm {
            Some(norm) => norm.apply_in_place::<f32>(states, None),
            None => Ok(()),
        }
    }
}

/// Weights of one block.
struct Block<T: Held> {
    attention_norm: LayerNorm,
    attention: SelfAttention<T>,
    feed_forward_norm: LayerNorm,
    feed_forward: FeedForward<T>,
}

impl<T: Held> Block<T> {
    fn load(
        loader: &mut DeviceLoader<'_>,
        config: &EsmConfig,
        eps: f32,
        index: usize,
    ) -> Result<Self> {
        let (parts, widths) = (Parts::of(config, index), widths(config));
        let form = (widths.width, true);
        let (maps, activation) = (&parts.maps, parts.activation);
        Ok(Self {
            attention_norm: loader.norm(&parts.attention_norm, form, eps)?,
            attention: SelfAttention::load(loader, (&parts.attention, false), widths)?,
            feed_forward_norm: loader.norm(&parts.feed_forward_norm, form, eps)?,
            feed_forward: FeedForward::load(loader, maps, widths, activation)?,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output; `narrow` is `[N, D]` of work space.
    fn apply(
        &self,
        (states, narrow): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, T>),
        table: &SequenceTable,
        positions: Positions<'_>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let gpu = states.gpu();
        self.attention_norm.apply(states, narrow)?;
        let batch = Batch { table, narrow: narrow.view(), states: states.again() };
        self.attention.add(gpu, batch, positions, scratch)?;
        self.feed_forward_norm.apply(states, narrow)?;
        let batch = Batch { table, narrow: narrow.view(), states: states.again() };
        self.feed_forward.add(gpu, batch, scratch)
    }
}

/// Memory of one forward pass.
struct Work<T: Held> {
    states: Room<f32>,
    narrow: Room<T>,
    /// What is handed out of the last layer.
    normed: Room<f32>,
    table: Option<SequenceTable>,
    /// Cosines and sines of each set of frequencies, to the longest sequence so far.
    angles: Vec<DeviceRotaryTable>,
    scratch: Scratch<T>,
}

impl<T: Held> Default for Work<T> {
    fn default() -> Self {
        Self {
            states: Room::default(),
            narrow: Room::default(),
            normed: Room::default(),
            table: None,
            angles: Vec::new(),
            scratch: Scratch::default(),
        }
    }
}

/// A loaded model.
struct Encoder<T: Held> {
    gpu: Gpu,
    width: usize,
    vocabulary_size: usize,
    embedding: DeviceEmbedding,
    rotation: Rotation,
    blocks: Vec<Block<T>>,
    final_norm: LayerNorm,
    head: Option<MaskedHead<T>>,
    work: Kept<Work<T>>,
}

impl<T: Held> Encoder<T> {
    fn load(loader: &mut DeviceLoader<'_>, config: &EsmConfig, eps: f32) -> Result<Self> {
        let (width, vocabulary_size) = (config.hidden_size, config.vocab_size);
        let tables = Embedding::load(config, eps, loader.tensors)?;
        let embedding = DeviceEmbedding::new(loader.gpu, &tables)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(loader, config, eps, index))
            .collect::<Result<_>>()?;
        let form = ((vocabulary_size, width), eps);
        let head = head::names(config, loader.tensors)
            .map(|names| MaskedHead::load(loader, &names, form))
            .transpose()?;
        Ok(Self {
            gpu: loader.gpu.clone(),
            width,
            vocabulary_size,
            embedding,
            rotation: Rotation::load(config, loader.tensors)?,
            blocks,
            final_norm: loader.norm(FINAL_NORM, (width, true), eps)?,
            head,
            work: Kept::default(),
        })
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
        let Work { states, narrow, normed, table, angles, scratch } = work;
        let mut states = states.take(gpu, count)?;
        self.embedding.write(batch, *width, &mut states)?;
        if request.wants(0) {
            sink(0, States::Device(states.view()))?;
        }
        let mut narrow = narrow.take(gpu, count)?;
        let table = sequences(gpu, &batch.offsets, table)?;
        let places = self.rotation.places(gpu, batch, angles)?;
        for (layer, (index, block)) in (1..=request.deepest()).zip(self.blocks.iter().enumerate()) {
            let own = self.rotation.of_block(index).and_then(|own| angles.get(own));
            let positions = match (own, &places) {
                (Some(angles), Some(places)) => Positions::Rotary(angles, places),
                _ => Positions::None,
            };
            block.apply((&mut states, &mut narrow), table, positions, scratch)?;
            if layer as usize == self.blocks.len() {
                let mut normed = normed.take(gpu, count)?;
                self.final_norm.apply(&mut states, &mut normed)?;
                sink(layer, States::Device(normed.view()))?;
            } else if request.wants(layer) {
                sink(layer, States::Device(states.view()))?;
            }
        }
        Ok(())
    }
}

impl Rotation {
    /// Where each token is, and in `angles` tables that reach the longest sequence; `None` for learned positions.
    fn places(
        &self,
        gpu: &Gpu,
        batch: &TokenBatch,
        angles: &mut Vec<DeviceRotaryTable>,
    ) -> Result<Option<TokenPlaces>> {
        if !self.is_used() {
            return Ok(None);
        }
        let longest = batch.sequences().map(<[u32]>::len).max().unwrap_or(0);
        if angles.first().is_none_or(|table| table.length() < longest) {
            let tables = self.tables(longest.next_power_of_two());
            *angles = tables
                .iter()
                .map(|table| DeviceRotaryTable::new(gpu, table))
                .collect::<Result<_, _>>()
                .map_err(device_error)?;
        }
        TokenPlaces::new(gpu, &batch.offsets).map(Some).map_err(device_error)
    }
}

impl<T: Held> Network for Encoder<T> {
    /// The last layer is handed out after the final layer norm, as both published ports do.
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
            None => Err(Error::invalid("these weights have no language-model head (lm_head)")),
        }
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        match &self.head {
            Some(head) => head.apply(states, sink),
            None => Err(Error::invalid("these weights have no language-model head (lm_head)")),
        }
    }

    fn mean_skips_first(&self) -> bool {
        true
    }
}
