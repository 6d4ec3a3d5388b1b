//! The projection into gates and value, a part of the rows at a time, and what is done with them.
//!
//! Leaves out: the long convolution between its two passes. Invariant: projected rows are never
//! held for more than a task's tokens; the output carries the signal between passes.

use super::gate::{self, Columns, Stream, Taps};
use crate::error::Result;
use crate::isa::Isa;
use crate::ops::fft::vector::{LANES, Point};
use crate::ops::linear::{Epilogue, PackedLinear, linear};
use crate::ops::precision::Precision;
use crate::parallel::SharedRows;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Projected rows of a task, with those before its own that the short convolution reads.
const ROWS_PER_TASK: usize = 768;
/// Rows before a task's own.
const HALO: usize = 2;
/// Positions that pass through the gates at a time.
const RUN: usize = 8;

thread_local! {
    /// Projected rows of the task this thread works on, kept between calls.
    static PROJECTED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The weights of a projection, packed once.
pub(super) struct Projection {
    /// Gate before and value, `[2 D, D]`.
    inner: PackedLinear,
    /// Gate after, `[D, D]`.
    outer: PackedLinear,
}

/// What both passes read and write.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) x: &'a [f32],
    pub(super) offsets: &'a [usize],
    /// Of each block of channels: gate after, gate before, value.
    pub(super) taps: &'a [[Taps; 3]],
    pub(super) out: &'a SharedRows<'a>,
    /// D
    pub(super) width: usize,
}

impl Projection {
    /// Packs `weight` `[3 D, D]` and `bias` `[3 D]`; `weight` is whole rows.
    pub(super) fn pack(
        precision: Precision,
        weight: &[f32],
        bias: &[f32],
        width: usize,
    ) -> Result<Self> {
        let (outer, inner) = weight.split_at(weight.len() / 3);
        let (outer_bias, inner_bias) = bias.split_at(bias.len() / 3);
        Ok(Self {
            inner: PackedLinear::pack_as(precision, inner, Some(inner_bias), 2 * width, width)?,
            outer: PackedLinear::pack_as(precision, outer, Some(outer_bias), width, width)?,
        })
    }

    /// Writes the gated value into the output: what is to be convolved.
    pub(super) fn signal(&self, operands: &Operands<'_>) -> Result<()> {
        let (isa, width) = (Isa::best(), operands.width);
        each_run(operands, &self.inner, |part, block, first, run| {
            let [_, before, value] = &operands.taps[block];
            gate::set(isa, &part.stream(width + block * LANES, value), first, run);
            gate::multiply(isa, &part.stream(block * LANES, before), first, run);
        })
    }

    /// Multiplies the output by the gate after the convolution.
    pub(super) fn gate(&self, operands: &Operands<'_>) -> Result<()> {
        let isa = Isa::best();
        each_run(operands, &self.outer, |part, block, first, run| {
            // SAFETY: this task alone uses these rows of the output.
            unsafe { part.columns(block).read(first, run) };
            let [after, ..] = &operands.taps[block];
            gate::multiply(isa, &part.stream(block * LANES, after), first, run);
        })
    }
}

/// The part of a sequence that a task projected.
struct Part<'a> {
    operands: &'a Operands<'a>,
    projected: &'a [f32],
    stride: usize,
    /// Position of the first projected row.
    first: usize,
    tokens: Range<usize>,
}

impl Part<'_> {
    fn stream<'a>(&'a self, column: usize, taps: &'a Taps) -> Stream<'a> {
        Stream {
            rows: self.projected,
            stride: self.stride,
            column,
            first: self.first,
            length: self.tokens.len(),
            taps,
        }
    }

    fn columns(&self, block: usize) -> Columns<'_> {
        Columns::new(self.operands.out, self.operands.width, self.tokens.clone(), block)
    }
}

/// Projects all rows and writes what `run` makes of each block of some positions.
///
/// `run(part, block, first position, points)`
fn each_run(
    operands: &Operands<'_>,
    weights: &PackedLinear,
    run: impl Fn(&Part<'_>, usize, usize, &mut [Point]) + Send + Sync,
) -> Result<()> {
    let rows = operands.offsets.last().copied().unwrap_or(0);
    let own = ROWS_PER_TASK - HALO;
    let task = |index: usize| {
        let rows = index * own..rows.min((index + 1) * own);
        let start = rows.start.saturating_sub(HALO);
        let mut projected = PROJECTED.take();
        projected.resize((rows.end - start) * weights.output_width(), 0.0);
        let x = &operands.x[start * operands.width..rows.end * operands.width];
        let done = linear(x, weights, Epilogue::None, &mut projected);
        if done.is_ok() {
            each_part(operands, &projected, weights.output_width(), (start, rows), &run);
        }
        PROJECTED.set(projected);
        done
    };
    let tasks = rows.div_ceil(own);
    if tasks > 1 && rayon::current_num_threads() > 1 {
        (0..tasks).into_par_iter().with_max_len(1).try_for_each(task)
    } else {
        (0..tasks).try_for_each(task)
    }
}

/// Goes through the sequences that meet a task's `rows`; `projected` begins at row `start`.
fn each_part(
    operands: &Operands<'_>,
    projected: &[f32],
    stride: usize,
    (start, rows): (usize, Range<usize>),
    run: &impl Fn(&Part<'_>, usize, usize, &mut [Point]),
) {
    let first = operands.offsets.partition_point(|&offset| offset <= rows.start).saturating_sub(1);
    for pair in operands.offsets[first..].windows(2).take_while(|pair| pair[0] < rows.end) {
        let part = Part {
            operands,
            projected: &projected[pair[0].saturating_sub(start) * stride..],
            stride,
            first: start.saturating_sub(pair[0]),
            tokens: pair[0]..pair[1],
        };
        let positions = rows.start.max(pair[0]) - pair[0]..rows.end.min(pair[1]) - pair[0];
        let mut points = [Point::ZERO; RUN];
        for first in positions.clone().step_by(RUN) {
            let points = &mut points[..RUN.min(positions.end - first)];
            for block in 0..operands.taps.len() {
                run(&part, block, first, points);
                // SAFETY: this task alone uses these rows of the output.
                unsafe { part.columns(block).write(first, points) };
            }
        }
    }
}
