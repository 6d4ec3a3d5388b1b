//! Batch normalisation over all rows: statistics, the map itself, gradients, moving statistics.
//!
//! Leaves out: which statistics take part when; the caller passes them. Invariant: sums over rows
//! are merged in order from slices of fixed size, so no result depends on threads or CPU.

pub mod cuda;

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::{parallel, slices};
use rayon::prelude::*;

const OP: &str = "batch_norm";

/// Statistics, scale and shift of each channel, `[C]` each.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation<'a> {
    /// Mean: of the batch, or moving.
    pub mean: &'a [f32],
    /// Biased variance: of the batch, or moving.
    pub variance: &'a [f32],
    /// Scale after the normalisation.
    pub gamma: &'a [f32],
    /// Shift after the scale.
    pub beta: &'a [f32],
    /// Guard added to the variance.
    pub epsilon: f32,
}

impl<'a> Normalisation<'a> {
    /// Channels.
    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    /// Refuses operands of another width, and values that are not whole rows; counts the rows.
    pub(crate) fn check(&self, op: &'static str, x: &[f32]) -> Result<usize> {
        let width = self.width();
        let operands = [("variance", self.variance), ("gamma", self.gamma), ("beta", self.beta)];
        for (operand, values) in operands {
            check_length(op, operand, values.len(), width)?;
        }
        check_rows(op, "x", x.len(), width)
    }

    /// `1 / sqrt(variance + epsilon)` of each channel, rounded once.
    pub(crate) fn inverse_deviations(&self) -> Vec<f32> {
        let epsilon = f64::from(self.epsilon);
        self.variance.iter().map(|&v| (1.0 / (f64::from(v) + epsilon).sqrt()) as f32).collect()
    }

    /// `gamma / sqrt(variance + epsilon)` of each channel.
    pub(crate) fn scales(&self) -> Vec<f32> {
        self.inverse_deviations().iter().zip(self.gamma).map(|(&r, &gamma)| r * gamma).collect()
    }
}

/// Where the gradients of a normalisation go; all are overwritten.
#[derive(Debug)]
pub struct NormGradient<'a> {
    /// Of the input, as long as it; none if nobody asks.
    pub dx: Option<&'a mut [f32]>,
    /// Of the scale, `[C]`.
    pub dgamma: &'a mut [f32],
    /// Of the shift, `[C]`.
    pub dbeta: &'a mut [f32],
}

impl NormGradient<'_> {
    /// Refuses places that do not fit `values` of `width` channels.
    pub(crate) fn check(&self, op: &'static str, values: usize, width: usize) -> Result<()> {
        check_length(op, "dx", self.dx.as_ref().map_or(values, |dx| dx.len()), values)?;
        check_length(op, "dgamma", self.dgamma.len(), width)?;
        check_length(op, "dbeta", self.dbeta.len(), width)
    }
}

