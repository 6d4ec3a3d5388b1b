//! Largest value of each channel over windows of a sequence, on a device.
//!
//! Leaves out: the formula (`max_pool`), gradients. Invariant: a result depends on its window alone.

use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::ops::conv1d::cuda::ConvValue;

const OP: &str = "max_pool";

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../max_pool.cu"),
    kernels: &[OP],
    instances: &[
        instance(&[("RELU", 0), ("OUT_BF16", 0)]),
        instance(&[("RELU", 1), ("OUT_BF16", 1)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 40, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGET }
}

/// Extents of a pool over sequences of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Positions of a sequence.
    pub length: usize,
    /// Channels.
    pub width: usize,
    /// Positions of a window, which is also the step from one to the next.
    pub window: usize,
    /// Whether the result is at least zero.
    pub has_relu: bool,
}

/// Writes the largest value of each window of a sum of one or two arrays; as [`max_pool`](super::max_pool).
///
/// ```text
/// out[b,p,c] = max_j (x[b, p window + j, c] + y[b, p window + j, c]), or its relu
/// ```
///
/// - `x`, `y`: `[B, length, width]`; without y, x alone
/// - `out`: `[B, length / window, width]`, rounded down
///
/// CPU and CUDA agree in every bit.
///
/// # Errors
/// `Shape` if the window or an extent is zero, or an operand does not fit.
pub fn max_pool<T: ConvValue>(
    x: View<'_, f32>,
    y: Option<View<'_, f32>>,
    pool: MaxPool,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let MaxPool { length, width, window, has_relu } = pool;
    let sequences = check_rows(OP, "x", x.len(), length.saturating_mul(width))?;
    check_rows(OP, "window", window, window)?;
    check_length(OP, "y", y.as_ref().map_or(x.len(), View::len), x.len())?;
    check_length(OP, "out", out.len(), sequences * (length / window) * width)?;
    if let Some(extent) = [length, width, window].into_iter().find(|&e| e > u32::MAX as usize) {
        let (expected, found) = ("extents below 2^32".to_owned(), extent.to_string());
        return Err(KernelError::Shape { op: OP, operand: "pool", expected, found });
    }
    let defines = [("RELU", i64::from(has_relu)), ("OUT_BF16", i64::from(T::IS_BF16))];
    let kernel = x.gpu().kernel(&SOURCE, OP, &defines)?;
    let arguments = Arguments::new()
        .array(&x)
        .optional(y.as_ref())
        .output(out)
        .u64(out.len() as u64)
        .u32(length as u32)
        .u32(width as u32)
        .u32(window as u32);
    // SAFETY: x and y hold whole sequences, out their windows; a thread reads the window of its output.
    unsafe { kernel.launch(LaunchShape::line(out.len().div_ceil(256), 256), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray};
    use crate::ops::max_pool::max_pool as on_cpu;

    #[test]
    fn windows_of_sums_are_as_on_the_cpu() {
        for_each_device(|gpu| {
            for (batch, length, width, window) in [(1, 1, 1, 1), (2, 14, 5, 4), (3, 3, 130, 4)] {
                let pool = MaxPool { length, width, window, has_relu: false };
                let count = batch * length * width;
                let (x, y) = (draw(1, count), draw(2, count));
                let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                let mut expected = vec![0.0; batch * (length / window) * width];
                on_cpu(&sum, length, width, window, &mut expected).unwrap();
                let (x, y) = (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &y)?);
                let mut out = DeviceArray::<f32>::new(gpu, expected.len())?;
                max_pool(x.view(), Some(y.view()), pool, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected);
                let mut rounded = DeviceArray::<Bf16>::new(gpu, expected.len())?;
                let pool = MaxPool { has_relu: true, ..pool };
                max_pool(x.view(), Some(y.view()), pool, &mut rounded.view_mut())?;
                let expected = expected.iter().map(|x| Bf16::from_f32(x.max(0.0)));
                assert_eq!(rounded.to_vec()?, expected.collect::<Vec<_>>());
            }
            Ok(())
        });
    }

    #[test]
    fn not_a_number_is_the_largest_and_bad_operands_are_refused() {
        for_each_device(|gpu| {
            let pool = MaxPool { length: 3, width: 1, window: 3, has_relu: true };
            for at in 0..3 {
                let mut values = [1.0; 3];
                values[at] = f32::NAN;
                let x = DeviceArray::from_slice(gpu, &values)?;
                let mut out = DeviceArray::<f32>::new(gpu, 1)?;
                max_pool(x.view(), None, pool, &mut out.view_mut())?;
                assert!(out.to_vec()?[0].is_nan());
                let none = MaxPool { window: 0, ..pool };
                assert!(max_pool(x.view(), None, none, &mut out.view_mut()).is_err());
                let short = Some(x.view().part(0..2));
                assert!(max_pool(x.view(), short, pool, &mut out.view_mut()).is_err());
            }
            Ok(())
        });
    }
}
