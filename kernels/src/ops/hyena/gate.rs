//! Causal convolution of width three over one block of channels, and products with its result.
//!
//! Leaves out: the projection before it. Invariant: each value is one chain, oldest tap first, that
//! starts from the bias; where a run of positions begins never reaches a result.

use crate::ops::fft::vector::{LANES, Lanes, Point, Vector, per_vector};
use crate::parallel::SharedRows;
use std::ops::Range;

/// Taps of a block's channels; unused lanes are zero.
pub(super) struct Taps {
    /// Two positions back, one back, present.
    taps: [Lanes; 3],
    bias: Lanes,
}

impl Taps {
    /// Of `channels` out of `weight` `[C, 3]` and `bias` `[C]`.
    pub(super) fn new(weight: &[f32], bias: &[f32], channels: Range<usize>) -> Self {
        let mut block = Self { taps: [[0.0; LANES]; 3], bias: [0.0; LANES] };
        for (lane, channel) in channels.enumerate() {
            for (tap, taps) in block.taps.iter_mut().enumerate() {
                taps[lane] = weight[3 * channel + tap];
            }
            block.bias[lane] = bias[channel];
        }
        block
    }
}

/// One block's channels of a projected sequence.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    /// Projected rows, from position `first` on.
    pub(super) rows: &'a [f32],
    /// Values of a row.
    pub(super) stride: usize,
    /// Where the block starts in a row.
    pub(super) column: usize,
    /// Zero, or at least two before every position that is asked for.
    pub(super) first: usize,
    /// Positions of the sequence.
    pub(super) length: usize,
    /// The block's taps.
    pub(super) taps: &'a Taps,
}

impl Stream<'_> {
    /// Sixteen values of a position, or zeros from the end of all rows on.
    #[inline(always)]
    fn load<V: Vector>(&self, position: usize, part: usize) -> V {
        let row = &self.rows[(position - self.first) * self.stride + self.column..];
        if let Some(lanes) = row.first_chunk() {
            return V::load(lanes, part);
        }
        let mut lanes = [0.0; LANES];
        lanes[..row.len()].copy_from_slice(row);
        V::load(&lanes, part)
    }

    /// Sixteen values some positions before another, zeros before the sequence.
    #[inline(always)]
    fn load_back<V: Vector>(&self, position: usize, back: usize, part: usize) -> V {
        match position.checked_sub(back) {
            Some(position) if position < self.length => self.load(position, part),
            _ => V::splat(0.0),
        }
    }
}

per_vector!(
    /// Sets real parts to the convolved stream; zero from its length on.
    pub(super) fn set(stream: &Stream<'_>, first: usize, run: &mut [Point]) = set_of
);

per_vector!(
    /// Multiplies real parts by the convolved stream.
    pub(super) fn multiply(stream: &Stream<'_>, first: usize, run: &mut [Point]) = multiply_of
);

#[inline(always)]
fn set_of<V: Vector>(stream: &Stream<'_>, first: usize, run: &mut [Point]) {
    let inside = stream.length.saturating_sub(first).min(run.len());
    let (run, beyond) = run.split_at_mut(inside);
    each::<V, false>(stream, first, run);
    beyond.iter_mut().for_each(|point| point.re = [0.0; LANES]);
}

#[inline(always)]
fn multiply_of<V: Vector>(stream: &Stream<'_>, first: usize, run: &mut [Point]) {
    let inside = stream.length.saturating_sub(first).min(run.len());
    each::<V, true>(stream, first, &mut run[..inside]);
}

/// Replaces each real part by the convolved stream at its position, or by its product with it.
///
/// ```text
/// c[t] = fma(w2, u[t], fma(w1, u[t-1], fma(w0, u[t-2], b)))
/// ```
#[inline(always)]
fn each<V: Vector, const MULTIPLY: bool>(stream: &Stream<'_>, first: usize, run: &mut [Point]) {
    for part in 0..V::PARTS {
        let [oldest, older, newest] = &stream.taps.taps;
        let (oldest, older) = (V::load(oldest, part), V::load(older, part));
        let (newest, bias) = (V::load(newest, part), V::load(&stream.taps.bias, part));
        let (mut back_2, mut back_1) =
            (stream.load_back(first, 2, part), stream.load_back(first, 1, part));
        for (position, point) in (first..).zip(&mut *run) {
            let present = stream.load::<V>(position, part);
            let sum = oldest.times_plus(back_2, bias);
            let sum = newest.times_plus(present, older.times_plus(back_1, sum));
            let product = if MULTIPLY { V::load(&point.re, part).times(sum) } else { sum };
            product.store(&mut point.re, part);
            (back_2, back_1) = (back_1, present);
        }
    }
}

/// Some columns of some rows of a matrix that tasks read and write in turns.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The matrix.
    pub(super) rows: &'a SharedRows<'a>,
    /// Row of position zero.
    pub(super) first_row: usize,
    /// Positions.
    pub(super) length: usize,
    /// Where the columns start.
    pub(super) column: usize,
    /// Sixteen columns at most.
    pub(super) width: usize,
}

impl<'a> Columns<'a> {
    /// A block's columns of the rows `tokens`, out of `channels` columns.
    pub(super) fn new(
        rows: &'a SharedRows<'a>,
        channels: usize,
        tokens: Range<usize>,
        block: usize,
    ) -> Self {
        let column = block * LANES;
        let width = LANES.min(channels - column);
        Self { rows, first_row: tokens.start, length: tokens.len(), column, width }
    }

    /// Sets real parts to the values from a position on; zero from the end on.
    ///
    /// # Safety
    /// No other thread may write these positions' columns at the same time.
    pub(super) unsafe fn read(&self, first: usize, run: &mut [Point]) {
        for (position, point) in (first..).zip(run) {
            if position >= self.length {
                point.re = [0.0; LANES];
                continue;
            }
            // SAFETY: the only span of this thread; no other thread writes it by contract.
            let span = unsafe { self.span(position) };
            if let Some(lanes) = span.first_chunk() {
                point.re = *lanes;
            } else {
                point.re = [0.0; LANES];
                point.re[..span.len()].copy_from_slice(span);
            }
        }
    }

    /// Writes real parts from a position on; those from the end on are dropped.
    ///
    /// # Safety
    /// No other thread may use these positions' columns at the same time.
    pub(super) unsafe fn write(&self, first: usize, run: &[Point]) {
        for (position, point) in (first..self.length).zip(run) {
            // SAFETY: the only span of this thread; no other thread uses it by contract.
            let span = unsafe { self.span(position) };
            match span.first_chunk_mut() {
                Some(lanes) => *lanes = point.re,
                None => span.copy_from_slice(&point.re[..self.width]),
            }
        }
    }

    /// # Safety
    /// No other span of the same position may be in use.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps spans apart")]
    unsafe fn span(&self, position: usize) -> &mut [f32] {
        let columns = self.column..self.column + self.width;
        // SAFETY: not aliased by contract.
        unsafe { self.rows.span(self.first_row + position, columns) }
    }
}
