//! Convolution of each channel with its own filter along sequences, and its gradients.
//!
//! Leaves out: several filters a channel, strides. Invariant: every output element is one chain
//! over taps in order; beyond the ends of a sequence lie zeros.

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use rayon::prelude::*;

const OP: &str = "depthwise_conv1d";

/// Extents of a convolution over sequences of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseConv1dShape {
    /// Positions of a sequence.
    pub length: usize,
    /// Channels.
    pub width: usize,
    /// Taps.
    pub kernel: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Zeros before the first position.
    pub padding_left: usize,
    /// Positions of the output.
    pub output_length: usize,
}

impl DepthwiseConv1dShape {
    /// An output as long as the input; of an odd number of zeros, the one more lies on the right.
    pub fn same(length: usize, width: usize, kernel: usize, dilation: usize) -> Self {
        let padding_left = dilation.saturating_mul(kernel.saturating_sub(1)) / 2;
        Self { length, width, kernel, dilation, padding_left, output_length: length }
    }

    /// Outputs whose taps all lie inside the sequence; none where it is too short.
    pub fn valid(length: usize, width: usize, kernel: usize, dilation: usize) -> Self {
        let reach = dilation.saturating_mul(kernel.saturating_sub(1));
        let output_length = length.saturating_sub(reach);
        Self { length, width, kernel, dilation, padding_left: 0, output_length }
    }

    /// Refuses extents of zero and operands that do not fit; counts the sequences.
    fn check(&self, x: usize, y: usize, filters: usize) -> Result<usize> {
        if self.kernel == 0 || self.dilation == 0 || self.output_length == 0 {
            let expected = "taps, dilation and output of at least one".to_owned();
            let found = format!("{self:?}");
            return Err(KernelError::Shape { op: OP, operand: "shape", expected, found });
        }
        let sequences = check_rows(OP, "x", x, self.length.saturating_mul(self.width))?;
        let outputs = sequences.saturating_mul(self.output_length).saturating_mul(self.width);
        check_length(OP, "y", y, outputs)?;
        check_length(OP, "filters", filters, self.kernel.saturating_mul(self.width))?;
        Ok(sequences)
    }

    /// Position that a tap reads for an output; none outside the sequence.
    #[inline(always)]
    fn source(&self, output: usize, tap: usize) -> Option<usize> {
        let source = (output + tap * self.dilation).checked_sub(self.padding_left)?;
        (source < self.length).then_some(source)
    }
}

/// Convolves each channel.
///
/// ```text
/// out[b,t,c] = bias[c] + sum_j x[b, t + j dilation - padding_left, c] filters[j,c]
/// ```
///
/// - `x`: `[B, length, width]`; `out`: `[B, output_length, width]`
/// - `filters`: `[kernel, width]`; `bias`: `[width]`, none counts as zero
///
/// # Errors
/// `Shape` if operands do not fit, or an extent is zero.
pub fn depthwise_conv1d(
    x: &[f32],
    shape: &DepthwiseConv1dShape,
    filters: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    shape.check(x.len(), out.len(), filters.len())?;
    let (width, isa) = (shape.width, Isa::best());
    check_length(OP, "bias", bias.map_or(width, <[f32]>::len), width)?;
    let sequences = x.par_chunks(shape.length * width);
    out.par_chunks_mut(shape.output_length * width).zip(sequences).for_each(|(out, x)| {
        for row in out.chunks_exact_mut(width) {
            match bias {
                Some(bias) => row.copy_from_slice(bias),
                None => row.fill(0.0),
            }
        }
        forward(isa, *shape, x, filters, out);
    });
    Ok(())
}

per_isa!(fn forward(shape: DepthwiseConv1dShape, x: &[f32], filters: &[f32], out: &mut [f32]) = forward_rows);

#[inline(always)]
fn forward_rows(shape: DepthwiseConv1dShape, x: &[f32], filters: &[f32], out: &mut [f32]) {
    let width = shape.width;
    for (position, out) in out.chunks_exact_mut(width).enumerate() {
        for (tap, filter) in filters.chunks_exact(width).enumerate() {
            let Some(source) = shape.source(position, tap) else { continue };
            add_products(&x[source * width..][..width], filter, out);
        }
    }
}

