//! Layer normalisation of a branch on a device, and the rows of tokens that a residual stream starts from.
//!
//! Leaves out: the branch. Invariant: a row's result depends on that row alone.

use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut};
use crate::error::{Result, check_length, check_rows};
use crate::ops::conv1d::cuda::ConvValue;
use crate::ops::layer_norm::cuda::Norm;

const OP: &str = "branch_norm";
const TOKEN_ROWS: &str = "token_rows";
/// Rows of a block, a warp each.
const ROWS: usize = 8;
/// Columns that a lane holds at most, by form; wider rows are read anew, which `0` stands for.
const PER_LANE: [usize; 3] = [4, 16, 32];

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../branch_norm.cu"),
    kernels: &[OP, TOKEN_ROWS],
    instances: &[
        instance(&[("PER_LANE", 4), ("GELU", 0), ("OUT_BF16", 0)]),
        instance(&[("PER_LANE", 16), ("GELU", 0), ("OUT_BF16", 1)]),
        instance(&[("PER_LANE", 16), ("GELU", 1), ("OUT_BF16", 1)]),
        instance(&[("PER_LANE", 32), ("GELU", 1), ("OUT_BF16", 1)]),
        instance(&[("PER_LANE", 0), ("GELU", 1), ("OUT_BF16", 0)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGETS: &[Budget] = &[
        Budget { kernel: OP, registers: 128, shared_bytes: 0 },
        Budget { kernel: TOKEN_ROWS, registers: 32, shared_bytes: 0 },
    ];
    Instance { defines, budgets: BUDGETS }
}

/// Normalises each row, applies GELU where asked, adds the result to `sum` where there is one, and writes `out`.
///
/// ```text
/// y = LN(x) or gelu(LN(x));  sum = sum + y;  out = sum, or y without one
/// ```
///
/// - `x`, `sum`, `out`: `[N, D]`
///
/// CPU and CUDA agree within 4e-6 (f32) or 4e-3 (bf16) of max |out|.
///
/// # Errors
/// `Shape` if `x` is not whole rows of D, or if `bias`, `sum` or `out` do not fit.
pub fn branch_norm<T: ConvValue>(
    x: View<'_, f32>,
    norm: Norm<'_>,
    has_gelu: bool,
    sum: Option<&mut ViewMut<'_, f32>>,
    out: Option<&mut ViewMut<'_, T>>,
) -> Result<()> {
    let width = norm.weight.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "bias", norm.bias.as_ref().map_or(width, View::len), width)?;
    check_length(OP, "sum", sum.as_ref().map_or(x.len(), |sum| sum.len()), x.len())?;
    check_length(OP, "out", out.as_ref().map_or(x.len(), |out| out.len()), x.len())?;
    let each = PER_LANE.into_iter().find(|each| width <= 32 * each).unwrap_or(0);
    let defines = [
        ("PER_LANE", each as i64),
        ("GELU", i64::from(has_gelu)),
        ("OUT_BF16", i64::from(T::IS_BF16)),
    ];
    let kernel = x.gpu().kernel(&SOURCE, OP, &defines)?;
    let (sum, out) = (sum.map(|sum| sum.view()), out.map(|out| out.view()));
    let arguments = Arguments::new()
        .array(&x)
        .array(&norm.weight)
        .optional(norm.bias.as_ref())
        .optional(sum.as_ref())
        .optional(out.as_ref())
        .u32(rows as u32)
        .u32(width as u32)
        .f32(norm.eps);
    // SAFETY: x, sum and out hold `rows` rows of `width`, weight and bias one; a warp stays in its row.
    unsafe { kernel.launch(LaunchShape::line(rows.div_ceil(ROWS), 256), arguments) }
}

/// Writes a row of a table for each token.
///
/// - `ids`: `[N]`, below V: they are not read here, so the caller has checked them
/// - `table`: `[V, D]`; `out`: `[N, D]`
///
/// # Errors
/// `Shape` if `out` is not a row for each id.
pub fn token_rows(
    ids: View<'_, u32>,
    table: View<'_, f32>,
    width: usize,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    check_rows(TOKEN_ROWS, "table", table.len(), width)?;
    check_length(TOKEN_ROWS, "out", out.len(), ids.len().saturating_mul(width))?;
    let defines = [("PER_LANE", PER_LANE[0] as i64), ("GELU", 0), ("OUT_BF16", 0)];
    let kernel = ids.gpu().kernel(&SOURCE, TOKEN_ROWS, &defines)?;
    let arguments = Arguments::new().array(&ids).array(&table).output(out).u32(width as u32);
    // SAFETY: out holds a row for each id; ids are below the table's rows as the caller has checked.
    unsafe { kernel.launch(LaunchShape::line(ids.len(), 128), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray};
    use crate::ops::gelu::gelu;
    use crate::ops::layer_norm::layer_norm;

    #[test]
    fn rows_are_normalised_activated_and_added_as_on_the_cpu() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 1), (9, 24), (3, 129), (2, 1030)] {
                let (x, given) = (draw(1, rows * width), draw(2, rows * width));
                let (weight, bias) = (draw(3, width), draw(4, width));
                let mut expected = vec![0.0; x.len()];
                layer_norm(&x, &weight, Some(&bias), 1e-5, &mut expected).unwrap();
                let added: Vec<f32> = expected.iter().zip(&given).map(|(x, y)| x + y).collect();
                let array = |values: &[f32]| DeviceArray::from_slice(gpu, values);
                let (x, mut sum) = (array(&x)?, array(&given)?);
                let (weight, bias) = (array(&weight)?, array(&bias)?);
                let norm = Norm { weight: weight.view(), bias: Some(bias.view()), eps: 1e-5 };
                let mut out = DeviceArray::<f32>::new(gpu, x.len())?;
                let (mut sum, mut out_view) = (sum.view_mut(), out.view_mut());
                branch_norm(x.view(), norm, false, Some(&mut sum), Some(&mut out_view))?;
                assert_close(&sum.view().to_vec()?, &added, 4e-6);
                assert_eq!(out.to_vec()?, sum.view().to_vec()?);
                gelu(&mut expected);
                let mut rounded = DeviceArray::<Bf16>::new(gpu, x.len())?;
                branch_norm(x.view(), norm, true, None, Some(&mut rounded.view_mut()))?;
                let rounded: Vec<f32> = rounded.to_vec()?.iter().map(|x| x.to_f32()).collect();
                assert_close(&rounded, &expected, 4e-3);
            }
            Ok(())
        });
    }

    #[test]
    fn rows_of_tokens_are_those_of_the_table() {
        for_each_device(|gpu| {
            let table = DeviceArray::from_slice(gpu, &draw(1, 3 * 130))?;
            let ids = DeviceArray::from_slice(gpu, &[2_u32, 0, 2])?;
            let mut out = DeviceArray::<f32>::new(gpu, 3 * 130)?;
            token_rows(ids.view(), table.view(), 130, &mut out.view_mut())?;
            let (table, out) = (table.to_vec()?, out.to_vec()?);
            assert_eq!(
                [&out[..130], &out[130..260], &out[260..]],
                [&table[260..], &table[..130], &table[260..]]
            );
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::<f32>::zeros(gpu, 4096)?;
            let norm = |width| {
                let weight = x.view().part(0..width);
                Norm { weight, bias: None, eps: 1e-5 }
            };
            let none = None::<&mut ViewMut<'_, f32>>;
            assert!(branch_norm(x.view(), norm(3), false, None, none).is_err());
            let mut short = DeviceArray::<f32>::zeros(gpu, 8)?;
            let short = Some(&mut short.view_mut());
            assert!(branch_norm(x.view(), norm(8), false, None, short).is_err());
            Ok(())
        });
    }
}
