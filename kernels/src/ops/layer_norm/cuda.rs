//! Layer normalisation on a device.
//!
//! Leaves out: the formula (`layer_norm`). Invariant: a row's result depends on that row alone.

use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Number, Source, View, ViewMut};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::ops::vectors::is_wide;

const OP: &str = "layer_norm";

/// Threads of a row, and the runs of four columns that one of them holds at most, narrowest first.
const FORMS: [(u32, u32); 11] = [
    (32, 1),
    (32, 2),
    (32, 3),
    (32, 4),
    (32, 6),
    (32, 8),
    (128, 3),
    (128, 4),
    (256, 3),
    (256, 4),
    (256, 8),
];
/// Rows of a block where a warp has a row each.
const WARPS: usize = 8;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../layer_norm.cu"),
    kernels: &[OP],
    instances: &[
        instance(&defines((32, 1), 0, 1)),
        instance(&defines((32, 2), 0, 1)),
        instance(&defines((32, 3), 0, 1)),
        instance(&defines((32, 4), 1, 1)),
        instance(&defines((32, 6), 1, 1)),
        instance(&defines((32, 8), 1, 1)),
        instance(&defines((128, 3), 1, 1)),
        instance(&defines((128, 4), 1, 1)),
        instance(&defines((256, 3), 1, 1)),
        instance(&defines((256, 4), 1, 1)),
        instance(&defines((256, 8), 0, 1)),
        instance(&defines((256, 8), 2, 1)),
        instance(&defines((32, 1), 0, 0)),
        instance(&defines((32, 8), 1, 0)),
        instance(&defines((256, 8), 1, 0)),
    ],
};

