//! The way back through a block: one pass for the sums, one for the input's gradient.
//!
//! Leaves out: shape checks. Invariant: as in the head of the parent module; sums are taken over
//! the same slices of rows as in a normalisation that stands alone.

use super::NormBlock;
use super::forward::{VALUES_PER_TASK, rows_at_once, start_of};
use crate::isa::{Isa, per_isa};
use crate::ops::batch_norm::{
    Backward, NormGradient, map_back, mapped_back, normalise, replace_back, sum_slice,
};
use crate::ops::batch_pool::PoolShape;
use crate::ops::dropout::Stream;
use crate::ops::function::{gradient_part, replace_part};
use crate::{parallel, slices};
use rayon::prelude::*;
use std::ops::Range;

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
    let backward_of = |sums: &[f64], gradient: &mut NormGradient<'_>| {
        let backward = Backward::new(&block.normalisation, sums, if training { rows } else { 0 });
        backward.write_sums(sums, gradient.dgamma, gradient.dbeta);
        backward
    };
    let mut gradient = gradient;
    let Some(pool) = &block.pool else {
        let back = || Back::new(isa, block, &scales, rows_at_once(width));
        let Some(dx) = gradient.dx.take() else {
            let sums = slices::sum(rows, 2 * width, |rows, sums| {
                sum_rows(back(), given, rows, (sums, None));
            });
            backward_of(&sums, &mut gradient);
            return;
        };
        // What lies before the normalisation is kept in dx: it costs more to make again.
        let sums = slices::sum_and_write(2 * width, (&mut *dx, width), |rows, sums, dz| {
            sum_rows(back(), given, rows, (sums, Some(dz)));
        });
        let backward = backward_of(&sums, &mut gradient);
        parallel::for_rows(dx, width, |first, dx| {
            let x = &given.x[first * width..][..dx.len()];
            replace_back(isa, &backward, block.normalisation.mean, x, dx);
        });
        return;
    };
    let back = || Back::new(isa, block, &scales, 1);
    let sums = slices::sum(rows, 2 * width, |rows, sums| {
        sum_windows(back(), pool, given, rows, sums);
    });
    let backward = backward_of(&sums, &mut gradient);
    let Some(dx) = gradient.dx else { return };
    let sequence = pool.length * width;
    let per_task = VALUES_PER_TASK.div_ceil(sequence);
    dx.par_chunks_mut(per_task * sequence).enumerate().for_each(|(task, dx)| {
        map_windows((back(), pool), &backward, (given, task * per_task), dx);
    });
}

/// Takes a few rows' gradients back through dropout and function.
struct Back<'a> {
    isa: Isa,
    block: &'a NormBlock<'a>,
    scales: &'a [f32],
    streams: [Stream; 2],
    /// Inputs, normalised inputs, outputs of the function, and two gradients.
    x: Vec<f32>,
    z: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    dz: Vec<f32>,
}

impl<'a> Back<'a> {
    fn new(isa: Isa, block: &'a NormBlock<'a>, scales: &'a [f32], rows: usize) -> Self {
        let zeros = vec![0.0; rows * scales.len()];
        let streams = [block.after, block.before].map(|mask| Stream::new(mask, zeros.len()));
        let [x, z, y, dy, dz] = [zeros.clone(), zeros.clone(), zeros.clone(), zeros.clone(), zeros];
        Self { isa, block, scales, streams, x, z, y, dy, dz }
    }

    /// Makes `dz` of the inputs `x` and `self.dy`, both after every mask.
    fn through_function(&mut self, x: &[f32]) {
        let count = x.len();
        let (z, y) = (&mut self.z[..count], &mut self.y[..count]);
        normalise(self.isa, self.block.normalisation, self.scales, x, z);
        y.copy_from_slice(z);
        replace_part(self.isa, self.block.function, y);
        let (dy, dz) = (&self.dy[..count], &mut self.dz[..count]);
        gradient_part(self.isa, self.block.function, (z, y), dy, dz);
    }

