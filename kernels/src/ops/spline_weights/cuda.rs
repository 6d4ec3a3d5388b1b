//! Weighting of positions by splines on a device.
//!
//! Leaves out: penalties. Invariant: sums over sequences and positions are taken in order.

use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count};
use crate::error::{Result, check_length, check_rows};

const OP: &str = "spline_weights";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../spline_weights.cu"),
    kernels: &["factors", "weigh", "products", "combine"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "factors", registers: 40, shared_bytes: 0 },
    Budget { kernel: "weigh", registers: 32, shared_bytes: 0 },
    Budget { kernel: "products", registers: 40, shared_bytes: 0 },
    Budget { kernel: "combine", registers: 40, shared_bytes: 0 },
];

/// Writes the factor of each position and channel, `1 + sum_n basis[t,n] weights[n,c]`.
///
/// - `basis`: `[T, bases]`; `weights`: `[bases, width]`; `factors`: `[T, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn factors(
    basis: View<'_, f32>,
    weights: View<'_, f32>,
    width: usize,
    factors: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let bases = check_rows(OP, "weights", weights.len(), width)?;
    let length = check_rows(OP, "basis", basis.len(), bases)?;
    check_length(OP, "factors", factors.len(), length * width)?;
    let count = check_count(OP, "factors", factors.len())?;
    let arguments = Arguments::new().array(&basis).array(&weights).output(factors);
    let arguments = arguments.u32(count).u32(bases as u32).u32(width as u32);
    let kernel = basis.gpu().kernel(&SOURCE, "factors", &[])?;
    // SAFETY: extents were checked; a thread for each factor.
    unsafe { kernel.launch(LaunchShape::line(factors.len().div_ceil(256), 256), arguments) }
}

/// Multiplies every sequence by the factors: the map, and the gradient of its input.
///
/// - `x`, `out`: `[B, T, width]`; `factors`: `[T, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn weigh(x: View<'_, f32>, factors: View<'_, f32>, out: &mut ViewMut<'_, f32>) -> Result<()> {
    check_rows(OP, "x", x.len(), factors.len())?;
    check_length(OP, "out", out.len(), x.len())?;
    let count = check_count(OP, "x", x.len())?;
    let arguments = Arguments::new().array(&x).array(&factors).output(out);
    let arguments = arguments.u32(count).u32(factors.len() as u32);
    let kernel = x.gpu().kernel(&SOURCE, "weigh", &[])?;
    // SAFETY: x and out hold `count` values, whole sequences of factors.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Writes the gradient of the weights.
///
/// ```text
/// dweights[n,c] = sum_{b,t} basis[t,n] x[b,t,c] dy[b,t,c]
/// ```
///
/// - `given`: `x` and `dy`, `[B, T, width]`
/// - `products`: `[T, width]`, overwritten
/// - `dweights`: `[bases, width]`
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn weight_gradient(
    (x, dy): (View<'_, f32>, View<'_, f32>),
    basis: View<'_, f32>,
    width: usize,
    products: &mut ViewMut<'_, f64>,
    dweights: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let bases = check_rows(OP, "dweights", dweights.len(), width)?;
    let length = check_rows(OP, "basis", basis.len(), bases)?;
    check_length(OP, "products", products.len(), length * width)?;
    let sequences = check_rows(OP, "x", x.len(), products.len())?;
    check_length(OP, "dy", dy.len(), x.len())?;
    check_count(OP, "x", x.len())?;
    let arguments = Arguments::new().array(&x).array(&dy).output(products);
    let arguments = arguments.u32(sequences as u32).u32(products.len() as u32);
    let kernel = x.gpu().kernel(&SOURCE, "products", &[])?;
    // SAFETY: x and dy hold `sequences` sequences; a thread for each product.
    unsafe { kernel.launch(LaunchShape::line(products.len().div_ceil(256), 256), arguments)? };
    let arguments = Arguments::new().array(&basis).output(products).output(dweights);
    let arguments = arguments.u32(length as u32).u32(bases as u32).u32(width as u32);
    let kernel = x.gpu().kernel(&SOURCE, "combine", &[])?;
    // SAFETY: extents were checked; a thread for each weight.
    unsafe { kernel.launch(LaunchShape::line(dweights.len().div_ceil(256), 256), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::spline_weights::{basis, spline_weights, spline_weights_gradient};

    #[test]
    fn weighting_and_its_gradients_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (sequences, length, bases, width) in [(1, 4, 4, 1), (3, 11, 5, 3), (2, 20, 10, 130)]
            {
                let basis = basis(length, bases, 3);
                let x = draw(1, sequences * length * width);
                let (dy, weights) = (draw(2, x.len()), draw(3, bases * width));
                let (mut out, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                let mut dweights = vec![0.0; weights.len()];
                spline_weights(&x, &basis, &weights, width, &mut out).unwrap();
                let into = (Some(dx.as_mut_slice()), dweights.as_mut_slice());
                spline_weights_gradient((&x, &dy), &basis, &weights, width, into.0, into.1)
                    .unwrap();
                let arrays =
                    [&x, &dy, &weights, &basis].map(|v| DeviceArray::from_slice(gpu, v).unwrap());
                let [x, dy, weights, basis] = &arrays;
                let mut by = DeviceArray::new(gpu, length * width)?;
                factors(basis.view(), weights.view(), width, &mut by.view_mut())?;
                let mut found = DeviceArray::new(gpu, x.len())?;
                weigh(x.view(), by.view(), &mut found.view_mut())?;
                assert_close(&found.to_vec()?, &out, 1e-6);
                weigh(dy.view(), by.view(), &mut found.view_mut())?;
                assert_close(&found.to_vec()?, &dx, 1e-6);
                let mut products = DeviceArray::new(gpu, length * width)?;
                let mut found = DeviceArray::new(gpu, weights.len())?;
                let (products, into) = (&mut products.view_mut(), &mut found.view_mut());
                weight_gradient((x.view(), dy.view()), basis.view(), width, products, into)?;
                assert_close(&found.to_vec()?, &dweights, 1e-6);
            }
            Ok(())
        });
    }
}
