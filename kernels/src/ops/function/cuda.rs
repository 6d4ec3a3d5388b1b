//! Activation functions on a device.
//!
//! Leaves out: formulas (`function`). Invariant: element functions are the CPU's chains; a row of softmax depends on that row alone.

use super::Function;
use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count};
use crate::error::{Result, check_length, check_rows};

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: "function",
    text: concat!(
        include_str!("../../cuda/device/functions.cuh"),
        "\n#line 1 \"function.cu\"\n",
        include_str!("../function.cu")
    ),
    kernels: &["apply", "gradient", "softmax", "softmax_gradient"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "apply", registers: 40, shared_bytes: 0 },
    Budget { kernel: "gradient", registers: 40, shared_bytes: 0 },
    Budget { kernel: "softmax", registers: 40, shared_bytes: 0 },
    Budget { kernel: "softmax_gradient", registers: 40, shared_bytes: 0 },
];

/// Rows of a block of softmax: one for each warp.
const ROWS: usize = 8;

/// The number of a function in `functions.cuh`; softmax has none there.
pub(crate) fn number(function: Function) -> u32 {
    match function {
        Function::Linear | Function::Softmax => 0,
        Function::Relu => 1,
        Function::Silu => 2,
        Function::Exponential => 3,
        Function::Sigmoid => 4,
        Function::Tanh => 5,
        Function::Gelu => 6,
    }
}

/// Writes the function of `x`; as [`apply`](super::apply).
///
/// # Errors
/// `Shape` if `x` is not whole rows or `out` does not fit.
pub fn apply(
    function: Function,
    width: usize,
    x: View<'_, f32>,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "apply";
    let rows = check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "out", out.len(), x.len())?;
    let count = check_count(OP, "x", x.len())?;
    let arguments = Arguments::new().array(&x).output(out);
    if function == Function::Softmax {
        let arguments = arguments.u32(rows as u32).u32(width as u32);
        let kernel = out.gpu().kernel(&SOURCE, "softmax", &[])?;
        // SAFETY: x and out hold `rows` rows of `width`; a warp stays in its row.
        return unsafe { kernel.launch(LaunchShape::line(rows.div_ceil(ROWS), 256), arguments) };
    }
    let arguments = arguments.u32(count).u32(number(function));
    let kernel = out.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: x and out hold `count` values.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

/// Writes the gradient of the function's input; as [`gradient`](super::gradient).
///
/// - `given`: input `x` and output `y`; softmax reads `y` alone
///
/// # Errors
/// `Shape` if `x` is not whole rows or the others do not fit.
pub fn gradient(
    function: Function,
    width: usize,
    (x, y): (View<'_, f32>, View<'_, f32>),
    dy: View<'_, f32>,
    dx: &mut ViewMut<'_, f32>,
) -> Result<()> {
    const OP: &str = "gradient";
    let rows = check_rows(OP, "x", x.len(), width)?;
    for (operand, length) in [("y", y.len()), ("dy", dy.len()), ("dx", dx.len())] {
        check_length(OP, operand, length, x.len())?;
    }
    let count = check_count(OP, "x", x.len())?;
    if function == Function::Softmax {
        let arguments =
            Arguments::new().array(&y).array(&dy).output(dx).u32(rows as u32).u32(width as u32);
        let kernel = dx.gpu().kernel(&SOURCE, "softmax_gradient", &[])?;
        // SAFETY: all hold `rows` rows of `width`; a warp stays in its row.
        return unsafe { kernel.launch(LaunchShape::line(rows.div_ceil(ROWS), 256), arguments) };
    }
    let arguments = Arguments::new().array(&x).array(&y).array(&dy).output(dx);
    let arguments = arguments.u32(count).u32(number(function));
    let kernel = dx.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: all hold `count` values.
    unsafe { kernel.launch(LaunchShape::elements(dx.len()), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::function as on_cpu;

    const FUNCTIONS: [Function; 8] = [
        Function::Linear,
        Function::Relu,
        Function::Silu,
        Function::Exponential,
        Function::Softmax,
        Function::Sigmoid,
        Function::Tanh,
        Function::Gelu,
    ];

    #[test]
    fn values_and_gradients_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (function, (rows, width)) in FUNCTIONS.into_iter().zip([
                (1, 1),
                (3, 130),
                (9, 33),
                (17, 3),
                (11, 130),
                (2, 513),
                (5, 7),
                (1, 1030),
            ]) {
                let count = rows * width;
                let mut x: Vec<f32> = draw(1, count).iter().map(|x| 6.0 * x).collect();
                x[0] = 0.0;
                let dy = draw(2, count);
                let (mut y, mut dx) = (vec![0.0; count], vec![0.0; count]);
                on_cpu::apply(function, width, &x, &mut y).unwrap();
                on_cpu::gradient(function, width, &x, &y, &dy, &mut dx).unwrap();
                let (x, dy) =
                    (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &dy)?);
                let mut out = DeviceArray::new(gpu, count)?;
                apply(function, width, x.view(), &mut out.view_mut())?;
                assert_close(&out.to_vec()?, &y, 1e-6);
                let mut found = DeviceArray::new(gpu, count)?;
                let given = (x.view(), out.view());
                gradient(function, width, given, dy.view(), &mut found.view_mut())?;
                assert_close(&found.to_vec()?, &dx, 1e-6);
            }
            Ok(())
        });
    }

    #[test]
    fn far_ends_and_not_a_number_are_those_of_the_cpu() {
        let x = [f32::INFINITY, f32::NEG_INFINITY, 200.0, -200.0, -0.0, f32::NAN, 88.8, -87.4];
        for_each_device(|gpu| {
            let device = DeviceArray::from_slice(gpu, &x)?;
            for function in FUNCTIONS.into_iter().filter(|f| *f != Function::Softmax) {
                let mut expected = x;
                on_cpu::apply(function, 1, &x, &mut expected).unwrap();
                let mut out = DeviceArray::new(gpu, x.len())?;
                apply(function, 1, device.view(), &mut out.view_mut())?;
                for (found, expected) in out.to_vec()?.iter().zip(expected) {
                    let is_nan = found.is_nan() && expected.is_nan();
                    assert!(is_nan || *found == expected, "{function:?}: {found} {expected}");
                }
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[0.0_f32; 4])?;
            let mut out = DeviceArray::<f32>::new(gpu, 3)?;
            assert!(apply(Function::Relu, 1, x.view(), &mut out.view_mut()).is_err());
            assert!(apply(Function::Relu, 3, x.view(), &mut out.view_mut()).is_err());
            let given = (x.view(), x.view());
            assert!(gradient(Function::Relu, 1, given, x.view(), &mut out.view_mut()).is_err());
            Ok(())
        });
    }
}
