//! Activations of a feed-forward part on a device.
//!
//! Leaves out: the maps around them. Invariant: an element's result depends on that element, its gate and their biases alone.

use crate::cuda::{Arguments, Budget, Instance, Number, Source, View, ViewMut};
use crate::error::{Result, check_length, check_rows};
use crate::ops::vectors::{THREADS, is_wide, shape_of};

const OP: &str = "activation";
/// Vectors of a thread.
const ITEMS: usize = 2;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../activation.cu"),
    kernels: &[OP],
    instances: &[
        // What models ask for: f32, bf16, and f32 products rounded on the way.
        instance(&defines([0, 0, 4, 0, 0])),
        instance(&defines([0, 0, 4, 1, 0])),
        instance(&defines([0, 0, 4, 0, 1])),
        instance(&defines([0, 0, 4, 2, 1])),
        instance(&defines([1, 1, 8, 0, 0])),
        instance(&defines([1, 1, 8, 1, 0])),
        instance(&defines([1, 1, 8, 0, 1])),
        instance(&defines([1, 1, 8, 2, 1])),
        instance(&defines([0, 1, 8, 0, 0])),
        instance(&defines([0, 1, 8, 2, 1])),
        // Rows that are not aligned.
        instance(&defines([0, 0, 1, 0, 1])),
        instance(&defines([1, 1, 1, 2, 1])),
    ],
};

const fn defines(values: [i64; 5]) -> [(&'static str, i64); 6] {
    let [input, out, width, function, gated] = values;
    [
        ("IN", input),
        ("OUT", out),
        ("WIDTH", width),
        ("ITEMS", ITEMS as i64),
        ("FUNCTION", function),
        ("GATED", gated),
    ]
}

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 64, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGET }
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// [`gelu`](crate::ops::gelu::gelu)
    Gelu,
    /// [`gelu_tanh`](crate::ops::gelu_tanh::gelu_tanh)
    GeluTanh,
    /// [`silu`](crate::ops::silu::silu)
    Silu,
}

impl Function {
    /// The value of `FUNCTION`.
    fn code(self) -> i64 {
        match self {
            Self::Gelu => 0,
            Self::GeluTanh => 1,
            Self::Silu => 2,
        }
    }
}

/// Adds a bias and applies a function.
///
/// ```text
/// out[n,f] = g(x[n,f] + bias[f])
/// ```
///
/// - `x`, `out`: `[N, F]`
/// - `bias`: `[F]`, F by `width`
///
/// f32 results have the bits of the CPU; those of 16 bits agree within their rounding.
///
/// # Errors
/// `Shape` if `x` is not whole rows of F, or `bias` or `out` do not fit.
pub fn activation<I: Number, O: Number>(
    x: View<'_, I>,
    bias: Option<View<'_, f32>>,
    width: usize,
    function: Function,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "out", out.len(), x.len())?;
    check_bias(bias.as_ref(), width)?;
    launch(x.address(), I::CODE, bias, Form { width, function, gated: false }, out)
}

/// As [`activation`], in place.
///
/// # Errors
/// As [`activation`].
pub fn activation_in_place<T: Number>(
    x: &mut ViewMut<'_, T>,
    bias: Option<View<'_, f32>>,
    width: usize,
    function: Function,
) -> Result<()> {
    check_rows(OP, "x", x.len(), width)?;
    check_bias(bias.as_ref(), width)?;
    launch(x.address(), T::CODE, bias, Form { width, function, gated: false }, x)
}

/// Adds a bias, and multiplies values with a function of their gates.
///
/// ```text
/// out[n,f] = g(x[n,f] + bias[f]) (x[n,F+f] + bias[F+f])
/// ```
///
/// - `x`: `[N, 2F]`, gates first
/// - `bias`: `[2F]`
/// - `out`: `[N, F]`, F by `width`
///
/// # Errors
/// As [`activation`].
pub fn gated_activation<I: Number, O: Number>(
    x: View<'_, I>,
    bias: Option<View<'_, f32>>,
    width: usize,
    function: Function,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    let rows = check_rows(OP, "x", x.len(), width.saturating_mul(2))?;
    check_length(OP, "out", out.len(), rows.saturating_mul(width))?;
    check_bias(bias.as_ref(), width.saturating_mul(2))?;
    launch(x.address(), I::CODE, bias, Form { width, function, gated: true }, out)
}

