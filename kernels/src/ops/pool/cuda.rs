//! Pooling on a device: one row of each sequence, or of each pair of rows, in the number format it is stored in.
//!
//! Leaves out: which rows take part. Invariant: a result depends on its own rows alone, and has the bits of the CPU form.

use crate::cuda::{
    Arguments, Budget, DeviceArray, Gpu, Instance, LaunchShape, Number, Source, View, ViewMut,
};
use crate::error::{KernelError, Result, check_length, check_rows};
use std::ops::Range;

const OP: &str = "pool_rows";
const PAIRS: &str = "pool_pairs";
/// Rows that a launch writes: blocks along y.
const ROWS_MAX: usize = 65_535;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: "pool",
    text: include_str!("../pool.cu"),
    kernels: &[OP, PAIRS],
    instances: &[instance(&[("OUT", 0)]), instance(&[("OUT", 1)]), instance(&[("OUT", 2)])],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGETS: &[Budget] = &[
        Budget { kernel: OP, registers: 48, shared_bytes: 0 },
        Budget { kernel: PAIRS, registers: 24, shared_bytes: 0 },
    ];
    Instance { defines, budgets: BUDGETS }
}

/// Rows of each sequence that take part in its mean; one for its first token.
pub struct Spans {
    /// First row and the row past the last, of all runs.
    runs: DeviceArray<u64>,
    /// Where the runs of each sequence begin; one more number than sequences.
    starts: DeviceArray<u64>,
    rows: usize,
}

impl Spans {
    /// Puts one run of each sequence on the device.
    ///
    /// # Errors
    /// As [`Spans::of_runs`].
    pub fn new(gpu: &Gpu, spans: &[Range<usize>]) -> Result<Self> {
        Self::of_runs(gpu, spans.chunks(1))
    }

