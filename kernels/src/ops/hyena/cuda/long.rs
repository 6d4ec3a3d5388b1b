//! Mixing a sequence whose transform does not fit in one block: columns, rows, columns.
//!
//! Leaves out: shorter ones. Invariant: the intermediate takes `SCRATCH_BYTES_MAX` at most, whatever the width; how channels
//! are cut into passes never changes a bit.

use super::plan::{self, Block, CHANNELS};
use super::{HyenaMixer, Rows, Spectrum};
use crate::cuda::{Arguments, DeviceArray, Gpu, Number, View, ViewMut};
use crate::error::Result;
use crate::ops::fft::root;
use std::ops::Range;

/// Bytes of the intermediate of one pass, and of the spectrum where it is not kept.
const SCRATCH_BYTES_MAX: usize = 256 << 20;

/// Columns and rows of a transform with their factors.
pub(crate) struct Tables {
    column: Block,
    row: Block,
    column_roots: DeviceArray<f32>,
    row_roots: DeviceArray<f32>,
    /// `exp(-2 pi i t / (4 N))` for multiples of `2^fine_bits`, and for t below it.
    coarse: DeviceArray<f32>,
    fine: DeviceArray<f32>,
    fine_bits: u32,
}

impl Tables {
    /// Rows are a power of two, at least as long as columns.
    fn new(gpu: &Gpu, points: usize) -> Result<Self> {
        let row_points = 1 << points.ilog2().div_ceil(2);
        let row_points = if row_points * row_points < points { 2 * row_points } else { row_points };
        let column_points = points / row_points;
        let turns = 4 * points;
        let fine_bits = turns.ilog2().div_ceil(2);
        let fine = (0..1 << fine_bits).flat_map(|t| root(t, turns));
        let coarse = (0..turns.div_ceil(1 << fine_bits)).flat_map(|t| root(t << fine_bits, turns));
        let upload = |values: Vec<f32>| DeviceArray::from_slice(gpu, &values);
        Ok(Self {
            column: Block::columns(column_points, row_points),
            row: Block::row(row_points),
            column_roots: upload(plan::roots(column_points, true))?,
            row_roots: upload(plan::roots(row_points, false))?,
            coarse: upload(coarse.collect())?,
            fine: upload(fine.collect())?,
            fine_bits,
        })
    }

    fn points(&self) -> usize {
        self.column.points * self.row.points
    }

    /// Values of the intermediate of a group of channels.
    fn group_values(&self) -> usize {
        2 * self.points() * CHANNELS
    }

    /// Groups of channels of one pass.
    fn groups_max(&self) -> usize {
        (SCRATCH_BYTES_MAX / 4 / self.group_values()).max(1)
    }

    /// Blocks of a launch on columns.
    fn tiles(&self, groups: usize) -> usize {
        groups * self.row.points / (self.column.series / CHANNELS)
    }
}

/// A part of the channels, in groups.
struct Pass {
    first_group: usize,
    groups: usize,
}

impl Pass {
    fn channels(&self, width: usize) -> Range<usize> {
        let first = self.first_group * CHANNELS;
        first..width.min(first + self.groups * CHANNELS)
    }
}

fn passes(width: usize, groups_max: usize) -> impl Iterator<Item = Pass> {
    let all = width.div_ceil(CHANNELS);
    (0..all)
        .step_by(groups_max)
        .map(move |first_group| Pass { first_group, groups: groups_max.min(all - first_group) })
}

impl HyenaMixer {
    /// Tables, and the spectrum if it may be kept.
    pub(super) fn long_spectrum(&self, points: usize) -> Result<Spectrum> {
        let tables = Tables::new(&self.gpu, points)?;
        let each = tables.group_values();
        let all = self.width.div_ceil(CHANNELS).saturating_mul(each);
        let mut values = None;
        if all.saturating_mul(4) <= self.spectra_bytes_max {
            let mut kept = DeviceArray::new(&self.gpu, all)?;
            let hidden = self.filter.hidden(points.min(self.filter.length_max()))?;
            for pass in passes(self.width, tables.groups_max()) {
                let part = pass.first_group * each..(pass.first_group + pass.groups) * each;
                self.filter_pass(&tables, &hidden.view(), &pass, &kept.view_mut().part(part))?;
            }
            values = Some(kept);
        }
        Ok(Spectrum { tables: super::Tables::Long(tables), values })
    }

