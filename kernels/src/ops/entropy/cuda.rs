//! Entropies of rows of logits on a device: one number of a row leaves it instead of a vocabulary.
//!
//! Leaves out: which tokens are asked. Invariant: a row's result depends on that row alone.

use crate::cuda::{Arguments, Budget, DeviceArray, Instance, LaunchShape, Source, View};
use crate::error::{KernelError, Result, check_rows};

const OP: &str = "entropy";

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../entropy.cu"),
    kernels: &[OP],
    instances: &[Instance {
        defines: &[],
        budgets: &[Budget { kernel: OP, registers: 64, shared_bytes: SHARED_BYTES as u32 }],
    }],
};

/// Two sums of each of four warps.
const SHARED_BYTES: usize = 2 * 4 * 8;

/// The entropy of each row, as [`entropy`](super::entropy).
///
/// - `logits`: `[N, V]`, V = `width`
///
/// CPU and CUDA agree within 1e-12; sums are added in another order.
///
/// # Errors
/// `Shape` if `logits` is not whole rows, or if `columns` names none or one that is not there; `OutOfMemory`.
pub fn entropies(logits: View<'_, f32>, width: usize, columns: Option<&[u32]>) -> Result<Vec<f64>> {
    let rows = check_rows(OP, "logits", logits.len(), width)?;
    let is_there = |column: &u32| (*column as usize) < width;
    if columns.is_some_and(|columns| columns.is_empty() || !columns.iter().all(is_there)) {
        return Err(KernelError::Shape {
            op: OP,
            operand: "columns",
            expected: format!("some of 0 to {}", width.saturating_sub(1)),
            found: format!("{columns:?}"),
        });
    }
    if rows == 0 {
        return Ok(Vec::new());
    }
    let gpu = logits.gpu();
    let count = columns.map_or(width, <[u32]>::len);
    let columns = columns.map(|columns| DeviceArray::from_slice(gpu, columns)).transpose()?;
    let mut out = DeviceArray::<f64>::new(gpu, rows)?;
    let kernel = gpu.kernel(&SOURCE, OP, &[])?;
    let arguments = Arguments::new()
        .array(&logits)
        .optional(columns.as_ref().map(DeviceArray::view).as_ref())
        .output(&out.view_mut())
        .u32(width as u32)
        .u32(count as u32);
    let shape = LaunchShape::line(rows, 128).shared(SHARED_BYTES);
    // SAFETY: logits hold `rows` rows of `width`, out a number for each, and columns are below `width`; a block stays in its row.
    unsafe { kernel.launch(shape, arguments) }?;
    out.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::ops::entropy::entropy;

    #[test]
    fn entropies_are_those_on_the_cpu_and_of_a_row_alone() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 1), (3, 7), (4, 130), (2, 4105)] {
                let x: Vec<f32> = draw(11, rows * width).iter().map(|x| 20.0 * x).collect();
                let device = DeviceArray::from_slice(gpu, &x)?;
                let some: Vec<u32> = (0..width as u32).step_by(3).collect();
                for columns in [None, Some(&some[..])] {
                    let found = entropies(device.view(), width, columns)?;
                    for (row, (x, found)) in x.chunks_exact(width).zip(&found).enumerate() {
                        let expected = entropy(x, columns);
                        assert!((found - expected).abs() <= 1e-12, "{found} {expected}");
                        let alone = device.view().part(row * width..(row + 1) * width);
                        assert_eq!(entropies(alone, width, columns)?, [*found]);
                    }
                }
            }
            Ok(())
        });
    }

    #[test]
    fn rows_without_entropy_and_columns_that_are_not_there() {
        for_each_device(|gpu| {
            let far = [0.0, -1e30, f32::NEG_INFINITY, 0.0, 0.0, f32::NEG_INFINITY];
            let device = DeviceArray::from_slice(gpu, &far)?;
            let found = entropies(device.view(), 3, None)?;
            assert_eq!(found[0], 0.0);
            assert!((found[1] - 2.0_f64.ln()).abs() < 1e-15);
            assert!(entropies(device.view(), 3, Some(&[3])).is_err());
            assert!(entropies(device.view(), 3, Some(&[])).is_err());
            assert!(entropies(device.view(), 4, None).is_err());
            Ok(())
        });
    }
}
