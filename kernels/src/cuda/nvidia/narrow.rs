//! Values rounded to bf16: a bias in the type that the library adds to bf16 results.
//!
//! Leaves out: what they are added to (`products`). Invariant: nearest, ties to even, as everywhere.

use crate::cuda::array::View;
use crate::cuda::driver::{Driver, Module};
use crate::cuda::launch::{Arguments, Budget, Instance, LaunchShape, Source};
use crate::error::Result;
use std::sync::Arc;

const THREADS: u32 = 256;

/// The kernel's text.
pub(crate) static NARROW: Source = Source {
    name: "narrow",
    text: include_str!("narrow.cu"),
    kernels: &["narrow"],
    instances: &[Instance {
        defines: &[("THREADS", THREADS as i64)],
        budgets: &[Budget { kernel: "narrow", registers: 16, shared_bytes: 0 }],
    }],
};

/// The kernel on a device.
pub(super) fn load(driver: &dyn Driver) -> Result<Arc<dyn Module>> {
    driver.load(&NARROW, &[("THREADS", i64::from(THREADS))])
}

/// Rounds the values of `x` to the memory at `out`.
///
/// # Safety
/// There must be room for as many bf16 values.
pub(super) unsafe fn launch(module: &dyn Module, x: &View<'_, f32>, out: u64) -> Result<()> {
    let shape = LaunchShape::line(x.len().div_ceil(THREADS as usize), THREADS);
    let arguments = Arguments::new().array(x).u64(out).u32(x.len() as u32);
    // SAFETY: a thread reads one value of x and writes one of out; the caller's promise for out.
    unsafe { module.launch("narrow", &shape, arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::cuda::{Bf16, DeviceArray};

    #[test]
    fn values_are_rounded_to_the_nearest() {
        for_each_device(|gpu| {
            let drawn = draw(5, 515);
            let x = DeviceArray::from_slice(gpu, &drawn)?;
            let mut out = DeviceArray::<Bf16>::new(gpu, 515)?;
            let place = Arguments::new().output(&out.view_mut()).0[0];
            // SAFETY: out is as long as x.
            unsafe { launch(load(gpu.driver())?.as_ref(), &x.view(), place)? };
            let expected: Vec<Bf16> = drawn.iter().map(|x| Bf16::from_f32(*x)).collect();
            assert_eq!(out.to_vec()?, expected);
            Ok(())
        });
    }
}
