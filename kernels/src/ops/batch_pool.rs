//! Pools along the positions of a batch of sequences, and their gradients.
//!
//! Leaves out: overlapping windows and padding. Invariant: windows lie one after another from the
//! first position; what is left at the end takes no part and gets no gradient.

pub mod cuda;

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use rayon::prelude::*;

/// Extents of a pool over sequences of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Positions of a sequence.
    pub length: usize,
    /// Channels.
    pub width: usize,
    /// Positions of a window, which is also the step from one to the next.
    pub size: usize,
}

impl PoolShape {
    /// Positions after the pool: whole windows alone.
    pub fn output_length(&self) -> usize {
        self.length.checked_div(self.size).unwrap_or(0)
    }

    /// Values of one sequence after the pool.
    pub(crate) fn output(&self) -> usize {
        self.output_length() * self.width
    }

    /// Refuses extents of zero, windows past what an index can name, and partial sequences;
    /// counts the sequences.
    pub(crate) fn check(
        &self,
        op: &'static str,
        operand: &'static str,
        values: usize,
    ) -> Result<usize> {
        if self.size == 0 || self.size > PICKED_NONE as usize {
            let expected = format!("1 to {PICKED_NONE} positions");
            let found = self.size.to_string();
            return Err(KernelError::Shape { op, operand: "size", expected, found });
        }
        check_rows(op, operand, values, self.length.saturating_mul(self.width))
    }
}

/// Index that no position of a window has.
pub(crate) const PICKED_NONE: u16 = u16::MAX;

/// Writes the largest value of each window of each channel, and which position it came from.
///
/// ```text
/// out[b,p,c] = max_j x[b, p size + j, c],  picked[b,p,c] = the first such j
/// ```
///
/// - `x`: `[B, length, width]`
/// - `out`, `picked`: `[B, length / size, width]`
///
/// # Errors
/// `Shape` if operands do not fit, or a window has no or more than 65535 positions.
pub fn max_pool(x: &[f32], shape: &PoolShape, out: &mut [f32], picked: &mut [u16]) -> Result<()> {
    const OP: &str = "max_pool";
    let sequences = shape.check(OP, "x", x.len())?;
    check_length(OP, "out", out.len(), sequences * shape.output())?;
    check_length(OP, "picked", picked.len(), out.len())?;
    if out.is_empty() {
        return Ok(());
    }
    let isa = Isa::best();
    let input = shape.length * shape.width;
    let places = out.par_chunks_mut(shape.output()).zip(picked.par_chunks_mut(shape.output()));
    places.zip(x.par_chunks(input)).for_each(|((out, picked), x)| {
        pick(isa, *shape, x, out, picked);
    });
    Ok(())
}

per_isa!(
    /// Pools one sequence.
    fn pick(shape: PoolShape, x: &[f32], out: &mut [f32], picked: &mut [u16]) = pick_windows
);

#[inline(always)]
fn pick_windows(shape: PoolShape, x: &[f32], out: &mut [f32], picked: &mut [u16]) {
    let PoolShape { width, size, .. } = shape;
    let places = out.chunks_exact_mut(width).zip(picked.chunks_exact_mut(width));
    for ((out, picked), window) in places.zip(x.chunks_exact(width * size)) {
        out.copy_from_slice(&window[..width]);
        picked.fill(0);
        for (j, row) in window.chunks_exact(width).enumerate().skip(1) {
            for ((out, picked), &x) in out.iter_mut().zip(&mut *picked).zip(row) {
                let larger = is_larger(x, *out);
                *out = if larger { x } else { *out };
                *picked = if larger { j as u16 } else { *picked };
            }
        }
    }
}

/// Whether a later value takes the place of the largest one; the first NaN stays.
#[inline(always)]
pub(crate) fn is_larger(x: f32, largest: f32) -> bool {
    (x > largest) | (x.is_nan() & !largest.is_nan())
}

/// Writes the gradient of [`max_pool`]: all of it goes to the position that was picked.
///
/// - `dy`, `picked`: `[B, length / size, width]`
/// - `dx`: `[B, length, width]`, overwritten
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn max_pool_gradient(
    dy: &[f32],
    picked: &[u16],
    shape: &PoolShape,
    dx: &mut [f32],
) -> Result<()> {
    const OP: &str = "max_pool_gradient";
    check_length(OP, "picked", picked.len(), dy.len())?;
    spread(OP, dy, shape, dx, |window, at, dx| {
        let rows = dx.chunks_exact_mut(shape.width).enumerate();
        for (j, row) in rows {
            let picked = &picked[at..at + shape.width];
            for ((dx, &dy), &picked) in row.iter_mut().zip(window).zip(picked) {
                *dx = if usize::from(picked) == j { dy } else { 0.0 };
            }
        }
    })
}

