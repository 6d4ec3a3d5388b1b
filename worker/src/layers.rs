//! Layers that several gLMs share: loading their tensors, and applying them.
//!
//! Leaves out: how a gLM joins them. Invariant: shapes are checked when tensors are taken, so that a
//! refusal of a kernel is a defect of ours.

pub(crate) mod cuda;
mod masked_head;
mod transformer;

use crate::model::{Precision, TensorSource};
use crate::weights::ExpectedTensor;
use glmeval_common::error::{Error, Result};
use glmeval_common::limits::TOKENS_PER_BATCH_MAX;
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::conv1d::{Conv1dShape, PackedConv1d, PackedTokenConv1d};
use glmeval_kernels::ops::layer_norm::{add_layer_norm, layer_norm, layer_norm_in_place};
use glmeval_kernels::ops::linear::PackedLinear;
use glmeval_kernels::ops::precision;
use std::sync::{Mutex, PoisonError};

pub(crate) use masked_head::{HeadNames, MaskedHead};
pub(crate) use transformer::{Activation, FeedForward, Positions, Scratch, SelfAttention, Widths};

/// Tokens of the largest batch whose work space is kept.
const KEPT_TOKENS_MAX: usize = 2 * TOKENS_PER_BATCH_MAX;

/// Shapes were checked when the weights were loaded, so a refusal is a defect of ours.
pub(crate) fn defect(error: KernelError) -> Error {
    Error::bug("forward pass").with_source(error)
}

/// `count` zeros for each of `rows` rows.
///
/// # Errors
/// `Bug` for more than can be addressed.
pub(crate) fn zeros(rows: usize, count: usize) -> Result<Vec<f32>> {
    let length = rows.checked_mul(count);
    Ok(vec![0.0; length.ok_or_else(|| Error::bug("activations are past all memory"))?])
}

/// Work space that one forward pass leaves to the next, so that memory is not asked for each time.
///
/// What a pass reads of it, it has written; passes at the same time have each their own.
pub(crate) struct Kept<T>(Mutex<Option<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Default> Kept<T> {
    /// Runs `pass` with what the last one left; that of a batch of many tokens is not kept.
    pub(crate) fn lend<R>(&self, token_count: usize, pass: impl FnOnce(&mut T) -> R) -> R {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = lock().take().unwrap_or_default();
        let result = pass(&mut space);
        if token_count <= KEPT_TOKENS_MAX {
            *lock() = Some(space);
        }
        result
    }
}

/// Rows of a part when `rows` are computed in parts of at most `most`: parts of about one size, and
/// each a multiple of what a product gives to two threads.
pub(crate) fn part_rows(rows: usize, most: usize) -> usize {
    /// Rows of a product's task.
    const TASK_ROWS: usize = 96;
    let part = rows.div_ceil(rows.div_ceil(most).max(1));
    part.next_multiple_of(2 * TASK_ROWS).min(most)
}

/// Makes `space` hold `count` values for each of `rows` rows; what it held means nothing.
///
/// # Errors
/// `Bug` for more than can be addressed.
pub(crate) fn fit(space: &mut Vec<f32>, rows: usize, count: usize) -> Result<()> {
    let length = rows.checked_mul(count);
    space.resize(length.ok_or_else(|| Error::bug("activations are past all memory"))?, 0.0);
    Ok(())
}

/// Row `index` of a `[_, width]` table.
///
/// # Errors
/// `Bug` for a row past the table: ids are checked before.
pub(crate) fn table_row(table: &[f32], width: usize, index: u32) -> Result<&[f32]> {
    let start = index as usize * width;
    table
        .get(start..start + width)
        .ok_or_else(|| Error::bug(format!("row {index} is past an embedding table")))
}

/// `name.weight` and `name.bias` of a layer norm.
pub(crate) fn norm_tensors(name: &str, width: usize) -> [ExpectedTensor; 2] {
    [
        ExpectedTensor::required(format!("{name}.weight"), &[width]),
        ExpectedTensor::required(format!("{name}.bias"), &[width]),
    ]
}

/// `name.weight` `[out, in]` and `name.bias` `[out]` of a linear map.
pub(crate) fn linear_tensors(name: &str, outputs: usize, inputs: usize) -> [ExpectedTensor; 2] {
    [
        ExpectedTensor::required(format!("{name}.weight"), &[outputs, inputs]),
        ExpectedTensor::required(format!("{name}.bias"), &[outputs]),
    ]
}

/// Scale and shift of a layer norm.
pub(crate) struct LayerNorm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl LayerNorm {
    /// Takes `name.weight` and `name.bias`.
    pub(crate) fn load(
        name: &str,
        width: usize,
        eps: f32,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        Self::load_form(name, (width, true), eps, tensors)
    }

    /// Takes `name.weight`, and `name.bias` if norms of this gLM have one.
    pub(crate) fn load_form(
        name: &str,
        (width, has_bias): (usize, bool),
        eps: f32,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let weight = tensors.take_f32(&format!("{name}.weight"), &[width])?;
        Ok(Self { weight, bias: take_bias(name, (width, has_bias), tensors)?, eps })
    }

    /// Replaces each row of `x` `[N, D]`.
    pub(crate) fn apply_in_place(&self, x: &mut [f32]) -> Result<()> {
        layer_norm_in_place(x, &self.weight, self.bias.as_deref(), self.eps).map_err(defect)
    }

    /// Adds the normalised rows of `branch` to `x`, both `[N, D]`.
    pub(crate) fn add(&self, branch: &[f32], x: &mut [f32]) -> Result<()> {
        add_layer_norm(x, branch, &self.weight, self.bias.as_deref(), self.eps).map_err(defect)
    }

    /// Normalises each row of `x` into `out`, both `[N, D]`.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        layer_norm(x, &self.weight, self.bias.as_deref(), self.eps, out).map_err(defect)
    }
}

