//! The RBP network on a CUDA device: weights and the embedding stay there.
//!
//! Leaves out: the layers behind the embedding, a few products a sequence that stay on the CPU. Invariant: a sequence's
//! embedding is its own in every bit; batch norms are folded into the weights before them, in f32.

use super::head::Head;
use super::norm::BatchNorm;
use crate::config::RbpCnnConfig;
use crate::config::rbp_cnn::{DILATIONS, POOL, conv};
use crate::device::device_error;
use crate::layers::cuda::{DeviceLoader, Room};
use crate::layers::{Kept, NUCLEOTIDES, centred};
use crate::model::{LayerRequest, Network, Precision, Sink, States, TensorSource, TokenBatch};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Gpu, View, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::branch_norm::cuda::token_rows;
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvClass, ConvValue, DeviceActivation, DeviceConv1d, DeviceEpilogue, conv1d_even,
};
use glmeval_kernels::ops::max_pool::cuda::{MaxPool, max_pool};

/// Bases, which are the channels of the input.
const BASES: usize = NUCLEOTIDES - 1;
/// Sequences that are computed at once: enough to fill a device.
const SEQUENCES: usize = 64;

/// Takes the tensors to the device.
pub(super) fn load(
    config: &RbpCnnConfig,
    precision: Precision,
    gpu: &Gpu,
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    Ok(match precision {
        Precision::F32 => {
            Box::new(Loaded::<f32>::load(config, (precision, ConvClass::F32), gpu, tensors)?)
        }
        Precision::Tf32 => {
            Box::new(Loaded::<f32>::load(config, (precision, ConvClass::Tf32), gpu, tensors)?)
        }
        Precision::Bf16 => {
            Box::new(Loaded::<Bf16>::load(config, (precision, ConvClass::Bf16), gpu, tensors)?)
        }
    })
}

/// Work space, kept between passes.
struct Space<T: ConvValue> {
    ids: Room<u32>,
    hot: Room<f32>,
    skip: Room<f32>,
    sum: Room<f32>,
    first: Room<T>,
    second: Room<T>,
}

impl<T: ConvValue> Default for Space<T> {
    fn default() -> Self {
        Self {
            ids: Room::default(),
            hot: Room::default(),
            skip: Room::default(),
            sum: Room::default(),
            first: Room::default(),
            second: Room::default(),
        }
    }
}

/// A loaded network whose products read `T`.
struct Loaded<T: ConvValue> {
    gpu: Gpu,
    /// Rows of the input by nucleotide, zeros for none of them.
    bases: DeviceArray<f32>,
    /// Reads one-hot DNA, in f32 at any precision.
    first: DeviceConv1d<f32>,
    residual: [DeviceConv1d<T>; 3],
    last: DeviceConv1d<T>,
    head: Option<Head>,
    length: usize,
    /// Channels before and behind the pool.
    widths: (usize, usize),
    kept: Kept<Space<T>>,
}

impl<T: ConvValue> Loaded<T> {
    fn load(
        config: &RbpCnnConfig,
        (precision, class): (Precision, ConvClass),
        gpu: &Gpu,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let [narrow, wide] = config.filters;
        let first = folded(config, (0, ConvClass::F32), gpu, tensors)?;
        let mut block = |index| folded(config, (index, class), gpu, tensors);
        let (residual, last) = ([block(1)?, block(2)?, block(3)?], block(4)?);
        let head = (config.sequence_length / POOL, precision);
        let head = Head::load(config, head, tensors)?;
        let mut bases = vec![0.0; NUCLEOTIDES * BASES];
        bases.iter_mut().step_by(BASES + 1).take(BASES).for_each(|value| *value = 1.0);
        let loader = DeviceLoader { gpu, tensors, precision: Precision::F32 };
        Ok(Self {
            gpu: gpu.clone(),
            bases: loader.array(&bases)?,
            first,
            residual,
            last,
            head,
            length: config.sequence_length,
            widths: (narrow, wide),
            kept: Kept::default(),
        })
    }

    /// Writes the embeddings `[B, T / 10, D]` of padded sequences `[B, T]`.
    fn write(&self, space: &mut Space<T>, ids: &[u32], mut out: ViewMut<'_, f32>) -> Result<()> {
        let (gpu, rows, narrow) = (&self.gpu, ids.len(), self.widths.0);
        let mut codes = space.ids.fit(gpu, rows, 1)?;
        codes.write(ids).map_err(device_error)?;
        let mut hot = space.hot.fit(gpu, rows, BASES)?;
        token_rows(codes.view(), self.bases.view(), BASES, &mut hot).map_err(device_error)?;
        let rooms = Rooms {
            skip: space.skip.fit(gpu, rows, narrow)?,
            sum: space.sum.fit(gpu, rows, narrow)?,
            first: space.first.fit(gpu, rows, narrow)?,
            second: space.second.fit(gpu, rows, narrow)?,
        };
        self.run(hot.view(), rooms, &mut out).map_err(device_error)
    }

