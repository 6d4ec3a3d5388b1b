//! Weighting of positions by splines: one smooth curve of factors per channel.
//!
//! Leaves out: splines that are projected on. Invariant: factors are one chain over the bases in
//! order; sums over sequences are added in order.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::parallel;
use rayon::prelude::*;

const OP: &str = "spline_weights";

/// B-splines of `degree` at the positions `0..length`, `[length, bases]`.
///
/// Knots lie at equal distances, so that the positions, widened by 0.1 % of their range at either
/// end, see every spline that reaches them. Knots are rounded to f32, splines once at the end.
///
/// Source: de Boor 1972, eq. 6; Cheng et al. 2021 (MTSplice) for the knots.
pub fn basis(length: usize, bases: usize, degree: usize) -> Vec<f32> {
    let knots = knots(length, bases, degree);
    let mut values = Vec::with_capacity(length * bases);
    for position in 0..length {
        let x = position as f64;
        let within = |pair: &[f64]| if pair[0] <= x && x < pair[1] { 1.0 } else { 0.0 };
        let mut splines: Vec<f64> = knots.windows(2).map(within).collect();
        for step in 1..=degree {
            for i in 0..splines.len() - 1 {
                let (left, right) =
                    (knots[i + step] - knots[i], knots[i + step + 1] - knots[i + 1]);
                let rising = if left > 0.0 { (x - knots[i]) / left } else { 0.0 };
                let falling = if right > 0.0 { (knots[i + step + 1] - x) / right } else { 0.0 };
                splines[i] = rising * splines[i] + falling * splines[i + 1];
            }
            splines.pop();
        }
        values.extend(splines.iter().map(|&spline| spline as f32));
    }
    values
}

/// `bases + degree + 1` knots at equal distances.
fn knots(length: usize, bases: usize, degree: usize) -> Vec<f64> {
    let last = length.saturating_sub(1) as f64;
    let (start, end) = (-0.001 * last, last + 0.001 * last);
    let distance = (end - start) / bases.saturating_sub(degree).max(1) as f64;
    let reach = degree as f64 * distance;
    let (first, range) = (start - reach, end - start + 2.0 * reach);
    let count = bases + degree + 1;
    let knot = |i: usize| f64::from((first + range * i as f64 / (count - 1).max(1) as f64) as f32);
    (0..count).map(knot).collect()
}

/// Weighs the channels of each position.
///
/// ```text
/// out[b,t,c] = x[b,t,c] (1 + sum_n basis[t,n] weights[n,c])
/// ```
///
/// - `x`, `out`: `[B, T, width]`
/// - `basis`: `[T, bases]`; `weights`: `[bases, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn spline_weights(
    x: &[f32],
    basis: &[f32],
    weights: &[f32],
    width: usize,
    out: &mut [f32],
) -> Result<()> {
    let factors = factors(basis, weights, width)?;
    check_rows(OP, "x", x.len(), factors.len())?;
    check_length(OP, "out", out.len(), x.len())?;
    weigh(x, &factors, out);
    Ok(())
}

/// Factor of each position and channel, `[T, width]`.
fn factors(basis: &[f32], weights: &[f32], width: usize) -> Result<Vec<f32>> {
    let bases = check_rows(OP, "weights", weights.len(), width)?;
    let length = check_rows(OP, "basis", basis.len(), bases)?;
    let mut factors = vec![1.0; length * width];
    let isa = Isa::best();
    for (row, basis) in factors.chunks_exact_mut(width).zip(basis.chunks_exact(bases)) {
        combine(isa, basis, weights, row);
    }
    Ok(factors)
}

per_isa!(
    /// Adds the rows of `weights`, each times its spline.
    fn combine(basis: &[f32], weights: &[f32], row: &mut [f32]) = combine_rows
);

#[inline(always)]
fn combine_rows(basis: &[f32], weights: &[f32], row: &mut [f32]) {
    for (&spline, weights) in basis.iter().zip(weights.chunks_exact(row.len())) {
        for (factor, &weight) in row.iter_mut().zip(weights) {
            *factor = spline.mul_add(weight, *factor);
        }
    }
}

/// Multiplies every sequence by the factors.
fn weigh(x: &[f32], factors: &[f32], out: &mut [f32]) {
    parallel::for_rows(out, factors.len(), |first, out| {
        let x = &x[first * factors.len()..][..out.len()];
        let sequences = x.chunks_exact(factors.len());
        for (x, out) in sequences.zip(out.chunks_exact_mut(factors.len())) {
            for ((out, &x), &factor) in out.iter_mut().zip(x).zip(factors) {
                *out = x * factor;
            }
        }
    });
}

