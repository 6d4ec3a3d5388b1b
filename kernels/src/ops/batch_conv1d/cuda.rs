//! Convolution of batches of sequences of one length on a device, and its gradients, for training.
//!
//! Leaves out: the formulas (`batch_conv1d`), maps of the input. Invariant: nothing is allocated, so a step can be recorded; the
//! slices of a sum follow from the shapes alone, and are added in order.

use super::{BatchConv1dShape, OP, Positions};
use crate::cuda::{Arguments, Budget, Instance, Kernel, LaunchShape, Source, View, ViewMut};
use crate::error::{Result, check_length, check_rows};
use crate::ops::conv1d::cuda::{
    ConvClass, ConvValue, DeviceEpilogue, Filters, Gather, STAGES, THREADS, TILE_ROWS,
    bytes_by_step, convolve, is_vector, tile_columns, tile_columns_on,
};

/// Slices of a sum over positions at most; tiles and slices together that are enough to fill a device.
const SLICES_MAX: usize = 16;
const BLOCKS_ENOUGH: usize = 256;
/// Positions of a slice are a multiple of it: whole tiles of any class.
const SLICE_UNIT: usize = 64;

const GRADIENT: &str = "weight_gradient";
const COLUMN_SUMS: &str = "column_sums";
const SUM_SLICES: &str = "sum_slices";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: concat!(include_str!("../conv1d/tiles.cuh"), include_str!("../batch_conv1d.cu")),
    kernels: &[GRADIENT, COLUMN_SUMS, SUM_SLICES],
    instances: INSTANCES,
};

/// Class, columns of a tile, whole vectors on either side.
macro_rules! instance {
    ($class:literal, $columns:literal, $left:literal, $right:literal) => {
        Instance {
            defines: &[
                ("CLASS", $class),
                ("TILE_M", 128),
                ("TILE_N", $columns),
                ("LEFT_VECTOR", $left),
                ("RIGHT_VECTOR", $right),
            ],
            budgets: &[
                // Three products a value leave room for one block alone.
                Budget {
                    kernel: GRADIENT,
                    registers: if $class == 1 { 192 } else { 128 },
                    shared_bytes: 104_448,
                },
                Budget { kernel: COLUMN_SUMS, registers: 40, shared_bytes: 1_024 },
                Budget { kernel: SUM_SLICES, registers: 32, shared_bytes: 0 },
            ],
        }
    };
}

const INSTANCES: &[Instance] = &[
    instance!(0, 32, 1, 0),
    instance!(0, 128, 1, 1),
    instance!(0, 128, 0, 0),
    instance!(1, 128, 1, 1),
    instance!(2, 64, 1, 1),
    instance!(2, 128, 1, 1),
    instance!(2, 128, 0, 1),
    instance!(3, 128, 1, 1),
    instance!(3, 128, 0, 0),
];

/// A convolution whose weights change from step to step; they are the caller's, as the optimiser keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConv1d {
    shape: BatchConv1dShape,
    class: ConvClass,
}

impl BatchConv1d {
    /// A convolution of this shape.
    ///
    /// # Errors
    /// `Shape` if an extent is zero or too large, or the padding exceeds the reach of the taps.
    pub fn new(shape: BatchConv1dShape, class: ConvClass) -> Result<Self> {
        shape.check()?;
        Ok(Self { shape, class })
    }

    /// Extents of the convolution.
    pub fn shape(&self) -> BatchConv1dShape {
        self.shape
    }

    /// Convolves each sequence; as the CPU's `forward`.
    ///
    /// - `x`: `[B, length, input_width]`
    /// - `kernel`: `[kernel, input_width, output_width]`; quicker if its address and rows are whole 16 bytes
    /// - `bias`: `[output_width]`; none counts as zero
    /// - `out`: `[B, output_length, output_width]`
    ///
    /// CPU and CUDA agree in every bit for [`ConvClass::F32`] without an activation; within 4e-6 for `Tf32x3`, 2e-3 for `Tf32`,
    /// 1e-2 for `Bf16`, of max |out|.
    ///
    /// # Errors
    /// `Shape` if an operand does not fit.
    pub fn forward<T: ConvValue, O: ConvValue>(
        &self,
        x: View<'_, T>,
        (kernel, bias): (View<'_, T>, Option<View<'_, f32>>),
        epilogue: DeviceEpilogue<'_>,
        out: &mut ViewMut<'_, O>,
    ) -> Result<()> {
        let shape = self.shape;
        let batch = self.batch("x", x.len())?;
        check_length(OP, "kernel", kernel.len(), shape.steps() * shape.output_width)?;
        let outputs = bias.as_ref().map_or(shape.output_width, View::len);
        check_length(OP, "bias", outputs, shape.output_width)?;
        let filters = Filters {
            kernel,
            bias,
            columns: shape.output_width,
            output_width: shape.output_width,
            is_flipped: false,
            class: self.class,
        };
        convolve(x, &gather(shape.positions(), shape.input_width, batch), filters, epilogue, out)
    }