    /// The gradients of normalised rows that no pool follows; `first` is their first element.
    fn rows(&mut self, first: usize, x: &[f32], dy: &[f32]) -> &[f32] {
        let here = &mut self.dy[..dy.len()];
        here.copy_from_slice(dy);
        self.streams.iter_mut().for_each(|stream| stream.drop_from(self.isa, first, here));
        self.through_function(x);
        &self.dz[..x.len()]
    }

    /// The inputs that a window picked from its rows `inside`, and their gradients once
    /// normalised, which are zero where none of these rows was picked.
    fn window(
        &mut self,
        given: &Given<'_>,
        window: usize,
        (start, inside): (usize, Range<usize>),
    ) -> (&[f32], &[f32]) {
        let width = self.scales.len();
        let at = window * width;
        let picked = &given.picked[at..at + width];
        self.dy.copy_from_slice(&given.dy[at..at + width]);
        let rows = &given.x[(start + inside.start) * width..(start + inside.end) * width];
        let scales = (self.streams[0].scale, self.streams[1].scale);
        let mut x = std::mem::take(&mut self.x);
        gather(self.isa, (rows, inside.start), picked, scales, (&mut x, &mut self.dy));
        self.through_function(&x);
        self.x = x;
        clear(self.isa, (inside.start as u32, inside.end as u32), picked, &mut self.dz);
        (&self.x, &self.dz)
    }
}

/// Channels whose rows are looked for at once.
const CHANNELS_AT_ONCE: usize = 16;

per_isa!(
    /// Gathers the rows that were picked, named from `first` on, and scales their gradients.
    fn gather(
        given: (&[f32], usize),
        picked: &[u16],
        scales: (f32, f32),
        places: (&mut [f32], &mut [f32])
    ) = gather_rows
);

#[inline(always)]
fn gather_rows(
    (rows, first): (&[f32], usize),
    picked: &[u16],
    (after, before): (f32, f32),
    (x, dy): (&mut [f32], &mut [f32]),
) {
    let width = x.len();
    // Channels whose row lies elsewhere get any value, here that of the first row.
    x.copy_from_slice(&rows[..width]);
    let (groups, rest) = x.as_chunks_mut::<CHANNELS_AT_ONCE>();
    let (names, names_of_rest) = picked.as_chunks::<CHANNELS_AT_ONCE>();
    for (group, (x, names)) in groups.iter_mut().zip(names).enumerate() {
        // Chosen by masks: of a choice of values the compiler makes a jump for each channel, which is mispredicted as often as not.
        let (names, mut kept) = (names.map(u32::from), x.map(f32::to_bits));
        for (j, row) in rows.chunks_exact(width).enumerate() {
            let (row, name) = (&row.as_chunks::<CHANNELS_AT_ONCE>().0[group], (first + j) as u32);
            for ((kept, &picked), &value) in kept.iter_mut().zip(&names).zip(row) {
                let mask = u32::from(picked == name).wrapping_neg();
                *kept = (value.to_bits() & mask) | (*kept & !mask);
            }
        }
        *x = kept.map(f32::from_bits);
    }
    let start = width - rest.len();
    for (c, (x, &picked)) in rest.iter_mut().zip(names_of_rest).enumerate() {
        let at = usize::from(picked).checked_sub(first).map(|j| j * width + start + c);
        *x = at.and_then(|at| rows.get(at)).copied().unwrap_or(*x);
    }
    dy.iter_mut().for_each(|dy| *dy = *dy * after * before);
}

per_isa!(
    /// Clears the gradients of channels whose picked row is not among the given ones.
    fn clear(inside: (u32, u32), picked: &[u16], dz: &mut [f32]) = clear_all
);

#[inline(always)]
fn clear_all((first, last): (u32, u32), picked: &[u16], dz: &mut [f32]) {
    for (dz, &picked) in dz.iter_mut().zip(picked) {
        let is_inside = (first <= u32::from(picked)) & (u32::from(picked) < last);
        *dz = if is_inside { *dz } else { 0.0 };
    }
}

