//! Pooling on a device: one row of each sequence, in the number format it is stored in.
//!
//! Leaves out: which rows take part. Invariant: a sequence's result depends on its own rows alone, and has the bits of the CPU form.

use crate::cuda::{
    Arguments, Budget, DeviceArray, Gpu, Instance, LaunchShape, Number, Source, View, ViewMut,
};
use crate::error::{KernelError, Result, check_length, check_rows};
use std::ops::Range;

const OP: &str = "pool_rows";
/// Sequences of a launch: blocks along y.
const SEQUENCES_MAX: usize = 65_535;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: "pool",
    text: include_str!("../pool.cu"),
    kernels: &[OP],
    instances: &[instance(&[("OUT", 0)]), instance(&[("OUT", 1)]), instance(&[("OUT", 2)])],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGETS: &[Budget] = &[Budget { kernel: OP, registers: 48, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGETS }
}

/// Rows of each sequence that take part in its mean; one for its first token.
pub struct Spans {
    ends: DeviceArray<u64>,
    count: usize,
    rows: usize,
}

impl Spans {
    /// Puts `spans` on the device.
    ///
    /// # Errors
    /// `Shape` if one of them is empty; `OutOfMemory` if there is no room.
    pub fn new(gpu: &Gpu, spans: &[Range<usize>]) -> Result<Self> {
        if let Some(index) = spans.iter().position(|span| span.is_empty()) {
            return Err(KernelError::Shape {
                op: OP,
                operand: "spans",
                expected: "at least one row".to_owned(),
                found: format!("no row in span {index}"),
            });
        }
        let ends = spans.iter().flat_map(|span| [span.start as u64, span.end as u64]);
        let rows = spans.iter().map(|span| span.end).max().unwrap_or(0);
        let ends: Vec<u64> = ends.collect();
        Ok(Self { ends: DeviceArray::from_slice(gpu, &ends)?, count: spans.len(), rows })
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
    let Spans { ends, count, rows } = spans;
    if *count == 0 {
        return check_length(OP, "out", out.len(), 0);
    }
    let width = out.len() / count;
    check_length(OP, "out", out.len(), width * count)?;
    if check_rows(OP, "x", x.len(), width)? < *rows {
        return Err(KernelError::Shape {
            op: OP,
            operand: "x",
            expected: format!("{rows} rows of {width}"),
            found: format!("{} values", x.len()),
        });
    }
    let kernel = out.gpu().kernel(&SOURCE, OP, &[("OUT", T::CODE)])?;
    for first in (0..*count).step_by(SEQUENCES_MAX) {
        let past = (first + SEQUENCES_MAX).min(*count);
        let mut shape = LaunchShape::line(width.div_ceil(256), 256);
        shape.grid[1] = (past - first) as u32;
        let part = out.part(first * width..past * width);
        let of_part = ends.view().part(2 * first..2 * past);
        let arguments = Arguments::new().array(&x).array(&of_part).output(&part).u32(width as u32);
        // SAFETY: spans are not empty and end within x's rows, `out` has a row for each; a thread stays in its column.
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
    fn empty_spans_and_rows_that_are_not_there_are_refused() {
        for_each_device(|gpu| {
            assert!(Spans::new(gpu, &[0..2, 1..1]).is_err());
            let x = DeviceArray::from_slice(gpu, &[1.0_f32; 6])?;
            let mut out = DeviceArray::<f32>::new(gpu, 4)?;
            let beyond = Spans::new(gpu, &[0..1, 2..4])?;
            assert!(pool_rows(x.view(), &beyond, &mut out.view_mut()).is_err());
            let odd = Spans::new(gpu, &[0..1, 1..2, 0..3])?;
            assert!(pool_rows(x.view(), &odd, &mut out.view_mut()).is_err());
            Ok(())
        });
    }
}
