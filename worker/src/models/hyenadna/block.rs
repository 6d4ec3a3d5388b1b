//! One pre-norm block: the Hyena mixer, then a feed-forward part, both residual.
//!
//! Leaves out: the mixer's arithmetic (kernels). Invariant: the feed-forward part is never held for
//! more than a few rows; how rows are cut never changes a bit.

use crate::config::HyenaDnaConfig;
use crate::config::hyenadna::block_name;
use crate::layers::{LayerNorm, defect, fit, kernel_precision, load_linear, part_rows};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::hyena::cuda::MixerWeights;
use glmeval_kernels::ops::hyena::{
    Affine, FilterWeights, HyenaOperator, HyenaWeights, ImplicitFilter,
};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// Rows whose feed-forward part is computed at a time, at most.
pub(super) const ROWS: usize = 2_304;

/// Activations of one forward pass, shared by all blocks.
#[derive(Default)]
pub(super) struct Scratch {
    /// Normalised states, `[N, D]`.
    normed: Vec<f32>,
    /// What the mixer gives, `[N, D]`.
    mixed: Vec<f32>,
    /// Feed-forward part of some rows, at most `[ROWS, F]`.
    hidden: Vec<f32>,
}

impl Scratch {
    pub(super) fn fit(&mut self, token_count: usize, (width, wide): (usize, usize)) -> Result<()> {
        fit(&mut self.normed, token_count, width)?;
        fit(&mut self.mixed, token_count, width)?;
        fit(&mut self.hidden, token_count.min(ROWS), wide)
    }
}

/// Weights of one block.
pub(super) struct Block {
    mixer_norm: LayerNorm,
    mixer: HyenaOperator,
    mixer_output: PackedLinear,
    feed_forward_norm: LayerNorm,
    expand: PackedLinear,
    contract: PackedLinear,
    width: usize,
    feed_forward_width: usize,
}

impl Block {
    pub(super) fn load(
        config: &HyenaDnaConfig,
        index: usize,
        (precision, spectra_bytes_max): (Precision, usize),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let (width, wide, block) = (config.width, config.feed_forward_width, block_name(index));
        let eps = config.block_norm_eps as f32;
        let name = |part: &str| format!("{block}.{part}");
        let linear_of = |part: &str, extents, tensors: &mut dyn TensorSource| {
            load_linear(&name(part), extents, precision, tensors)
        };
        Ok(Self {
            mixer_norm: LayerNorm::load(&name("norm1"), width, eps, tensors)?,
            mixer: load_mixer(config, &name("mixer"), (precision, spectra_bytes_max), tensors)?,
            mixer_output: linear_of("mixer.out_proj", (width, width), tensors)?,
            feed_forward_norm: LayerNorm::load(&name("norm2"), width, eps, tensors)?,
            expand: linear_of("mlp.fc1", (wide, width), tensors)?,
            contract: linear_of("mlp.fc2", (width, wide), tensors)?,
            width,
            feed_forward_width: wide,
        })
    }

    /// Replaces `states` `[N, D]` by this block's output.
    ///
    /// ```text
    /// x += out_proj(mixer(LN(x)));  x += fc2(gelu_tanh(fc1(LN(x))))
    /// ```
    pub(super) fn apply(
        &self,
        states: &mut [f32],
        offsets: &[usize],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { normed, mixed, hidden } = scratch;
        self.mixer_norm.apply(states, normed)?;
        self.mixer.apply(normed, offsets, mixed).map_err(defect)?;
        linear(mixed, &self.mixer_output, Epilogue::Add, states).map_err(defect)?;
        let part = part_rows(states.len() / self.width, ROWS) * self.width;
        let rows = states.chunks_mut(part).zip(normed.chunks_mut(part));
        for (states, normed) in rows {
            self.feed_forward_norm.apply(states, normed)?;
            let hidden = hidden.get_mut(..states.len() / self.width * self.feed_forward_width);
            let hidden = hidden.ok_or_else(|| Error::bug("scratch of another batch"))?;
            linear(normed, &self.expand, Epilogue::GeluTanh, hidden).map_err(defect)?;
            linear(hidden, &self.contract, Epilogue::Add, states).map_err(defect)?;
        }
        Ok(())
    }
}

fn load_mixer(
    config: &HyenaDnaConfig,
    name: &str,
    (precision, spectra_bytes_max): (Precision, usize),
    tensors: &mut dyn TensorSource,
) -> Result<HyenaOperator> {
    let width = config.width;
    let three = width.saturating_mul(3);
    let projection = tensors.take_f32(&format!("{name}.in_proj.weight"), &[three, width])?;
    let projection_bias = tensors.take_f32(&format!("{name}.in_proj.bias"), &[three])?;
    take_mixer(config, name, tensors, |mixer| {
        let weights = HyenaWeights {
            projection: &projection,
            projection_bias: &projection_bias,
            precision: kernel_precision(precision),
            short: mixer.short,
            short_bias: mixer.short_bias,
            skip: mixer.skip,
            filter: ImplicitFilter::new(&mixer.filter).map_err(defect)?,
        };
        HyenaOperator::new(weights, spectra_bytes_max).map_err(defect)
    })
}

/// Takes what a mixer has between its projections, and makes something of it; positions and window of the long filter as they
/// are stored.
pub(super) fn take_mixer<M>(
    config: &HyenaDnaConfig,
    name: &str,
    tensors: &mut dyn TensorSource,
    make: impl FnOnce(&MixerWeights<'_>) -> Result<M>,
) -> Result<M> {
    let (width, hidden, positions) = (config.width, config.filter_width, config.length_max);
    let three = width.saturating_mul(3);
    let mut take = |part: &str, shape: &[usize]| tensors.take_f32(&format!("{name}.{part}"), shape);
    let short = take("short_filter.weight", &[three, 1, 3])?;
    let short_bias = take("short_filter.bias", &[three])?;
    let skip = take("filter_fn.bias", &[width])?;
    let mut take = |part: &str, shape: &[usize]| take(&format!("filter_fn.{part}"), shape);
    let mut layers = Vec::with_capacity(config.inner_count + 1);
    for layer in 0..=config.inner_count {
        let inputs = if layer == 0 { config.feature_count } else { hidden };
        let weight = take(&format!("implicit_filter.{}.weight", 2 * layer), &[hidden, inputs])?;
        layers.push((weight, take(&format!("implicit_filter.{}.bias", 2 * layer), &[hidden])?));
    }
    let last = format!("implicit_filter.{}.weight", 2 * config.inner_count + 2);
    let last = take(&last, &[config.width, hidden])?;
    let frequency = take("implicit_filter.1.freq", &[1, hidden])?;
    let features = take("pos_emb.z", &[1, positions, config.feature_count])?;
    let times = take("pos_emb.t", &[1, positions, 1])?;
    let deltas = take("modulation.deltas", &[1, 1, config.width])?;
    let mut affine = layers.iter().map(|(w, b)| -> Affine<'_> { (w.as_slice(), b.as_slice()) });
    let first = affine.next().ok_or_else(|| Error::bug("a filter without layers"))?;
    let inner: Vec<Affine<'_>> = affine.collect();
    let filter = FilterWeights {
        features: &features,
        times: &times,
        deltas: &deltas,
        frequency: &frequency,
        first,
        inner: &inner,
        last: &last,
    };
    make(&MixerWeights { short: &short, short_bias: &short_bias, skip: &skip, filter })
}
