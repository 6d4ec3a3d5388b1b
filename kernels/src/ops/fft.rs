//! Causal convolution through transforms along the sequence, sixteen channels side by side.
//!
//! Leaves out: sequences and where their values come from. Invariant: a channel's result depends
//! on that channel and the number of points alone; threads and instruction sets never change it.
//!
//! A real signal `s` and filter `h`, at most `m` values each, are multiplied as polynomials modulo
//! `X^m + i`: their product has fewer than `2m` coefficients, the lower `m` are the real parts and
//! the upper ones the imaginary parts. So `m` complex points do, without splitting a spectrum.
//!
//! ```text
//! S[k] = sum_j s[j] exp(-2 pi i j (k + 1/4) / m)
//! y[j] = Re sum_k S[k] H[k] exp(2 pi i j (k + 1/4) / m) / m
//! ```

mod butterfly;
mod plan;
pub(crate) mod vector;

use crate::isa::Isa;
use crate::parallel::SharedRows;
use butterfly::{columns_forward, columns_inverse, row_convolve, row_forward};
use plan::Plan;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use vector::Point;

/// Points of a set of columns, so that they stay in the nearest cache.
const COLUMN_POINTS: usize = 256;
/// Adjacent points of a column set at least, so that pages and factors are used well.
const COLUMNS_MIN: usize = 8;

/// Sets the real parts of a run of points from a position on.
pub(crate) type Source<'a> = &'a (dyn Fn(usize, &mut [Point]) + Sync);
/// Takes the real parts of a run of points from a position on; may change them.
pub(crate) type Sink<'a> = &'a (dyn Fn(usize, &mut [Point]) + Sync);

/// Transforms of one number of points.
pub(crate) struct Transform {
    plan: Plan,
}

/// Fewest points that a causal convolution of `length` values needs, of those there are.
pub(crate) fn points_for(length: usize) -> usize {
    plan::points_for(length)
}

/// `exp(-2 pi i numerator / denominator)`, rounded once.
pub(crate) fn root(numerator: usize, denominator: usize) -> [f32; 2] {
    plan::root(numerator, denominator)
}

/// How a transform runs; no part in the numbers.
#[derive(Clone, Copy)]
pub(crate) struct Execution {
    /// Instruction set.
    pub(crate) isa: Isa,
    /// Whether the threads of the pool share one transform.
    pub(crate) parallel: bool,
}

impl Transform {
    /// The transform of a number of points that [`points_for`] gave; planned once.
    pub(crate) fn of(points: usize) -> Arc<Self> {
        static PLANNED: Mutex<BTreeMap<usize, Arc<Transform>>> = Mutex::new(BTreeMap::new());
        let mut planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = || Arc::new(Self { plan: Plan::new(points) });
        Arc::clone(planned.entry(points).or_insert_with(plan))
    }

    /// Points of the transform.
    pub(crate) fn points(&self) -> usize {
        self.plan.points
    }

    /// Places that a buffer or a spectrum takes.
    pub(crate) fn places(&self) -> usize {
        self.plan.rows() * self.plan.stride
    }

    /// Fills `buffer` with the spectrum of what `source` gives, whole rows at a time.
    pub(crate) fn forward(&self, how: Execution, buffer: &mut [Point], source: Source<'_>) {
        let plan = &self.plan;
        let rows = SharedRows::new(buffer, plan.stride);
        how.each(plan.rows() * plan.columns / plan.row_points, |index| {
            let first = index * plan.row_points;
            let place = plan.place(first % plan.columns);
            // SAFETY: each task has its own inner row.
            let run = unsafe { rows.span(first / plan.columns, place..place + plan.row_points) };
            source(first, run);
        });
        self.outer(how, &rows, |columns, first| {
            columns_forward(how.isa, columns, &plan.outer, plan.columns, first);
        });
        how.each(plan.rows(), |index| {
            // SAFETY: each task has its own outer row.
            let row = unsafe { rows.span(index, 0..plan.stride) };
            self.middle(row, |columns, first| {
                columns_forward(how.isa, columns, &plan.middle, plan.row_points, first);
            });
            for row in row.chunks_mut(plan.row_stride).take(plan.columns / plan.row_points) {
                row_forward(how.isa, &mut row[..plan.row_points], &plan.row);
            }
        });
    }

