//! Layers on a CUDA device: taking their tensors there, and work space.
//!
//! Leaves out: how a gLM joins them. Invariant: shapes are checked when tensors are taken, as on the CPU.

use crate::device::device_error;
use crate::model::TensorSource;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_kernels::cuda::{DeviceArray, Element, Gpu, ViewMut};
use glmeval_kernels::ops::conv1d::Conv1dShape;
use glmeval_kernels::ops::conv1d::cuda::{ConvClass, ConvValue, DeviceConv1d};
use glmeval_kernels::ops::layer_norm::cuda::Norm;

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
        let (weight, bias) = super::take_conv1d(name, (shape, has_bias), self.tensors)?;
        self.lay_out(&weight, bias.as_deref(), shape)
    }

    /// Takes `name.weight` `[out, in]`, and `name.bias` if there is one, as a convolution of one tap.
    pub(crate) fn linear<T: ConvValue>(
        &mut self,
        name: &str,
        ((outputs, inputs), has_bias): ((usize, usize), bool),
    ) -> Result<DeviceConv1d<T>> {
        let weight = self.tensors.take_f32(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = super::take_bias(name, (outputs, has_bias), self.tensors)?;
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

    /// Takes `name.weight`, and `name.bias` if norms of this gLM have one.
    pub(crate) fn norm(
        &mut self,
        name: &str,
        (width, has_bias): (usize, bool),
        eps: f32,
    ) -> Result<DeviceNorm> {
        let weight = self.tensors.take_f32(&format!("{name}.weight"), &[width])?;
        let bias = super::take_bias(name, (width, has_bias), self.tensors)?;
        let bias = bias.map(|bias| self.array(&bias)).transpose()?;
        Ok(DeviceNorm { weight: self.array(&weight)?, bias, eps })
    }

    /// Values on the device.
    pub(crate) fn array(&self, values: &[f32]) -> Result<DeviceArray<f32>> {
        DeviceArray::from_slice(self.gpu, values).map_err(device_error)
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

/// Scale and shift of a layer norm on a device.
pub(crate) struct DeviceNorm {
    weight: DeviceArray<f32>,
    bias: Option<DeviceArray<f32>>,
    eps: f32,
}

impl DeviceNorm {
    /// As kernels take it.
    pub(crate) fn norm(&self) -> Norm<'_> {
        let bias = self.bias.as_ref().map(DeviceArray::view);
        Norm { weight: self.weight.view(), bias, eps: self.eps }
    }
}

/// An array that grows with what is asked of it and is kept between passes.
pub(crate) struct Room<T: Element>(Option<DeviceArray<T>>);

impl<T: Element> Default for Room<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Element> Room<T> {
    /// `width` values for each of `rows` rows; what they held means nothing.
    ///
    /// # Errors
    /// `Unavailable` if the device has no room; `Bug` for more than can be addressed.
    pub(crate) fn fit(&mut self, gpu: &Gpu, rows: usize, width: usize) -> Result<ViewMut<'_, T>> {
        let length = rows.checked_mul(width);
        let length = length.ok_or_else(|| Error::bug("activations are past all memory"))?;
        if self.0.as_ref().is_some_and(|array| array.len() < length) {
            // Given back first, so that both need not fit at once.
            self.0 = None;
        }
        let array = match self.0.take() {
            Some(array) => array,
            None => DeviceArray::new(gpu, length).map_err(device_error)?,
        };
        Ok(self.0.insert(array).view_mut().into_part(0..length))
    }
}
