//! HyenaDNA on a CUDA device.
//!
//! Leaves out: the mixer's kernels, and reading configs. Invariant: weights stay on the device; states between blocks are f32
//! whatever the class; memory of a pass is kept for the next one.

use super::block::take_mixer;
use super::{HEAD, WORDS};
use crate::config::HyenaDnaConfig;
use crate::config::hyenadna::{FINAL_NORM, block_name};
use crate::device::device_error;
use crate::layers::Kept;
use crate::layers::cuda::{DeviceLoader, Held, LayerNorm, Linear, Room, upload};
use crate::model::{
    LayerRequest, LogitsSink, Network, Precision, Sink, States, TensorSource, TokenBatch,
};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Gpu, ViewMut};
use glmeval_kernels::ops::activation::cuda::{Function, activation_in_place};
use glmeval_kernels::ops::convert::cuda::convert;
use glmeval_kernels::ops::embedding::cuda::{TokenRows, embedding};
use glmeval_kernels::ops::hyena::cuda::{HyenaMixer, Sequences};

/// Share of the free memory that filter spectra of all blocks may take: one part in so many.
const SPECTRA_PART: u64 = 4;
/// Bytes of hidden feed-forward values that are held at once, at most: they stay in the second cache of the device between
/// the map that writes them and the one that reads them.
const HIDDEN_BYTES: usize = 24 << 20;
/// Rows of which products make their tiles.
const TILE_ROWS: usize = 256;
/// Rows whose logits are held at once.
const HEAD_ROWS: usize = 1 << 16;

/// Takes a gLM to a device, in the number format of the job.
///
/// # Errors
/// As [`TensorSource::take_f32`]; `Unavailable` if the device has no room.
pub(super) fn load(
    gpu: &Gpu,
    config: &HyenaDnaConfig,
    precision: Precision,
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    let mut loader = DeviceLoader { gpu, tensors, precision };
    match precision {
        Precision::F32 | Precision::Tf32 => load_as::<f32>(&mut loader, config),
        Precision::Bf16 => load_as::<Bf16>(&mut loader, config),
    }
}

/// As [`load`], with weights and inputs of products as `T`.
fn load_as<T: Held>(
    loader: &mut DeviceLoader<'_>,
    config: &HyenaDnaConfig,
) -> Result<Box<dyn Network>> {
    let width = config.width;
    let extents = (config.embedding_rows, width);
    let words = loader.tensors.take_f32(WORDS, &[extents.0, extents.1])?;
    let head = if config.is_tied {
        Some(loader.map_of(&words, None, extents)?)
    } else if loader.tensors.contains(HEAD) {
        let weight = loader.tensors.take_f32(HEAD, &[extents.0, extents.1])?;
        Some(loader.map_of(&weight, None, extents)?)
    } else {
        None
    };
    let (free, _) = loader.gpu.memory().map_err(device_error)?;
    let spectra_bytes = free / SPECTRA_PART / config.layer_count.max(1) as u64;
    let spectra_bytes = usize::try_from(spectra_bytes).unwrap_or(usize::MAX);
    let blocks = (0..config.layer_count)
        .map(|index| Block::load(loader, (config, index), spectra_bytes))
        .collect::<Result<_>>()?;
    Ok(Box::new(Backbone::<T> {
        gpu: loader.gpu.clone(),
        words: loader.array(&words)?,
        blocks,
        final_norm: loader.norm(FINAL_NORM, (width, true), config.layer_norm_eps as f32)?,
        head,
        width,
        embedding_rows: config.embedding_rows,
        scratch: Kept::default(),
    }))
}

/// Weights of one block.
struct Block<T: Held> {
    mixer_norm: LayerNorm,
    projection: Linear<T>,
    mixer: HyenaMixer,
    mixer_output: Linear<T>,
    feed_forward_norm: LayerNorm,
    expand: Linear<T>,
    contract: Linear<T>,
    width: usize,
    feed_forward_width: usize,
}

/// Activations of one forward pass, shared by all blocks.
struct Scratch<T: Held> {
    /// `[N, D]`
    states: Room<f32>,
    /// Normalised states, then what the mixer gives, `[N, D]`.
    narrow: Room<T>,
    /// The mixer's input `[N, 3 D]`, then hidden feed-forward values of some rows.
    wide: Room<T>,
}

impl<T: Held> Default for Scratch<T> {
    fn default() -> Self {
        Self { states: Room::default(), narrow: Room::default(), wide: Room::default() }
    }
}