/// Mean and biased variance of each channel over all rows.
///
/// ```text
/// mean[c] = sum_n x[n,c] / N,  variance[c] = sum_n (x[n,c] - mean[c])² / N
/// ```
///
/// - `x`: `[N, width]`, at least one row
/// - `mean`, `variance`: `[width]`
///
/// Squares are taken around the mean of each slice of rows and merged in f64, so a mean far from
/// zero costs no digits.
///
/// # Errors
/// `Shape` if `x` is not whole rows or has none, or the results do not fit.
///
/// Source: Chan et al. 1983, eq. 2.1, for the merging.
pub fn batch_statistics(
    x: &[f32],
    width: usize,
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result<()> {
    const OP: &str = "batch_statistics";
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_some(OP, rows)?;
    check_length(OP, "mean", mean.len(), width)?;
    check_length(OP, "variance", variance.len(), width)?;
    let isa = Isa::best();
    let slice = slices::ROWS * width;
    let mut parts = vec![0.0_f32; rows.div_ceil(slices::ROWS) * 3 * width];
    parts.par_chunks_mut(3 * width).zip(x.par_chunks(slice)).for_each(|(part, x)| {
        slice_statistics(isa, x, part);
    });
    let mut merged = vec![(0.0_f64, 0.0_f64); width];
    let mut before = 0.0_f64;
    for (part, x) in parts.chunks_exact(3 * width).zip(x.chunks(slice)) {
        let count = (x.len() / width) as f64;
        let (inverse, share) = (1.0 / count, count / (before + count));
        for (c, (mean, squares)) in merged.iter_mut().enumerate() {
            let rest = f64::from(part[width + c]);
            let here = f64::from(part[c]) + rest * inverse;
            let around = f64::from(part[2 * width + c]) - rest * rest * inverse;
            let apart = here - *mean;
            *mean += apart * share;
            *squares += around + apart * apart * before * share;
        }
        before += count;
    }
    for ((mean, variance), merged) in mean.iter_mut().zip(variance).zip(merged) {
        *mean = merged.0 as f32;
        *variance = (merged.1 / before).max(0.0) as f32;
    }
    Ok(())
}

/// Refuses a batch of no rows.
fn check_some(op: &'static str, rows: usize) -> Result<()> {
    if rows > 0 {
        return Ok(());
    }
    let (expected, found) = ("at least one row".to_owned(), "no row".to_owned());
    Err(KernelError::Shape { op, operand: "x", expected, found })
}

per_isa!(
    /// Writes a slice's rough mean, then the sums of what lies around it and of its squares.
    fn slice_statistics(x: &[f32], part: &mut [f32]) = slice_statistics_of
);

#[inline(always)]
fn slice_statistics_of(x: &[f32], part: &mut [f32]) {
    let width = part.len() / 3;
    let (mean, rest) = part.split_at_mut(width);
    let (sums, squares) = rest.split_at_mut(width);
    for row in x.chunks_exact(width) {
        for (mean, &x) in mean.iter_mut().zip(row) {
            *mean += x;
        }
    }
    let count = (x.len() / width) as f32;
    mean.iter_mut().for_each(|mean| *mean /= count);
    for row in x.chunks_exact(width) {
        add_deviations(row, mean, sums, squares);
    }
}

/// Adds a row's distances from `shift`, and their squares.
#[inline(always)]
fn add_deviations(row: &[f32], shift: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    for (((&x, &shift), sum), square) in row.iter().zip(shift).zip(sums).zip(squares) {
        let apart = x - shift;
        *sum += apart;
        *square = apart.mul_add(apart, *square);
    }
}

/// Sums over the positions of each example: distances from `shift`, and their squares.
///
/// ```text
/// sums[b,c] = sum_t (x[b,t,c] - shift[c]),  squares[b,c] = sum_t (x[b,t,c] - shift[c])²
/// ```
///
/// - `x`: `[B, T, width]`
/// - `shift`: `[width]`; the nearer to the mean, the more digits stay
/// - `sums`, `squares`: `[B, width]`
///
/// An example's sums depend on that example and the shift alone, so they can be kept between
/// batches; [`statistics_of_sums`] merges those of a batch.
///
/// # Errors
/// `Shape` if `sums` is not one or more whole rows, or the others do not fit.
pub fn example_sums(
    x: &[f32],
    width: usize,
    shift: &[f32],
    sums: &mut [f32],
    squares: &mut [f32],
) -> Result<()> {
    const OP: &str = "example_sums";
    let examples = check_rows(OP, "sums", sums.len(), width)?;
    check_some(OP, examples)?;
    check_length(OP, "shift", shift.len(), width)?;
    check_length(OP, "squares", squares.len(), sums.len())?;
    check_rows(OP, "x", x.len(), sums.len())?;
    let isa = Isa::best();
    let length = x.len() / examples;
    let places = sums.par_chunks_mut(width).zip(squares.par_chunks_mut(width));
    places.enumerate().for_each(|(example, (sums, squares))| {
        let x = &x[example * length..][..length];
        sum_example(isa, x, shift, sums, squares);
    });
    Ok(())
}

per_isa!(fn sum_example(x: &[f32], shift: &[f32], sums: &mut [f32], squares: &mut [f32]) = sum_example_of);

#[inline(always)]
fn sum_example_of(x: &[f32], shift: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    sums.fill(0.0);
    squares.fill(0.0);
    for row in x.chunks_exact(shift.len()) {
        add_deviations(row, shift, sums, squares);
    }
}

/// Mean and biased variance of each channel from the [`example_sums`] of a batch, in order.
///
/// - `sums`, `squares`: `[B, C]`, taken with the same `shift`
/// - `rows_total`: positions of all examples together, at least one
/// - `shift`, `mean`, `variance`: `[C]`
///
/// # Errors
/// `Shape` if operands do not fit each other, or there are no rows.
pub fn statistics_of_sums(
    sums: &[f32],
    squares: &[f32],
    shift: &[f32],
    rows_total: usize,
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result<()> {
    const OP: &str = "statistics_of_sums";
    let width = shift.len();
    check_rows(OP, "sums", sums.len(), width)?;
    check_some(OP, rows_total)?;
    check_length(OP, "squares", squares.len(), sums.len())?;
    check_length(OP, "mean", mean.len(), width)?;
    check_length(OP, "variance", variance.len(), width)?;
    let mut totals = vec![(0.0_f64, 0.0_f64); width];
    for (sums, squares) in sums.chunks_exact(width).zip(squares.chunks_exact(width)) {
        for ((total, &sum), &square) in totals.iter_mut().zip(sums).zip(squares) {
            total.0 += f64::from(sum);
            total.1 += f64::from(square);
        }
    }
    let count = rows_total as f64;
    let places = mean.iter_mut().zip(variance).zip(shift);
    for (((mean, variance), &shift), (sum, square)) in places.zip(totals) {
        let apart = sum / count;
        *mean = (f64::from(shift) + apart) as f32;
        *variance = (square / count - apart * apart).max(0.0) as f32;
    }
    Ok(())
}

/// Normalises each channel, then scales and shifts it.
///
/// ```text
/// out[n,c] = gamma[c] (x[n,c] - mean[c]) / sqrt(variance[c] + epsilon) + beta[c]
/// ```
///
/// - `x`, `out`: `[N, C]`
///
/// # Errors
/// `Shape` if operands do not fit the channels of the normalisation.
///
/// Source: Ioffe and Szegedy 2015, algorithm 1.
pub fn batch_norm(x: &[f32], normalisation: &Normalisation<'_>, out: &mut [f32]) -> Result<()> {
    normalisation.check(OP, x)?;
    check_length(OP, "out", out.len(), x.len())?;
    let (isa, width) = (Isa::best(), normalisation.width());
    let scales = normalisation.scales();
    parallel::for_rows(out, width, |first, out| {
        normalise(isa, *normalisation, &scales, &x[first * width..][..out.len()], out);
    });
    Ok(())
}

per_isa!(
    /// [`batch_norm`] on this thread alone.
    pub(crate) fn normalise(norm: Normalisation<'_>, scales: &[f32], x: &[f32], out: &mut [f32]) = normalise_rows
);

#[inline(always)]
fn normalise_rows(norm: Normalisation<'_>, scales: &[f32], x: &[f32], out: &mut [f32]) {
    let width = norm.width();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let channels = norm.mean.iter().zip(scales).zip(norm.beta);
        for ((out, &x), ((&mean, &scale), &beta)) in out.iter_mut().zip(x).zip(channels) {
            *out = normalised(x, mean, scale, beta);
        }
    }
}

/// One normalised value.
#[inline(always)]
fn normalised(x: f32, mean: f32, scale: f32, beta: f32) -> f32 {
    (x - mean).mul_add(scale, beta)
}

/// Gradients of [`batch_norm`] at `x`.
///
/// ```text
/// dbeta = sum_n dy,  dgamma = sum_n dy z,  z = (x - mean) / sqrt(variance + epsilon)
/// dx = gamma / sqrt(variance + epsilon) (dy - dbeta / N - z dgamma / N)     in training
/// dx = gamma / sqrt(variance + epsilon) dy                                  else
/// ```
///
/// - `x`, `dy`: `[N, C]`
/// - `training`: whether mean and variance are those of `x`, so that gradients flow through them
///
/// # Errors
/// `Shape` if operands do not fit the channels of the normalisation.
///
/// Source: Ioffe and Szegedy 2015, section 3.
pub fn batch_norm_gradient(
    x: &[f32],
    dy: &[f32],
    normalisation: &Normalisation<'_>,
    training: bool,
    gradient: NormGradient<'_>,
) -> Result<()> {
    const OP: &str = "batch_norm_gradient";
    let (rows, width) = (normalisation.check(OP, x)?, normalisation.width());
    check_length(OP, "dy", dy.len(), x.len())?;
    gradient.check(OP, x.len(), width)?;
    let isa = Isa::best();
    let sums = slices::sum(rows, 2 * width, |rows, sums| {
        let values = rows.start * width..rows.end * width;
        sum_slice(isa, normalisation.mean, &x[values.clone()], &dy[values], sums);
    });
    let backward = Backward::new(normalisation, &sums, if training { rows } else { 0 });
    backward.write_sums(&sums, gradient.dgamma, gradient.dbeta);
    if let Some(dx) = gradient.dx {
        let mean = normalisation.mean;
        parallel::for_rows(dx, width, |first, dx| {
            let values = first * width..first * width + dx.len();
            map_back(isa, &backward, mean, (&x[values.clone()], &dy[values]), dx);
        });
    }
    Ok(())
}

per_isa!(
    /// Adds `dy`, then `dy (x - mean)`, of a slice's rows.
    pub(crate) fn sum_slice(mean: &[f32], x: &[f32], dy: &[f32], sums: &mut [f32]) = sum_slice_of
);

#[inline(always)]
fn sum_slice_of(mean: &[f32], x: &[f32], dy: &[f32], sums: &mut [f32]) {
    let width = mean.len();
    let (plain, weighted) = sums.split_at_mut(width);
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        add_gradient_sums(mean, (x, dy), plain, weighted);
    }
}

/// Adds one row's gradient, and its product with the distance from the mean.
#[inline(always)]
fn add_gradient_sums(
    mean: &[f32],
    (x, dy): (&[f32], &[f32]),
    plain: &mut [f32],
    weighted: &mut [f32],
) {
    let places = plain.iter_mut().zip(weighted);
    for (((&x, &dy), &mean), (plain, weighted)) in x.iter().zip(dy).zip(mean).zip(places) {
        *plain += dy;
        *weighted = dy.mul_add(x - mean, *weighted);
    }
}

/// What a channel's input gradient is made of, `[C]` each.
pub(crate) struct Backward {
    inverse_deviations: Vec<f32>,
    /// Factor of everything.
    pub(crate) scales: Vec<f32>,
    /// Mean gradient; zero outside training.
    pub(crate) offsets: Vec<f32>,
    /// Factor of the distance from the mean; zero outside training.
    pub(crate) slopes: Vec<f32>,
}

impl Backward {
    /// From the sums of `dy` and `dy (x - mean)`; `rows` is zero outside training.
    pub(crate) fn new(normalisation: &Normalisation<'_>, sums: &[f64], rows: usize) -> Self {
        let inverse_deviations = normalisation.inverse_deviations();
        let (plain, weighted) = sums.split_at(normalisation.width());
        let share = if rows == 0 { 0.0 } else { 1.0 / rows as f64 };
        let slopes = weighted.iter().zip(&inverse_deviations);
        Self {
            scales: normalisation.scales(),
            offsets: plain.iter().map(|sum| (sum * share) as f32).collect(),
            slopes: slopes
                .map(|(sum, &r)| (sum * share * f64::from(r) * f64::from(r)) as f32)
                .collect(),
            inverse_deviations,
        }
    }

    /// Rounds the sums to the gradients of scale and shift.
    pub(crate) fn write_sums(&self, sums: &[f64], dgamma: &mut [f32], dbeta: &mut [f32]) {
        let (plain, weighted) = sums.split_at(self.scales.len());
        for (dbeta, &sum) in dbeta.iter_mut().zip(plain) {
            *dbeta = sum as f32;
        }
        for ((dgamma, &sum), &r) in dgamma.iter_mut().zip(weighted).zip(&self.inverse_deviations) {
            *dgamma = (sum * f64::from(r)) as f32;
        }
    }
}

per_isa!(
    /// Writes the input gradient of some rows.
    pub(crate) fn map_back(backward: &Backward, mean: &[f32], given: (&[f32], &[f32]), dx: &mut [f32]) = map_back_rows
);

#[inline(always)]
fn map_back_rows(backward: &Backward, mean: &[f32], (x, dy): (&[f32], &[f32]), dx: &mut [f32]) {
    let width = mean.len();
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
        let channels = backward.scales.iter().zip(&backward.offsets).zip(&backward.slopes);
        let given = x.iter().zip(dy).zip(mean).zip(channels);
        for (dx, (((&x, &dy), &mean), ((&scale, &offset), &slope))) in dx.iter_mut().zip(given) {
            *dx = mapped_back(dy, x - mean, (scale, offset, slope));
        }
    }
}

