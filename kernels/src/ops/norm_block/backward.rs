//! The way back through a block: one pass for the sums, one for the input's gradient.
//!
//! Leaves out: shape checks. Invariant: as in the head of the parent module; sums are taken over
//! the same slices of rows as in a normalisation that stands alone.

use super::NormBlock;
use super::forward::start_of;
use crate::isa::{Isa, per_isa};
use crate::ops::batch_norm::{Backward, NormGradient, add_gradient_sums, mapped_back, normalised};
use crate::ops::batch_pool::PoolShape;
use crate::ops::dropout::{Stream, dropped};
use crate::ops::function::{Element, with_element};
use crate::{parallel, slices};
use rayon::prelude::*;
use std::ops::Range;

/// Input values of one task, at least.
const VALUES_PER_TASK: usize = 1 << 15;

/// What a block was given, what it picked, and the gradient of its output.
pub(super) struct Given<'a> {
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) picked: &'a [u16],
}

/// Writes the gradients of a block whose operands fit.
pub(super) fn run(
    isa: Isa,
    block: &NormBlock<'_>,
    given: &Given<'_>,
    training: bool,
    gradient: NormGradient<'_>,
) {
    let (width, scales) = (block.normalisation.width(), block.normalisation.scales());
    let rows = given.x.len() / width;
    let sums = slices::sum(rows, 2 * width, |rows, sums| {
        sum_slice(isa, *block, &scales, (given, rows), sums);
    });
    let backward = Backward::new(&block.normalisation, &sums, if training { rows } else { 0 });
    backward.write_sums(&sums, gradient.dgamma, gradient.dbeta);
    let Some(dx) = gradient.dx else { return };
    let Some(pool) = &block.pool else {
        parallel::for_rows(dx, width, |first, dx| {
            map_rows(isa, *block, &backward, (given, first), dx);
        });
        return;
    };
    let sequence = pool.length * width;
    let per_task = VALUES_PER_TASK.div_ceil(sequence);
    dx.par_chunks_mut(per_task * sequence).enumerate().for_each(|(task, dx)| {
        map_windows(isa, *block, &backward, (given, task * per_task), dx);
    });
}

per_isa!(
    /// Adds the gradients after the normalisation of some rows, and their products with `x - mean`.
    fn sum_slice(block: NormBlock<'_>, scales: &[f32], given: (&Given<'_>, Range<usize>), sums: &mut [f32]) = sum_slice_of
);

#[inline(always)]
fn sum_slice_of(
    block: NormBlock<'_>,
    scales: &[f32],
    (given, rows): (&Given<'_>, Range<usize>),
    sums: &mut [f32],
) {
    with_element!(block.function, E => match &block.pool {
        Some(pool) => sum_windows::<E>(&block, scales, (given, pool, rows), sums),
        None => sum_rows::<E>(&block, scales, (given, rows), sums),
    });
}

#[inline(always)]
fn sum_rows<E: Element>(
    block: &NormBlock<'_>,
    scales: &[f32],
    (given, rows): (&Given<'_>, Range<usize>),
    sums: &mut [f32],
) {
    let width = scales.len();
    let (plain, weighted) = sums.split_at_mut(width);
    let mut row_back = RowBack::new(block, scales);
    for row in rows {
        let values = row * width..(row + 1) * width;
        let (x, dy) = (&given.x[values.clone()], &given.dy[values.clone()]);
        let dz = row_back.run::<E>(values.start, x, dy);
        add_gradient_sums(block.normalisation.mean, (x, dz), plain, weighted);
    }
}

/// Takes a row's gradient back through dropout and function, where no pool lies between.
struct RowBack<'a> {
    block: &'a NormBlock<'a>,
    scales: &'a [f32],
    streams: [Stream; 2],
    dz: Vec<f32>,
}

impl<'a> RowBack<'a> {
    fn new(block: &'a NormBlock<'a>, scales: &'a [f32]) -> Self {
        let width = scales.len();
        let streams = [block.after, block.before].map(|mask| Stream::new(mask, width));
        Self { block, scales, streams, dz: vec![0.0; width] }
    }

    /// The gradient of the normalised row; `first` is the index of its first element.
    #[inline(always)]
    fn run<E: Element>(&mut self, first: usize, x: &[f32], dy: &[f32]) -> &[f32] {
        self.dz.copy_from_slice(dy);
        for stream in &mut self.streams {
            let (threshold, scale) = (stream.threshold, stream.scale);
            if threshold > 0 {
                let bits = stream.bits(first, dy.len());
                for (dz, &bits) in self.dz.iter_mut().zip(bits) {
                    *dz = dropped(*dz, bits, threshold, scale);
                }
            }
        }
        let norm = &self.block.normalisation;
        let channels = norm.mean.iter().zip(self.scales).zip(norm.beta);
        for ((dz, &x), ((&mean, &scale), &beta)) in self.dz.iter_mut().zip(x).zip(channels) {
            let z = normalised(x, mean, scale, beta);
            *dz = E::back(z, E::value(z), *dz);
        }
        &self.dz
    }
}

per_isa!(
    /// Writes the input gradient of some rows from the given one on.
    fn map_rows(block: NormBlock<'_>, backward: &Backward, given: (&Given<'_>, usize), dx: &mut [f32]) = map_rows_of
);

