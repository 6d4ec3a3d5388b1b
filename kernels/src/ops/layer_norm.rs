//! Layer normalisation over the last axis.
//!
//! Leaves out: a residual sum before it. Invariant: a row's result depends on that row alone.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::lanes;
use crate::parallel;

/// Normalises each row to zero mean and unit variance, then scales and shifts it.
///
/// ```text
/// out[n,d] = (x[n,d] - mean[n]) * rstd[n] * weight[d] + bias[d]
/// rstd[n] = 1 / sqrt(mean((x[n,:] - mean[n])²) + eps)
/// ```
///
/// - `x`, `out`: `[N, D]`
/// - `weight`, `bias`: `[D]`; no bias counts as zero
///
/// Sums are f32 in 16 interleaved lanes.
///
/// # Errors
/// `Shape` if `x` is not whole rows of `weight.len()`, or `bias` or `out` do not fit.
///
/// Source: Ba et al. 2016, eq. 4.
pub fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let norm = Norm::check(x, weight, bias, eps)?;
    check_length(OP, "out", out.len(), x.len())?;
    let isa = Isa::best();
    parallel::for_rows(out, weight.len(), |first, out| {
        out.copy_from_slice(&x[first * weight.len()..][..out.len()]);
        normalise(isa, norm, out);
    });
    Ok(())
}

/// Replaces each row of `x` by what [`layer_norm`] makes of it, the same bits.
///
/// - `x`: `[N, D]`
/// - `weight`, `bias`: `[D]`; no bias counts as zero
///
/// # Errors
/// `Shape` if `x` is not whole rows of `weight.len()`, or `bias` does not fit.
pub fn layer_norm_in_place(
    x: &mut [f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
) -> Result<()> {
    let norm = Norm::check(x, weight, bias, eps)?;
    let isa = Isa::best();
    parallel::for_rows(x, weight.len(), |_, rows| normalise(isa, norm, rows));
    Ok(())
}

/// Adds the normalised branch to `x`; the same bits as [`layer_norm`] and a sum after it.
///
/// ```text
/// x[n,d] = x[n,d] + layer_norm(branch)[n,d]
/// ```
///
/// - `x`, `branch`: `[N, D]`
/// - `weight`, `bias`: `[D]`; no bias counts as zero
///
/// # Errors
/// `Shape` if `x` is not whole rows of `weight.len()`, or `branch` or `bias` do not fit.
pub fn add_layer_norm(
    x: &mut [f32],
    branch: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
) -> Result<()> {
    let norm = Norm::check(x, weight, bias, eps)?;
    check_length(OP, "branch", branch.len(), x.len())?;
    let isa = Isa::best();
    parallel::for_rows(x, weight.len(), |first, rows| {
        add_normalised(isa, norm, &branch[first * weight.len()..][..rows.len()], rows);
    });
    Ok(())
}

const OP: &str = "layer_norm";

/// Scale, shift and guard of the variance.
#[derive(Clone, Copy)]
struct Norm<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
}

impl<'a> Norm<'a> {
    /// Refuses rows and bias that do not fit the weight.
    fn check(x: &[f32], weight: &'a [f32], bias: Option<&'a [f32]>, eps: f32) -> Result<Self> {
        check_rows(OP, "x", x.len(), weight.len())?;
        check_length(OP, "bias", bias.map_or(weight.len(), <[f32]>::len), weight.len())?;
        Ok(Self { weight, bias, eps })
    }
}

