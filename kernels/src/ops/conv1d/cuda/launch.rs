//! The launch that forward products and input gradients share.
//!
//! Leaves out: who owns weights. Invariant: operands are checked before the launch.

use crate::cuda::{Arguments, Bf16, Budget, Gpu, Instance, LaunchShape, Source, View, ViewMut};
use crate::error::{KernelError, Result, check_length};

const OP: &str = "conv1d";
/// Threads of a block, rows of most tiles, stages of the ring: as in `tiles.cuh`.
pub(crate) const THREADS: u32 = 256;
pub(crate) const TILE_ROWS: usize = 128;
pub(crate) const STAGES: usize = 3;
/// Bytes of a tile's row of steps, and those with its padding.
const LINE_BYTES: usize = 128;
const LINE_BYTES_PADDED: usize = LINE_BYTES + 16;
/// Shared memory of a tile of 128 columns and [`TILE_ROWS`] rows.
const WIDE_SHARED_BYTES: u32 = 112_640;
/// Values that a step of a tile stored by step is padded by.
const STEP_PADDING: usize = 8;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: concat!(include_str!("../tiles.cuh"), include_str!("../../conv1d.cu")),
    kernels: &[OP],
    instances: INSTANCES,
};

/// Class, columns of a tile, whole vectors on either side, bf16 results, flipped taps.
macro_rules! instance {
    ($class:literal, $columns:literal, $left:literal, $right:literal, $out:literal, $flipped:literal) => {
        Instance {
            defines: &[
                ("CLASS", $class),
                ("TILE_M", tile_rows($class == 3, $flipped == 1, $columns) as i64),
                ("TILE_N", $columns),
                ("LEFT_VECTOR", $left),
                ("RIGHT_VECTOR", $right),
                ("OUT_BF16", $out),
                ("FLIPPED", $flipped),
            ],
            budgets: match tile_rows($class == 3, $flipped == 1, $columns) {
                // Three products a value leave room for one block alone.
                TILE_ROWS if $class == 1 => {
                    &[Budget { kernel: OP, registers: 192, shared_bytes: WIDE_SHARED_BYTES }]
                }
                TILE_ROWS => {
                    &[Budget { kernel: OP, registers: 128, shared_bytes: WIDE_SHARED_BYTES }]
                }
                _ => &[Budget { kernel: OP, registers: 255, shared_bytes: 166_912 }],
            },
        }
    };
}

const INSTANCES: &[Instance] = &[
    instance!(0, 32, 1, 1, 0, 0),
    instance!(0, 64, 1, 1, 0, 0),
    instance!(0, 128, 1, 1, 0, 0),
    instance!(0, 128, 0, 0, 0, 0),
    instance!(0, 128, 1, 1, 0, 1),
    instance!(1, 128, 1, 1, 0, 0),
    instance!(1, 128, 0, 0, 0, 1),
    instance!(2, 64, 1, 1, 0, 0),
    instance!(2, 128, 1, 1, 0, 0),
    instance!(2, 128, 1, 1, 0, 1),
    instance!(2, 128, 0, 1, 0, 0),
    instance!(3, 32, 1, 1, 1, 0),
    instance!(3, 64, 1, 1, 0, 0),
    instance!(3, 128, 1, 1, 0, 0),
    instance!(3, 128, 1, 1, 1, 0),
    instance!(3, 128, 0, 1, 0, 0),
    instance!(3, 128, 1, 1, 0, 1),
];

/// How products are computed; sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConvClass {
    /// One chain of fused multiply-adds: the bits of the CPU.
    F32,
    /// Each f32 product from three of tf32 parts: nearly all bits, on matrix units.
    Tf32x3,
    /// Operands with 10 bits of fraction.
    Tf32,
    /// Operands stored as bf16.
    Bf16,
}

/// What convolutions read and write.
pub trait ConvValue: crate::cuda::Number {
    /// Whether it is bf16.
    const IS_BF16: bool;

    /// The nearest value.
    fn rounded(x: f32) -> Self;

