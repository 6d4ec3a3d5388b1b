//! Layer normalisation on a device.
//!
//! Leaves out: the formula (`layer_norm`). Invariant: a row's result depends on that row alone.

use crate::cuda::{Arguments, Bf16, Budget, Element, Instance, LaunchShape, Source, View, ViewMut};
use crate::error::{KernelError, Result, check_length, check_rows};

const OP: &str = "layer_norm";

/// Threads of a block, and the columns that one of them holds at most.
const FORMS: [(u32, usize); 3] = [(128, 4), (256, 8), (512, 16)];

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../layer_norm.cu"),
    kernels: &[OP],
    instances: &[
        instance(&[("THREADS", 128), ("PER_THREAD", 4), ("OUT_BF16", 0)]),
        instance(&[("THREADS", 256), ("PER_THREAD", 8), ("OUT_BF16", 1)]),
        instance(&[("THREADS", 512), ("PER_THREAD", 16), ("OUT_BF16", 1)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 64, shared_bytes: 64 }];
    Instance { defines, budgets: BUDGET }
}

/// What a normalised row is written as.
pub trait NormOutput: Element {
    /// The value of `OUT_BF16`.
    const OUT_BF16: i64;
}

impl NormOutput for f32 {
    const OUT_BF16: i64 = 0;
}

impl NormOutput for Bf16 {
    const OUT_BF16: i64 = 1;
}

/// Scale, shift and guard of the variance, on the device.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// `[D]`
    pub weight: View<'a, f32>,
    /// `[D]`; none counts as zero
    pub bias: Option<View<'a, f32>>,
    /// Added to the variance.
    pub eps: f32,
}

/// Adds `branch` to `x` where there is one, and writes the normalised rows of the sum; as
/// [`layer_norm`](super::layer_norm).
///
/// - `x`, `branch`, `out`: `[N, D]`
///
/// Sums are f32 in a fixed order. CPU and CUDA agree within 2e-6 (f32) or 4e-3 (bf16) of max |out|.
///
/// # Errors
/// `Shape` if `x` is not whole rows of D, if D is above 8,192, or if `branch`, `bias` or `out` do not fit.
pub fn layer_norm<T: NormOutput>(
    x: &mut ViewMut<'_, f32>,
    branch: Option<View<'_, f32>>,
    norm: Norm<'_>,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let width = norm.weight.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "out", out.len(), x.len())?;
    if let Some(branch) = &branch {
        check_length(OP, "branch", branch.len(), x.len())?;
    }
    if let Some(bias) = &norm.bias {
        check_length(OP, "bias", bias.len(), width)?;
    }
    let fitting = FORMS.iter().find(|(threads, each)| width <= *threads as usize * each);
    let Some(&(threads, each)) = fitting else {
        let (expected, found) = ("8192 columns at most".to_owned(), format!("{width} columns"));
        return Err(KernelError::Shape { op: OP, operand: "x", expected, found });
    };
    let defines =
        [("THREADS", i64::from(threads)), ("PER_THREAD", each as i64), ("OUT_BF16", T::OUT_BF16)];
    let kernel = x.gpu().kernel(&SOURCE, OP, &defines)?;
    let arguments = Arguments::new()
        .output(x)
        .optional(branch.as_ref())
        .array(&norm.weight)
        .optional(norm.bias.as_ref())
        .output(out)
        .u32(width as u32)
        .f32(norm.eps);
    let shape = LaunchShape::line(rows, threads).shared(threads as usize / 32 * 4);
    // SAFETY: x, branch and out hold `rows` rows of `width`, weight and bias one; a block stays in its row.
    unsafe { kernel.launch(shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::layer_norm::layer_norm as on_cpu;

    #[test]
    fn rows_of_every_width_are_as_on_the_cpu() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 1), (3, 7), (2, 128), (2, 513), (1, 2560), (2, 5000)] {
                let (x, branch) = (draw(1, rows * width), draw(2, rows * width));
                let (weight, bias) = (draw(3, width), draw(4, width));
                let sum: Vec<f32> = x.iter().zip(&branch).map(|(x, y)| x + y).collect();
                let mut expected = vec![0.0; sum.len()];
                on_cpu(&sum, &weight, Some(&bias), 1e-5, &mut expected).unwrap();
                let mut device = DeviceArray::from_slice(gpu, &x)?;
                let branch = DeviceArray::from_slice(gpu, &branch)?;
                let (weight, bias) =
                    (DeviceArray::from_slice(gpu, &weight)?, DeviceArray::from_slice(gpu, &bias)?);
                let norm = Norm { weight: weight.view(), bias: Some(bias.view()), eps: 1e-5 };
                let mut out = DeviceArray::<f32>::new(gpu, x.len())?;
                layer_norm(&mut device.view_mut(), Some(branch.view()), norm, &mut out.view_mut())?;
                assert_close(&out.to_vec()?, &expected, 2e-6);
                assert_eq!(device.to_vec()?, sum);
                let mut rounded = DeviceArray::<Bf16>::new(gpu, x.len())?;
                layer_norm(&mut device.view_mut(), None, norm, &mut rounded.view_mut())?;
                let rounded: Vec<f32> = rounded.to_vec()?.iter().map(|x| x.to_f32()).collect();
                assert_close(&rounded, &expected, 4e-3);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let weight = DeviceArray::from_slice(gpu, &[1.0_f32; 3])?;
            let norm = Norm { weight: weight.view(), bias: None, eps: 1e-5 };
            let mut x = DeviceArray::from_slice(gpu, &[1.0_f32; 7])?;
            let mut out = DeviceArray::<f32>::new(gpu, 7)?;
            let refused = layer_norm(&mut x.view_mut(), None, norm, &mut out.view_mut());
            assert!(matches!(refused, Err(KernelError::Shape { operand: "x", .. })));
            Ok(())
        });
    }
}
