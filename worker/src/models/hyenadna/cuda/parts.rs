//! Linear maps, layer norms and memory of a pass on a device.
//!
//! Leaves out: how they join. Invariant: shapes are checked when tensors are taken; sums are f32.

use crate::device::device_error;
use crate::layers;
use crate::model::TensorSource;
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{
    Bf16, DeviceArray, Element, Gpu, Number, Operand, Output, Product, ProductClass, Value, View,
    ViewMut,
};
use glmeval_kernels::ops::layer_norm::cuda as norm;

/// What a class holds weights and the inputs of products as.
pub(in crate::models::hyenadna) trait Held: Value + Number {
    /// The nearest to f32 values.
    fn nearest(values: &[f32]) -> Vec<Self>;
}

impl Held for f32 {
    fn nearest(values: &[f32]) -> Vec<Self> {
        values.to_vec()
    }
}

impl Held for Bf16 {
    fn nearest(values: &[f32]) -> Vec<Self> {
        values.iter().map(|&value| Self::from_f32(value)).collect()
    }
}

/// Takes f32 values to the device.
pub(super) fn upload(gpu: &Gpu, values: &[f32]) -> Result<DeviceArray<f32>> {
    DeviceArray::from_slice(gpu, values).map_err(device_error)
}

/// Memory that grows to what a pass needs and stays for the next one; what it held means nothing.
pub(super) struct Space<T: Element>(Option<DeviceArray<T>>);

impl<T: Element> Default for Space<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Element> Space<T> {
    /// `count` values to write.
    pub(super) fn take(&mut self, gpu: &Gpu, count: usize) -> Result<ViewMut<'_, T>> {
        // Given back first where it is too small: both together may not fit.
        let array = match self.0.take().filter(|array| array.len() >= count) {
            Some(array) => array,
            None => DeviceArray::new(gpu, count).map_err(device_error)?,
        };
        Ok(self.0.insert(array).view_mut().into_part(0..count))
    }
}

/// A linear map.
pub(super) struct Linear<T: Held> {
    /// `[out, in]`
    weight: DeviceArray<T>,
    /// `[out]`
    bias: Option<DeviceArray<f32>>,
    outputs: usize,
    inputs: usize,
}

impl<T: Held> Linear<T> {
    /// Takes `name.weight` `[out, in]` and `name.bias`.
    pub(super) fn load(
        gpu: &Gpu,
        name: &str,
        (outputs, inputs): (usize, usize),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let weight = tensors.take_f32(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = tensors.take_f32(&format!("{name}.bias"), &[outputs])?;
        Self::new(gpu, &weight, Some(&bias), (outputs, inputs))
    }

    /// Takes it to the device.
    pub(super) fn new(
        gpu: &Gpu,
        weight: &[f32],
        bias: Option<&[f32]>,
        (outputs, inputs): (usize, usize),
    ) -> Result<Self> {
        let weight = DeviceArray::from_slice(gpu, &T::nearest(weight)).map_err(device_error)?;
        let bias = bias.map(|bias| upload(gpu, bias)).transpose()?;
        Ok(Self { weight, bias, outputs, inputs })
    }

    /// Writes `x weightᵀ + bias`: `[N, in]` to `[N, out]`.
    pub(super) fn apply<O: Value>(&self, x: View<'_, T>, out: ViewMut<'_, O>) -> Result<()> {
        self.multiply(x, self.bias(), false, out)
    }

    /// As [`Self::apply`], without the bias: what reads the result adds it.
    pub(super) fn apply_bare<O: Value>(&self, x: View<'_, T>, out: ViewMut<'_, O>) -> Result<()> {
        self.multiply(x, None, false, out)
    }

    /// Adds `x weightᵀ + bias` to `out`.
    pub(super) fn add(&self, x: View<'_, T>, out: ViewMut<'_, f32>) -> Result<()> {
        self.multiply(x, self.bias(), true, out)
    }

    /// `[out]`
    pub(super) fn bias(&self) -> Option<View<'_, f32>> {
        self.bias.as_ref().map(DeviceArray::view)
    }

    fn multiply<O: Value>(
        &self,
        x: View<'_, T>,
        bias: Option<View<'_, f32>>,
        adds: bool,
        out: ViewMut<'_, O>,
    ) -> Result<()> {
        let product = Product {
            rows: x.len() / self.inputs.max(1),
            columns: self.outputs,
            depth: self.inputs,
            left: Operand::rows(x, self.inputs),
            right: Operand::rows(self.weight.view(), self.inputs),
            bias,
            adds,
            out: Output::rows(out, self.outputs),
            class: ProductClass::F32,
        };
        x.gpu().multiply(&product).map_err(device_error)
    }
}

/// Scale and shift of a layer norm.
pub(super) struct Norm {
    weight: DeviceArray<f32>,
    bias: DeviceArray<f32>,
    eps: f32,
}

impl Norm {
    /// Takes `name.weight` and `name.bias`.
    pub(super) fn load(
        gpu: &Gpu,
        name: &str,
        (width, eps): (usize, f32),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let [weight, bias] = layers::norm_tensors(name, width);
        let mut take = |name: &str| upload(gpu, &tensors.take_f32(name, &[width])?);
        Ok(Self { weight: take(&weight.name)?, bias: take(&bias.name)?, eps })
    }

    /// Normalises each row of `x` into `out`, both `[N, D]`.
    pub(super) fn apply<O: Number>(
        &self,
        x: &mut ViewMut<'_, f32>,
        out: &mut ViewMut<'_, O>,
    ) -> Result<()> {
        norm::layer_norm(x, None, self.view(), out).map_err(device_error)
    }

    /// Replaces each row of `x` `[N, D]`.
    pub(super) fn apply_in_place(&self, x: &mut ViewMut<'_, f32>) -> Result<()> {
        norm::layer_norm_in_place::<f32>(x, None, self.view(), None).map_err(device_error)
    }

    fn view(&self) -> norm::Norm<'_> {
        norm::Norm { weight: self.weight.view(), bias: Some(self.bias.view()), eps: self.eps }
    }
}
