//! Dense convolution along sequences, channels last.
//!
//! Leaves out: even kernels, strides, groups. Invariant: every output element is one fixed chain
//! over taps, then channels, that starts from the bias; it depends on its own sequence alone,
//! beyond whose ends lie zeros.

pub mod cuda;
mod tokens;

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::Isa;
use crate::ops::linear::{Epilogue, Left, PackedLinear, multiply};
use crate::ops::precision::Precision;
use crate::sequences::Sequences;
use crate::tile::{LeftStep, Rows, TILE_ROWS, pack_picked_tile};
use rayon::prelude::*;
use std::ops::Range;
pub use tokens::{PackedTokenConv1d, conv1d_tokens};

const OP: &str = "conv1d";

/// Extents of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv1dShape {
    /// Channels of the output.
    pub output_width: usize,
    /// Channels of the input.
    pub input_width: usize,
    /// Taps; odd, so that the output is as long as the input.
    pub kernel: usize,
    /// Positions from one tap to the next; at least one.
    pub dilation: usize,
}

impl Conv1dShape {
    /// Refuses extents that are zero, even kernels, and weights that do not fit.
    fn check(&self, weight: &[f32], bias: Option<&[f32]>) -> Result<()> {
        let refuse = |operand, expected: &str, found: usize| {
            let (expected, found) = (expected.to_owned(), found.to_string());
            Err(KernelError::Shape { op: OP, operand, expected, found })
        };
        if self.kernel.is_multiple_of(2) {
            return refuse("kernel", "an odd number of taps", self.kernel);
        }
        if self.dilation == 0 {
            return refuse("dilation", "at least one", self.dilation);
        }
        check_rows(OP, "weight", weight.len(), self.steps())?;
        check_rows(OP, "weight", weight.len(), self.output_width)?;
        check_length(OP, "weight", weight.len(), self.steps().saturating_mul(self.output_width))?;
        check_length(OP, "bias", bias.map_or(self.output_width, <[f32]>::len), self.output_width)
    }

    /// Products of one sum.
    fn steps(&self) -> usize {
        self.input_width.saturating_mul(self.kernel)
    }

    /// Position that a tap reads for the output at `token`; none outside its sequence.
    #[inline(always)]
    fn source(&self, token: usize, tap: usize, sequence: &Range<usize>) -> Option<usize> {
        let middle = self.kernel / 2;
        let distance = tap.abs_diff(middle).checked_mul(self.dilation)?;
        let source = if tap < middle {
            token.checked_sub(distance)?
        } else {
            token.checked_add(distance)?
        };
        sequence.contains(&source).then_some(source)
    }
}

/// The bias with zeros that are all positive, so that adding zeros to a sum never changes it.
fn without_negative_zeros(bias: Option<&[f32]>) -> Option<Vec<f32>> {
    bias.map(|bias| bias.iter().map(|value| value + 0.0).collect())
}

/// Weights of a convolution, laid out for the tile.
#[derive(Clone)]
pub struct PackedConv1d {
    /// One row per output, its steps by tap, then channel.
    weights: PackedLinear,
    shape: Conv1dShape,
}

impl PackedConv1d {
    /// [`Self::pack_as`] f32.
    ///
    /// # Errors
    /// As there.
    pub fn pack(weight: &[f32], bias: Option<&[f32]>, shape: Conv1dShape) -> Result<Self> {
        Self::pack_as(Precision::F32, weight, bias, shape)
    }

    /// [`Self::pack_channels_last_as`] f32.
    ///
    /// # Errors
    /// As there.
    pub fn pack_channels_last(
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
    ) -> Result<Self> {
        Self::pack_channels_last_as(Precision::F32, weight, bias, shape)
    }

    /// Packs weights as PyTorch stores them, for products in `precision`.
    ///
    /// - `weight`: `[output_width, input_width, kernel]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero, a negative zero as a positive one
    ///
    /// # Errors
    /// `Shape` if an extent is zero, the kernel is even, or `weight` or `bias` do not fit.
    pub fn pack_as(
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
    ) -> Result<Self> {
        shape.check(weight, bias)?;
        let steps = shape.steps();
        let mut by_tap = vec![0.0; weight.len()];
        by_tap.par_chunks_mut(steps).zip(weight.par_chunks(steps)).for_each(|(by_tap, weight)| {
            for (tap, by_tap) in by_tap.chunks_exact_mut(shape.input_width).enumerate() {
                let of_tap = weight.iter().skip(tap).step_by(shape.kernel);
                by_tap.iter_mut().zip(of_tap).for_each(|(to, &from)| *to = from);
            }
        });
        let bias = without_negative_zeros(bias);
        let (bias, width) = (bias.as_deref(), shape.output_width);
        let weights = PackedLinear::pack_as(precision, &by_tap, bias, width, steps)?;
        Ok(Self { weights, shape })
    }