    /// The gradient with respect to the input; as the CPU's `input_gradient`.
    ///
    /// - `dy`: `[B, output_length, output_width]`
    /// - `kernel`: as in [`Self::forward`]
    /// - `dx`: `[B, length, input_width]`
    ///
    /// # Errors
    /// `Shape` if an operand does not fit.
    pub fn input_gradient<T: ConvValue, O: ConvValue>(
        &self,
        dy: View<'_, T>,
        kernel: View<'_, T>,
        epilogue: DeviceEpilogue<'_>,
        dx: &mut ViewMut<'_, O>,
    ) -> Result<()> {
        let shape = self.shape;
        let batch = self.batch("dx", dx.len())?;
        self.check_output("dy", dy.len(), batch)?;
        check_length(OP, "kernel", kernel.len(), shape.steps() * shape.output_width)?;
        let filters = Filters {
            kernel,
            bias: None,
            columns: shape.input_width,
            output_width: shape.input_width,
            is_flipped: true,
            class: self.class,
        };
        let gather = gather(shape.gradient_positions(), shape.output_width, batch);
        convolve(dy, &gather, filters, epilogue, dx)
    }

    /// Values of the partial sums that [`Self::weight_gradient`] needs for `batch` sequences.
    pub fn part_count(&self, batch: usize) -> usize {
        let (slices, _) = self.slices(batch);
        slices * (self.shape.steps() + 1) * self.shape.output_width
    }

    /// The gradients with respect to the weights and the bias; as the CPU's `weight_gradient`.
    ///
    /// - `x`: `[B, length, input_width]`; `dy`: `[B, output_length, output_width]`
    /// - `parts`: work space, [`Self::part_count`] values or more
    /// - `dkernel`: `[kernel, input_width, output_width]`; `dbias`: `[output_width]`; overwritten
    ///
    /// Sums over slices of positions, added in order.
    ///
    /// # Errors
    /// `Shape` if an operand does not fit.
    pub fn weight_gradient<T: ConvValue>(
        &self,
        (x, dy): (View<'_, T>, View<'_, T>),
        parts: &mut ViewMut<'_, f32>,
        dkernel: &mut ViewMut<'_, f32>,
        dbias: Option<&mut ViewMut<'_, f32>>,
    ) -> Result<()> {
        T::check(self.class)?;
        let shape = self.shape;
        let batch = self.batch("x", x.len())?;
        self.check_output("dy", dy.len(), batch)?;
        let weights = shape.steps() * shape.output_width;
        check_length(OP, "dkernel", dkernel.len(), weights)?;
        let outputs = dbias.as_ref().map_or(shape.output_width, |dbias| dbias.len());
        check_length(OP, "dbias", outputs, shape.output_width)?;
        let needed = self.part_count(batch);
        check_length(OP, "parts", parts.len().min(needed), needed)?;
        gather(shape.positions(), shape.input_width, batch).check()?;
        self.sum_products(batch, &x, &dy, (parts, dkernel))?;
        match dbias {
            Some(dbias) => self.sum_columns(batch, &dy, (&mut parts.part(0..needed), dbias)),
            None => Ok(()),
        }
    }