    /// Convolves what `source` gives with the filter of `spectrum` and hands it to `sink`.
    ///
    /// `m` times the convolution, as no step divides; the filter is best divided before.
    /// `buffer` and `spectrum` have [`Self::places`]; a set of columns is read as a whole before
    /// any is written, but other columns may be written before.
    pub(crate) fn convolve(
        &self,
        how: Execution,
        buffer: &mut [Point],
        spectrum: &[Point],
        source: Source<'_>,
        sink: Sink<'_>,
    ) {
        let plan = &self.plan;
        let rows = SharedRows::new(buffer, plan.stride);
        self.outer(how, &rows, |columns, first| {
            for (row, run) in columns.iter_mut().enumerate() {
                source(row * plan.columns + first, run);
            }
            columns_forward(how.isa, columns, &plan.outer, plan.columns, first);
        });
        how.each(plan.rows(), |index| {
            // SAFETY: each task has its own outer row.
            let row = unsafe { rows.span(index, 0..plan.stride) };
            self.convolve_row(how.isa, row, &spectrum[index * plan.stride..][..plan.stride]);
        });
        self.outer(how, &rows, |columns, first| {
            columns_inverse(how.isa, columns, &plan.outer, plan.columns, first);
            for (row, run) in columns.iter_mut().enumerate() {
                sink(row * plan.columns + first, run);
            }
        });
    }

    /// Everything below the outer steps on one outer row.
    fn convolve_row(&self, isa: Isa, row: &mut [Point], spectrum: &[Point]) {
        let plan = &self.plan;
        self.middle(row, |columns, first| {
            columns_forward(isa, columns, &plan.middle, plan.row_points, first);
        });
        let rows = row.chunks_mut(plan.row_stride).zip(spectrum.chunks(plan.row_stride));
        for (row, spectrum) in rows.take(plan.columns / plan.row_points) {
            let points = ..plan.row_points;
            row_convolve(isa, &mut row[points], &plan.row, &spectrum[points]);
        }
        self.middle(row, |columns, first| {
            columns_inverse(isa, columns, &plan.middle, plan.row_points, first);
        });
    }

    /// Calls `run` on sets of columns of all outer rows, with the first column of the set.
    fn outer(
        &self,
        how: Execution,
        rows: &SharedRows<'_, Point>,
        run: impl Fn(&mut [&mut [Point]], usize) + Send + Sync,
    ) {
        let count = self.set(self.plan.rows());
        how.each(self.plan.columns / count, |set| {
            let place = self.plan.place(set * count);
            let mut columns: Vec<&mut [Point]> = (0..self.plan.rows())
                // SAFETY: each task has its own columns, and takes each row once.
                .map(|row| unsafe { rows.span(row, place..place + count) })
                .collect();
            run(&mut columns, set * count);
        });
    }

    /// Calls `run` on sets of columns of the inner rows of one outer row, if there are several.
    fn middle(&self, row: &mut [Point], run: impl Fn(&mut [&mut [Point]], usize)) {
        if self.plan.middle.is_empty() {
            return;
        }
        let count = self.set(self.plan.columns / self.plan.row_points);
        for first in (0..self.plan.row_points).step_by(count) {
            let rows = row.chunks_mut(self.plan.row_stride);
            let mut columns: Vec<&mut [Point]> = rows
                .take(self.plan.columns / self.plan.row_points)
                .map(|row| &mut row[first..first + count])
                .collect();
            run(&mut columns, first);
        }
    }

    /// Columns of a set over `rows`: a divisor of the points of an inner row.
    fn set(&self, rows: usize) -> usize {
        let wanted = (COLUMN_POINTS / rows).max(COLUMNS_MIN).min(self.plan.row_points);
        1 << wanted.ilog2()
    }
}

impl Execution {
    /// Calls `run` with each index below `count`.
    fn each(self, count: usize, run: impl Fn(usize) + Send + Sync) {
        if self.parallel {
            (0..count).into_par_iter().for_each(run);
        } else {
            (0..count).for_each(run);
        }
    }
}

#[cfg(test)]
mod tests;