/// Writes the gradients of input and weights of [`spline_weights`].
///
/// ```text
/// dx = dy (1 + basis weights),  dweights[n,c] = sum_{b,t} basis[t,n] x[b,t,c] dy[b,t,c]
/// ```
///
/// - `x`, `dy`, `dx`: `[B, T, width]`; `basis`: `[T, bases]`
/// - `weights`, `dweights`: `[bases, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn spline_weights_gradient(
    (x, dy): (&[f32], &[f32]),
    basis: &[f32],
    weights: &[f32],
    width: usize,
    dx: Option<&mut [f32]>,
    dweights: &mut [f32],
) -> Result<()> {
    let factors = factors(basis, weights, width)?;
    check_rows(OP, "x", x.len(), factors.len())?;
    check_length(OP, "dy", dy.len(), x.len())?;
    check_length(OP, "dx", dx.as_ref().map_or(x.len(), |dx| dx.len()), x.len())?;
    check_length(OP, "dweights", dweights.len(), weights.len())?;
    let bases = weights.len() / width;
    let mut products = vec![0.0_f64; factors.len()];
    products.par_chunks_mut(width).enumerate().for_each(|(position, products)| {
        let (x, dy) = (x.chunks_exact(factors.len()), dy.chunks_exact(factors.len()));
        for (x, dy) in x.zip(dy) {
            let here = position * width..(position + 1) * width;
            for ((product, &x), &dy) in products.iter_mut().zip(&x[here.clone()]).zip(&dy[here]) {
                *product += f64::from(x) * f64::from(dy);
            }
        }
    });
    let mut totals = vec![0.0_f64; weights.len()];
    for (basis, products) in basis.chunks_exact(bases).zip(products.chunks_exact(width)) {
        for (totals, &spline) in totals.chunks_exact_mut(width).zip(basis) {
            for (total, product) in totals.iter_mut().zip(products) {
                *total += f64::from(spline) * product;
            }
        }
    }
    for (place, total) in dweights.iter_mut().zip(totals) {
        *place = total as f32;
    }
    if let Some(dx) = dx {
        weigh(dy, &factors, dx);
    }
    Ok(())
}

/// Penalties on the weights, and their gradient added to `gradient`.
///
/// ```text
/// smooth mean_c(sum_k (D w_c)_k²) + l2 sum w² / C,  D the (degree - 1)-th differences
/// ```
///
/// - `weights`, `gradient`: `[bases, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn spline_penalty(
    weights: &[f32],
    width: usize,
    degree: usize,
    (smooth, l2): (f64, f64),
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    let bases = check_rows(OP, "weights", weights.len(), width)?;
    check_length(
        OP,
        "gradient",
        gradient.as_ref().map_or(weights.len(), |g| g.len()),
        weights.len(),
    )?;
    let matrix = smoothness(bases, degree);
    let (mut total, mut slopes) = (0.0, vec![0.0; weights.len()]);
    for channel in 0..width {
        for (row, coefficients) in matrix.chunks_exact(bases.max(1)).enumerate() {
            let at = row * width + channel;
            let weight = f64::from(weights[at]);
            let column = weights[channel..].iter().step_by(width);
            let product: f64 = column.zip(coefficients).map(|(&w, s)| f64::from(w) * s).sum();
            let slope = smooth * product + l2 * weight;
            total += weight * slope;
            slopes[at] = 2.0 * slope / width as f64;
        }
    }
    for (gradient, slope) in gradient.into_iter().flatten().zip(slopes) {
        *gradient += slope as f32;
    }
    Ok(total / width as f64)
}

/// `D' D` with `D` the (degree - 1)-th differences of `bases` values, `[bases, bases]`.
pub fn smoothness(bases: usize, degree: usize) -> Vec<f64> {
    let mut differences: Vec<Vec<f64>> =
        (0..bases).map(|i| (0..bases).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 1..degree {
        let step = |pair: &[Vec<f64>]| pair[1].iter().zip(&pair[0]).map(|(b, a)| b - a).collect();
        differences = differences.windows(2).map(step).collect();
    }
    let mut matrix = Vec::with_capacity(bases * bases);
    for i in 0..bases {
        matrix.extend((0..bases).map(|j| differences.iter().map(|d| d[i] * d[j]).sum::<f64>()));
    }
    matrix
}

#[cfg(test)]
mod tests;
