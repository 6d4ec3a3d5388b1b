//! Gradients of layer normalisation on a device.
//!
//! Leaves out: the map itself. Invariant: a row's input gradient depends on that row alone; sums over rows are merged in an order
//! that their number alone decides.

use crate::cuda::{
    Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count, check_scratch,
};
use crate::error::{Result, check_length, check_rows};
use crate::ops::norm_block::cuda::BlockGradient;
use crate::slices;

const OP: &str = "layer_norm_gradient";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: concat!(
        include_str!("../../cuda/device/slices.cuh"),
        "\n#line 1 \"layer_norm_gradient.cu\"\n",
        include_str!("../layer_norm_gradient.cu")
    ),
    kernels: &["layer_norm_back", "layer_norm_slices", "layer_norm_merge"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "layer_norm_back", registers: 40, shared_bytes: 0 },
    Budget { kernel: "layer_norm_slices", registers: 48, shared_bytes: 1024 },
    Budget { kernel: "layer_norm_merge", registers: 40, shared_bytes: 2048 },
];

/// Values of scratch memory that gradients over `rows` rows of `width` values need.
pub fn scratch_values(rows: usize, width: usize) -> usize {
    let partial = rows.div_ceil(slices::ROWS).saturating_mul(width);
    partial.saturating_add(rows).saturating_mul(2)
}

/// Writes the gradients; as [`layer_norm_gradient`](super::layer_norm_gradient).
///
/// - `given`: `x` and `dy`, `[N, D]`
/// - `gamma`: `[D]`
/// - `scratch`: [`scratch_values`] or more
///
/// # Errors
/// `Shape` if `x` is not whole rows of D, or the others do not fit.
pub fn layer_norm_gradient(
    (x, dy): (View<'_, f32>, View<'_, f32>),
    gamma: View<'_, f32>,
    epsilon: f32,
    gradient: BlockGradient<'_, '_>,
    scratch: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let width = gamma.len();
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_count(OP, "x", x.len())?;
    check_length(OP, "dy", dy.len(), x.len())?;
    check_length(OP, "dx", gradient.dx.as_ref().map_or(x.len(), |dx| dx.len()), x.len())?;
    check_length(OP, "dgamma", gradient.dgamma.len(), width)?;
    check_length(OP, "dbeta", gradient.dbeta.len(), width)?;
    check_scratch(OP, scratch.len(), scratch_values(rows, width))?;
    let slices = rows.div_ceil(slices::ROWS);
    let of_rows = scratch.part(0..2 * rows).address();
    let partial = scratch.part(2 * rows..2 * (rows + slices * width));
    let arguments = Arguments::new()
        .array(&x)
        .array(&dy)
        .array(&gamma)
        .optional_output(gradient.dx.as_deref())
        .u64(of_rows)
        .u32(rows as u32)
        .u32(width as u32)
        .f32(epsilon);
    let kernel = x.gpu().kernel(&SOURCE, "layer_norm_back", &[])?;
    // SAFETY: x, dy and dx hold `rows` rows, scratch two values of each; a warp stays in its row.
    unsafe { kernel.launch(LaunchShape::line(rows.div_ceil(8), 256), arguments)? };
    let arguments = Arguments::new()
        .array(&x)
        .array(&dy)
        .u64(of_rows)
        .output(&partial)
        .u32(rows as u32)
        .u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "layer_norm_slices", &[])?;
    // SAFETY: scratch holds two values of each slice and channel behind those of the rows.
    unsafe { kernel.launch(LaunchShape::columns(width, slices, 4), arguments)? };
    let arguments = Arguments::new()
        .output(&partial)
        .output(gradient.dgamma)
        .output(gradient.dbeta)
        .u32(slices as u32)
        .u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "layer_norm_merge", &[])?;
    // SAFETY: as above.
    unsafe { kernel.launch(LaunchShape::columns(width, 1, 8), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::batch_norm::NormGradient;
    use crate::ops::layer_norm_gradient::layer_norm_gradient as on_cpu;

    #[test]
    fn gradients_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (rows, width) in [(1, 2), (9, 7), (130, 3), (3, 130)] {
                let (x, dy) = (draw(1, rows * width), draw(2, rows * width));
                let gamma = draw(3, width);
                let (mut dx, mut dgamma) = (vec![0.0; x.len()], vec![0.0; width]);
                let mut dbeta = dgamma.clone();
                let places =
                    NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
                on_cpu(&x, &dy, &gamma, 1e-3, places).unwrap();
                let arrays = [&x, &dy, &gamma].map(|v| DeviceArray::from_slice(gpu, v).unwrap());
                let [x, dy, gamma] = &arrays;
                let mut scratch = DeviceArray::new(gpu, scratch_values(rows, width))?;
                let mut found = [DeviceArray::new(gpu, x.len())?, DeviceArray::new(gpu, width)?];
                let mut found_beta = DeviceArray::new(gpu, width)?;
                let [a, b] = &mut found;
                let gradient = BlockGradient {
                    dx: Some(&mut a.view_mut()),
                    dgamma: &mut b.view_mut(),
                    dbeta: &mut found_beta.view_mut(),
                };
                let given = (x.view(), dy.view());
                let scratch = &mut scratch.view_mut();
                layer_norm_gradient(given, gamma.view(), 1e-3, gradient, scratch)?;
                let [a, b] = &found;
                for (found, expected) in [(a, dx), (b, dgamma), (&found_beta, dbeta)] {
                    assert_close(&found.to_vec()?, &expected, 5e-6);
                }
            }
            Ok(())
        });
    }
}