fn check_bias(bias: Option<&View<'_, f32>>, width: usize) -> Result<()> {
    check_length(OP, "bias", bias.map_or(width, View::len), width)
}

struct Form {
    width: usize,
    function: Function,
    gated: bool,
}

/// `x` is the address of rows that fit `out` by the form.
fn launch<O: Number>(
    x: u64,
    input: i64,
    bias: Option<View<'_, f32>>,
    form: Form,
    out: &mut ViewMut<'_, O>,
) -> Result<()> {
    // 16 bytes of the narrower type.
    let widest = if input == 0 && O::CODE == 0 { 4 } else { 8 };
    let at = bias.as_ref().map_or(0, View::address);
    let each = if is_wide(form.width, widest, &[x, out.address(), at]) { widest } else { 1 };
    let (function, gated) = (form.function.code(), i64::from(form.gated));
    let defines = defines([input, O::CODE, each as i64, function, gated]);
    let kernel = out.gpu().kernel(&SOURCE, OP, &defines)?;
    let count = out.len() / each;
    let shape = shape_of(OP, count, THREADS as usize * ITEMS)?;
    let arguments = Arguments::new()
        .u64(x)
        .optional(bias.as_ref())
        .output(out)
        .u32(count as u32)
        .u32(form.width as u32);
    // SAFETY: x and out hold as many rows, of the width and twice it where gated; bias one.
    unsafe { kernel.launch(shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray, Gpu};
    use crate::ops::{gelu::gelu, gelu_tanh::gelu_tanh, silu::silu};

    type OnCpu = fn(&mut [f32]);
    const FUNCTIONS: [(Function, OnCpu); 3] =
        [(Function::Gelu, gelu), (Function::GeluTanh, gelu_tanh), (Function::Silu, silu)];

    fn rounded(gpu: &Gpu, values: &[f32]) -> Result<DeviceArray<Bf16>> {
        let values: Vec<Bf16> = values.iter().map(|&x| Bf16::from_f32(x)).collect();
        DeviceArray::from_slice(gpu, &values)
    }

    fn widened(values: &DeviceArray<Bf16>) -> Result<Vec<f32>> {
        Ok(values.to_vec()?.iter().map(|x| x.to_f32()).collect())
    }

    /// Of both ends and the middle of each function.
    fn drawn(seed: u64, count: usize) -> Vec<f32> {
        let values = draw(seed, count);
        let spread = |(i, x): (usize, f32)| x * [0.1, 1.0, 4.0, 15.0, 120.0][i % 5];
        values.into_iter().enumerate().map(spread).collect()
    }

    #[test]
    fn f32_results_have_the_bits_of_the_cpu() {
        for_each_device(|gpu| {
            for ((rows, width), (function, on_cpu)) in
                [(1, 1), (3, 37), (5, 256)].into_iter().flat_map(|s| FUNCTIONS.map(|f| (s, f)))
            {
                let (x, bias) = (drawn(1, rows * width), draw(2, width));
                let biases = bias.iter().cycle();
                let mut expected: Vec<f32> = x.iter().zip(biases).map(|(x, b)| x + b).collect();
                on_cpu(&mut expected);
                let bias = DeviceArray::from_slice(gpu, &bias)?;
                let x = DeviceArray::from_slice(gpu, &x)?;
                let mut out = DeviceArray::<f32>::new(gpu, x.len())?;
                activation(x.view(), Some(bias.view()), width, function, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected, "{function:?}");
            }
            Ok(())
        });
    }

    #[test]
    fn gates_multiply_and_have_the_bits_of_the_cpu() {
        for_each_device(|gpu| {
            for ((rows, width), (function, on_cpu)) in
                [(2, 7), (3, 200)].into_iter().flat_map(|s| FUNCTIONS.map(|f| (s, f)))
            {
                let x = drawn(3, rows * 2 * width);
                let mut expected = Vec::new();
                for row in x.chunks(2 * width) {
                    let mut gates = row[..width].to_vec();
                    on_cpu(&mut gates);
                    expected.extend(gates.iter().zip(&row[width..]).map(|(g, x)| g * x));
                }
                let x = DeviceArray::from_slice(gpu, &x)?;
                let mut out = DeviceArray::<f32>::new(gpu, rows * width)?;
                gated_activation(x.view(), None, width, function, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected, "{function:?}");
            }
            Ok(())
        });
    }

    #[test]
    fn results_of_16_bits_are_the_rounded_ones() {
        for_each_device(|gpu| {
            for ((rows, width), (function, on_cpu)) in
                [(1, 3), (4, 520)].into_iter().flat_map(|s| FUNCTIONS.map(|f| (s, f)))
            {
                let x: Vec<f32> = draw(4, rows * width).iter().map(|x| 6.0 * x).collect();
                let device = rounded(gpu, &x)?;
                let mut expected = widened(&device)?;
                on_cpu(&mut expected);
                let mut out = DeviceArray::<Bf16>::new(gpu, x.len())?;
                activation(device.view(), None, width, function, &mut out.view_mut())?;
                let found = widened(&out)?;
                // Half a place of 8 bits, and the short form's error.
                for (found, expected) in found.iter().zip(&expected) {
                    let allowed = expected.abs() / 256.0 + 2e-6;
                    assert!((found - expected).abs() <= allowed, "{found} {expected}");
                }
                let mut in_place = rounded(gpu, &x)?;
                activation_in_place(&mut in_place.view_mut(), None, width, function)?;
                assert_eq!(in_place.to_vec()?, out.to_vec()?);
            }
            Ok(())
        });
    }

    #[test]
    fn gates_of_16_bits_add_their_biases_and_round_once() {
        for_each_device(|gpu| {
            for (rows, width) in [(3, 5), (3, 64)] {
                let (x, bias) = (draw(5, rows * 2 * width), draw(6, 2 * width));
                let mut expected = Vec::new();
                for row in x.chunks(2 * width) {
                    let sum: Vec<f32> = row.iter().zip(&bias).map(|(x, b)| x + b).collect();
                    let mut gates = sum[..width].to_vec();
                    silu(&mut gates);
                    expected.extend(gates.iter().zip(&sum[width..]).map(|(g, x)| g * x));
                }
                let (x, bias) =
                    (DeviceArray::from_slice(gpu, &x)?, DeviceArray::from_slice(gpu, &bias)?);
                let mut out = DeviceArray::<Bf16>::new(gpu, rows * width)?;
                let bias = Some(bias.view());
                gated_activation(x.view(), bias, width, Function::Silu, &mut out.view_mut())?;
                assert_close(&widened(&out)?, &expected, 3e-3);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[1.0_f32; 6])?;
            let bias = DeviceArray::from_slice(gpu, &[1.0_f32; 3])?;
            let mut out = DeviceArray::<f32>::new(gpu, 6)?;
            let mut refused = |bias, width, gated| {
                let run = if gated { gated_activation } else { activation };
                run(x.view(), bias, width, Function::Gelu, &mut out.view_mut()).is_err()
            };
            assert!(!refused(Some(bias.view()), 3, false) && refused(Some(bias.view()), 2, false));
            assert!(refused(None, 4, false) && refused(None, 0, false) && refused(None, 3, true));
            let mut empty = DeviceArray::<f32>::new(gpu, 0)?;
            activation_in_place(&mut empty.view_mut(), None, 3, Function::Gelu)
        });
    }
}
