//! Statistics of channels on a device, and what products that read through a normalisation make of them.
//!
//! Leaves out: the map and its gradient (`norm_block`). Invariant: sums over rows are merged in an order that their number alone
//! decides; no allocation, so that all of it can be recorded.

use crate::cuda::{
    Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count, check_scratch,
};
use crate::error::{Result, check_length, check_rows};
use crate::ops::gather::cuda::{Chosen, check_chosen};
use crate::slices;

const OP: &str = "batch_statistics";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: "batch_norm",
    text: concat!(
        include_str!("../../cuda/device/slices.cuh"),
        "\n#line 1 \"batch_norm.cu\"\n",
        include_str!("../batch_norm.cu")
    ),
    kernels: &[
        "slice_statistics",
        "merge_statistics",
        "statistics_of_sums",
        "moving_scales",
        "standardise",
        "fold",
        "unfold",
    ],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "slice_statistics", registers: 64, shared_bytes: 1024 },
    Budget { kernel: "merge_statistics", registers: 64, shared_bytes: 2048 },
    Budget { kernel: "statistics_of_sums", registers: 64, shared_bytes: 2048 },
    Budget { kernel: "moving_scales", registers: 32, shared_bytes: 0 },
    Budget { kernel: "standardise", registers: 40, shared_bytes: 0 },
    Budget { kernel: "fold", registers: 48, shared_bytes: 2048 },
    Budget { kernel: "unfold", registers: 48, shared_bytes: 0 },
];

/// Values of scratch memory that sums over `rows` rows of `width` channels need at most.
pub fn scratch_values(rows: usize, width: usize) -> usize {
    rows.div_ceil(slices::ROWS).saturating_mul(width).saturating_mul(3)
}

/// What a channel's statistics are kept as, `[C]` each.
pub struct ChannelsMut<'a> {
    /// Mean.
    pub mean: ViewMut<'a, f32>,
    /// `1 / sqrt(variance + epsilon)`
    pub inverse: ViewMut<'a, f32>,
    /// `gamma / sqrt(variance + epsilon)`
    pub scale: ViewMut<'a, f32>,
}

/// Moving statistics that are moved towards those of the batch, `[C]` each.
pub struct Moving<'a> {
    /// Mean.
    pub mean: ViewMut<'a, f32>,
    /// Biased variance.
    pub variance: ViewMut<'a, f32>,
    /// Share that stays.
    pub momentum: f32,
}

/// What statistics are made with and where they go.
pub struct Finish<'a> {
    /// Scale, `[C]`; none counts as one.
    pub gamma: Option<View<'a, f32>>,
    /// Guard added to the variance.
    pub epsilon: f32,
    /// Moved too, if there are any.
    pub moving: Option<Moving<'a>>,
    /// Overwritten.
    pub into: ChannelsMut<'a>,
}

impl Finish<'_> {
    fn check(&self, width: usize) -> Result<()> {
        check_length(OP, "inverse", self.into.inverse.len(), width)?;
        check_length(OP, "scale", self.into.scale.len(), width)?;
        if let Some(gamma) = &self.gamma {
            check_length(OP, "gamma", gamma.len(), width)?;
        }
        if let Some(moving) = &self.moving {
            check_length(OP, "moving_mean", moving.mean.len(), width)?;
            check_length(OP, "moving_variance", moving.variance.len(), width)?;
        }
        Ok(())
    }

    fn arguments(&self, arguments: Arguments) -> Arguments {
        arguments
            .output(&self.into.mean)
            .output(&self.into.inverse)
            .output(&self.into.scale)
            .optional(self.gamma.as_ref())
            .optional_output(self.moving.as_ref().map(|moving| &moving.mean))
            .optional_output(self.moving.as_ref().map(|moving| &moving.variance))
    }

    fn momentum(&self) -> f32 {
        self.moving.as_ref().map_or(0.0, |moving| moving.momentum)
    }
}