/// Adds the products of two rows to a third.
#[inline(always)]
fn add_products(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a.mul_add(b, *out);
    }
}

/// Writes the gradient of the input of [`depthwise_conv1d`].
///
/// - `dy`: `[B, output_length, width]`; `dx`: `[B, length, width]`, overwritten
///
/// # Errors
/// `Shape` if operands do not fit, or an extent is zero.
pub fn depthwise_input_gradient(
    dy: &[f32],
    shape: &DepthwiseConv1dShape,
    filters: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    shape.check(dx.len(), dy.len(), filters.len())?;
    let (width, isa) = (shape.width, Isa::best());
    let sequences = dy.par_chunks(shape.output_length * width);
    dx.par_chunks_mut(shape.length * width).zip(sequences).for_each(|(dx, dy)| {
        dx.fill(0.0);
        backward(isa, *shape, dy, filters, dx);
    });
    Ok(())
}

per_isa!(fn backward(shape: DepthwiseConv1dShape, dy: &[f32], filters: &[f32], dx: &mut [f32]) = backward_rows);

#[inline(always)]
fn backward_rows(shape: DepthwiseConv1dShape, dy: &[f32], filters: &[f32], dx: &mut [f32]) {
    let width = shape.width;
    for (position, dy) in dy.chunks_exact(width).enumerate() {
        for (tap, filter) in filters.chunks_exact(width).enumerate() {
            let Some(source) = shape.source(position, tap) else { continue };
            add_products(dy, filter, &mut dx[source * width..][..width]);
        }
    }
}

/// Writes the gradients of filters and bias of [`depthwise_conv1d`].
///
/// - `x`: `[B, length, width]`; `dy`: `[B, output_length, width]`
/// - `dfilters`: `[kernel, width]`; `dbias`: `[width]`; both overwritten
///
/// Sums are f32 within a sequence, f64 between sequences.
///
/// # Errors
/// `Shape` if operands do not fit, or an extent is zero.
pub fn depthwise_weight_gradient(
    x: &[f32],
    dy: &[f32],
    shape: &DepthwiseConv1dShape,
    dfilters: &mut [f32],
    dbias: Option<&mut [f32]>,
) -> Result<()> {
    let sequences = shape.check(x.len(), dy.len(), dfilters.len())?;
    let (width, isa) = (shape.width, Isa::best());
    check_length(OP, "dbias", dbias.as_ref().map_or(width, |bias| bias.len()), width)?;
    let columns = (shape.kernel + 1) * width;
    let mut parts = vec![0.0_f32; sequences * columns];
    let given = x.par_chunks(shape.length * width).zip(dy.par_chunks(shape.output_length * width));
    parts.par_chunks_mut(columns).zip(given).for_each(|(part, (x, dy))| {
        weigh(isa, *shape, (x, dy), part);
    });
    let mut totals = vec![0.0_f64; columns];
    for part in parts.chunks_exact(columns) {
        for (total, &sum) in totals.iter_mut().zip(part) {
            *total += f64::from(sum);
        }
    }
    let places = dfilters.iter_mut().chain(dbias.into_iter().flatten());
    for (place, total) in places.zip(totals) {
        *place = total as f32;
    }
    Ok(())
}

per_isa!(
    /// Adds one sequence's gradients of the filters, then of the bias.
    fn weigh(shape: DepthwiseConv1dShape, given: (&[f32], &[f32]), part: &mut [f32]) = weigh_rows
);

#[inline(always)]
fn weigh_rows(shape: DepthwiseConv1dShape, (x, dy): (&[f32], &[f32]), part: &mut [f32]) {
    let width = shape.width;
    let (filters, bias) = part.split_at_mut(shape.kernel * width);
    for (position, dy) in dy.chunks_exact(width).enumerate() {
        for (tap, filter) in filters.chunks_exact_mut(width).enumerate() {
            let Some(source) = shape.source(position, tap) else { continue };
            add_products(&x[source * width..][..width], dy, filter);
        }
        for (bias, &dy) in bias.iter_mut().zip(dy) {
            *bias += dy;
        }
    }
}

#[cfg(test)]
mod tests;
