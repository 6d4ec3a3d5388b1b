//! Small arithmetic of training on a device: sums of arrays, sums of columns, parts of rows moved.
//!
//! Leaves out: products of matrices. Invariant: sums over rows are merged in an order that their number alone decides.

use crate::cuda::{
    Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count, check_scratch,
};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::slices;

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: "arithmetic",
    text: concat!(
        include_str!("../../cuda/device/slices.cuh"),
        "\n#line 1 \"arithmetic.cu\"\n",
        include_str!("../arithmetic.cu")
    ),
    kernels: &["add", "column_slices", "merge_columns", "copy_columns"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "add", registers: 32, shared_bytes: 0 },
    Budget { kernel: "column_slices", registers: 48, shared_bytes: 1024 },
    Budget { kernel: "merge_columns", registers: 40, shared_bytes: 2048 },
    Budget { kernel: "copy_columns", registers: 40, shared_bytes: 0 },
];

/// Adds `other` to `x`.
///
/// # Errors
/// `Shape` if lengths differ.
pub fn add_in_place(x: &mut ViewMut<'_, f32>, other: View<'_, f32>) -> Result<()> {
    const OP: &str = "add";
    check_length(OP, "other", other.len(), x.len())?;
    let count = check_count(OP, "x", x.len())?;
    let arguments = Arguments::new().output(x).array(&other).output(x).u32(count);
    let kernel = other.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: all hold `count` values; each thread reads a value before it writes it.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Sums each column over all rows; as [`column_sums`](super::column_sums).
///
/// - `scratch`: as many values as [`scratch_values`](crate::ops::batch_norm::cuda::scratch_values), or more
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn column_sums(
    x: View<'_, f32>,
    sums: &mut ViewMut<'_, f32>,
    scratch: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "column_sums";
    let width = sums.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_count(OP, "x", x.len())?;
    let slices = rows.div_ceil(slices::ROWS);
    check_scratch(OP, scratch.len(), slices.saturating_mul(width))?;
    let arguments = Arguments::new().array(&x).output(scratch).u32(rows as u32).u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "column_slices", &[])?;
    // SAFETY: x holds `rows` rows, scratch a value of each slice and column.
    unsafe { kernel.launch(LaunchShape::columns(width, slices, 4), arguments)? };
    let arguments = Arguments::new().output(scratch).output(sums);
    let arguments = arguments.u32(slices as u32).u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "merge_columns", &[])?;
    // SAFETY: as above.
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments) }
}

/// Some columns of an array of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Values between two rows.
    pub stride: usize,
    /// The first column.
    pub start: usize,
}

/// Copies `width` columns of each row; zeros where there is nothing to copy from.
///
/// - `from`, `to`: arrays with the columns that are read and written
///
/// # Errors
/// `Shape` if the columns do not lie inside their rows, or there are not as many rows on both sides.
pub fn copy_columns(
    from: Option<(View<'_, f32>, Columns)>,
    (to, into): (&mut ViewMut<'_, f32>, Columns),
    width: usize,
) -> Result<()> {
    const OP: &str = "copy_columns";
    let rows = check_rows(OP, "to", to.len(), into.stride)?;
    let count = check_count(OP, "to", rows.saturating_mul(width))?;
    check_count(OP, "to", to.len())?;
    let inside = |columns: Columns| columns.start.saturating_add(width) <= columns.stride;
    let source = from.map_or(into, |(_, columns)| columns);
    if !inside(into) || !inside(source) {
        let expected = format!("{width} columns within a row");
        let found = format!("{source:?} and {into:?}");
        return Err(KernelError::Shape { op: OP, operand: "columns", expected, found });
    }
    if let Some((from, columns)) = &from {
        check_length(OP, "from", from.len(), rows.saturating_mul(columns.stride))?;
        check_count(OP, "from", from.len())?;
    }
    if width == 0 {
        return Ok(());
    }
    let arguments = Arguments::new()
        .optional(from.as_ref().map(|(from, _)| from))
        .output(to)
        .u32(count)
        .u32(width as u32)
        .u32(source.stride as u32)
        .u32(source.start as u32)
        .u32(into.stride as u32)
        .u32(into.start as u32);
    let kernel = to.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: both sides hold `rows` rows, and the columns lie inside them.
    unsafe { kernel.launch(LaunchShape::elements(count as usize), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::arithmetic::column_sums as on_cpu;

    #[test]
    fn sums_of_columns_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 1), (0, 3), (300, 3), (129, 130)] {
                let x = draw(1, rows * width);
                let mut expected = vec![0.0; width];
                on_cpu(&x, &mut expected).unwrap();
                let x = DeviceArray::from_slice(gpu, &x)?;
                let mut sums = DeviceArray::new(gpu, width)?;
                let mut scratch = DeviceArray::new(gpu, rows.div_ceil(128) * width)?;
                column_sums(x.view(), &mut sums.view_mut(), &mut scratch.view_mut())?;
                assert_close(&sums.to_vec()?, &expected, 2e-6);
            }
            Ok(())
        });
    }

    #[test]
    fn columns_are_copied_zeroed_and_added() {
        for_each_device(|gpu| {
            let from = DeviceArray::from_slice(gpu, &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
            let mut to = DeviceArray::<f32>::zeros(gpu, 8)?;
            let narrow = Columns { stride: 3, start: 1 };
            let wide = Columns { stride: 4, start: 2 };
            copy_columns(Some((from.view(), narrow)), (&mut to.view_mut(), wide), 2)?;
            assert_eq!(to.to_vec()?, [0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 5.0, 6.0]);
            let other = DeviceArray::from_slice(gpu, &[1.0_f32; 8])?;
            add_in_place(&mut to.view_mut(), other.view())?;
            copy_columns(None, (&mut to.view_mut(), Columns { start: 0, ..wide }), 1)?;
            assert_eq!(to.to_vec()?, [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 6.0, 7.0]);
            let past = Columns { start: 3, ..wide };
            assert!(copy_columns(None, (&mut to.view_mut(), past), 2).is_err());
            assert!(add_in_place(&mut to.view_mut(), from.view()).is_err());
            Ok(())
        });
    }
}