/// Runs `f(gradient of a window, where it starts in dy, its rows of dx)`; what no window has is zero.
fn spread(
    op: &'static str,
    dy: &[f32],
    shape: &PoolShape,
    dx: &mut [f32],
    f: impl Fn(&[f32], usize, &mut [f32]) + Sync,
) -> Result<()> {
    let sequences = shape.check(op, "dx", dx.len())?;
    check_length(op, "dy", dy.len(), sequences * shape.output())?;
    let (width, output) = (shape.width, shape.output());
    dx.par_chunks_mut(shape.length * width).enumerate().for_each(|(sequence, dx)| {
        let mut windows = dx.chunks_exact_mut(shape.size * width);
        for (window, rows) in windows.by_ref().enumerate() {
            let at = sequence * output + window * width;
            f(&dy[at..at + width], at, rows);
        }
        windows.into_remainder().fill(0.0);
    });
    Ok(())
}

/// Writes the mean of each window of each channel.
///
/// ```text
/// out[b,p,c] = sum_j x[b, p size + j, c] / size
/// ```
///
/// - `x`: `[B, length, width]`
/// - `out`: `[B, length / size, width]`
///
/// # Errors
/// `Shape` if operands do not fit, or a window has no or more than 65535 positions.
pub fn average_pool(x: &[f32], shape: &PoolShape, out: &mut [f32]) -> Result<()> {
    const OP: &str = "average_pool";
    let sequences = shape.check(OP, "x", x.len())?;
    check_length(OP, "out", out.len(), sequences * shape.output())?;
    if out.is_empty() {
        return Ok(());
    }
    let isa = Isa::best();
    let rows = x.par_chunks(shape.length * shape.width);
    out.par_chunks_mut(shape.output()).zip(rows).for_each(|(out, x)| average(isa, *shape, x, out));
    Ok(())
}

per_isa!(fn average(shape: PoolShape, x: &[f32], out: &mut [f32]) = average_windows);

#[inline(always)]
fn average_windows(shape: PoolShape, x: &[f32], out: &mut [f32]) {
    let PoolShape { width, size, .. } = shape;
    for (out, window) in out.chunks_exact_mut(width).zip(x.chunks_exact(width * size)) {
        out.fill(0.0);
        for row in window.chunks_exact(width) {
            for (out, &x) in out.iter_mut().zip(row) {
                *out += x;
            }
        }
        out.iter_mut().for_each(|out| *out /= size as f32);
    }
}

/// Writes the gradient of [`average_pool`]: each position of a window gets an equal share.
///
/// - `dy`: `[B, length / size, width]`
/// - `dx`: `[B, length, width]`, overwritten
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn average_pool_gradient(dy: &[f32], shape: &PoolShape, dx: &mut [f32]) -> Result<()> {
    spread("average_pool_gradient", dy, shape, dx, |window, _, dx| {
        for row in dx.chunks_exact_mut(shape.width) {
            for (dx, &dy) in row.iter_mut().zip(window) {
                *dx = dy / shape.size as f32;
            }
        }
    })
}

/// Writes the mean of each channel over all positions.
///
/// ```text
/// out[b,c] = sum_t x[b,t,c] / length
/// ```
///
/// - `x`: `[B, length, width]`
/// - `out`: `[B, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn global_average_pool(x: &[f32], length: usize, width: usize, out: &mut [f32]) -> Result<()> {
    const OP: &str = "global_average_pool";
    let sequences = check_rows(OP, "x", x.len(), length.saturating_mul(width))?;
    check_length(OP, "out", out.len(), sequences * width)?;
    let (isa, shape) = (Isa::best(), PoolShape { length, width, size: length });
    let rows = x.par_chunks(length * width);
    out.par_chunks_mut(width).zip(rows).for_each(|(out, x)| average(isa, shape, x, out));
    Ok(())
}

/// Writes the gradient of [`global_average_pool`].
///
/// - `dy`: `[B, width]`
/// - `dx`: `[B, length, width]`, overwritten
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn global_average_pool_gradient(
    dy: &[f32],
    length: usize,
    width: usize,
    dx: &mut [f32],
) -> Result<()> {
    const OP: &str = "global_average_pool_gradient";
    let sequences = check_rows(OP, "dx", dx.len(), length.saturating_mul(width))?;
    check_length(OP, "dy", dy.len(), sequences * width)?;
    let rows = dy.par_chunks(width);
    dx.par_chunks_mut(length * width).zip(rows).for_each(|(dx, dy)| {
        for row in dx.chunks_exact_mut(width) {
            for (dx, &dy) in row.iter_mut().zip(dy) {
                *dx = dy / length as f32;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
