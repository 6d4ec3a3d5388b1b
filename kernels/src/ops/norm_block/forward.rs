//! The forward pass of a block: each input is read once, each output written once.
//!
//! Leaves out: shape checks. Invariant: as in the head of the parent module.

use super::NormBlock;
use crate::isa::{Isa, per_isa};
use crate::ops::batch_norm::normalised;
use crate::ops::batch_pool::{PICKED_NONE, PoolShape, is_larger};
use crate::ops::dropout::{Stream, dropped};
use crate::ops::function::{Element, with_element};
use crate::parallel;
use rayon::prelude::*;

/// Input values of one task, at least.
const VALUES_PER_TASK: usize = 1 << 15;

/// Runs a block whose operands fit.
pub(super) fn run(isa: Isa, block: &NormBlock<'_>, x: &[f32], out: &mut [f32], picked: &mut [u16]) {
    let (width, scales) = (block.normalisation.width(), block.normalisation.scales());
    let Some(pool) = &block.pool else {
        parallel::for_rows(out, width, |first, out| rows(isa, *block, &scales, (x, first), out));
        return;
    };
    let windows_per_task = VALUES_PER_TASK.div_ceil(pool.size * width);
    let places = out.par_chunks_mut(windows_per_task * width);
    let places = places.zip(picked.par_chunks_mut(windows_per_task * width));
    places.enumerate().for_each(|(task, places)| {
        windows(isa, *block, &scales, (x, task * windows_per_task), places);
    });
}

/// First row of a window, counted over all sequences.
#[inline(always)]
pub(super) fn start_of(pool: &PoolShape, window: usize) -> usize {
    let windows = pool.output_length();
    window / windows * pool.length + window % windows * pool.size
}

per_isa!(
    /// Runs a block without a pool on some rows from the given one on.
    fn rows(block: NormBlock<'_>, scales: &[f32], given: (&[f32], usize), out: &mut [f32]) = rows_of
);

#[inline(always)]
fn rows_of(block: NormBlock<'_>, scales: &[f32], given: (&[f32], usize), out: &mut [f32]) {
    with_element!(block.function, E => rows_with::<E>(block, scales, given, out));
}

#[inline(always)]
fn rows_with<E: Element>(
    block: NormBlock<'_>,
    scales: &[f32],
    (x, first): (&[f32], usize),
    out: &mut [f32],
) {
    let width = scales.len();
    let masks = [block.before, block.after];
    let mut streams = masks.into_iter().flatten().map(|mask| Stream::new(Some(mask), width));
    let mut streams = [streams.next(), streams.next()];
    for (index, out) in out.chunks_exact_mut(width).enumerate() {
        let start = (first + index) * width;
        activate::<E>(&block, scales, &x[start..start + width], out);
        for stream in streams.iter_mut().flatten() {
            let (threshold, scale) = (stream.threshold, stream.scale);
            for (out, &bits) in out.iter_mut().zip(stream.bits(start, width)) {
                *out = dropped(*out, bits, threshold, scale);
            }
        }
    }
}

/// Writes the function of a normalised row.
#[inline(always)]
fn activate<E: Element>(block: &NormBlock<'_>, scales: &[f32], x: &[f32], out: &mut [f32]) {
    let norm = &block.normalisation;
    let channels = norm.mean.iter().zip(scales).zip(norm.beta);
    for ((out, &x), ((&mean, &scale), &beta)) in out.iter_mut().zip(x).zip(channels) {
        *out = E::value(normalised(x, mean, scale, beta));
    }
}

per_isa!(
    /// Runs a block with a pool on some windows from the given one on.
    fn windows(block: NormBlock<'_>, scales: &[f32], given: (&[f32], usize), places: (&mut [f32], &mut [u16])) = windows_of
);

#[inline(always)]
fn windows_of(
    block: NormBlock<'_>,
    scales: &[f32],
    given: (&[f32], usize),
    places: (&mut [f32], &mut [u16]),
) {
    with_element!(block.function, E => windows_with::<E>(block, scales, given, places));
}

/// Marks as picked by none what a mask drops, so that the way back needs no mask.
#[inline(always)]
fn windows_with<E: Element>(
    block: NormBlock<'_>,
    scales: &[f32],
    (x, first): (&[f32], usize),
    (out, picked): (&mut [f32], &mut [u16]),
) {
    let Some(pool) = block.pool else { return };
    let width = scales.len();
    let mut before = Stream::new(block.before, width);
    let mut after = Stream::new(block.after, width);
    let mut values = vec![0.0_f32; width];
    let places = out.chunks_exact_mut(width).zip(picked.chunks_exact_mut(width));
    for (index, (out, picked)) in places.enumerate() {
        let start = start_of(&pool, first + index);
        for j in 0..pool.size {
            let at = (start + j) * width;
            activate::<E>(&block, scales, &x[at..at + width], &mut values);
            let (threshold, scale) = (before.threshold, before.scale);
            let given = values.iter().zip(before.bits(at, width));
            for ((out, picked), (&value, &bits)) in out.iter_mut().zip(&mut *picked).zip(given) {
                let value = dropped(value, bits, threshold, scale);
                let is_first = (j == 0) | is_larger(value, *out);
                let name = if bits >= threshold { j as u16 } else { PICKED_NONE };
                *out = if is_first { value } else { *out };
                *picked = if is_first { name } else { *picked };
            }
        }
        if block.after.is_some() {
            let (threshold, scale) = (after.threshold, after.scale);
            let bits = after.bits((first + index) * width, width);
            for ((out, picked), &bits) in out.iter_mut().zip(picked).zip(bits) {
                *out = dropped(*out, bits, threshold, scale);
                *picked = if bits >= threshold { *picked } else { PICKED_NONE };
            }
        }
    }
}