per_isa!(fn normalise(norm: Norm<'_>, rows: &mut [f32]) = normalise_rows);

per_isa!(fn add_normalised(norm: Norm<'_>, branch: &[f32], x: &mut [f32]) = add_normalised_rows);

#[inline(always)]
fn normalise_rows(norm: Norm<'_>, rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(norm.weight.len()) {
        normalise_row(norm, row);
    }
}

#[inline(always)]
fn add_normalised_rows(norm: Norm<'_>, branch: &[f32], x: &mut [f32]) {
    let width = norm.weight.len();
    let mut normalised = vec![0.0; width];
    for (branch, x) in branch.chunks_exact(width).zip(x.chunks_exact_mut(width)) {
        normalised.copy_from_slice(branch);
        normalise_row(norm, &mut normalised);
        for (x, &value) in x.iter_mut().zip(&normalised) {
            *x += value;
        }
    }
}

#[inline(always)]
fn normalise_row(norm: Norm<'_>, row: &mut [f32]) {
    let width = norm.weight.len() as f32;
    let mean = lanes::sum(row, |sum, x| sum + x) / width;
    row.iter_mut().for_each(|value| *value -= mean);
    let squares = lanes::sum(row, |sum, x| x.mul_add(x, sum));
    let rstd = 1.0 / (squares / width + norm.eps).sqrt();
    match norm.bias {
        Some(bias) => {
            for ((value, &weight), &bias) in row.iter_mut().zip(norm.weight).zip(bias) {
                *value = (*value * rstd).mul_add(weight, bias);
            }
        }
        None => {
            for (value, &weight) in row.iter_mut().zip(norm.weight) {
                *value = *value * rstd * weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_row() {
        let mut out = [0.0; 4];
        layer_norm(&[1.0, 2.0, 3.0, 6.0], &[1.0, 1.0, 2.0, 1.0], None, 0.5, &mut out).unwrap();
        assert_eq!(out, [-1.0, -0.5, 0.0, 1.5]);
    }

    #[test]
    fn bias_is_added_after_the_scale() {
        let mut out = [0.0; 2];
        layer_norm(&[4.0, 2.0], &[3.0, 3.0], Some(&[10.0, 20.0]), 0.0, &mut out).unwrap();
        assert_eq!(out, [13.0, 17.0]);
    }

    #[test]
    fn large_means_do_not_spoil_the_variance() {
        let x: Vec<f32> = (0..64).map(|i| 4096.0 + (i % 2) as f32).collect();
        let mut out = vec![0.0; 64];
        layer_norm(&x, &[1.0; 64], None, 0.0, &mut out).unwrap();
        assert!(out.iter().enumerate().all(|(i, &y)| y == if i % 2 == 0 { -1.0 } else { 1.0 }));
    }

    #[test]
    fn every_instruction_set_and_any_neighbour_give_the_same_bits() {
        for width in [1, 31, 33, 1025] {
            let x: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 0.9).sin() * 3.0 + 1.0).collect();
            let weight: Vec<f32> = (0..width).map(|i| (i as f32).cos()).collect();
            let run = |isa, x: &[f32]| {
                let mut out = x.to_vec();
                normalise(isa, Norm { weight: &weight, bias: Some(&weight), eps: 1e-5 }, &mut out);
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let expected = run(Isa::Baseline, &x);
            for isa in Isa::available() {
                assert_eq!(run(isa, &x), expected, "{isa:?} {width}");
                assert_eq!(run(isa, &x[width..2 * width]), expected[width..2 * width]);
            }
        }
    }

    #[test]
    fn forms_in_place_and_added_have_the_bits_of_the_plain_one() {
        let width = 37;
        // Enough rows for several blocks.
        let x: Vec<f32> = (0..3000 * width).map(|i| (i as f32 * 0.9).sin() * 3.0 + 1.0).collect();
        let weight: Vec<f32> = (0..width).map(|i| (i as f32).cos()).collect();
        for bias in [None, Some(weight.as_slice())] {
            let mut plain = vec![0.0; x.len()];
            layer_norm(&x, &weight, bias, 1e-5, &mut plain).unwrap();
            let mut in_place = x.clone();
            layer_norm_in_place(&mut in_place, &weight, bias, 1e-5).unwrap();
            assert_eq!(in_place, plain);
            let before: Vec<f32> = (0..x.len()).map(|i| (i as f32 * 0.3).cos()).collect();
            let mut added = before.clone();
            add_layer_norm(&mut added, &x, &weight, bias, 1e-5).unwrap();
            assert!(added.iter().zip(before.iter().zip(&plain)).all(|(sum, (a, b))| *sum == a + b));
        }
    }

    #[test]
    fn every_instruction_set_adds_the_same_bits() {
        let weight: Vec<f32> = (0..33).map(|i| (i as f32).cos()).collect();
        let branch: Vec<f32> = (0..99).map(|i| (i as f32 * 0.7).sin()).collect();
        let norm = Norm { weight: &weight, bias: None, eps: 1e-5 };
        let run = |isa| {
            let mut x = vec![0.3; 99];
            add_normalised(isa, norm, &branch, &mut x);
            x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Baseline), "{isa:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let mut out = [0.0; 4];
        assert!(layer_norm(&[0.0; 4], &[0.0; 3], None, 0.0, &mut out).is_err());
        assert!(layer_norm(&[0.0; 4], &[0.0; 2], Some(&[0.0; 3]), 0.0, &mut out).is_err());
        assert!(layer_norm(&[0.0; 4], &[0.0; 2], None, 0.0, &mut out[..2]).is_err());
        assert!(layer_norm(&[], &[], None, 0.0, &mut []).is_err());
        assert!(layer_norm_in_place(&mut out, &[0.0; 3], None, 0.0).is_err());
        assert!(add_layer_norm(&mut out, &[0.0; 2], &[0.0; 2], None, 0.0).is_err());
    }
}