    fn sum_products<T: ConvValue>(
        &self,
        batch: usize,
        x: &View<'_, T>,
        dy: &View<'_, T>,
        (parts, dkernel): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, f32>),
    ) -> Result<()> {
        let shape = self.shape;
        let (slices, slice_rows) = self.slices(batch);
        let tile = tile_columns_on(x.gpu(), shape.output_width);
        let mut grid = LaunchShape::line(
            shape.steps().div_ceil(TILE_ROWS) * shape.output_width.div_ceil(tile),
            THREADS,
        )
        .shared(STAGES * (bytes_by_step(TILE_ROWS) + bytes_by_step(tile)));
        grid.grid[1] = slices as u32;
        let counts = [
            batch * shape.output_length,
            slice_rows,
            shape.input_width,
            shape.output_width,
            shape.kernel,
            shape.dilation,
            shape.padding_left,
            shape.length,
            shape.output_length,
        ];
        let sums = if slices == 1 { dkernel.again() } else { parts.again() };
        let arguments = with_counts(Arguments::new().array(x).array(dy).output(&sums), &counts);
        let kernel = self.kernel(GRADIENT, x, dy)?;
        // SAFETY: x, dy and the parts of all slices were measured; the kernel masks rows, steps and columns past them.
        unsafe { kernel.launch(grid, arguments)? };
        if slices == 1 {
            return Ok(());
        }
        let sum = self.kernel(SUM_SLICES, x, dy)?;
        add_slices(&sum, &parts.view(), slices, dkernel)
    }

    fn sum_columns<T: ConvValue>(
        &self,
        batch: usize,
        dy: &View<'_, T>,
        (parts, dbias): (&mut ViewMut<'_, f32>, &mut ViewMut<'_, f32>),
    ) -> Result<()> {
        let (slices, slice_rows) = self.slices(batch);
        let columns = self.shape.output_width;
        // Behind the parts of the weights, which may still be read.
        let start = parts.len() - slices * columns;
        let parts = parts.part(start..start + slices * columns);
        let mut grid =
            LaunchShape::line(columns.div_ceil(32), THREADS).shared(THREADS as usize * 4);
        grid.grid[1] = slices as u32;
        let counts = [batch * self.shape.output_length, slice_rows, columns];
        let arguments = with_counts(Arguments::new().array(dy).output(&parts), &counts);
        // SAFETY: dy and the parts were measured; the kernel stays below rows and columns.
        unsafe { self.kernel(COLUMN_SUMS, dy, dy)?.launch(grid, arguments)? };
        add_slices(&self.kernel(SUM_SLICES, dy, dy)?, &parts.view(), slices, dbias)
    }

    fn kernel<T: ConvValue>(
        &self,
        name: &'static str,
        x: &View<'_, T>,
        dy: &View<'_, T>,
    ) -> Result<Kernel> {
        let defines = [
            ("CLASS", self.class as i64),
            ("TILE_M", TILE_ROWS as i64),
            ("TILE_N", tile_columns_on(x.gpu(), self.shape.output_width) as i64),
            ("LEFT_VECTOR", i64::from(is_vector(x, self.shape.input_width))),
            ("RIGHT_VECTOR", i64::from(is_vector(dy, self.shape.output_width))),
        ];
        x.gpu().kernel(&SOURCE, name, &defines)
    }

    /// How many slices the sums over positions have, and positions of each but the last; on every device alike.
    fn slices(&self, batch: usize) -> (usize, usize) {
        let rows = batch * self.shape.output_length;
        let tile = tile_columns(self.shape.output_width);
        let tiles = self.shape.steps().div_ceil(TILE_ROWS) * self.shape.output_width.div_ceil(tile);
        let slices = (BLOCKS_ENOUGH / tiles).clamp(1, SLICES_MAX);
        let slice_rows = rows.div_ceil(slices).next_multiple_of(SLICE_UNIT).max(SLICE_UNIT);
        (rows.div_ceil(slice_rows).max(1), slice_rows)
    }

    /// Number of sequences in values of the input's shape.
    fn batch(&self, operand: &'static str, values: usize) -> Result<usize> {
        check_rows(OP, operand, values, self.shape.length.saturating_mul(self.shape.input_width))
    }

    fn check_output(&self, operand: &'static str, values: usize, batch: usize) -> Result<()> {
        let per_sequence = self.shape.output_length.saturating_mul(self.shape.output_width);
        check_length(OP, operand, values, per_sequence.saturating_mul(batch))
    }
}

fn gather(positions: Positions, width: usize, batch: usize) -> Gather<'static> {
    Gather {
        ranges: None,
        rows: batch * positions.output_length,
        width,
        taps: positions.kernel,
        dilation: positions.dilation,
        padding_left: positions.padding_left,
        length: positions.length,
        output_length: positions.output_length,
    }
}

fn with_counts(arguments: Arguments, counts: &[usize]) -> Arguments {
    counts.iter().fold(arguments, |arguments, &count| arguments.u32(count as u32))
}

/// Adds slices of as many values as `out` has, in order.
fn add_slices(
    kernel: &Kernel,
    parts: &View<'_, f32>,
    slices: usize,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let counts = [out.len(), slices];
    let arguments = with_counts(Arguments::new().array(parts).output(out), &counts);
    let grid = LaunchShape::line(out.len().div_ceil(THREADS as usize), THREADS);
    // SAFETY: the parts are that many slices of as many values as out.
    unsafe { kernel.launch(grid, arguments) }
}

#[cfg(test)]
mod tests;