    /// Refuses a class that does not multiply such values.
    ///
    /// # Errors
    /// `Shape` then.
    fn check(class: ConvClass) -> Result<()> {
        if (class == ConvClass::Bf16) == Self::IS_BF16 {
            return Ok(());
        }
        Err(KernelError::Shape {
            op: OP,
            operand: "class",
            expected: if Self::IS_BF16 { "Bf16" } else { "a class of f32 values" }.to_owned(),
            found: format!("{class:?}"),
        })
    }
}

impl ConvValue for f32 {
    const IS_BF16: bool = false;

    fn rounded(x: f32) -> Self {
        x
    }
}

impl ConvValue for Bf16 {
    const IS_BF16: bool = true;

    fn rounded(x: f32) -> Self {
        Self::from_f32(x)
    }
}

/// What is applied to a finished sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceActivation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`; NaN stays.
    Relu,
    /// The exact form with erf.
    Gelu,
    /// `e^x`
    Exp,
}

/// What is added to the result after the activation.
#[derive(Clone, Copy, Default)]
pub enum Residual<'a> {
    /// Nothing.
    #[default]
    None,
    /// What `out` holds; it must be f32.
    Own,
    /// `[N, output_width]`
    Other(View<'a, f32>),
}

/// What becomes of a finished sum.
#[derive(Clone, Copy, Default)]
pub struct DeviceEpilogue<'a> {
    /// Applied first.
    pub activation: DeviceActivation,
    /// Added then.
    pub residual: Residual<'a>,
}

impl From<DeviceActivation> for DeviceEpilogue<'_> {
    fn from(activation: DeviceActivation) -> Self {
        Self { activation, residual: Residual::None }
    }
}

/// Which rows of the input the taps of each output read.
#[derive(Clone, Copy)]
pub(crate) struct Gather<'a> {
    /// Begin and end of each row's sequence; none = sequences of `length` rows.
    pub(crate) ranges: Option<View<'a, u32>>,
    /// Rows of the output.
    pub(crate) rows: usize,
    /// Channels of the input.
    pub(crate) width: usize,
    pub(crate) taps: usize,
    pub(crate) dilation: usize,
    pub(crate) padding_left: usize,
    pub(crate) length: usize,
    pub(crate) output_length: usize,
}

impl Gather<'_> {
    /// Refuses what the kernel cannot count in 31 bits.
    pub(crate) fn check(&self) -> Result<()> {
        let reach = self.dilation.saturating_mul(self.taps);
        let inputs = self.rows.div_ceil(self.output_length.max(1)).saturating_mul(self.length);
        let counts = [
            reach.saturating_add(self.rows.max(inputs)).saturating_add(self.padding_left),
            self.taps.saturating_mul(self.width).saturating_add(TILE_ROWS),
        ];
        match counts.into_iter().find(|&count| count >= 1 << 31) {
            None => Ok(()),
            Some(count) => Err(KernelError::Shape {
                op: OP,
                operand: "shape",
                expected: "less than 2^31 rows and steps".to_owned(),
                found: count.to_string(),
            }),
        }
    }
}

/// The right operand.
#[derive(Clone, Copy)]
pub(crate) struct Filters<'a, T: ConvValue> {
    /// `[taps, width, columns]`; flipped, `[taps, columns, width]` with the last tap first.
    pub(crate) kernel: View<'a, T>,
    pub(crate) bias: Option<View<'a, f32>>,
    /// Columns as they are stored.
    pub(crate) columns: usize,
    pub(crate) output_width: usize,
    pub(crate) is_flipped: bool,
    pub(crate) class: ConvClass,
}

/// Rows of a tile: twice as many where a block of bf16 products has registers and memory for them.
const fn tile_rows(is_bf16: bool, is_flipped: bool, columns: usize) -> usize {
    if is_bf16 && !is_flipped && columns == 128 { 2 * TILE_ROWS } else { TILE_ROWS }
}

/// Columns of a tile: as wide as wastes no more than a narrower one.
pub(crate) fn tile_columns(width: usize) -> usize {
    if width <= 32 {
        32
    } else if width.next_multiple_of(64) < width.next_multiple_of(128) {
        64
    } else {
        128
    }
}