    /// Puts the runs of each sequence on the device: rows that are added one run after another.
    ///
    /// # Errors
    /// `Shape` if a sequence has no row or one of its runs is empty; `OutOfMemory` if there is no room.
    pub fn of_runs<'a>(
        gpu: &Gpu,
        sequences: impl IntoIterator<Item = &'a [Range<usize>]>,
    ) -> Result<Self> {
        let (mut runs, mut starts, mut rows) = (Vec::new(), vec![0], 0);
        for (index, own) in sequences.into_iter().enumerate() {
            if own.is_empty() || own.iter().any(Range::is_empty) {
                return Err(KernelError::Shape {
                    op: OP,
                    operand: "spans",
                    expected: "at least one row".to_owned(),
                    found: format!("no row in a span of sequence {index}"),
                });
            }
            runs.extend(own.iter().flat_map(|run| [run.start as u64, run.end as u64]));
            rows = own.iter().map(|run| run.end).fold(rows, usize::max);
            starts.push((runs.len() / 2) as u64);
        }
        let (runs, starts) =
            (DeviceArray::from_slice(gpu, &runs)?, DeviceArray::from_slice(gpu, &starts)?);
        Ok(Self { runs, starts, rows })
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Writes the mean of each span's rows, as [`mean_rows`](super::mean_rows), as numbers of any type.
///
/// - `x`: `[N, D]`
/// - `out`: `[B, D]`, B spans
///
/// # Errors
/// `Shape` if `out` is not B rows, or if `x` has no whole rows or fewer than the spans name.
pub fn pool_rows<T: Number>(
    x: View<'_, f32>,
    spans: &Spans,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let width = check(OP, x, spans.rows, (out.len(), spans.len()))?;
    let arguments = |first: usize, past: usize| {
        // Runs are named by their place among all.
        let starts = spans.starts.view().part(first..past + 1);
        Arguments::new().array(&x).array(&spans.runs.view()).array(&starts)
    };
    // SAFETY: runs are not empty and end within x's rows, those of a sequence lie between its starts, `out` has a row for each.
    unsafe { launch(OP, spans.len(), arguments, out, width) }
}

/// Writes the mean of the two rows of each pair, be they neighbours or not, as numbers of any type.
///
/// ```text
/// out[b,d] = 0.5 (x[first[b],d] + x[second[b],d])
/// ```
///
/// - `x`: `[N, D]`
/// - `out`: `[B, D]`, B pairs
///
/// The sum is f32, with the bits that a CPU gives it.
///
/// # Errors
/// `Shape` if `out` is not B rows, or if `x` has no whole rows or lacks one of a pair; `OutOfMemory`.
pub fn pool_pairs<T: Number>(
    x: View<'_, f32>,
    pairs: &[[usize; 2]],
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let past = pairs.iter().flatten().max().map_or(0, |row| row.saturating_add(1));
    let width = check(PAIRS, x, past, (out.len(), pairs.len()))?;
    let rows: Vec<u64> = pairs.iter().flatten().map(|&row| row as u64).collect();
    let rows = DeviceArray::from_slice(out.gpu(), &rows)?;
    let arguments = |first: usize, past: usize| {
        Arguments::new().array(&x).array(&rows.view().part(2 * first..2 * past))
    };
    // SAFETY: both rows of a pair are x's, `out` has a row for each pair.
    unsafe { launch(PAIRS, pairs.len(), arguments, out, width) }
}

/// The width of rows of which `x` must have `rows` and `out` exactly `count`.
fn check(
    op: &'static str,
    x: View<'_, f32>,
    rows: usize,
    (length, count): (usize, usize),
) -> Result<usize> {
    let width = length.checked_div(count).unwrap_or(0);
    check_length(op, "out", length, width * count)?;
    if count > 0 && check_rows(op, "x", x.len(), width)? < rows {
        return Err(KernelError::Shape {
            op,
            operand: "x",
            expected: format!("{rows} rows of {width}"),
            found: format!("{} values", x.len()),
        });
    }
    Ok(width)
}

/// Runs `kernel` for `count` rows of `out`; its first arguments are those of the rows `first..past`.
///
/// # Safety
/// They name rows of `width` values as the kernel reads them.
unsafe fn launch<T: Number>(
    kernel: &'static str,
    count: usize,
    first_arguments: impl Fn(usize, usize) -> Arguments,
    out: &mut ViewMut<'_, T>,
    width: usize,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let kernel = out.gpu().kernel(&SOURCE, kernel, &[("OUT", T::CODE)])?;
    for first in (0..count).step_by(ROWS_MAX) {
        let past = (first + ROWS_MAX).min(count);
        let mut shape = LaunchShape::line(width.div_ceil(256), 256);
        shape.grid[1] = (past - first) as u32;
        let part = out.part(first * width..past * width);
        let arguments = first_arguments(first, past).output(&part).u32(width as u32);
        // SAFETY: the caller's promise; a thread stays in its column.
        unsafe { kernel.launch(shape, arguments) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::cuda::{Bf16, F16};
    use crate::ops::pool::mean_rows;

    #[test]
    fn rows_have_the_bits_of_the_cpu_in_every_format() {
        for_each_device(|gpu| {
            for (width, spans) in [
                (1, vec![0..1, 4..7]),
                (5, vec![2..19, 0..1, 1..3]),
                (300, vec![0..8, 8..9, 3..20]),
            ] {
                let x = draw(7, 20 * width);
                let device = DeviceArray::from_slice(gpu, &x)?;
                let mut expected = vec![0.0; spans.len() * width];
                for (span, out) in spans.iter().zip(expected.chunks_exact_mut(width)) {
                    mean_rows(&x[span.start * width..span.end * width], out)?;
                }
                let spans = Spans::new(gpu, &spans)?;
                let mut out = DeviceArray::<f32>::new(gpu, expected.len())?;
                pool_rows(device.view(), &spans, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected);
                let mut short = DeviceArray::<Bf16>::new(gpu, expected.len())?;
                pool_rows(device.view(), &spans, &mut short.view_mut())?;
                let rounded: Vec<Bf16> = expected.iter().map(|&x| Bf16::from_f32(x)).collect();
                assert_eq!(short.to_vec()?, rounded);
                let mut half = DeviceArray::<F16>::new(gpu, expected.len())?;
                pool_rows(device.view(), &spans, &mut half.view_mut())?;
                assert!(half.to_vec()?.iter().all(|x| x.0 & 0x7c00 != 0x7c00), "finite");
            }
            Ok(())
        });
    }

    #[test]
    fn runs_of_a_sequence_are_added_as_if_they_were_neighbours() {
        for_each_device(|gpu| {
            for width in [1, 5, 300] {
                let x = draw(8, 40 * width);
                let device = DeviceArray::from_slice(gpu, &x)?;
                let runs = [vec![0..1, 3..17, 39..40], vec![5..6, 6..7], vec![20..30, 2..4]];
                let mut expected = vec![0.0; runs.len() * width];
                for (runs, out) in runs.iter().zip(expected.chunks_exact_mut(width)) {
                    let rows = runs.iter().flat_map(|run| &x[run.start * width..run.end * width]);
                    mean_rows(&rows.copied().collect::<Vec<f32>>(), out)?;
                }
                let spans = Spans::of_runs(gpu, runs.iter().map(Vec::as_slice))?;
                let mut out = DeviceArray::<f32>::new(gpu, expected.len())?;
                pool_rows(device.view(), &spans, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected);
            }
            assert!(Spans::of_runs(gpu, [[0..2, 2..3].as_slice(), &[]]).is_err());
            assert!(Spans::of_runs(gpu, [[0..2, 3..3].as_slice()]).is_err());
            Ok(())
        });
    }

    #[test]
    fn pairs_have_the_bits_of_their_sum_in_f32() {
        for_each_device(|gpu| {
            for (width, pairs) in
                [(1, vec![[3, 3]]), (5, vec![[19, 0], [2, 3]]), (300, vec![[0, 7], [7, 0], [4, 4]])]
            {
                let mut x = draw(9, 20 * width);
                // What a sum in more bits or from zero would make otherwise.
                (x[0], x[3 * width]) = (-0.0, -0.0);
                let device = DeviceArray::from_slice(gpu, &x)?;
                let value = |row: usize, column: usize| x[row * width + column];
                let of_pair = |[first, second]: &[usize; 2]| {
                    let (first, second) = (*first, *second);
                    (0..width).map(move |d| 0.5 * (value(first, d) + value(second, d)))
                };
                let expected: Vec<f32> = pairs.iter().flat_map(of_pair).collect();
                let mut out = DeviceArray::<f32>::new(gpu, expected.len())?;
                pool_pairs(device.view(), &pairs, &mut out.view_mut())?;
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&out.to_vec()?), bits(&expected));
                let mut short = DeviceArray::<Bf16>::new(gpu, expected.len())?;
                pool_pairs(device.view(), &pairs, &mut short.view_mut())?;
                let rounded: Vec<Bf16> = expected.iter().map(|&x| Bf16::from_f32(x)).collect();
                assert_eq!(short.to_vec()?, rounded);
            }
            Ok(())
        });
    }

    #[test]
    fn empty_spans_and_rows_that_are_not_there_are_refused() {
        for_each_device(|gpu| {
            assert!(Spans::new(gpu, &[0..2, 1..1]).is_err());
            let x = DeviceArray::from_slice(gpu, &[1.0_f32; 6])?;
            let mut out = DeviceArray::<f32>::new(gpu, 4)?;
            let beyond = Spans::new(gpu, &[0..1, 2..4])?;
            assert!(pool_rows(x.view(), &beyond, &mut out.view_mut()).is_err());
            let odd = Spans::new(gpu, &[0..1, 1..2, 0..3])?;
            assert!(pool_rows(x.view(), &odd, &mut out.view_mut()).is_err());
            assert!(pool_pairs(x.view(), &[[0, 2], [3, 1]], &mut out.view_mut()).is_err());
            assert!(pool_pairs(x.view(), &[[0, 1]; 3], &mut out.view_mut()).is_err());
            assert!(pool_pairs(x.view(), &[], &mut out.view_mut()).is_err());
            pool_pairs(x.view(), &[], &mut out.view_mut().part(0..0))
        });
    }
}
