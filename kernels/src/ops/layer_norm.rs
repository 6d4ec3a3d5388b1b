//! Layer normalisation over the last axis.
//!
//! Leaves out: the residual sum before it. Invariant: a row's result depends on that row alone.

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
    const OP: &str = "layer_norm";
    let width = weight.len();
    check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "out", out.len(), x.len())?;
    if let Some(bias) = bias {
        check_length(OP, "bias", bias.len(), width)?;
    }
    let isa = Isa::best();
    parallel::for_rows(out, width, |first, out| {
        let x = &x[first * width..][..out.len()];
        cpu(isa, x, weight, bias, eps, out);
    });
    Ok(())
}

per_isa!(
    fn cpu(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) = rows
);

#[inline(always)]
fn rows(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = lanes::sum(x, |sum, x| sum + x) / width as f32;
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x - mean;
        }
        let squares = lanes::sum(out, |sum, x| x.mul_add(x, sum));
        let rstd = 1.0 / (squares / width as f32 + eps).sqrt();
        match bias {
            Some(bias) => {
                for ((value, &weight), &bias) in out.iter_mut().zip(weight).zip(bias) {
                    *value = (*value * rstd).mul_add(weight, bias);
                }
            }
            None => {
                for (value, &weight) in out.iter_mut().zip(weight) {
                    *value = *value * rstd * weight;
                }
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
                let mut out = vec![0.0; x.len()];
                cpu(isa, x, &weight, Some(&weight), 1e-5, &mut out);
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
    fn operands_that_do_not_fit_are_refused() {
        let mut out = [0.0; 4];
        assert!(layer_norm(&[0.0; 4], &[0.0; 3], None, 0.0, &mut out).is_err());
        assert!(layer_norm(&[0.0; 4], &[0.0; 2], Some(&[0.0; 3]), 0.0, &mut out).is_err());
        assert!(layer_norm(&[0.0; 4], &[0.0; 2], None, 0.0, &mut out[..2]).is_err());
        assert!(layer_norm(&[], &[], None, 0.0, &mut []).is_err());
    }
}
