//! The operator on sequences whose projected rows fit memory as a whole, several at a time.
//!
//! Leaves out: longer sequences. Invariant: which sequences share a projection never reaches a
//! result.

use super::gate::{self, Stream};
use super::spectra::Spectra;
use super::{HyenaOperator, points_for};
use crate::error::Result;
use crate::isa::Isa;
use crate::ops::fft::vector::{LANES, Point};
use crate::ops::fft::{Execution, Transform};
use crate::ops::linear::{Epilogue, linear};
use crate::parallel::SharedRows;
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Tokens that are projected at a time, more if one sequence has more.
const TOKENS_PER_RUN: usize = 1 << 12;
/// Points below which a second thread does not pay.
const POINTS_PER_TASK_MIN: usize = 1 << 10;

thread_local! {
    /// Points of the block this thread works on, kept between calls.
    static BUFFER: Cell<Vec<Point>> = const { Cell::new(Vec::new()) };
    /// Projected rows of the run this thread began, kept between calls.
    static PROJECTED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Collects adjacent sequences until there are enough tokens.
pub(super) struct Wide<'a> {
    operator: &'a HyenaOperator,
    /// Without it, `out` holds gated values that are convolved in place.
    x: Option<&'a [f32]>,
    out: &'a SharedRows<'a>,
    sequences: Vec<Range<usize>>,
    spectra: BTreeMap<usize, (Arc<Transform>, Spectra)>,
}

impl<'a> Wide<'a> {
    pub(super) fn new(
        operator: &'a HyenaOperator,
        x: Option<&'a [f32]>,
        out: &'a SharedRows<'a>,
    ) -> Self {
        Self { operator, x, out, sequences: Vec::new(), spectra: BTreeMap::new() }
    }

    /// Adds the sequence of some rows, the ones after those before it.
    pub(super) fn push(&mut self, tokens: Range<usize>) -> Result<()> {
        let collected = self.sequences.first().map_or(0, |first| tokens.start - first.start);
        if collected > 0 && collected + tokens.len() > TOKENS_PER_RUN {
            self.flush()?;
        }
        if !tokens.is_empty() {
            let points = points_for(tokens.len());
            if !self.spectra.contains_key(&points) {
                let spectra = self.operator.spectra(points)?;
                self.spectra.insert(points, (Transform::of(points), spectra));
            }
            self.sequences.push(tokens);
        }
        Ok(())
    }

    /// Computes what was collected.
    pub(super) fn flush(&mut self) -> Result<()> {
        let sequences = std::mem::take(&mut self.sequences);
        let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else {
            return Ok(());
        };
        let rows = first.start..last.end;
        let Some(x) = self.x else {
            self.each_block(&sequences, |task| task.convolve());
            return Ok(());
        };
        let width = self.operator.width();
        let mut projected = PROJECTED.take();
        projected.resize(rows.len() * 3 * width, 0.0);
        let x = &x[rows.start * width..rows.end * width];
        linear(x, &self.operator.projection, Epilogue::None, &mut projected)?;
        self.each_block(&sequences, |task| {
            let tokens = task.tokens.start - rows.start..task.tokens.end - rows.start;
            task.mix(&projected[tokens.start * 3 * width..tokens.end * 3 * width]);
        });
        PROJECTED.set(projected);
        Ok(())
    }

    /// Calls `run` on each block of each sequence; one block's sequences follow each other.
    fn each_block(&self, sequences: &[Range<usize>], run: impl Fn(Task<'_>) + Send + Sync) {
        let isa = Isa::best();
        let tasks = sequences.len() * self.operator.blocks();
        let each = |index: usize| {
            let tokens = sequences[index % sequences.len()].clone();
            let block = index / sequences.len();
            let Some((transform, spectra)) = self.spectra.get(&points_for(tokens.len())) else {
                return;
            };
            let mut buffer = BUFFER.take();
            let places = transform.places();
            buffer.resize(buffer.len().max(places), Point::ZERO);
            run(Task {
                operator: self.operator,
                out: self.out,
                transform,
                spectrum: &spectra[block],
                buffer: &mut buffer[..places],
                how: Execution { isa, parallel: false },
                tokens,
                block,
            });
            BUFFER.set(buffer);
        };
        let points: usize = sequences.iter().map(|tokens| points_for(tokens.len())).sum();
        let wanted = points * self.operator.blocks() / POINTS_PER_TASK_MIN;
        if wanted > 1 && rayon::current_num_threads() > 1 {
            let tasks_min = tasks.div_ceil(wanted);
            (0..tasks).into_par_iter().with_min_len(tasks_min).for_each(each);
        } else {
            (0..tasks).for_each(each);
        }
    }
}

/// One block of channels of one sequence.
struct Task<'a> {
    operator: &'a HyenaOperator,
    out: &'a SharedRows<'a>,
    transform: &'a Transform,
    spectrum: &'a [Point],
    buffer: &'a mut [Point],
    how: Execution,
    tokens: Range<usize>,
    block: usize,
}

impl Task<'_> {
    /// Mixes projected rows `[T, 3 D]` into the output.
    fn mix(self, projected: &[f32]) {
        let (isa, width) = (self.how.isa, self.operator.width());
        let [after, before, value] = [0, 1, 2].map(|third| Stream {
            rows: projected,
            stride: 3 * width,
            column: third * width + self.block * LANES,
            first: 0,
            length: self.tokens.len(),
            taps: &self.operator.taps[self.block][third],
        });
        let out = self.operator.columns(self.out, self.tokens, self.block);
        let source = |first: usize, run: &mut [Point]| {
            gate::set(isa, &value, first, run);
            gate::multiply(isa, &before, first, run);
        };
        let sink = |first: usize, run: &mut [Point]| {
            gate::multiply(isa, &after, first, run);
            // SAFETY: this task alone uses these rows' columns of the output.
            unsafe { out.write(first, run) };
        };
        self.transform.convolve(self.how, self.buffer, self.spectrum, &source, &sink);
    }

    /// Convolves the output's columns in place.
    fn convolve(self) {
        let out = self.operator.columns(self.out, self.tokens, self.block);
        // SAFETY: this task alone uses these rows' columns of the output.
        let source = |first: usize, run: &mut [Point]| unsafe { out.read(first, run) };
        // SAFETY: this task alone uses these rows' columns of the output.
        let sink = |first: usize, run: &mut [Point]| unsafe { out.write(first, run) };
        self.transform.convolve(self.how, self.buffer, self.spectrum, &source, &sink);
    }
}