#[inline(always)]
fn map_rows_of(
    block: NormBlock<'_>,
    backward: &Backward,
    given: (&Given<'_>, usize),
    dx: &mut [f32],
) {
    with_element!(block.function, E => map_rows_with::<E>(&block, backward, given, dx));
}

#[inline(always)]
fn map_rows_with<E: Element>(
    block: &NormBlock<'_>,
    backward: &Backward,
    (given, first): (&Given<'_>, usize),
    dx: &mut [f32],
) {
    let width = backward.scales.len();
    let mut row_back = RowBack::new(block, &backward.scales);
    for (index, dx) in dx.chunks_exact_mut(width).enumerate() {
        let values = (first + index) * width..(first + index + 1) * width;
        let (x, dy) = (&given.x[values.clone()], &given.dy[values.clone()]);
        let dz = row_back.run::<E>(values.start, x, dy);
        map_row(block, backward, x, |c| dz[c], dx);
    }
}

/// Takes a row back through the normalisation; `dz` names the gradient of each channel.
#[inline(always)]
fn map_row(
    block: &NormBlock<'_>,
    backward: &Backward,
    x: &[f32],
    dz: impl Fn(usize) -> f32,
    dx: &mut [f32],
) {
    let width = dx.len();
    let (x, mean) = (&x[..width], &block.normalisation.mean[..width]);
    let (scales, offsets) = (&backward.scales[..width], &backward.offsets[..width]);
    let slopes = &backward.slopes[..width];
    for c in 0..width {
        dx[c] = mapped_back(dz(c), x[c] - mean[c], (scales[c], offsets[c], slopes[c]));
    }
}

/// Windows that a slice cuts count in the slice that their picked row is in.
#[inline(always)]
fn sum_windows<E: Element>(
    block: &NormBlock<'_>,
    scales: &[f32],
    (given, pool, rows): (&Given<'_>, &PoolShape, Range<usize>),
    sums: &mut [f32],
) {
    let width = scales.len();
    let (plain, weighted) = sums.split_at_mut(width);
    let mut window_back = WindowBack::new(block, scales);
    let mut row = rows.start;
    while row < rows.end {
        let (sequence, position) = (row / pool.length, row % pool.length);
        let window = position / pool.size;
        if window >= pool.output_length() {
            row = (sequence + 1) * pool.length;
            continue;
        }
        let window = sequence * pool.output_length() + window;
        let start = start_of(pool, window);
        let end = rows.end.min(start + pool.size);
        window_back.run::<E>(given, window, (start, row - start..end - start));
        let WindowBack { x, dz, .. } = &window_back;
        add_gradient_sums(block.normalisation.mean, (x, dz), plain, weighted);
        row = end;
    }
}

/// Takes a window's gradient back to the elements that were picked.
struct WindowBack<'a> {
    block: &'a NormBlock<'a>,
    scales: &'a [f32],
    /// The picked inputs, `[C]`.
    x: Vec<f32>,
    /// The gradients of these once normalised; zero where none of the rows was picked.
    dz: Vec<f32>,
}

impl<'a> WindowBack<'a> {
    fn new(block: &'a NormBlock<'a>, scales: &'a [f32]) -> Self {
        let zeros = vec![0.0; scales.len()];
        Self { block, scales, x: zeros.clone(), dz: zeros }
    }

    /// Looks at the rows `inside` of the window that begins at row `start`.
    #[inline(always)]
    fn run<E: Element>(
        &mut self,
        given: &Given<'_>,
        window: usize,
        (start, inside): (usize, Range<usize>),
    ) {
        let width = self.scales.len();
        let at = window * width;
        let (picked, dy) = (&given.picked[at..at + width], &given.dy[at..at + width]);
        for j in inside.clone() {
            let row = &given.x[(start + j) * width..][..width];
            for ((x, &picked), &value) in self.x.iter_mut().zip(picked).zip(row) {
                *x = if usize::from(picked) == j || j == inside.start { value } else { *x };
            }
        }
        let scale_of = |mask: Option<_>| Stream::new(mask, 0).scale;
        let (after, before) = (scale_of(self.block.after), scale_of(self.block.before));
        let norm = &self.block.normalisation;
        let channels = norm.mean.iter().zip(self.scales).zip(norm.beta);
        let places = self.dz.iter_mut().zip(&self.x).zip(channels);
        let (first, last) = (inside.start as u32, inside.end as u32);
        for (((dz, &x), ((&mean, &scale), &beta)), (&picked, &dy)) in
            places.zip(picked.iter().zip(dy))
        {
            let z = normalised(x, mean, scale, beta);
            let back = E::back(z, E::value(z), dy * after * before);
            let is_inside = (first <= u32::from(picked)) & (u32::from(picked) < last);
            *dz = if is_inside { back } else { 0.0 };
        }
    }
}

per_isa!(
    /// Writes the input gradient of some sequences from the given one on.
    fn map_windows(block: NormBlock<'_>, backward: &Backward, given: (&Given<'_>, usize), dx: &mut [f32]) = map_windows_of
);

#[inline(always)]
fn map_windows_of(
    block: NormBlock<'_>,
    backward: &Backward,
    given: (&Given<'_>, usize),
    dx: &mut [f32],
) {
    with_element!(block.function, E => map_windows_with::<E>(&block, backward, given, dx));
}

#[inline(always)]
fn map_windows_with<E: Element>(
    block: &NormBlock<'_>,
    backward: &Backward,
    (given, first): (&Given<'_>, usize),
    dx: &mut [f32],
) {
    let Some(pool) = &block.pool else { return };
    let (width, windows) = (pool.width, pool.output_length());
    let mut window_back = WindowBack::new(block, &backward.scales);
    for (index, dx) in dx.chunks_exact_mut(pool.length * width).enumerate() {
        let sequence = first + index;
        for (position, dx) in dx.chunks_exact_mut(width).enumerate() {
            let (window, j) = (position / pool.size, position % pool.size);
            let at = sequence * pool.length + position;
            let x = &given.x[at * width..][..width];
            if window >= windows {
                map_row(block, backward, x, |_| 0.0, dx);
                continue;
            }
            let window = sequence * windows + window;
            if j == 0 {
                window_back.run::<E>(given, window, (at, 0..pool.size));
            }
            let picked = &given.picked[window * width..][..width];
            let dz = &window_back.dz[..width];
            let of = |c: usize| if usize::from(picked[c]) == j { dz[c] } else { 0.0 };
            map_row(block, backward, x, of, dx);
        }
    }
}