    /// ```text
    /// x = exp(norm(conv(ids)));  r = norm(conv(relu(norm(conv(relu(norm(conv(x))))))))
    /// relu(norm(conv(relu(pool(x + r)))))
    /// ```
    ///
    /// The largest of some rectified values is the rectified largest.
    fn run(
        &self,
        hot: View<'_, f32>,
        rooms: Rooms<'_, T>,
        out: &mut ViewMut<'_, f32>,
    ) -> Result<(), KernelError> {
        let Rooms { mut skip, mut sum, mut first, mut second } = rooms;
        let (length, width) = (self.length, self.widths.0);
        let (exp, relu) = (DeviceActivation::Exp, DeviceActivation::Relu);
        conv1d_even(hot, length, &self.first, exp.into(), &mut skip)?;
        let plain = MaxPool { length, width, window: 1, has_relu: false };
        max_pool(skip.view(), None, plain, &mut first)?;
        let [one, two, three] = &self.residual;
        conv1d_even(first.view(), length, one, relu.into(), &mut second)?;
        conv1d_even(second.view(), length, two, relu.into(), &mut first)?;
        let none = DeviceEpilogue::default();
        conv1d_even(first.view(), length, three, none, &mut sum)?;
        let pool = MaxPool { window: POOL, has_relu: true, ..plain };
        let rows = skip.len() / width / length * (length / POOL);
        let mut pooled = second.part(0..rows * width);
        max_pool(sum.view(), Some(skip.view()), pool, &mut pooled)?;
        conv1d_even(pooled.view(), length / POOL, &self.last, relu.into(), out)
    }
}

/// Work space of one pass, as long as it needs.
struct Rooms<'a, T: ConvValue> {
    skip: ViewMut<'a, f32>,
    sum: ViewMut<'a, f32>,
    first: ViewMut<'a, T>,
    second: ViewMut<'a, T>,
}

/// Takes a convolution and folds the batch norm behind it into its weights.
///
/// ```text
/// (sum x w) scale + shift = sum x (w scale) + shift
/// ```
fn folded<T: ConvValue>(
    config: &RbpCnnConfig,
    (index, class): (usize, ConvClass),
    gpu: &Gpu,
    tensors: &mut dyn TensorSource,
) -> Result<DeviceConv1d<T>> {
    let kernels = config.kernels();
    let [kernel, input_width, output_width] =
        kernels.get(index).copied().ok_or_else(|| Error::bug("a convolution past the last"))?;
    let dilation = DILATIONS.get(index).copied().unwrap_or(1);
    let name = format!("{}/kernel", conv(index));
    let mut weight = tensors.take_f32(&name, &[kernel, input_width, output_width])?;
    let norm = BatchNorm::load(index, output_width, config.batch_norm_eps, tensors)?;
    let (scale, shift) = norm.factors();
    for row in weight.chunks_exact_mut(output_width) {
        row.iter_mut().zip(scale).for_each(|(weight, scale)| *weight *= scale);
    }
    let shape = Conv1dShape { output_width, input_width, kernel, dilation };
    DeviceConv1d::new_channels_last(gpu, &weight, Some(shift), shape, class).map_err(device_error)
}

impl<T: ConvValue> Network for Loaded<T> {
    /// Some sequences at once, so that only the embeddings grow with the batch.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let padded = batch.sequences().map(|sequence| centred(sequence, self.length));
        let padded = padded.collect::<Result<Vec<_>>>()?;
        let values = self.length / POOL * self.widths.1;
        let mut states = DeviceArray::<f32>::new(&self.gpu, padded.len().saturating_mul(values))
            .map_err(device_error)?;
        for (index, part) in padded.chunks(SEQUENCES).enumerate() {
            let (ids, first) = (part.concat(), index * SEQUENCES);
            let mut states = states.view_mut();
            let out = states.part(first * values..(first + part.len()) * values);
            self.kept.lend(ids.len(), |space| self.write(space, &ids, out))?;
        }
        if request.wants(1) {
            sink(1, States::Device(states.view()))?;
        }
        Ok(())
    }

    fn vocabulary_size(&self) -> usize {
        NUCLEOTIDES
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        match &self.head {
            Some(head) => head.predictions(states),
            None => Err(Error::invalid("these weights end at the embedding")),
        }
    }
}

#[cfg(test)]
mod tests;
