//! GPN on a CUDA device: weights and states stay there.
//!
//! Leaves out: the config. Invariant: a sequence's states are its own in every bit, as on the CPU; the residual stream is f32
//! whatever the products are.

mod byte_net;
mod conv_net;
mod head;

use super::Form;
use crate::config::GpnConfig;
use crate::device::device_error;
use crate::layers::cuda::{DeviceLoader, Room};
use crate::model::{Network, Precision, TensorSource, TokenBatch};
use byte_net::ByteNet;
use conv_net::ConvNet;
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Gpu};
use glmeval_kernels::ops::conv1d::cuda::{ConvValue, TokenRanges};

/// Takes the tensors to the device.
pub(super) fn load(
    config: &GpnConfig,
    form: Form,
    gpu: &Gpu,
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    match form.precision {
        Precision::F32 | Precision::Tf32 => load_as::<f32>(config, form, gpu, tensors),
        Precision::Bf16 => load_as::<Bf16>(config, form, gpu, tensors),
    }
}

fn load_as<T: ConvValue>(
    config: &GpnConfig,
    form: Form,
    gpu: &Gpu,
    tensors: &mut dyn TensorSource,
) -> Result<Box<dyn Network>> {
    let mut loader = DeviceLoader { gpu, tensors, precision: form.precision };
    Ok(match config.byte_net {
        None => Box::new(ConvNet::<T>::load(config, form, &mut loader)?),
        Some(byte_net) => Box::new(ByteNet::<T>::load(config, byte_net, form, &mut loader)?),
    })
}

/// A table `[V, width]` whose rows are one-hot.
fn one_hot_table(loader: &DeviceLoader<'_>, size: usize, width: usize) -> Result<DeviceArray<f32>> {
    let ids: Vec<u32> = (0..size).map(|id| id as u32).collect();
    loader.array(&super::one_hot(&ids, width)?)
}

/// Work space of a pass, kept between passes.
struct Space<T: ConvValue> {
    ids: Room<u32>,
    ranges: Option<TokenRanges>,
    /// The residual stream.
    states: Room<f32>,
    /// The one-hot that the first form's first convolution reads.
    hot: Room<f32>,
    branch: Room<f32>,
    /// What products read.
    left: Room<T>,
}

impl<T: ConvValue> Default for Space<T> {
    fn default() -> Self {
        Self {
            ids: Room::default(),
            ranges: None,
            states: Room::default(),
            hot: Room::default(),
            branch: Room::default(),
            left: Room::default(),
        }
    }
}

impl<T: ConvValue> Space<T> {
    /// Takes the tokens of a batch to the device.
    fn set_batch(&mut self, gpu: &Gpu, batch: &TokenBatch) -> Result<()> {
        self.ids.fit(gpu, batch.ids.len(), 1)?.write(&batch.ids).map_err(device_error)?;
        match &mut self.ranges {
            Some(ranges) => ranges.set(gpu, &batch.offsets).map_err(device_error),
            None => {
                let ranges = TokenRanges::new(gpu, &batch.offsets).map_err(device_error)?;
                self.ranges = Some(ranges);
                Ok(())
            }
        }
    }
}

fn without_batch() -> Error {
    Error::bug("a pass without a batch")
}

#[cfg(test)]
mod tests;
