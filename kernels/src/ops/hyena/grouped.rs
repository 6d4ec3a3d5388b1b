//! The operator on one long sequence, 32 channels after the other, all threads on each.
//!
//! Leaves out: short sequences. Invariant: beside input and output, memory holds the points of
//! sixteen channels, their spectrum and the filter's hidden values, whatever the width; the output
//! carries the signal between passes.

use super::filter::Hidden;
use super::gate::{self, Columns, Stream};
use super::spectra::Spectra;
use super::{HyenaOperator, points_for};
use crate::error::Result;
use crate::isa::Isa;
use crate::ops::fft::vector::{LANES, Point};
use crate::ops::fft::{Execution, Transform};
use crate::ops::linear::{Epilogue, PackedLinear, linear};
use crate::parallel::SharedRows;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Channels that are projected at a time: the columns of a panel.
const GROUP: usize = 32;
/// Positions that are projected at a time.
const POSITIONS_PER_TASK: usize = 384;
/// Positions before a task's own that its short convolution reads.
const HALO: usize = 2;
/// Positions that pass through the gates at a time.
const RUN: usize = 8;

/// The projection of 32 channels, or what is left.
pub(super) struct Group {
    /// Gates before, then values.
    inner: PackedLinear,
    /// Gates after.
    outer: PackedLinear,
}

impl Group {
    /// All groups of a projection `[3 D, D]` with its bias `[3 D]`.
    pub(super) fn pack_all(weight: &[f32], bias: &[f32], width: usize) -> Result<Vec<Self>> {
        let rows = |third: usize, channels: Range<usize>| {
            let rows = third * width + channels.start..third * width + channels.end;
            (&weight[rows.start * width..rows.end * width], &bias[rows])
        };
        let group = |first: usize| {
            let channels = first..width.min(first + GROUP);
            let (after, after_bias) = rows(0, channels.clone());
            let (before, before_bias) = rows(1, channels.clone());
            let (value, value_bias) = rows(2, channels.clone());
            let (inner, inner_bias) =
                ([before, value].concat(), [before_bias, value_bias].concat());
            let count = channels.len();
            Ok(Self {
                inner: PackedLinear::pack(&inner, Some(&inner_bias), 2 * count, width)?,
                outer: PackedLinear::pack(after, Some(after_bias), count, width)?,
            })
        };
        (0..width).step_by(GROUP).map(group).collect()
    }
}

/// The long convolution of one sequence, block after block.
pub(super) struct Long<'a> {
    operator: &'a HyenaOperator,
    tokens: Range<usize>,
    transform: Arc<Transform>,
    how: Execution,
    buffer: Vec<Point>,
    spectra: Source,
}

/// Where a block's spectrum comes from.
enum Source {
    Kept(Spectra),
    /// What all blocks share, and the spectrum of one.
    Computed(Hidden, Vec<Point>),
}

impl<'a> Long<'a> {
    pub(super) fn new(operator: &'a HyenaOperator, tokens: Range<usize>) -> Result<Self> {
        let points = points_for(tokens.len());
        let transform = Transform::of(points);
        let places = transform.places();
        let bytes = operator.blocks() * places * size_of::<Point>();
        let spectra = if operator.cache.holds(bytes) {
            Source::Kept(operator.spectra(points)?)
        } else {
            let hidden = operator.filter.hidden(points.min(operator.filter.length_max()))?;
            Source::Computed(hidden, vec![Point::ZERO; places])
        };
        let how = Execution { isa: Isa::best(), parallel: rayon::current_num_threads() > 1 };
        Ok(Self { operator, tokens, transform, how, buffer: vec![Point::ZERO; places], spectra })
    }

    /// Convolves a block's columns of `out` in place.
    pub(super) fn convolve(&mut self, block: usize, out: &SharedRows<'_>) -> Result<()> {
        let spectrum = match &mut self.spectra {
            Source::Kept(spectra) => &spectra[block],
            Source::Computed(hidden, spectrum) => {
                self.operator.spectrum(self.how, &self.transform, hidden, block, spectrum);
                spectrum
            }
        };
        let columns = self.operator.columns(out, self.tokens.clone(), block);
        // SAFETY: while positions are read, none is written.
        let source = |first: usize, run: &mut [Point]| unsafe { columns.read(first, run) };
        // SAFETY: each position is written by one task, after all were read.
        let sink = |first: usize, run: &mut [Point]| unsafe { columns.write(first, run) };
        self.transform.convolve(self.how, &mut self.buffer, spectrum, &source, &sink);
        Ok(())
    }
}

