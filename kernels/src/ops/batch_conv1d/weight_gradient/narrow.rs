//! Gradients of wide dense layers with a few outputs: the input is read as it lies, once, instead of being
//! gathered into panels of which a product would use little.
//!
//! Leaves out: the bias. Invariant: each sum of a block is one chain over its positions, so these are the
//! bits of the products of tiles.

use super::{POSITIONS_PER_BLOCK, Taps};
use crate::isa::{Isa, per_isa};
use crate::ops::batch_conv1d::Affine;
use rayon::prelude::*;

/// Outputs beyond which tiles are quicker.
const OUTPUTS_MAX: usize = 4;
/// Inputs below which there are too few tasks.
const INPUTS_MIN: usize = 2048;
/// Inputs of a task: their sums stay in the nearest cache, their values lie together for long.
const INPUTS_PER_TASK: usize = 512;

/// Whether this form is quicker for weights of `width` columns.
pub(super) fn is_narrow(taps: &Taps<'_>, width: usize) -> bool {
    taps.positions.kernel == 1 && width <= OUTPUTS_MAX && taps.width >= INPUTS_MIN
}

/// Replaces `dkernel` by the products of all positions and `dy`, rows of `width` values.
pub(super) fn narrow(isa: Isa, taps: &Taps<'_>, dy: &[f32], width: usize, dkernel: &mut [f32]) {
    let tasks = dkernel.par_chunks_mut(INPUTS_PER_TASK * width).enumerate();
    tasks.for_each(|(task, out)| {
        let first = task * INPUTS_PER_TASK;
        let columns = first..first + out.len() / width;
        let affine = taps.affine.map(|affine| Affine {
            shift: &affine.shift[columns.clone()],
            scale: &affine.scale[columns.clone()],
        });
        let values = taps.values.get(first..).unwrap_or(&[]);
        for output in 0..width {
            let mut totals = [0.0; INPUTS_PER_TASK];
            for (block, dy) in dy.chunks(POSITIONS_PER_BLOCK * width).enumerate() {
                let values = &values[block * POSITIONS_PER_BLOCK * taps.width..];
                let mut sums = [0.0; INPUTS_PER_TASK];
                let own = &mut sums[..columns.len()];
                block_sums(isa, (values, taps.width), affine, (&dy[output..], width), own);
                match block {
                    0 => totals = sums,
                    _ => totals.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum),
                }
            }
            let out = out.iter_mut().skip(output).step_by(width);
            out.zip(&totals).for_each(|(out, total)| *out = *total);
        }
    });
}

per_isa!(
    /// Adds the products of every position of a block, in order, to `sums` of some inputs.
    fn block_sums(
        values: (&[f32], usize),
        affine: Option<Affine<'_>>,
        dy: (&[f32], usize),
        sums: &mut [f32]
    ) = block_sums_of
);

#[inline(always)]
fn block_sums_of(
    (values, stride): (&[f32], usize),
    affine: Option<Affine<'_>>,
    (dy, width): (&[f32], usize),
    sums: &mut [f32],
) {
    let mut mapped = [[0.0; INPUTS_PER_TASK]; 4];
    let mut rows = values.chunks(stride);
    let mut dy = dy.iter().step_by(width);
    while dy.len() > 0 {
        // Four positions for every time that sums are loaded and stored.
        let mut four: [&[f32]; 4] = [&[]; 4];
        let mut factors = [0.0; 4];
        let mut count = 0;
        for ((row, factor), dy) in four.iter_mut().zip(&mut factors).zip(&mut dy) {
            *row = &rows.next().unwrap_or(&[])[..sums.len()];
            *factor = *dy;
            count += 1;
        }
        if let Some(affine) = affine {
            for (row, mapped) in four.iter_mut().zip(&mut mapped).take(count) {
                let map = affine.shift.iter().zip(affine.scale);
                for ((out, value), (shift, scale)) in mapped.iter_mut().zip(*row).zip(map) {
                    *out = (value - shift) * scale;
                }
                *row = &mapped[..sums.len()];
            }
        }
        match count {
            4 => {
                let [a, b, c, d] = four;
                let rows = a.iter().zip(b).zip(c.iter().zip(d));
                for (sum, ((a, b), (c, d))) in sums.iter_mut().zip(rows) {
                    let chain = b.mul_add(factors[1], a.mul_add(factors[0], *sum));
                    *sum = d.mul_add(factors[3], c.mul_add(factors[2], chain));
                }
            }
            _ => {
                for (row, factor) in four.iter().zip(factors).take(count) {
                    for (sum, value) in sums.iter_mut().zip(*row) {
                        *sum = value.mul_add(factor, *sum);
                    }
                }
            }
        }
    }
}
