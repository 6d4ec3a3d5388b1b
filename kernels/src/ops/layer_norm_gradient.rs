//! Gradients of layer normalisation.
//!
//! Leaves out: the map itself. Invariant: a row's input gradient depends on that row alone; sums
//! over rows are merged in order from slices of fixed size.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::ops::batch_norm::NormGradient;
use crate::{lanes, parallel, slices};

const OP: &str = "layer_norm_gradient";

/// Gradients of [`layer_norm`](crate::ops::layer_norm::layer_norm) at `x`.
///
/// ```text
/// z = (x - mean) rstd,  g = gamma dy
/// dbeta = sum_n dy,  dgamma = sum_n dy z
/// dx = rstd (g - mean(g) - z mean(g z))
/// ```
///
/// - `x`, `dy`: `[N, D]`
/// - `gamma`: `[D]`
///
/// # Errors
/// `Shape` if `x` is not whole rows of `gamma.len()`, or the others do not fit.
///
/// Source: Ba et al. 2016, eq. 4, differentiated.
pub fn layer_norm_gradient(
    x: &[f32],
    dy: &[f32],
    gamma: &[f32],
    epsilon: f32,
    gradient: NormGradient<'_>,
) -> Result<()> {
    let width = gamma.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "dy", dy.len(), x.len())?;
    gradient.check(OP, x.len(), width)?;
    let isa = Isa::best();
    let sums = slices::sum(rows, 2 * width, |rows, sums| {
        let values = rows.start * width..rows.end * width;
        sum_slice(isa, epsilon, (&x[values.clone()], &dy[values]), sums);
    });
    let (plain, weighted) = sums.split_at(width);
    for (place, &sum) in gradient.dbeta.iter_mut().zip(plain) {
        *place = sum as f32;
    }
    for (place, &sum) in gradient.dgamma.iter_mut().zip(weighted) {
        *place = sum as f32;
    }
    if let Some(dx) = gradient.dx {
        parallel::for_rows(dx, width, |first, dx| {
            let values = first * width..first * width + dx.len();
            map_back(isa, epsilon, gamma, (&x[values.clone()], &dy[values]), dx);
        });
    }
    Ok(())
}

per_isa!(fn sum_slice(epsilon: f32, given: (&[f32], &[f32]), sums: &mut [f32]) = sum_slice_of);

#[inline(always)]
fn sum_slice_of(epsilon: f32, (x, dy): (&[f32], &[f32]), sums: &mut [f32]) {
    let width = sums.len() / 2;
    let (plain, weighted) = sums.split_at_mut(width);
    let mut normalised = vec![0.0; width];
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        normalise(epsilon, x, &mut normalised);
        let places = plain.iter_mut().zip(&mut *weighted);
        for ((&dy, &z), (plain, weighted)) in dy.iter().zip(&normalised).zip(places) {
            *plain += dy;
            *weighted = dy.mul_add(z, *weighted);
        }
    }
}

/// Writes a row without mean and with unit variance; returns the inverse deviation.
#[inline(always)]
fn normalise(epsilon: f32, x: &[f32], out: &mut [f32]) -> f32 {
    let width = x.len() as f32;
    let mean = lanes::sum(x, |sum, x| sum + x) / width;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    let squares = lanes::sum(out, |sum, x| x.mul_add(x, sum));
    let inverse = 1.0 / (squares / width + epsilon).sqrt();
    out.iter_mut().for_each(|value| *value *= inverse);
    inverse
}

per_isa!(fn map_back(epsilon: f32, gamma: &[f32], given: (&[f32], &[f32]), dx: &mut [f32]) = map_back_rows);

#[inline(always)]
fn map_back_rows(epsilon: f32, gamma: &[f32], (x, dy): (&[f32], &[f32]), dx: &mut [f32]) {
    let width = gamma.len();
    let (mut normalised, mut product) = (vec![0.0; width], vec![0.0; width]);
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
        let inverse = normalise(epsilon, x, &mut normalised);
        for ((dx, &dy), &gamma) in dx.iter_mut().zip(dy).zip(gamma) {
            *dx = dy * gamma;
        }
        for ((product, &g), &z) in product.iter_mut().zip(&*dx).zip(&normalised) {
            *product = g * z;
        }
        let mean = lanes::sum(dx, |sum, x| sum + x) / width as f32;
        let slope = lanes::sum(&product, |sum, x| sum + x) / width as f32;
        for (dx, &z) in dx.iter_mut().zip(&normalised) {
            *dx = z.mul_add(-slope, *dx - mean) * inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::layer_norm::layer_norm;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.5).collect()
    }

    fn gradients(x: &[f32], dy: &[f32], gamma: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (mut dx, mut dgamma) = (vec![9.0; x.len()], vec![9.0; gamma.len()]);
        let mut dbeta = dgamma.clone();
        let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
        layer_norm_gradient(x, dy, gamma, 1e-3, places).unwrap();
        (dx, dgamma, dbeta)
    }

    #[test]
    fn input_gradient_is_the_slope_of_the_map() {
        let width = 7;
        let (x, dy, gamma) = (wave(2 * width, 0.7), wave(2 * width, 1.3), wave(width, 0.4));
        let value = |x: &[f32]| {
            let mut y = vec![0.0; x.len()];
            layer_norm(x, &gamma, None, 1e-3, &mut y).unwrap();
            y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
        };
        let (dx, _, dbeta) = gradients(&x, &dy, &gamma);
        for i in 0..x.len() {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[i] += 1e-2;
            below[i] -= 1e-2;
            let slope = (value(&above) - value(&below)) / 2e-2;
            assert!((slope - f64::from(dx[i])).abs() < 2e-3, "{i}: {slope} {}", dx[i]);
        }
        assert!((dbeta[3] - dy[3] - dy[3 + width]).abs() < 1e-6);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let width = 33;
        let (x, dy, gamma) = (wave(3 * width, 0.7), wave(3 * width, 1.3), wave(width, 0.4));
        let run = |isa| {
            let (mut dx, mut sums) = (vec![0.0; x.len()], vec![0.0; 2 * width]);
            map_back(isa, 1e-5, &gamma, (&x, &dy), &mut dx);
            sum_slice(isa, 1e-5, (&x, &dy), &mut sums);
            (dx, sums)
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
        let mut run = |x: &[f32], dy: &[f32], gamma: &[f32]| {
            let places = NormGradient { dx: None, dgamma: &mut a, dbeta: &mut b };
            layer_norm_gradient(x, dy, gamma, 0.0, places)
        };
        assert!(run(&[0.0; 3], &[0.0; 3], &[0.0; 2]).is_err());
        assert!(run(&[0.0; 4], &[0.0; 2], &[0.0; 2]).is_err());
        assert!(run(&[0.0; 6], &[0.0; 6], &[0.0; 3]).is_err());
        assert!(run(&[0.0; 4], &[0.0; 4], &[0.0; 2]).is_ok());
    }
}
