//! Conversion of numbers on a device.
//!
//! Leaves out: conversions inside other kernels. Invariant: an element's result depends on that element alone.

use crate::cuda::{Arguments, Budget, Instance, Number, Source, View, ViewMut};
use crate::error::{Result, check_length};
use crate::ops::vectors::{THREADS, is_wide, shape_of};

const OP: &str = "convert";
/// Values of a vector.
const WIDTH: usize = 8;
/// Vectors of a thread.
const ITEMS: usize = 4;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../convert.cu"),
    kernels: &[OP],
    instances: &[
        instance(&[("IN", 0), ("OUT", 0), ("WIDTH", 8)]),
        instance(&[("IN", 0), ("OUT", 1), ("WIDTH", 8)]),
        instance(&[("IN", 0), ("OUT", 2), ("WIDTH", 8)]),
        instance(&[("IN", 1), ("OUT", 0), ("WIDTH", 8)]),
        instance(&[("IN", 2), ("OUT", 0), ("WIDTH", 8)]),
        instance(&[("IN", 1), ("OUT", 2), ("WIDTH", 8)]),
        instance(&[("IN", 0), ("OUT", 2), ("WIDTH", 1)]),
    ],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 64, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGET }
}

/// Writes each number as one of another type, to nearest even.
///
/// - `x`, `out`: any shape
///
/// # Errors
/// `Shape` if they are not of one length.
pub fn convert<I: Number, O: Number>(x: View<'_, I>, out: &mut ViewMut<'_, O>) -> Result<()> {
    check_length(OP, "out", out.len(), x.len())?;
    // A rest of less than a vector is done by itself.
    let each = if is_wide(0, WIDTH, &[x.address(), out.address()]) { WIDTH } else { 1 };
    let defines = [("IN", I::CODE), ("OUT", O::CODE), ("WIDTH", each as i64)];
    let kernel = out.gpu().kernel(&SOURCE, OP, &defines)?;
    let shape = shape_of(OP, x.len().div_ceil(each), THREADS as usize * ITEMS)?;
    let arguments = Arguments::new().array(&x).output(out).u64(x.len() as u64);
    // SAFETY: both hold as many values as are counted.
    unsafe { kernel.launch(shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray, F16};

    #[test]
    fn numbers_are_rounded_once_and_widened_exactly() {
        for_each_device(|gpu| {
            for count in [0, 1, 7, 8, 8_195] {
                let given = draw(3, count);
                let x = DeviceArray::from_slice(gpu, &given)?;
                let mut short = DeviceArray::<Bf16>::new(gpu, count)?;
                convert(x.view(), &mut short.view_mut())?;
                let expected: Vec<Bf16> = given.iter().map(|&x| Bf16::from_f32(x)).collect();
                assert_eq!(short.to_vec()?, expected);
                let mut wide = DeviceArray::<f32>::new(gpu, count)?;
                convert(short.view(), &mut wide.view_mut())?;
                let widened: Vec<f32> = expected.iter().map(|x| x.to_f32()).collect();
                assert_eq!(wide.to_vec()?, widened);
            }
            Ok(())
        });
    }

    #[test]
    fn halves_are_the_nearest_wherever_they_begin() {
        for_each_device(|gpu| {
            let given =
                [1.0, -2.5, 65_504.0, 1e6, 5.960_464_5e-8, 1.000_488_3, 0.0, -0.0, 0.1, 3.0];
            let bits = [0x3c00, 0xc100, 0x7bff, 0x7c00, 0x0001, 0x3c00, 0, 0x8000, 0x2e66, 0x4200];
            for skipped in [0, 1] {
                let x = DeviceArray::from_slice(gpu, &given)?;
                let mut out = DeviceArray::<F16>::new(gpu, given.len())?;
                let part = skipped..given.len();
                convert(x.view().part(part.clone()), &mut out.view_mut().part(part.clone()))?;
                let expected: Vec<F16> = bits.map(F16).to_vec();
                assert_eq!(out.to_vec()?[part.clone()], expected[part]);
            }
            let x = DeviceArray::from_slice(gpu, &given)?;
            let mut out = DeviceArray::<F16>::new(gpu, 3)?;
            assert!(convert(x.view(), &mut out.view_mut()).is_err());
            Ok(())
        });
    }
}