impl HyenaOperator {
    /// Mixes one long sequence: the rows `tokens` of `x` into those of `out`.
    pub(super) fn apply_long(
        &self,
        x: &[f32],
        tokens: Range<usize>,
        out: &SharedRows<'_>,
    ) -> Result<()> {
        let x = &x[tokens.start * self.width()..tokens.end * self.width()];
        let mut long = Long::new(self, tokens.clone())?;
        for (index, group) in self.groups.iter().enumerate() {
            let first_block = index * (GROUP / LANES);
            let blocks = first_block..self.blocks().min(first_block + GROUP / LANES);
            let pass = Pass { operator: self, x, tokens: &tokens, blocks: blocks.clone(), out };
            pass.each(&group.inner, |task, block| task.signal(block))?;
            blocks.into_iter().try_for_each(|block| long.convolve(block, out))?;
            pass.each(&group.outer, |task, block| task.gate(block))?;
        }
        Ok(())
    }
}

/// One pass over the positions of a long sequence for one group of channels.
struct Pass<'a> {
    operator: &'a HyenaOperator,
    x: &'a [f32],
    tokens: &'a Range<usize>,
    blocks: Range<usize>,
    out: &'a SharedRows<'a>,
}

impl Pass<'_> {
    /// Projects some positions at a time and calls `run` on each block of them.
    fn each(&self, weights: &PackedLinear, run: impl Fn(&Part<'_>, usize) + Sync) -> Result<()> {
        let (length, width) = (self.tokens.len(), self.operator.width());
        (0..length.div_ceil(POSITIONS_PER_TASK)).into_par_iter().try_for_each(|index| {
            let first = index * POSITIONS_PER_TASK;
            let positions = first..length.min(first + POSITIONS_PER_TASK);
            let start = first.saturating_sub(HALO);
            let mut projected = vec![0.0; (positions.end - start) * weights.output_width()];
            let x = &self.x[start * width..positions.end * width];
            linear(x, weights, Epilogue::None, &mut projected)?;
            let part = Part { pass: self, projected: &projected, start, positions };
            self.blocks.clone().for_each(|block| run(&part, block));
            Ok(())
        })
    }
}

/// Projected positions of one group.
struct Part<'a> {
    pass: &'a Pass<'a>,
    projected: &'a [f32],
    start: usize,
    positions: Range<usize>,
}

impl Part<'_> {
    /// Writes the gated value into a block's columns of the output.
    fn signal(&self, block: usize) {
        let group: usize = self.pass.blocks.clone().map(|b| self.block_width(b)).sum();
        let column = (block - self.pass.blocks.start) * LANES;
        let before = self.stream(block, 1, column, 2 * group);
        let value = self.stream(block, 2, group + column, 2 * group);
        let isa = Isa::best();
        self.each_run(block, |_, first, run| {
            gate::set(isa, &value, first, run);
            gate::multiply(isa, &before, first, run);
        });
    }

    /// Multiplies a block's columns of the output by the gate after the convolution.
    fn gate(&self, block: usize) {
        let group: usize = self.pass.blocks.clone().map(|b| self.block_width(b)).sum();
        let column = (block - self.pass.blocks.start) * LANES;
        let after = self.stream(block, 0, column, group);
        let isa = Isa::best();
        self.each_run(block, |out, first, run| {
            // SAFETY: this task alone uses these positions' columns.
            unsafe { out.read(first, run) };
            gate::multiply(isa, &after, first, run);
        });
    }

    /// Passes positions through `run` and writes what it leaves.
    fn each_run(&self, block: usize, run: impl Fn(&Columns<'_>, usize, &mut [Point])) {
        let out = self.pass.operator.columns(self.pass.out, self.pass.tokens.clone(), block);
        let mut points = [Point::ZERO; RUN];
        for first in self.positions.clone().step_by(RUN) {
            let count = RUN.min(self.positions.end - first);
            run(&out, first, &mut points[..count]);
            // SAFETY: this task alone uses these positions' columns.
            unsafe { out.write(first, &points[..count]) };
        }
    }

    fn block_width(&self, block: usize) -> usize {
        self.pass.operator.filter.block_width(block)
    }

    fn stream(&self, block: usize, third: usize, column: usize, stride: usize) -> Stream<'_> {
        Stream {
            rows: self.projected,
            stride,
            column,
            first: self.start,
            length: self.pass.tokens.len(),
            taps: &self.pass.operator.taps[block][third],
        }
    }
}