/// Statistics of each channel over all rows of `x`; as [`batch_statistics`](super::batch_statistics).
///
/// - `x`: `[N, C]`, at least one row
/// - `scratch`: [`scratch_values`] or more
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn batch_statistics(
    x: View<'_, f32>,
    finish: &mut Finish<'_>,
    scratch: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let width = finish.into.mean.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    super::check_some(OP, rows)?;
    check_count(OP, "x", x.len())?;
    finish.check(width)?;
    check_scratch(OP, scratch.len(), scratch_values(rows, width))?;
    let slices = rows.div_ceil(slices::ROWS);
    let arguments = Arguments::new().array(&x).output(scratch).u32(rows as u32).u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "slice_statistics", &[])?;
    // SAFETY: x holds `rows` rows of `width`; scratch holds three values of each slice and channel.
    unsafe { kernel.launch(LaunchShape::columns(width, slices, 4), arguments)? };
    let arguments = finish
        .arguments(Arguments::new().array(&scratch.view()))
        .u32(rows as u32)
        .u32(width as u32)
        .u32(slices as u32)
        .f32(finish.epsilon)
        .f32(finish.momentum());
    let kernel = x.gpu().kernel(&SOURCE, "merge_statistics", &[])?;
    // SAFETY: as above; what is written holds `width` values each.
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments) }
}

/// Sums over the positions of each of all examples, `[N, C]` each; see [`example_sums`](super::example_sums).
#[derive(Clone, Copy)]
pub struct ExampleSums<'a> {
    /// Subtracted from each value before it was added, `[C]`.
    pub shift: View<'a, f32>,
    /// Sums.
    pub sums: View<'a, f32>,
    /// Sums of squares.
    pub squares: View<'a, f32>,
}

/// Statistics of each channel from the sums of the chosen examples; as [`statistics_of_sums`](super::statistics_of_sums).
///
/// - `examples`: rows of the batch; `positions`: of one example
///
/// # Errors
/// `Shape` if operands do not fit, or there are no rows.
pub fn statistics_of_sums(
    sums: &ExampleSums<'_>,
    chosen: &Chosen<'_>,
    examples: usize,
    positions: usize,
    finish: &mut Finish<'_>,
) -> Result<()> {
    const OP: &str = "statistics_of_sums";
    let width = finish.into.mean.len();
    let rows = check_count(OP, "rows", examples.saturating_mul(positions))?;
    super::check_some(OP, rows as usize)?;
    check_chosen(chosen, examples)?;
    let all = chosen.order.examples().saturating_mul(width);
    check_length(OP, "shift", sums.shift.len(), width)?;
    check_length(OP, "sums", sums.sums.len(), all)?;
    check_length(OP, "squares", sums.squares.len(), all)?;
    finish.check(width)?;
    let arguments = Arguments::new()
        .array(&sums.sums)
        .array(&sums.squares)
        .array(&sums.shift)
        .array(&chosen.order.view())
        .optional(chosen.batch.as_ref());
    let arguments = finish
        .arguments(arguments)
        .u32(examples as u32)
        .u32(chosen.batch_size as u32)
        .u32(rows)
        .u32(width as u32)
        .f32(finish.epsilon)
        .f32(finish.momentum());
    let kernel = finish.into.mean.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: the order names examples that have sums; what is written holds `width` values each.
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments) }
}

/// `inverse` and `scale` of moving statistics.
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn moving_scales(
    variance: View<'_, f32>,
    gamma: Option<View<'_, f32>>,
    epsilon: f32,
    inverse: &mut ViewMut<'_, f32>,
    scale: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "moving_scales";
    let width = variance.len();
    check_length(OP, "gamma", gamma.as_ref().map_or(width, View::len), width)?;
    check_length(OP, "inverse", inverse.len(), width)?;
    check_length(OP, "scale", scale.len(), width)?;
    let arguments = Arguments::new().array(&variance).optional(gamma.as_ref()).output(inverse);
    let arguments = arguments.output(scale).u32(width as u32).f32(epsilon);
    let kernel = variance.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: all hold `width` values.
    unsafe { kernel.launch(LaunchShape::line(width.div_ceil(256), 256), arguments) }
}