const fn defines((line, vectors): (u32, u32), out: i64, wide: i64) -> [(&'static str, i64); 4] {
    [("LINE", line as i64), ("VECTORS", vectors as i64), ("WIDE", wide), ("OUT", out)]
}

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const FEW: &[Budget] = &[Budget { kernel: OP, registers: 64, shared_bytes: 32 }];
    const MANY: &[Budget] = &[Budget { kernel: OP, registers: 80, shared_bytes: 32 }];
    Instance { defines, budgets: if defines[1].1 <= 4 { FEW } else { MANY } }
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
pub fn layer_norm<T: Number>(
    x: &mut ViewMut<'_, f32>,
    branch: Option<View<'_, f32>>,
    norm: Norm<'_>,
    out: &mut ViewMut<'_, T>,
) -> Result<()> {
    let sum = if branch.is_some() { x.address() } else { 0 };
    check_length(OP, "out", out.len(), x.len())?;
    launch(x, branch, norm, Writes { sum, normed: 0, out: out.address(), code: T::CODE })
}

/// Adds `branch` to `x` where there is one, and replaces the rows of the sum by the normalised ones, which also go to `copy` where
/// there is one.
///
/// - `x`, `branch`, `copy`: `[N, D]`
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_in_place<T: Number>(
    x: &mut ViewMut<'_, f32>,
    branch: Option<View<'_, f32>>,
    norm: Norm<'_>,
    copy: Option<&mut ViewMut<'_, T>>,
) -> Result<()> {
    if let Some(copy) = &copy {
        check_length(OP, "copy", copy.len(), x.len())?;
    }
    let (normed, out) = (x.address(), copy.map_or(0, |copy| copy.address()));
    launch(x, branch, norm, Writes { sum: 0, normed, out, code: T::CODE })
}

/// Addresses of what is written, each as long as x or null, and the code of the last one's type.
struct Writes {
    sum: u64,
    normed: u64,
    out: u64,
    code: i64,
}

fn launch(
    x: &mut ViewMut<'_, f32>,
    branch: Option<View<'_, f32>>,
    norm: Norm<'_>,
    writes: Writes,
) -> Result<()> {
    let width = norm.weight.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    if let Some(branch) = &branch {
        check_length(OP, "branch", branch.len(), x.len())?;
    }
    if let Some(bias) = &norm.bias {
        check_length(OP, "bias", bias.len(), width)?;
    }
    let refuse = |expected: &str, found: String| {
        Err(KernelError::Shape { op: OP, operand: "x", expected: expected.to_owned(), found })
    };
    let Some(&form) = FORMS.iter().find(|(line, each)| width <= (line * each * 4) as usize) else {
        return refuse("8192 columns at most", format!("{width} columns"));
    };
    let Ok(row_count) = u32::try_from(rows) else {
        return refuse("less than 2^32 rows", format!("{rows} rows"));
    };
    let at = |view: &Option<View<'_, f32>>| view.as_ref().map_or(0, View::address);
    let Writes { sum, normed, out, code } = writes;
    let reads = [x.address(), at(&branch), norm.weight.address(), at(&norm.bias)];
    let wide = is_wide(width, 4, &reads) && is_wide(width, 4, &[sum, normed, out]);
    let kernel = x.gpu().kernel(&SOURCE, OP, &defines(form, code, i64::from(wide)))?;
    let shape = match form.0 {
        32 => LaunchShape::line(rows.div_ceil(WARPS), 32 * WARPS as u32),
        line => LaunchShape::line(rows, line).shared(line as usize / 32 * 4),
    };
    let arguments = Arguments::new()
        .output(x)
        .optional(branch.as_ref())
        .array(&norm.weight)
        .optional(norm.bias.as_ref())
        .u64(sum)
        .u64(normed)
        .u64(out)
        .u32(row_count)
        .u32(width as u32)
        .f32(norm.eps);
    // SAFETY: x, branch and what is written hold `rows` rows of `width`, weight and bias one; a thread stays in its row.
    unsafe { kernel.launch(shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray};
    use crate::ops::layer_norm::layer_norm as on_cpu;

    #[test]
    fn rows_of_every_width_are_as_on_the_cpu() {
        for_each_device(|gpu| {
            for (rows, width) in
                [(1, 1), (3, 7), (10, 128), (2, 513), (9, 768), (2, 1280), (1, 2560), (2, 5001)]
            {
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
    fn rows_in_place_are_those_beside_it_whatever_their_alignment() {
        for_each_device(|gpu| {
            for width in [48, 1100] {
                let (x, branch, weight) = (draw(1, 3 * width), draw(2, 3 * width), draw(3, width));
                let weight = DeviceArray::from_slice(gpu, &weight)?;
                let branch = DeviceArray::from_slice(gpu, &branch)?;
                let norm = Norm { weight: weight.view(), bias: None, eps: 1e-5 };
                let mut beside = DeviceArray::<f32>::new(gpu, 3 * width)?;
                let mut sum = DeviceArray::from_slice(gpu, &x)?;
                let out = &mut beside.view_mut();
                layer_norm(&mut sum.view_mut(), Some(branch.view()), norm, out)?;
                let mut in_place = DeviceArray::from_slice(gpu, &x)?;
                let mut copy = DeviceArray::<Bf16>::new(gpu, 3 * width)?;
                let to = Some(&mut copy.view_mut());
                layer_norm_in_place(&mut in_place.view_mut(), Some(branch.view()), norm, to)?;
                let expected = beside.to_vec()?;
                assert_eq!(in_place.to_vec()?, expected);
                let rounded: Vec<Bf16> = expected.iter().map(|&x| Bf16::from_f32(x)).collect();
                assert_eq!(copy.to_vec()?, rounded);
                // One value further, rows are not aligned.
                let mut shifted = DeviceArray::<f32>::new(gpu, 3 * width + 1)?;
                let mut view = shifted.view_mut();
                let mut part = view.part(1..3 * width + 1);
                part.write(&x)?;
                layer_norm_in_place::<f32>(&mut part, Some(branch.view()), norm, None)?;
                assert_eq!(shifted.to_vec()?[1..], expected);
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
