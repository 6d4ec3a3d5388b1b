//! Normalisation, function, dropout and pool in one pass on a device, and their gradients.
//!
//! Leaves out: statistics (`batch_norm`). Invariant: what was dropped or not picked is kept with the picked positions, so that the
//! gradient draws no mask; sums over rows are merged in an order that their number alone decides.

use crate::cuda::{
    Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count, check_scratch,
};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::ops::batch_norm::cuda::scratch_values;
use crate::ops::batch_pool::PoolShape;
use crate::ops::dropout::cuda::LayerDropout;
use crate::ops::function::{Function, cuda::number};
use crate::slices;

const OP: &str = "norm_block";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: concat!(
        include_str!("../../cuda/device/functions.cuh"),
        include_str!("../../cuda/device/philox.cuh"),
        include_str!("../../cuda/device/slices.cuh"),
        "\n#line 1 \"norm_block.cu\"\n",
        include_str!("../norm_block.cu")
    ),
    kernels: &[OP, "norm_block_sums", "norm_block_merge", "norm_block_back"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: OP, registers: 64, shared_bytes: 0 },
    Budget { kernel: "norm_block_sums", registers: 56, shared_bytes: 1024 },
    Budget { kernel: "norm_block_merge", registers: 48, shared_bytes: 2048 },
    Budget { kernel: "norm_block_back", registers: 64, shared_bytes: 0 },
];

/// A normalisation by known statistics, `[C]` each.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// Mean.
    pub mean: View<'a, f32>,
    /// `1 / sqrt(variance + epsilon)`
    pub inverse: View<'a, f32>,
    /// `gamma / sqrt(variance + epsilon)`
    pub scale: View<'a, f32>,
    /// Shift after the scale.
    pub beta: View<'a, f32>,
}

/// What a block does, in this order; see [`NormBlock`](super::NormBlock).
#[derive(Clone, Copy)]
pub struct DeviceBlock<'a> {
    /// The normalisation.
    pub channels: Channels<'a>,
    /// Function of each element; not softmax.
    pub function: Function,
    /// Dropout before the pool.
    pub before: Option<LayerDropout>,
    /// Max pool.
    pub pool: Option<PoolShape>,
    /// Dropout after the pool; only where there is one.
    pub after: Option<LayerDropout>,
}

impl DeviceBlock<'_> {
    /// Whether positions are picked.
    pub fn picks(&self) -> bool {
        self.pool.is_some() || self.before.is_some()
    }

    /// Positions of a sequence and of a window; one each without a pool.
    fn extents(&self) -> (u32, u32) {
        self.pool.map_or((1, 1), |pool| (pool.length as u32, pool.size as u32))
    }

    /// Refuses operands that do not fit; says how many values come out.
    fn check(&self, values: usize, picked: Option<usize>) -> Result<usize> {
        let width = self.channels.mean.len();
        let Channels { inverse, scale, beta, .. } = &self.channels;
        for (operand, array) in [("inverse", inverse), ("scale", scale), ("beta", beta)] {
            check_length(OP, operand, array.len(), width)?;
        }
        check_rows(OP, "x", values, width)?;
        check_count(OP, "x", values)?;
        let refuse = |operand, expected: &str, found: &str| {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            Err(KernelError::Shape { op: OP, operand, expected, found })
        };
        if self.function == Function::Softmax {
            return refuse("function", "a function of each element", "softmax");
        }
        if self.pool.is_none() && self.after.is_some() {
            return refuse("after", "a dropout before where there is no pool", "one after");
        }
        let outputs = match self.pool {
            None => values,
            Some(pool) => {
                check_length(OP, "width", pool.width, width)?;
                pool.check(OP, "x", values)? * pool.output()
            }
        };
        check_length(OP, "picked", picked.unwrap_or(0), if self.picks() { outputs } else { 0 })?;
        Ok(outputs)
    }
}

fn scale_of(drop: Option<LayerDropout>) -> f32 {
    drop.map_or(1.0, |drop| drop.scale())
}

/// Runs a block; as [`norm_block`](super::norm_block).
///
/// - `draws`: seed and step, `[2]` or more
/// - `x`: `[B, length, C]`, or any rows of C without a pool
/// - `out`: what the pool leaves of it, or as long as `x`
/// - `picked`: as long as `out` where the block picks, else none
///
/// # Errors
/// `Shape` if operands do not fit, the function is softmax, or a dropout comes after no pool.
pub fn norm_block(
    block: &DeviceBlock<'_>,
    draws: View<'_, u64>,
    x: View<'_, f32>,
    out: &mut ViewMut<'_, f32>,
    picked: Option<&mut ViewMut<'_, u16>>,
) -> Result<()> {
    let outputs = block.check(x.len(), picked.as_ref().map(|picked| picked.len()))?;
    check_length(OP, "out", out.len(), outputs)?;
    check_scratch(OP, draws.len(), 2)?;
    let (length, size) = block.extents();
    // Without a pool an element is its own window, and the four that a thread owns share a counter.
    let (before, after) = match block.pool {
        Some(_) => (block.before, block.after),
        None => (None, block.before),
    };
    let drops = u32::from(before.is_some()) | u32::from(after.is_some()) << 1;
    let channels = &block.channels;
    let mut arguments = Arguments::new()
        .array(&x)
        .array(&channels.mean)
        .array(&channels.scale)
        .array(&channels.beta)
        .array(&draws)
        .output(out)
        .optional_output(picked.as_deref())
        .u32(outputs as u32)
        .u32(channels.mean.len() as u32)
        .u32(length)
        .u32(size)
        .u32(number(block.function))
        .u32(drops);
    for drop in [before, after] {
        let (layer, threshold) = drop.map_or((0, 0), |drop| (drop.layer, drop.threshold()));
        arguments = arguments.u32(layer).u32(threshold).f32(scale_of(drop));
    }
    let kernel = x.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: each output reads a window of its own sequence and the values of its channel.
    unsafe { kernel.launch(LaunchShape::elements(outputs), arguments) }
}

