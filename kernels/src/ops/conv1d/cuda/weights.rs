//! Weights of a convolution as they lie on a device.
//!
//! Leaves out: weights that change from step to step. Invariant: rows are padded with zeros to whole 16 bytes.

use super::launch::{ConvClass, ConvValue, Filters, Gather};
use super::{OP, same_padding};
use crate::cuda::{DeviceArray, Gpu};
use crate::error::{KernelError, Result, check_length};
use crate::ops::conv1d::Conv1dShape;

/// Output channels are padded to a multiple of it.
const COLUMNS: usize = 8;

/// Weights of a convolution, resident on a device.
pub struct DeviceConv1d<T: ConvValue> {
    /// `[kernel, input_width, columns]`
    kernel: DeviceArray<T>,
    /// `[output_width]`
    bias: Option<DeviceArray<f32>>,
    columns: usize,
    shape: Conv1dShape,
    class: ConvClass,
}

impl<T: ConvValue> DeviceConv1d<T> {
    /// Lays out weights as PyTorch stores them.
    ///
    /// - `weight`: `[output_width, input_width, kernel]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero
    ///
    /// # Errors
    /// `Shape` if an extent is zero, `weight` or `bias` do not fit, or the class does not multiply such values; `OutOfMemory`
    /// if there is no room.
    pub fn new(
        gpu: &Gpu,
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
        class: ConvClass,
    ) -> Result<Self> {
        let Conv1dShape { input_width, kernel, .. } = shape;
        let at = |tap, channel, output| (output * input_width + channel) * kernel + tap;
        Self::lay_out(gpu, (weight, bias), shape, class, at)
    }

    /// Lays out weights as Keras stores them, as [`Self::new`].
    ///
    /// - `weight`: `[kernel, input_width, output_width]`, row-major
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_channels_last(
        gpu: &Gpu,
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
        class: ConvClass,
    ) -> Result<Self> {
        let Conv1dShape { input_width, output_width, .. } = shape;
        let at = |tap, channel, output| (tap * input_width + channel) * output_width + output;
        Self::lay_out(gpu, (weight, bias), shape, class, at)
    }

    fn lay_out(
        gpu: &Gpu,
        (weight, bias): (&[f32], Option<&[f32]>),
        shape: Conv1dShape,
        class: ConvClass,
        at: impl Fn(usize, usize, usize) -> usize,
    ) -> Result<Self> {
        T::check(class)?;
        let Conv1dShape { output_width, input_width, kernel, dilation } = shape;
        if [output_width, input_width, kernel, dilation].contains(&0) {
            let (expected, found) = ("extents of at least one".to_owned(), format!("{shape:?}"));
            return Err(KernelError::Shape { op: OP, operand: "shape", expected, found });
        }
        let values = kernel.saturating_mul(input_width).saturating_mul(output_width);
        check_length(OP, "weight", weight.len(), values)?;
        check_length(OP, "bias", bias.map_or(output_width, <[f32]>::len), output_width)?;
        let columns = output_width.next_multiple_of(COLUMNS);
        let mut padded = Vec::with_capacity(kernel * input_width * columns);
        for tap in 0..kernel {
            for channel in 0..input_width {
                padded.extend((0..columns).map(|output| {
                    let inside = output < output_width;
                    T::rounded(if inside { weight[at(tap, channel, output)] } else { 0.0 })
                }));
            }
        }
        let kernel = DeviceArray::from_slice(gpu, &padded)?;
        let bias = bias.map(|bias| DeviceArray::from_slice(gpu, bias)).transpose()?;
        Ok(Self { kernel, bias, columns, shape, class })
    }

    /// Extents of the convolution.
    pub fn shape(&self) -> Conv1dShape {
        self.shape
    }

    /// Taps over single rows, without ranges.
    pub(super) fn gather(&self) -> Gather<'_> {
        Gather {
            ranges: None,
            rows: 0,
            width: self.shape.input_width,
            taps: self.shape.kernel,
            dilation: self.shape.dilation,
            padding_left: same_padding(self.shape),
            length: 1,
            output_length: 1,
        }
    }

    pub(super) fn filters(&self) -> Filters<'_, T> {
        Filters {
            kernel: self.kernel.view(),
            bias: self.bias.as_ref().map(DeviceArray::view),
            columns: self.columns,
            output_width: self.shape.output_width,
            is_flipped: false,
            class: self.class,
        }
    }
}
