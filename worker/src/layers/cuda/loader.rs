//! Taking tensors of a gLM to a CUDA device, and the class that all its products are computed in.
//!
//! Leaves out: how a gLM joins them. Invariant: shapes are checked when tensors are taken, as on the CPU; no layer has another
//! class than its gLM.

use super::{Held, LayerNorm, Linear, upload};
use crate::device::device_error;
use crate::layers::{self, take_bias, take_conv1d};
use crate::model::TensorSource;
use glmeval_common::error::Result;
use glmeval_common::model::Precision;
use glmeval_kernels::cuda::{DeviceArray, Gpu, ProductClass};
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{ConvClass, ConvValue, DeviceConv1d};

/// Takes tensors to a device.
pub(crate) struct DeviceLoader<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) tensors: &'a mut dyn TensorSource,
    pub(crate) precision: Precision,
}

impl DeviceLoader<'_> {
    /// Takes `name.weight` `[out, in, taps]`, and `name.bias` if there is one.
    pub(crate) fn conv<T: ConvValue>(
        &mut self,
        name: &str,
        (shape, has_bias): (Conv1dShape, bool),
    ) -> Result<DeviceConv1d<T>> {
        let (weight, bias) = take_conv1d(name, (shape, has_bias), self.tensors)?;
        self.lay_out(&weight, bias.as_deref(), shape)
    }

    /// Takes `name.weight` `[out, in]`, and `name.bias` if there is one, as a convolution of one tap.
    pub(crate) fn linear<T: ConvValue>(
        &mut self,
        name: &str,
        ((outputs, inputs), has_bias): ((usize, usize), bool),
    ) -> Result<DeviceConv1d<T>> {
        let weight = self.tensors.take_f32(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = take_bias(name, (outputs, has_bias), self.tensors)?;
        self.lay_out(&weight, bias.as_deref(), linear_shape((outputs, inputs)))
    }

    /// Lays out weights as PyTorch stores them.
    pub(crate) fn lay_out<T: ConvValue>(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
    ) -> Result<DeviceConv1d<T>> {
        DeviceConv1d::new(self.gpu, weight, bias, shape, class::<T>(self.precision))
            .map_err(device_error)
    }

    /// Takes `name.weight` `[out, in]`, and `name.bias` if maps of this gLM have one, as whole matrices.
    pub(crate) fn map<T: Held>(
        &mut self,
        name: &str,
        (extents, has_bias): ((usize, usize), bool),
    ) -> Result<Linear<T>> {
        let weight = self.tensors.take_f32(&format!("{name}.weight"), &[extents.0, extents.1])?;
        let bias = take_bias(name, (extents.0, has_bias), self.tensors)?;
        self.map_of(&weight, bias.as_deref(), extents)
    }

    /// Takes weights `[out, in]` and biases `[out]` to the device.
    pub(crate) fn map_of<T: Held>(
        &self,
        weight: &[f32],
        bias: Option<&[f32]>,
        extents: (usize, usize),
    ) -> Result<Linear<T>> {
        let class = match self.precision {
            Precision::Tf32 => ProductClass::Tf32,
            Precision::F32 | Precision::Bf16 => ProductClass::F32,
        };
        Linear::new(self.gpu, (weight, bias), extents, class)
    }

    /// Takes `name.weight`, and `name.bias` if norms of this gLM have one.
    pub(crate) fn norm(
        &mut self,
        name: &str,
        (width, has_bias): (usize, bool),
        eps: f32,
    ) -> Result<LayerNorm> {
        let norm = layers::LayerNorm::load_form(name, (width, has_bias), eps, self.tensors)?;
        LayerNorm::new(self.gpu, &norm)
    }

    /// Values on the device.
    pub(crate) fn array(&self, values: &[f32]) -> Result<DeviceArray<f32>> {
        upload(self.gpu, values)
    }
}

/// How values of this type are multiplied.
fn class<T: ConvValue>(precision: Precision) -> ConvClass {
    match (T::IS_BF16, precision) {
        (true, _) => ConvClass::Bf16,
        (false, Precision::Tf32) => ConvClass::Tf32,
        (false, _) => ConvClass::F32,
    }
}

/// A linear map as a convolution of one tap.
pub(crate) fn linear_shape((output_width, input_width): (usize, usize)) -> Conv1dShape {
    Conv1dShape { output_width, input_width, kernel: 1, dilation: 1 }
}