    /// Fills `out` with the spectrum of a pass.
    fn filter_pass(
        &self,
        tables: &Tables,
        hidden: &View<'_, f32>,
        pass: &Pass,
        out: &ViewMut<'_, f32>,
    ) -> Result<()> {
        let channels = pass.channels(self.width);
        let taps = self.filter.taps(hidden, channels.clone())?;
        let length = taps.len() / channels.len();
        let name = "hyena_columns_filter";
        let kernel = self.gpu.kernel(
            &super::columns::SOURCE,
            name,
            &tables.column.defines(Some(f32::CODE)),
        )?;
        let arguments = Arguments::new()
            .array(&taps.view())
            .array(&self.skip.view().part(channels.clone()))
            .array(&tables.column_roots.view())
            .array(&tables.coarse.view())
            .array(&tables.fine.view())
            .output(out)
            .u32(channels.len() as u32)
            .u32(length as u32)
            .u32(pass.groups as u32)
            .u32(tables.row.points as u32)
            .u32(tables.fine_bits);
        // SAFETY: taps are [length, channels]; `out` holds every point of the pass's groups.
        unsafe { kernel.launch(tables.column.launch(tables.tiles(pass.groups)), arguments)? };
        let kernel = self.gpu.kernel(
            &super::rows::SOURCE,
            "hyena_rows_filter",
            &tables.row.defines(None),
        )?;
        let arguments = Arguments::new().output(out).array(&tables.row_roots.view());
        // SAFETY: a block stays in its row of `out`, and there are as many rows as blocks.
        unsafe { kernel.launch(tables.row.launch(pass.groups * tables.column.points), arguments) }
    }

    /// One sequence, `(first row, length)`, pass by pass.
    pub(super) fn mix_long<T: Number>(
        &self,
        spectrum: &Spectrum,
        (first, length): (usize, usize),
        rows: &mut Rows<'_, T>,
    ) -> Result<()> {
        let super::Tables::Long(tables) = &spectrum.tables else { return Ok(()) };
        let tokens = first..first + length;
        let mut own = Rows {
            projected: rows
                .projected
                .part(3 * self.width * tokens.start..3 * self.width * tokens.end),
            out: rows.out.part(self.width * tokens.start..self.width * tokens.end),
        };
        let each = tables.group_values();
        let groups = tables.groups_max().min(self.width.div_ceil(CHANNELS));
        let mut points = DeviceArray::new(&self.gpu, groups * each)?;
        let mut made = None;
        if spectrum.values.is_none() {
            let hidden = self.filter.hidden(tables.points().min(self.filter.length_max()))?;
            made = Some((hidden, DeviceArray::new(&self.gpu, groups * each)?));
        }
        for pass in passes(self.width, tables.groups_max()) {
            let values = match (&mut made, &spectrum.values) {
                (None, Some(kept)) => kept
                    .view()
                    .part(pass.first_group * each..(pass.first_group + pass.groups) * each),
                (Some((hidden, made)), _) => {
                    self.filter_pass(tables, &hidden.view(), &pass, &made.view_mut())?;
                    made.view()
                }
                (None, None) => return Ok(()),
            };
            self.pass(tables, (&pass, length), &values, &mut points.view_mut(), &mut own)?;
        }
        Ok(())
    }

    /// Columns, rows, columns.
    fn pass<T: Number>(
        &self,
        tables: &Tables,
        (pass, length): (&Pass, usize),
        spectrum: &View<'_, f32>,
        points: &mut ViewMut<'_, f32>,
        rows: &mut Rows<'_, T>,
    ) -> Result<()> {
        let (column, row) = (&tables.column, &tables.row);
        let columns =
            |name| self.gpu.kernel(&super::columns::SOURCE, name, &column.defines(Some(T::CODE)));
        let forward = columns("hyena_columns")?;
        let back = columns("hyena_columns_back")?;
        let inner = self.gpu.kernel(&super::rows::SOURCE, "hyena_rows", &row.defines(None))?;
        let weights = |arguments: Arguments| {
            arguments
                .array(&self.short.view())
                .array(&self.short_bias.view())
                .array(&tables.column_roots.view())
                .array(&tables.coarse.view())
                .array(&tables.fine.view())
        };
        let sizes = |arguments: Arguments| {
            arguments
                .u32(self.width as u32)
                .u32(length as u32)
                .u32((pass.first_group * CHANNELS) as u32)
                .u32(pass.groups as u32)
                .u32(row.points as u32)
                .u32(tables.fine_bits)
        };
        let launch = column.launch(tables.tiles(pass.groups));
        let arguments = sizes(weights(Arguments::new().array(&rows.projected)).output(points));
        // SAFETY: rows are those of a sequence of `length`; `points` holds every point of the pass's groups.
        unsafe { forward.launch(launch, arguments)? };
        let arguments =
            Arguments::new().output(points).array(spectrum).array(&tables.row_roots.view());
        // SAFETY: points and spectrum have as many rows as there are blocks.
        unsafe { inner.launch(row.launch(pass.groups * column.points), arguments)? };
        let arguments = weights(Arguments::new().array(&points.view()).array(&rows.projected));
        // SAFETY: as above; a block writes its columns of its channels.
        unsafe { back.launch(launch, sizes(arguments.output(&rows.out))) }
    }
}
