//! Layers on a CUDA device: loading their tensors, and applying them.
//!
//! Leaves out: how a gLM joins them. Invariant: shapes are checked when tensors are taken; activations of a class are f32 (also
//! of tf32, whose products alone are rounded) or bf16, sums and the states between blocks always f32.

mod loader;
mod masked_head;
mod transformer;

use crate::device::device_error;
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{
    Bf16, DeviceArray, Element, Gpu, Number, Operand, Output, Product, ProductClass, Value, View,
    ViewMut,
};
use glmeval_kernels::ops::attention::cuda::{AttentionValue, SequenceTable};
use glmeval_kernels::ops::layer_norm::cuda::{Norm, layer_norm, layer_norm_in_place};

pub(crate) use loader::{DeviceLoader, linear_shape};
pub(crate) use masked_head::MaskedHead;
pub(crate) use transformer::{Batch, FeedForward, Positions, Scratch, SelfAttention};

/// What a class holds weights and the inputs of products as.
pub(crate) trait Held: Value + Number + AttentionValue {
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
///
/// # Errors
/// `Unavailable` if there is no room.
pub(crate) fn upload(gpu: &Gpu, values: &[f32]) -> Result<DeviceArray<f32>> {
    DeviceArray::from_slice(gpu, values).map_err(device_error)
}

/// Memory that grows to what a pass needs and stays for the next one; what it held means nothing.
pub(crate) struct Room<T: Element>(Option<DeviceArray<T>>);

impl<T: Element> Default for Room<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Element> Room<T> {
    /// `width` values for each of `rows` rows.
    ///
    /// # Errors
    /// `Unavailable` if there is no room; `Bug` for more than can be addressed.
    pub(crate) fn fit(&mut self, gpu: &Gpu, rows: usize, width: usize) -> Result<ViewMut<'_, T>> {
        let count = rows.checked_mul(width);
        self.take(gpu, count.ok_or_else(|| Error::bug("activations are past all memory"))?)
    }

    /// `count` values to write.
    ///
    /// # Errors
    /// `Unavailable` if there is no room.
    pub(crate) fn take(&mut self, gpu: &Gpu, count: usize) -> Result<ViewMut<'_, T>> {
        // Given back first where it is too small: both together may not fit.
        let array = match self.0.take().filter(|array| array.len() >= count) {
            Some(array) => array,
            None => DeviceArray::new(gpu, count).map_err(device_error)?,
        };
        Ok(self.0.insert(array).view_mut().into_part(0..count))
    }
}

/// The table of a batch's sequences, in the memory of the last one.
///
/// # Errors
/// `Unavailable` if there is no room.
pub(crate) fn sequences<'a>(
    gpu: &Gpu,
    offsets: &[usize],
    kept: &'a mut Option<SequenceTable>,
) -> Result<&'a SequenceTable> {
    let mut table = match kept.take() {
        Some(table) => table,
        None => SequenceTable::new(gpu, &[0]).map_err(device_error)?,
    };
    table.set(offsets).map_err(device_error)?;
    Ok(kept.insert(table))
}

/// A linear map.
pub(crate) struct Linear<T: Held> {
    /// `[out, in]`.
    weight: DeviceArray<T>,
    /// `[out]`.
    bias: Option<DeviceArray<f32>>,
    outputs: usize,
    inputs: usize,
    /// How f32 values are multiplied.
    class: ProductClass,
}

impl<T: Held> Linear<T> {
    /// Takes weights `[out, in]` and biases `[out]` to the device; [`DeviceLoader::map`] by name.
    ///
    /// # Errors
    /// `Unavailable` if there is no room.
    fn new(
        gpu: &Gpu,
        (weight, bias): (&[f32], Option<&[f32]>),
        (outputs, inputs): (usize, usize),
        class: ProductClass,
    ) -> Result<Self> {
        let weight = DeviceArray::from_slice(gpu, &T::nearest(weight)).map_err(device_error)?;
        let bias = bias.map(|bias| upload(gpu, bias)).transpose()?;
        Ok(Self { weight, bias, outputs, inputs, class })
    }

    /// Writes `x weightᵀ + bias`: `[N, in]` to `[N, out]`.
    ///
    /// # Errors
    /// `Bug` for operands that do not fit; `Unavailable` if the device fails.
    pub(crate) fn apply<O: Value>(&self, x: View<'_, T>, out: ViewMut<'_, O>) -> Result<()> {
        self.multiply(x, self.bias(), false, out)
    }

    /// As [`Linear::apply`], without the bias: what reads the result adds it.
    ///
    /// # Errors
    /// As [`Linear::apply`].
    pub(crate) fn apply_bare<O: Value>(&self, x: View<'_, T>, out: ViewMut<'_, O>) -> Result<()> {
        self.multiply(x, None, false, out)
    }

    /// Adds `x weightᵀ + bias` to `out`.
    ///
    /// # Errors
    /// As [`Linear::apply`].
    pub(crate) fn add(&self, x: View<'_, T>, out: ViewMut<'_, f32>) -> Result<()> {
        self.multiply(x, self.bias(), true, out)
    }

    /// `[out]`.
    pub(crate) fn bias(&self) -> Option<View<'_, f32>> {
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
            class: self.class,
        };
        x.gpu().multiply(&product).map_err(device_error)
    }
}

/// Scale and shift of a layer norm.
pub(crate) struct LayerNorm {
    weight: DeviceArray<f32>,
    bias: Option<DeviceArray<f32>>,
    eps: f32,
}

impl LayerNorm {
    /// Takes one to the device.
    ///
    /// # Errors
    /// `Unavailable` if there is no room.
    pub(crate) fn new(gpu: &Gpu, norm: &super::LayerNorm) -> Result<Self> {
        let bias = norm.bias.as_deref().map(|bias| upload(gpu, bias)).transpose()?;
        Ok(Self { weight: upload(gpu, &norm.weight)?, bias, eps: norm.eps })
    }

    /// Normalises each row of `x` into `out`, both `[N, D]`.
    ///
    /// # Errors
    /// `Bug` for operands that do not fit; `Unavailable` if the device fails.
    pub(crate) fn apply<O: Number>(
        &self,
        x: &mut ViewMut<'_, f32>,
        out: &mut ViewMut<'_, O>,
    ) -> Result<()> {
        layer_norm(x, None, self.norm(), out).map_err(device_error)
    }

    /// Replaces each row of `x` `[N, D]`, also in `copy` where there is one.
    ///
    /// # Errors
    /// As [`LayerNorm::apply`].
    pub(crate) fn apply_in_place<O: Number>(
        &self,
        x: &mut ViewMut<'_, f32>,
        copy: Option<&mut ViewMut<'_, O>>,
    ) -> Result<()> {
        layer_norm_in_place(x, None, self.norm(), copy).map_err(device_error)
    }

    /// As kernels take it.
    pub(crate) fn norm(&self) -> Norm<'_> {
        let bias = self.bias.as_ref().map(DeviceArray::view);
        Norm { weight: self.weight.view(), bias, eps: self.eps }
    }
}