impl<T: Held> Block<T> {
    fn load(
        loader: &mut DeviceLoader<'_>,
        (config, index): (&HyenaDnaConfig, usize),
        spectra_bytes: usize,
    ) -> Result<Self> {
        let (width, wide, block) = (config.width, config.feed_forward_width, block_name(index));
        let eps = config.block_norm_eps as f32;
        let name = |part: &str| format!("{block}.{part}");
        let gpu = loader.gpu;
        let mixer = take_mixer(config, &name("mixer"), loader.tensors, |weights| {
            HyenaMixer::new(gpu, weights, spectra_bytes).map_err(device_error)
        })?;
        let three = width.saturating_mul(3);
        Ok(Self {
            mixer_norm: loader.norm(&name("norm1"), (width, true), eps)?,
            projection: loader.map(&name("mixer.in_proj"), ((three, width), true))?,
            mixer,
            mixer_output: loader.map(&name("mixer.out_proj"), ((width, width), true))?,
            feed_forward_norm: loader.norm(&name("norm2"), (width, true), eps)?,
            expand: loader.map(&name("mlp.fc1"), ((wide, width), true))?,
            contract: loader.map(&name("mlp.fc2"), ((width, wide), true))?,
            width,
            feed_forward_width: wide,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output, as on CPUs.
    fn apply(
        &self,
        gpu: &Gpu,
        states: &mut ViewMut<'_, f32>,
        sequences: &Sequences,
        (narrow, wide): (&mut Room<T>, &mut Room<T>),
    ) -> Result<()> {
        let mut narrow = narrow.take(gpu, states.len())?;
        self.mixer_norm.apply(states, &mut narrow)?;
        let mut projected = wide.take(gpu, states.len().saturating_mul(3))?;
        self.projection.apply(narrow.view(), projected.again())?;
        self.mixer.apply(projected.view(), sequences, &mut narrow).map_err(device_error)?;
        self.mixer_output.add(narrow.view(), states.again())?;
        self.feed_forward_norm.apply(states, &mut narrow)?;
        let tokens = states.len() / self.width;
        let row_bytes = self.feed_forward_width.saturating_mul(size_of::<T>()).max(1);
        let rows = (HIDDEN_BYTES / row_bytes / TILE_ROWS).max(1) * TILE_ROWS;
        for start in (0..tokens).step_by(rows) {
            let end = tokens.min(start + rows);
            let part = start * self.width..end * self.width;
            let mut hidden = wide.take(gpu, (end - start) * self.feed_forward_width)?;
            self.expand.apply_bare(narrow.view().part(part.clone()), hidden.again())?;
            let (bias, width) = (self.expand.bias(), self.feed_forward_width);
            activation_in_place(&mut hidden, bias, width, Function::GeluTanh)
                .map_err(device_error)?;
            self.contract.add(hidden.view(), states.part(part))?;
        }
        Ok(())
    }
}

/// A gLM on a device.
struct Backbone<T: Held> {
    gpu: Gpu,
    words: DeviceArray<f32>,
    blocks: Vec<Block<T>>,
    final_norm: LayerNorm,
    head: Option<Linear<T>>,
    width: usize,
    embedding_rows: usize,
    scratch: Kept<Scratch<T>>,
}

impl<T: Held> Backbone<T> {
    fn language_head(&self) -> Result<&Linear<T>> {
        self.head.as_ref().ok_or_else(|| {
            Error::invalid(format!("these weights have no language-model head ({HEAD})"))
        })
    }

    /// [`Network::forward`] in `scratch`.
    fn run(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        scratch: &mut Scratch<T>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let (gpu, count) = (&self.gpu, batch.token_count().saturating_mul(self.width));
        let Scratch { states, narrow, wide } = scratch;
        let mut states = states.take(gpu, count)?;
        let rows = TokenRows::new(gpu, &batch.ids, None, None).map_err(device_error)?;
        embedding(&rows, self.words.view(), None, self.width, &mut states).map_err(device_error)?;
        if request.wants(0) {
            sink(0, States::Device(states.view()))?;
        }
        let sequences = Sequences::new(gpu, &batch.offsets).map_err(device_error)?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(gpu, &mut states, &sequences, (&mut *narrow, &mut *wide))?;
            if request.wants(layer) {
                sink(layer, States::Device(states.view()))?;
            }
        }
        if request.deepest() as usize > self.blocks.len() {
            self.final_norm.apply_in_place::<f32>(&mut states, None)?;
            sink(request.deepest(), States::Device(states.view()))?;
        }
        Ok(())
    }
}

impl<T: Held> Network for Backbone<T> {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.scratch.lend(batch.token_count(), |scratch| self.run(batch, request, scratch, sink))
    }

    fn vocabulary_size(&self) -> usize {
        self.embedding_rows
    }

    /// The last columns are those of rows that only pad the embedding.
    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        for states in states.chunks(HEAD_ROWS.saturating_mul(self.width)) {
            self.head_of(States::Device(upload(&self.gpu, states)?.view()), &mut |part| {
                logits.extend_from_slice(&part.on_host()?);
                Ok(())
            })?;
        }
        // No states need a head as well.
        self.language_head().map(|_| logits)
    }

    fn head_of(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        let states = match states {
            States::Host(states) => return sink(States::Host(&self.head(states)?)),
            States::Device(states) => states,
        };
        let head = self.language_head()?;
        let mut narrow = DeviceArray::<T>::new(&self.gpu, states.len()).map_err(device_error)?;
        convert(states, &mut narrow.view_mut()).map_err(device_error)?;
        let count = (states.len() / self.width).saturating_mul(self.embedding_rows);
        let mut out = DeviceArray::<f32>::new(&self.gpu, count).map_err(device_error)?;
        head.apply(narrow.view(), out.view_mut())?;
        sink(States::Device(out.view()))
    }

    fn is_causal(&self) -> bool {
        true
    }
}
