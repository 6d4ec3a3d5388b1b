//! Activation functions of layers, and their gradients.
//!
//! Leaves out: what comes before or after them in one pass. Invariant: each value is made by the
//! same chain here and in fused passes, on every instruction set.

pub mod cuda;

use crate::error::{Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::lanes;
use crate::ops::exp::exp_of;
use crate::ops::gelu::{gelu_of, gelu_slope_of};
use crate::ops::sigmoid::sigmoid_of;
use crate::ops::silu::silu_of;
use crate::ops::softmax::exp_row_of;
use crate::ops::tanh::tanh_of;
use crate::parallel;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The input itself.
    Linear,
    /// `max(x, 0)`; its derivative at 0 is 0.
    Relu,
    /// `x sigmoid(x)`.
    Silu,
    /// `exp(x)`, without a bound.
    Exponential,
    /// Softmax over the channels of each row.
    Softmax,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Gaussian error linear unit, the exact form with erf.
    Gelu,
}

/// A function of each element alone.
pub(crate) trait Element {
    /// The function.
    fn value(x: f32) -> f32;
    /// Gradient of the input `x` from that of the output `y`.
    fn back(x: f32, y: f32, dy: f32) -> f32;
}

macro_rules! element {
    ($name:ident, |$x:ident| $value:expr, |$at:ident, $y:ident, $dy:ident| $back:expr) => {
        pub(crate) struct $name;
        impl Element for $name {
            #[inline(always)]
            fn value($x: f32) -> f32 {
                $value
            }
            #[inline(always)]
            fn back($at: f32, $y: f32, $dy: f32) -> f32 {
                $back
            }
        }
    };
}

element!(Linear, |x| x, |_x, _y, dy| dy);
element!(Relu, |x| if x <= 0.0 { 0.0 } else { x }, |x, _y, dy| if x > 0.0 { dy } else { 0.0 });
element!(Silu, |x| silu_of(x), |x, y, dy| {
    let s = sigmoid_of(x);
    dy * y.mul_add(1.0 - s, s)
});
element!(Exponential, |x| exp_of(x), |_x, y, dy| dy * y);
element!(Sigmoid, |x| sigmoid_of(x), |_x, y, dy| dy * (y * (1.0 - y)));
element!(Tanh, |x| tanh_of(x), |_x, y, dy| dy * y.mul_add(-y, 1.0));
element!(Gelu, |x| gelu_of(x), |x, _y, dy| dy * gelu_slope_of(x));

/// Runs `$body` with `$name` bound to the element of a function; softmax, which has none, runs nothing.
macro_rules! with_element {
    ($function:expr, $name:ident => $body:expr) => {{
        use $crate::ops::function as f;
        match $function {
            f::Function::Linear => {
                type $name = f::Linear;
                $body
            }
            f::Function::Relu => {
                type $name = f::Relu;
                $body
            }
            f::Function::Silu => {
                type $name = f::Silu;
                $body
            }
            f::Function::Exponential => {
                type $name = f::Exponential;
                $body
            }
            f::Function::Sigmoid => {
                type $name = f::Sigmoid;
                $body
            }
            f::Function::Tanh => {
                type $name = f::Tanh;
                $body
            }
            f::Function::Gelu => {
                type $name = f::Gelu;
                $body
            }
            f::Function::Softmax => {}
        }
    }};
}

/// Writes the function of `x`.
///
/// - `x`, `out`: `[N, width]`; the width matters to softmax alone
///
/// # Errors
/// `Shape` if `x` is not whole rows or `out` does not fit.
pub fn apply(function: Function, width: usize, x: &[f32], out: &mut [f32]) -> Result<()> {
    const OP: &str = "apply";
    check_rows(OP, "x", x.len(), width)?;
    check_length(OP, "out", out.len(), x.len())?;
    let isa = Isa::best();
    parallel::for_rows(out, width, |first, out| {
        let x = &x[first * width..][..out.len()];
        match function {
            Function::Softmax => softmax_part(isa, width, x, out),
            _ => apply_part(isa, function, x, out),
        }
    });
    Ok(())
}

per_isa!(fn apply_part(function: Function, x: &[f32], out: &mut [f32]) = apply_all);

#[inline(always)]
fn apply_all(function: Function, x: &[f32], out: &mut [f32]) {
    with_element!(function, E => for (out, &x) in out.iter_mut().zip(x) {
        *out = <E as Element>::value(x);
    });
}

per_isa!(
    /// Replaces elements by their function, which is not softmax, on this thread alone.
    pub(crate) fn replace_part(function: Function, x: &mut [f32]) = replace_all
);

#[inline(always)]
fn replace_all(function: Function, x: &mut [f32]) {
    with_element!(function, E => for x in x {
        *x = <E as Element>::value(*x);
    });
}

per_isa!(fn softmax_part(width: usize, x: &[f32], out: &mut [f32]) = softmax_rows);

#[inline(always)]
fn softmax_rows(width: usize, x: &[f32], out: &mut [f32]) {
    out.copy_from_slice(x);
    for row in out.chunks_exact_mut(width) {
        let sum = exp_row_of(row);
        row.iter_mut().for_each(|value| *value /= sum);
    }
}

/// Writes the gradient of the function's input from that of its output.
///
/// ```text
/// dx[n,i] = sum_j dy[n,j] d y[n,j] / d x[n,i]
/// ```
///
/// - `x`: input; `y`: output as [`apply`] wrote it; `dy`, `dx`: gradients; `[N, width]` each
///
/// # Errors
/// `Shape` if `x` is not whole rows or the others do not fit.
pub fn gradient(
    function: Function,
    width: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    const OP: &str = "gradient";
    check_rows(OP, "x", x.len(), width)?;
    for (operand, length) in [("y", y.len()), ("dy", dy.len()), ("dx", dx.len())] {
        check_length(OP, operand, length, x.len())?;
    }
    let isa = Isa::best();
    parallel::for_rows(dx, width, |first, dx| {
        let values = first * width..first * width + dx.len();
        let (x, y, dy) = (&x[values.clone()], &y[values.clone()], &dy[values]);
        match function {
            Function::Softmax => softmax_back(isa, width, y, dy, dx),
            _ => gradient_part(isa, function, (x, y), dy, dx),
        }
    });
    Ok(())
}

per_isa!(
    /// [`gradient`] of a function that is not softmax, on this thread alone.
    pub(crate) fn gradient_part(function: Function, given: (&[f32], &[f32]), dy: &[f32], dx: &mut [f32]) = gradient_all
);

#[inline(always)]
fn gradient_all(function: Function, (x, y): (&[f32], &[f32]), dy: &[f32], dx: &mut [f32]) {
    with_element!(function, E => for (((dx, &x), &y), &dy) in dx.iter_mut().zip(x).zip(y).zip(dy) {
        *dx = <E as Element>::back(x, y, dy);
    });
}

per_isa!(fn softmax_back(width: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) = softmax_back_rows);

/// `dx = y (dy - sum_j y dy)`
#[inline(always)]
fn softmax_back_rows(width: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let rows = y.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = y * dy;
        }
        let sum = lanes::sum(dx, |sum, x| sum + x);
        for (dx, &y) in dx.iter_mut().zip(y) {
            *dx = y.mul_add(-sum, *dx);
        }
    }
}

#[cfg(test)]
mod tests;
