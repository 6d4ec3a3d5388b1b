//! The forward pass of a block: each input is read once, each output written once.
//!
//! Leaves out: shape checks. Invariant: as in the head of the parent module; what lies between two
//! operations is a few rows that stay in the cache.

use super::NormBlock;
use crate::isa::{Isa, per_isa};
use crate::ops::batch_norm::normalise;
use crate::ops::batch_pool::{PICKED_NONE, PoolShape, is_larger};
use crate::ops::dropout::{Stream, dropped};
use crate::ops::function::replace_part;
use crate::parallel;
use rayon::prelude::*;

/// Input values of one task, at least.
pub(super) const VALUES_PER_TASK: usize = 1 << 15;
/// Values that are taken through the operations at once, about.
const VALUES_AT_ONCE: usize = 1 << 11;

/// Rows that are taken through the operations at once.
pub(super) fn rows_at_once(width: usize) -> usize {
    (VALUES_AT_ONCE / width).max(1)
}

/// Runs a block whose operands fit.
pub(super) fn run(isa: Isa, block: &NormBlock<'_>, x: &[f32], out: &mut [f32], picked: &mut [u16]) {
    let (width, scales) = (block.normalisation.width(), block.normalisation.scales());
    let Some(pool) = &block.pool else {
        parallel::for_rows(out, width, |first, out| rows(isa, block, &scales, (x, first), out));
        return;
    };
    let windows_per_task = VALUES_PER_TASK.div_ceil(pool.size * width);
    let places = out.par_chunks_mut(windows_per_task * width);
    let places = places.zip(picked.par_chunks_mut(windows_per_task * width));
    places.enumerate().for_each(|(task, places)| {
        windows(isa, (block, pool), &scales, (x, task * windows_per_task), places);
    });
}

/// First row of a window, counted over all sequences.
pub(super) fn start_of(pool: &PoolShape, window: usize) -> usize {
    let windows = pool.output_length();
    window / windows * pool.length + window % windows * pool.size
}

/// Runs a block without a pool on some rows from the given one on.
fn rows(
    isa: Isa,
    block: &NormBlock<'_>,
    scales: &[f32],
    (x, first): (&[f32], usize),
    out: &mut [f32],
) {
    let count = rows_at_once(scales.len()) * scales.len();
    let mut streams = [block.before, block.after].map(|mask| Stream::new(mask, count));
    let mut start = first * scales.len();
    for out in out.chunks_mut(count) {
        normalise(isa, block.normalisation, scales, &x[start..start + out.len()], out);
        replace_part(isa, block.function, out);
        streams.iter_mut().for_each(|stream| stream.drop_from(isa, start, out));
        start += out.len();
    }
}

/// Runs a block with a pool on some windows from the given one on.
fn windows(
    isa: Isa,
    (block, pool): (&NormBlock<'_>, &PoolShape),
    scales: &[f32],
    (x, first): (&[f32], usize),
    (out, picked): (&mut [f32], &mut [u16]),
) {
    let width = scales.len();
    let mut values = vec![0.0_f32; pool.size * width];
    let mut before = Stream::new(block.before, values.len());
    let mut after = Stream::new(block.after, width);
    let places = out.chunks_exact_mut(width).zip(picked.chunks_exact_mut(width));
    for (index, (out, picked)) in places.enumerate() {
        let start = start_of(pool, first + index) * width;
        normalise(isa, block.normalisation, scales, &x[start..start + values.len()], &mut values);
        replace_part(isa, block.function, &mut values);
        let kept = (before.threshold, before.scale);
        let bits = before.bits(isa, start, values.len());
        pick_kept(isa, (&values, bits), kept, out, picked);
        if block.after.is_some() {
            let kept = (after.threshold, after.scale);
            let bits = after.bits(isa, (first + index) * width, width);
            drop_picked(isa, bits, kept, out, picked);
        }
    }
}

per_isa!(
    /// Picks the largest value of each channel after a mask of threshold and scale.
    fn pick_kept(
        given: (&[f32], &[u32]),
        mask: (u32, f32),
        out: &mut [f32],
        picked: &mut [u16]
    ) = pick_kept_rows
);

/// Marks as picked by none what the mask drops, so that the way back needs no mask.
#[inline(always)]
fn pick_kept_rows(
    (values, bits): (&[f32], &[u32]),
    (threshold, scale): (u32, f32),
    out: &mut [f32],
    picked: &mut [u16],
) {
    let width = out.len();
    let rows = values.chunks_exact(width).zip(bits.chunks_exact(width));
    for (j, (values, bits)) in rows.enumerate() {
        let given = values.iter().zip(bits);
        for ((out, picked), (&value, &bits)) in out.iter_mut().zip(&mut *picked).zip(given) {
            let value = dropped(value, bits, threshold, scale);
            let is_first = (j == 0) | is_larger(value, *out);
            let name = if bits >= threshold { j as u16 } else { PICKED_NONE };
            *out = if is_first { value } else { *out };
            *picked = if is_first { name } else { *picked };
        }
    }
}

per_isa!(
    /// Drops what was picked, by a mask of threshold and scale.
    fn drop_picked(
        bits: &[u32],
        mask: (u32, f32),
        out: &mut [f32],
        picked: &mut [u16]
    ) = drop_picked_all
);

#[inline(always)]
fn drop_picked_all(
    bits: &[u32],
    (threshold, scale): (u32, f32),
    out: &mut [f32],
    picked: &mut [u16],
) {
    for ((out, picked), &bits) in out.iter_mut().zip(picked).zip(bits) {
        *out = dropped(*out, bits, threshold, scale);
        *picked = if bits >= threshold { *picked } else { PICKED_NONE };
    }
}