/// Writes `(x - mean) inverse` of each channel.
///
/// - `x`, `out`: `[N, C]`; `mean`, `inverse`: `[C]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn standardise(
    x: View<'_, f32>,
    mean: View<'_, f32>,
    inverse: View<'_, f32>,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "standardise";
    check_rows(OP, "x", x.len(), mean.len())?;
    check_length(OP, "inverse", inverse.len(), mean.len())?;
    check_length(OP, "out", out.len(), x.len())?;
    let count = check_count(OP, "x", x.len())?;
    let arguments = Arguments::new().array(&x).array(&mean).array(&inverse).output(out);
    let arguments = arguments.u32(count).u32(mean.len() as u32);
    let kernel = x.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: x and out hold `count` values, the others one for each channel.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Scale and shift that come before a product, and the product's weights.
#[derive(Clone, Copy)]
pub struct FoldedProduct<'a> {
    /// `[C]`
    pub gamma: View<'a, f32>,
    /// `[C]`
    pub beta: View<'a, f32>,
    /// `[C, K]`
    pub weights: View<'a, f32>,
}

impl FoldedProduct<'_> {
    fn check(&self, op: &'static str, width: usize) -> Result<()> {
        check_length(op, "beta", self.beta.len(), self.gamma.len())?;
        check_length(op, "weights", self.weights.len(), self.gamma.len().saturating_mul(width))?;
        check_count(op, "weights", self.weights.len()).map(|_| ())
    }
}

/// Takes scale and shift into weights and bias.
///
/// ```text
/// W'[c,k] = gamma[c] W[c,k];  b'[k] = b[k] + sum_c beta[c] W[c,k]
/// ```
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn fold(
    product: &FoldedProduct<'_>,
    bias: Option<View<'_, f32>>,
    weights: &mut ViewMut<'_, f32>,
    folded_bias: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "fold";
    let width = folded_bias.len();
    product.check(OP, width)?;
    check_length(OP, "folded weights", weights.len(), product.weights.len())?;
    check_length(OP, "bias", bias.as_ref().map_or(width, View::len), width)?;
    let arguments = Arguments::new()
        .array(&product.weights)
        .optional(bias.as_ref())
        .array(&product.gamma)
        .array(&product.beta)
        .output(weights)
        .output(folded_bias)
        .u32(product.gamma.len() as u32)
        .u32(width as u32);
    let kernel = weights.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: weights are [C, K], gamma and beta [C], the biases [K].
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments) }
}

/// From the gradients of W' and b' to those of W, gamma and beta.
///
/// ```text
/// dgamma[c] = sum_k W[c,k] dW'[c,k];  dbeta[c] = sum_k W[c,k] db[k]
/// dW[c,k] = gamma[c] dW'[c,k] + beta[c] db[k]
/// ```
///
/// - `dweights`: dW', replaced by dW
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn unfold(
    product: &FoldedProduct<'_>,
    dbias: View<'_, f32>,
    dweights: &mut ViewMut<'_, f32>,
    dgamma: &mut ViewMut<'_, f32>,
    dbeta: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "unfold";
    let (rows, width) = (product.gamma.len(), dbias.len());
    product.check(OP, width)?;
    check_length(OP, "dweights", dweights.len(), product.weights.len())?;
    check_length(OP, "dgamma", dgamma.len(), rows)?;
    check_length(OP, "dbeta", dbeta.len(), rows)?;
    let arguments = Arguments::new()
        .array(&product.weights)
        .array(&dbias)
        .array(&product.gamma)
        .array(&product.beta)
        .output(dweights)
        .output(dgamma)
        .output(dbeta)
        .u32(rows as u32)
        .u32(width as u32);
    let kernel = dbias.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: weights are [C, K], the gradients of gamma and beta [C]; a warp stays in its row.
    unsafe { kernel.launch(LaunchShape::line(rows.div_ceil(8), 256), arguments) }
}

#[cfg(test)]
mod tests;