/// Columns of a tile on this device: the widest leave no room where blocks have little shared memory. A sum is the same in
/// each.
pub(crate) fn tile_columns_on(gpu: &Gpu, width: usize) -> usize {
    let has_room = gpu.properties().shared_bytes_max >= WIDE_SHARED_BYTES;
    tile_columns(width).min(if has_room { 128 } else { 64 })
}

/// Whether rows of `width` values can be read 16 bytes at a time.
pub(crate) fn is_vector<T: ConvValue>(view: &View<'_, T>, width: usize) -> bool {
    view.address().is_multiple_of(16) && (width * size_of::<T>()).is_multiple_of(16)
}

/// Bytes of a tile of `columns` columns stored by step: as many steps as fill a line.
pub(crate) fn bytes_by_step(columns: usize) -> usize {
    LINE_BYTES * (columns + STEP_PADDING)
}

/// Launches the product; operands are checked.
pub(crate) fn convolve<T: ConvValue, O: ConvValue>(
    x: View<'_, T>,
    gather: &Gather<'_>,
    filters: Filters<'_, T>,
    epilogue: DeviceEpilogue<'_>,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    T::check(filters.class)?;
    gather.check()?;
    let outputs = gather.rows.saturating_mul(filters.output_width);
    check_length(OP, "out", out.len(), outputs)?;
    let steps = gather.taps.saturating_mul(gather.width);
    check_length(OP, "kernel", filters.kernel.len(), steps.saturating_mul(filters.columns))?;
    let residual = match epilogue.residual {
        Residual::None => 0,
        Residual::Own if !O::IS_BF16 => out.view().address(),
        Residual::Own => {
            let (expected, found) = ("an f32 result".to_owned(), "bf16".to_owned());
            return Err(KernelError::Shape { op: OP, operand: "residual", expected, found });
        }
        Residual::Other(residual) => {
            check_length(OP, "residual", residual.len(), outputs)?;
            residual.address()
        }
    };
    let tile = tile_columns_on(x.gpu(), filters.output_width);
    let tile_rows = tile_rows(T::IS_BF16, filters.is_flipped, tile);
    let left_vector = is_vector(&x, gather.width)
        && (!filters.is_flipped || is_vector(&filters.kernel, gather.width));
    // Flipped, the right operand is read as the left one.
    let right_vector = filters.is_flipped || is_vector(&filters.kernel, filters.columns);
    let defines = [
        ("CLASS", filters.class as i64),
        ("TILE_M", tile_rows as i64),
        ("TILE_N", tile as i64),
        ("LEFT_VECTOR", i64::from(left_vector)),
        ("RIGHT_VECTOR", i64::from(right_vector)),
        ("OUT_BF16", i64::from(O::IS_BF16)),
        ("FLIPPED", i64::from(filters.is_flipped)),
    ];
    let kernel = x.gpu().kernel(&SOURCE, OP, &defines)?;
    // Four results at a time, each four aligned as a whole.
    let out_vector = filters.output_width.is_multiple_of(4)
        && residual.is_multiple_of(16)
        && out.view().address().is_multiple_of(4 * size_of::<O>() as u64);
    let right = if filters.is_flipped { tile * LINE_BYTES_PADDED } else { bytes_by_step(tile) };
    let shared = tile_rows * 16 + STAGES * (tile_rows * LINE_BYTES_PADDED + right);
    let blocks = gather.rows.div_ceil(tile_rows) * filters.output_width.div_ceil(tile);
    let arguments = Arguments::new()
        .array(&x)
        .optional(gather.ranges.as_ref())
        .array(&filters.kernel)
        .optional(filters.bias.as_ref())
        .u64(residual)
        .output(out);
    let counts = [
        gather.rows,
        gather.width,
        filters.columns,
        filters.output_width,
        gather.taps,
        gather.dilation,
        gather.padding_left,
        gather.length,
        gather.output_length,
        epilogue.activation as usize,
        usize::from(out_vector),
    ];
    let arguments = counts.into_iter().fold(arguments, |arguments, x| arguments.u32(x as u32));
    // SAFETY: x holds the rows of all sequences, or as many as there are ranges; kernel, bias, residual and out were measured
    // above, by the callers for x; the kernel masks rows, steps and columns past them.
    unsafe { kernel.launch(LaunchShape::line(blocks, THREADS).shared(shared), arguments) }
}
