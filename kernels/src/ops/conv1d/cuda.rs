//! Convolution along packed sequences on a device.
//!
//! Leaves out: the formula (`conv1d`), gradients (`batch_conv1d`). Invariant: a row of the result depends on its own sequence
//! alone, in every bit; the kernel follows from widths, class and alignment, never from the number of rows.

mod launch;
mod weights;

use super::Conv1dShape;
use crate::cuda::{DeviceArray, Gpu, View, ViewMut};
use crate::error::{KernelError, Result, check_length};
use crate::sequences::Sequences;
pub use launch::{ConvClass, ConvValue, DeviceActivation, DeviceEpilogue, Residual};
pub(crate) use launch::{
    Filters, Gather, SOURCE, STAGES, THREADS, TILE_ROWS, bytes_by_step, convolve, is_vector,
    tile_columns, tile_columns_on,
};
pub use weights::DeviceConv1d;

const OP: &str = "conv1d";

/// Where each token's sequence begins and ends, on the device; written once for a batch and read by every layer.
pub struct TokenRanges {
    /// `[N, 2]`, room for more.
    ranges: DeviceArray<u32>,
    token_count: usize,
}

impl TokenRanges {
    /// Of sequences with `[B + 1]` token counts before each.
    ///
    /// # Errors
    /// `Shape` for offsets that do not rise from 0 or reach 2^31; `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, offsets: &[usize]) -> Result<Self> {
        let values = ranges_of(offsets)?;
        let ranges = DeviceArray::from_slice(gpu, &values)?;
        Ok(Self { ranges, token_count: values.len() / 2 })
    }

    /// Replaces them by those of another batch, in the same memory where they fit.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn set(&mut self, gpu: &Gpu, offsets: &[usize]) -> Result<()> {
        let values = ranges_of(offsets)?;
        if values.len() > self.ranges.len() {
            self.ranges = DeviceArray::new(gpu, values.len())?;
        }
        self.ranges.view_mut().part(0..values.len()).write(&values)?;
        self.token_count = values.len() / 2;
        Ok(())
    }

    /// N.
    pub fn token_count(&self) -> usize {
        self.token_count
    }

    fn view(&self) -> View<'_, u32> {
        self.ranges.view().part(0..2 * self.token_count)
    }
}

fn ranges_of(offsets: &[usize]) -> Result<Vec<u32>> {
    let sequences = Sequences::check(OP, offsets)?;
    let count = sequences.token_count();
    if count > i32::MAX as usize {
        let (expected, found) = ("less than 2^31 tokens".to_owned(), count.to_string());
        return Err(KernelError::Shape { op: OP, operand: "offsets", expected, found });
    }
    let mut values = Vec::with_capacity(2 * count);
    for tokens in sequences.iter() {
        let ends = [tokens.start as u32, tokens.end as u32];
        values.extend(std::iter::repeat_n(ends, tokens.len()).flatten());
    }
    Ok(values)
}

/// Convolves each sequence; as [`conv1d`](super::conv1d), for even kernels too, whose extra zero lies on the right.
///
/// ```text
/// out[t,n] = residual[t,n] + activation(bias[n] + sum_j sum_c x[t + j dilation - padding, c] weight[n,c,j])
/// padding = floor((K-1) dilation / 2)
/// ```
///
/// - `x`: `[N, input_width]`, zero outside the sequence of `t`
/// - `out`: `[N, output_width]`
///
/// CPU and CUDA agree in every bit for [`ConvClass::F32`] without an activation; within 2e-6 with one, 4e-6 for `Tf32x3`,
/// 2e-3 for `Tf32`, 1e-2 for `Bf16`, of max |out|.
///
/// # Errors
/// `Shape` if `x`, `residual` or `out` do not fit.
pub fn conv1d<T: ConvValue, O: ConvValue>(
    x: View<'_, T>,
    ranges: &TokenRanges,
    weights: &DeviceConv1d<T>,
    epilogue: DeviceEpilogue<'_>,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    let (rows, shape) = (ranges.token_count, weights.shape());
    check_length(OP, "x", x.len(), rows.saturating_mul(shape.input_width))?;
    let gather = Gather { ranges: Some(ranges.view()), rows, ..weights.gather() };
    convolve(x, &gather, weights.filters(), epilogue, out)
}

/// Applies a convolution of one tap to rows that need no neighbours: a dense layer.
///
/// - `x`: `[N, input_width]`; `out`: `[N, output_width]`
///
/// # Errors
/// `Shape` if there is more than one tap, or `x`, `residual` or `out` do not fit.
pub fn dense<T: ConvValue, O: ConvValue>(
    x: View<'_, T>,
    weights: &DeviceConv1d<T>,
    epilogue: DeviceEpilogue<'_>,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    let shape = weights.shape();
    if shape.kernel != 1 {
        let (expected, found) = ("one tap".to_owned(), shape.kernel.to_string());
        return Err(KernelError::Shape { op: OP, operand: "kernel", expected, found });
    }
    let rows = crate::error::check_rows(OP, "x", x.len(), shape.input_width)?;
    convolve(x, &Gather { rows, ..weights.gather() }, weights.filters(), epilogue, out)
}

/// Convolves sequences of one length, as [`conv1d`]; no ranges are read.
///
/// - `x`: `[B, length, input_width]`; `out`: `[B, length, output_width]`
///
/// # Errors
/// As [`conv1d`].
pub fn conv1d_even<T: ConvValue, O: ConvValue>(
    x: View<'_, T>,
    length: usize,
    weights: &DeviceConv1d<T>,
    epilogue: DeviceEpilogue<'_>,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    let sequence = length.saturating_mul(weights.shape().input_width);
    let rows = crate::error::check_rows(OP, "x", x.len(), sequence)?.saturating_mul(length);
    let gather = Gather { rows, length, output_length: length, ..weights.gather() };
    convolve(x, &gather, weights.filters(), epilogue, out)
}

/// Zeros before a sequence so that the output is as long as the input.
fn same_padding(shape: Conv1dShape) -> usize {
    shape.dilation.saturating_mul(shape.kernel.saturating_sub(1)) / 2
}

#[cfg(test)]
mod tests;