/// Takes `name.bias` if layers of this kind have one.
fn take_bias(
    name: &str,
    (width, has_bias): (usize, bool),
    tensors: &mut dyn TensorSource,
) -> Result<Option<Vec<f32>>> {
    has_bias.then(|| tensors.take_f32(&format!("{name}.bias"), &[width])).transpose()
}

/// Takes `name.weight` and `name.bias` as one linear map.
pub(crate) fn load_linear(
    name: &str,
    (outputs, inputs): (usize, usize),
    precision: Precision,
    tensors: &mut dyn TensorSource,
) -> Result<PackedLinear> {
    load_linear_form(name, ((outputs, inputs), true), precision, tensors)
}

/// Packs a linear map.
pub(crate) fn pack(
    weight: &[f32],
    bias: Option<&[f32]>,
    (outputs, inputs): (usize, usize),
    precision: Precision,
) -> Result<PackedLinear> {
    let precision = kernel_precision(precision);
    PackedLinear::pack_as(precision, weight, bias, outputs, inputs).map_err(defect)
}

/// Packs two maps of the same input, gates first: `[2 outputs, inputs]`.
pub(crate) fn pack_gated(
    weight: &[f32],
    bias: Option<&[f32]>,
    (outputs, inputs): (usize, usize),
    precision: Precision,
) -> Result<PackedLinear> {
    let precision = kernel_precision(precision);
    PackedLinear::pack_gated_as(precision, weight, bias, outputs, inputs).map_err(defect)
}

/// Takes `name.weight`, and `name.bias` if maps of this gLM have one, as one linear map.
pub(crate) fn load_linear_form(
    name: &str,
    (extents, has_bias): ((usize, usize), bool),
    precision: Precision,
    tensors: &mut dyn TensorSource,
) -> Result<PackedLinear> {
    let weight = tensors.take_f32(&format!("{name}.weight"), &[extents.0, extents.1])?;
    let bias = take_bias(name, (extents.0, has_bias), tensors)?;
    pack(&weight, bias.as_deref(), extents, precision)
}

/// The number format of a job, as kernels name it.
pub(crate) fn kernel_precision(precision: Precision) -> precision::Precision {
    match precision {
        // The CPU has no tf32; it was refused when the gLM was opened.
        Precision::F32 | Precision::Tf32 => precision::Precision::F32,
        Precision::Bf16 => precision::Precision::Bf16,
    }
}

/// Distinct ids of a nucleotide tokenizer; the last stands for no nucleotide.
pub(crate) const NUCLEOTIDES: usize = 5;

/// The ids of a sequence in the middle of `length`, the odd position on the right; the rest is no
/// nucleotide.
///
/// # Errors
/// `Bug` for a longer sequence: lengths are checked before.
pub(crate) fn centred(ids: &[u32], length: usize) -> Result<Vec<u32>> {
    let free = length.checked_sub(ids.len());
    let left = free.ok_or_else(|| Error::bug("a sequence is past the input of its gLM"))? / 2;
    let mut padded = vec![NUCLEOTIDES as u32 - 1; length];
    padded.iter_mut().skip(left).zip(ids).for_each(|(to, &id)| *to = id);
    Ok(padded)
}

/// Packs a convolution of one-hot DNA; `weight` tells the value of (output, base, tap).
///
/// A column of zeros stands for no nucleotide: its table entries are zero.
pub(crate) fn pack_nucleotide_conv(
    (output_width, kernel): (usize, usize),
    bias: Option<&[f32]>,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Result<PackedTokenConv1d> {
    let mut values = zeros(output_width.saturating_mul(kernel), NUCLEOTIDES)?;
    for (row, values) in values.chunks_mut(kernel).enumerate() {
        let (output, base) = (row / NUCLEOTIDES, row % NUCLEOTIDES);
        if base + 1 < NUCLEOTIDES {
            values.iter_mut().enumerate().for_each(|(tap, value)| {
                *value = weight(output, base, tap);
            });
        }
    }
    let shape = Conv1dShape { output_width, input_width: NUCLEOTIDES, kernel, dilation: 1 };
    PackedTokenConv1d::pack(&values, bias, shape, NUCLEOTIDES).map_err(defect)
}

/// Takes `name.weight` `[out, in, taps]`, and `name.bias` if there is one.
pub(crate) fn take_conv1d(
    name: &str,
    (shape, has_bias): (Conv1dShape, bool),
    tensors: &mut dyn TensorSource,
) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
    let extents = [shape.output_width, shape.input_width, shape.kernel];
    let weight = tensors.take_f32(&format!("{name}.weight"), &extents)?;
    Ok((weight, take_bias(name, (shape.output_width, has_bias), tensors)?))
}

/// Packs a convolution.
pub(crate) fn pack_conv1d(
    weight: &[f32],
    bias: Option<&[f32]>,
    shape: Conv1dShape,
    precision: Precision,
) -> Result<PackedConv1d> {
    PackedConv1d::pack_as(kernel_precision(precision), weight, bias, shape).map_err(defect)
}