/// What a block was given and what it picked.
#[derive(Clone, Copy)]
pub struct BlockGiven<'a> {
    /// Its input.
    pub x: View<'a, f32>,
    /// Gradient of its output.
    pub dy: View<'a, f32>,
    /// What it picked, where it picks.
    pub picked: Option<View<'a, u16>>,
}

/// Where gradients of a block go; all are overwritten.
pub struct BlockGradient<'a, 'b> {
    /// Of the input, as long as it; none if nobody asks.
    pub dx: Option<&'a mut ViewMut<'b, f32>>,
    /// Of the scale, `[C]`.
    pub dgamma: &'a mut ViewMut<'b, f32>,
    /// Of the shift, `[C]`.
    pub dbeta: &'a mut ViewMut<'b, f32>,
}

/// Writes the gradients of a block; as [`norm_block_gradient`](super::norm_block_gradient).
///
/// - `training`: whether mean and variance are those of `x`
/// - `scratch`: [`gradient_scratch_values`] or more
///
/// # Errors
/// `Shape` if operands do not fit, or as [`norm_block`].
pub fn norm_block_gradient(
    block: &DeviceBlock<'_>,
    given: &BlockGiven<'_>,
    training: bool,
    gradient: BlockGradient<'_, '_>,
    scratch: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let BlockGiven { x, dy, picked } = given;
    let outputs = block.check(x.len(), picked.as_ref().map(View::len))?;
    check_length(OP, "dy", dy.len(), outputs)?;
    let width = block.channels.mean.len();
    let rows = x.len() / width;
    check_length(OP, "dgamma", gradient.dgamma.len(), width)?;
    check_length(OP, "dbeta", gradient.dbeta.len(), width)?;
    check_length(OP, "dx", gradient.dx.as_ref().map_or(x.len(), |dx| dx.len()), x.len())?;
    check_scratch(OP, scratch.len(), gradient_scratch_values(rows, width))?;
    let slices = rows.div_ceil(slices::ROWS);
    let partial = scratch.again().part(0..2 * slices * width).address();
    let by = 2 * slices * width..2 * slices * width + 2 * width;
    let by = scratch.part(by);
    let channels = &block.channels;
    let given = || {
        Arguments::new()
            .array(x)
            .array(dy)
            .optional(picked.as_ref())
            .array(&channels.mean)
            .array(&channels.scale)
            .array(&channels.beta)
    };
    let (length, size) = block.extents();
    let rest = |arguments: Arguments, count: usize| {
        arguments
            .u32(count as u32)
            .u32(width as u32)
            .u32(length)
            .u32(size)
            .u32(number(block.function))
            .f32(scale_of(block.before))
            .f32(scale_of(block.after))
    };
    let kernel = x.gpu().kernel(&SOURCE, "norm_block_sums", &[])?;
    // SAFETY: x holds `rows` rows, dy and picked their windows, scratch two values of each slice and channel.
    unsafe {
        kernel.launch(LaunchShape::columns(width, slices, 4), rest(given().u64(partial), rows))?;
    }
    let arguments = Arguments::new()
        .u64(partial)
        .array(&channels.inverse)
        .output(gradient.dgamma)
        .output(gradient.dbeta)
        .output(&by)
        .u32(slices as u32)
        .u32(width as u32)
        .u32(if training { rows as u32 } else { 0 });
    let kernel = x.gpu().kernel(&SOURCE, "norm_block_merge", &[])?;
    // SAFETY: scratch holds the partial sums and, after them, two values of each channel.
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments)? };
    let Some(dx) = gradient.dx else { return Ok(()) };
    let arguments = rest(given().output(&by).output(dx), x.len());
    let kernel = x.gpu().kernel(&SOURCE, "norm_block_back", &[])?;
    // SAFETY: as above; dx is as long as x.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Values of scratch memory that [`norm_block_gradient`] needs over `rows` rows of `width` channels.
pub fn gradient_scratch_values(rows: usize, width: usize) -> usize {
    scratch_values(rows, width).saturating_add(width.saturating_mul(2))
}

#[cfg(test)]
mod tests;