    /// Packs weights as Keras stores them, as [`Self::pack_as`].
    ///
    /// - `weight`: `[kernel, input_width, output_width]`, row-major
    /// - `bias`: `[output_width]`; none counts as zero, a negative zero as a positive one
    ///
    /// # Errors
    /// `Shape` if an extent is zero, the kernel is even, or `weight` or `bias` do not fit.
    pub fn pack_channels_last_as(
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        shape: Conv1dShape,
    ) -> Result<Self> {
        shape.check(weight, bias)?;
        let bias = without_negative_zeros(bias);
        let (bias, width) = (bias.as_deref(), shape.output_width);
        let weights =
            PackedLinear::pack_by_input_as(precision, weight, bias, width, shape.steps())?;
        Ok(Self { weights, shape })
    }

    /// Extents of the convolution.
    pub fn shape(&self) -> Conv1dShape {
        self.shape
    }
}

/// Convolves each sequence with packed weights and adds the bias.
///
/// ```text
/// sum[t,n] = bias[n] + sum_j sum_c x[t + (j - (K-1)/2) dilation, c] weight[n,c,j]
/// out[t,n] = epilogue(sum[t,n])
/// ```
///
/// - `x`: `[N, input_width]`, zero outside the sequence of `t`
/// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
/// - `out`: `[N, output_width]`; read as well with [`Epilogue::Add`]
///
/// One chain over taps, then channels, as [`Precision`] says; the same bits on every CPU.
///
/// # Errors
/// `Shape` if `x`, `offsets` or `out` do not fit, or the epilogue is a gate.
pub fn conv1d(
    x: &[f32],
    offsets: &[usize],
    weights: &PackedConv1d,
    epilogue: Epilogue,
    out: &mut [f32],
) -> Result<()> {
    let sequences = Sequences::check(OP, offsets)?;
    let (tokens, shape) = (sequences.token_count(), weights.shape);
    check_length(OP, "x", x.len(), tokens.saturating_mul(shape.input_width))?;
    check_length(OP, "out", out.len(), tokens.saturating_mul(shape.output_width))?;
    epilogue.check(OP, false)?;
    let x = Rows::new(x, shape.input_width, shape.input_width);
    multiply(Isa::best(), Taps { x, sequences, shape }, &weights.weights, epilogue, out);
    Ok(())
}

/// Rows of all taps of a token, one tap after the other; gathered tile by tile.
struct Taps<'a> {
    x: Rows<'a>,
    sequences: Sequences<'a>,
    shape: Conv1dShape,
}

impl Left for Taps<'_> {
    fn pack(&self, isa: Isa, first: usize, count: usize, tile: &mut [LeftStep]) {
        let around: [_; TILE_ROWS] = std::array::from_fn(|row| {
            if row < count { self.sequences.around(first + row) } else { 0..0 }
        });
        for (tap, tile) in tile.chunks_exact_mut(self.shape.input_width).enumerate() {
            let picked =
                std::array::from_fn(|row| self.shape.source(first + row, tap, &around[row]));
            pack_picked_tile(isa, self.x, &picked, tile);
        }
    }

    fn in_place(&self, index: usize) -> Option<&[f32]> {
        let last = self.shape.kernel - 1;
        let around = self.sequences.around(index);
        let first = self.shape.source(index, 0, &around)?;
        let end = self.shape.source(index, last, &around)? + 1;
        let together = end - first == self.shape.kernel;
        together.then(|| self.x.together(first..end))
    }

    fn copy(&self, _isa: Isa, index: usize, row: &mut [f32]) {
        let around = self.sequences.around(index);
        for (tap, row) in row.chunks_exact_mut(self.shape.input_width).enumerate() {
            match self.shape.source(index, tap, &around) {
                Some(source) => row.copy_from_slice(self.x.row(source)),
                None => row.fill(0.0),
            }
        }
    }
}

#[cfg(test)]
mod tests;