per_isa!(
    /// Replaces the gradients of some normalised rows by those of their inputs.
    pub(crate) fn replace_back(backward: &Backward, mean: &[f32], x: &[f32], dx: &mut [f32]) = replace_back_rows
);

#[inline(always)]
fn replace_back_rows(backward: &Backward, mean: &[f32], x: &[f32], dx: &mut [f32]) {
    let width = mean.len();
    for (x, dx) in x.chunks_exact(width).zip(dx.chunks_exact_mut(width)) {
        let channels = backward.scales.iter().zip(&backward.offsets).zip(&backward.slopes);
        let given = x.iter().zip(mean).zip(channels);
        for (dx, ((&x, &mean), ((&scale, &offset), &slope))) in dx.iter_mut().zip(given) {
            *dx = mapped_back(*dx, x - mean, (scale, offset, slope));
        }
    }
}

/// One input gradient.
#[inline(always)]
pub(crate) fn mapped_back(dy: f32, apart: f32, (scale, offset, slope): (f32, f32, f32)) -> f32 {
    apart.mul_add(-slope, dy - offset) * scale
}

/// Moves the moving statistics towards those of a batch.
///
/// ```text
/// moving = momentum moving + (1 - momentum) batch
/// ```
///
/// # Errors
/// `Shape` if the two differ in length.
pub fn update_moving(moving: &mut [f32], batch: &[f32], momentum: f32) -> Result<()> {
    check_length("update_moving", "batch", batch.len(), moving.len())?;
    for (moving, &batch) in moving.iter_mut().zip(batch) {
        *moving = momentum.mul_add(*moving, (1.0 - momentum) * batch);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