/// Adds the gradients of some normalised rows, and their products with `x - mean`; writes them too
/// if there is a place for them.
fn sum_rows(
    mut back: Back<'_>,
    given: &Given<'_>,
    rows: Range<usize>,
    (sums, mut place): (&mut [f32], Option<&mut [f32]>),
) {
    let (isa, mean, width) = (back.isa, back.block.normalisation.mean, back.scales.len());
    let (first, count) = (rows.start * width, rows_at_once(width) * width);
    for start in (first..rows.end * width).step_by(count) {
        let values = start..(start + count).min(rows.end * width);
        let x = &given.x[values.clone()];
        let dz = back.rows(start, x, &given.dy[values.clone()]);
        sum_slice(isa, mean, x, dz, sums);
        if let Some(place) = &mut place {
            place[values.start - first..values.end - first].copy_from_slice(dz);
        }
    }
}

/// Windows that a slice cuts count in the slice that their picked row is in.
fn sum_windows(
    mut back: Back<'_>,
    pool: &PoolShape,
    given: &Given<'_>,
    rows: Range<usize>,
    sums: &mut [f32],
) {
    let (isa, mean) = (back.isa, back.block.normalisation.mean);
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
        let (x, dz) = back.window(given, window, (start, row - start..end - start));
        sum_slice(isa, mean, x, dz, sums);
        row = end;
    }
}

/// Writes the input gradient of some sequences from the given one on.
fn map_windows(
    (mut back, pool): (Back<'_>, &PoolShape),
    backward: &Backward,
    (given, first): (&Given<'_>, usize),
    dx: &mut [f32],
) {
    let (isa, mean) = (back.isa, back.block.normalisation.mean);
    let (width, windows) = (pool.width, pool.output_length());
    let nowhere = vec![0.0; width];
    for (index, dx) in dx.chunks_exact_mut(pool.length * width).enumerate() {
        let start = (first + index) * pool.length;
        let x = &given.x[start * width..][..dx.len()];
        let (inside, rest) = dx.split_at_mut(windows * pool.size * width);
        let places = inside.chunks_exact_mut(pool.size * width);
        for (position, (dx, x)) in places.zip(x.chunks(pool.size * width)).enumerate() {
            let window = (first + index) * windows + position;
            let rows = (start + position * pool.size, 0..pool.size);
            let (_, dz) = back.window(given, window, rows);
            let picked = &given.picked[window * width..][..width];
            map_window(isa, backward, mean, (x, dz, picked), dx);
        }
        let outside = x[windows * pool.size * width..].chunks_exact(width);
        for (dx, x) in rest.chunks_exact_mut(width).zip(outside) {
            map_back(isa, backward, mean, (x, &nowhere), dx);
        }
    }
}

per_isa!(
    /// Writes the input gradient of a window's rows; `dz` goes to the picked ones.
    fn map_window(
        backward: &Backward,
        mean: &[f32],
        given: (&[f32], &[f32], &[u16]),
        dx: &mut [f32]
    ) = map_window_rows
);

#[inline(always)]
fn map_window_rows(
    backward: &Backward,
    mean: &[f32],
    (x, dz, picked): (&[f32], &[f32], &[u16]),
    dx: &mut [f32],
) {
    let width = mean.len();
    let rows = x.chunks_exact(width).zip(dx.chunks_exact_mut(width));
    for (j, (x, dx)) in rows.enumerate() {
        let channels = backward.scales.iter().zip(&backward.offsets).zip(&backward.slopes);
        let given = x.iter().zip(mean).zip(dz.iter().zip(picked)).zip(channels);
        for (dx, (((&x, &mean), (&dz, &picked)), ((&scale, &offset), &slope))) in
            dx.iter_mut().zip(given)
        {
            let dz = if picked == j as u16 { dz } else { 0.0 };
            *dx = mapped_back(dz, x - mean, (scale, offset, slope));
        }
    }
}
