//! Dropout on a device.
//!
//! Leaves out: inference. Invariant: the mask of a seed, step and layer is the CPU's, bit for bit.

use super::DropoutMask;
use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count};
use crate::error::{Result, check_length};

const OP: &str = "dropout";

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: concat!(
        include_str!("../../cuda/device/philox.cuh"),
        "\n#line 1 \"dropout.cu\"\n",
        include_str!("../dropout.cu")
    ),
    kernels: &[OP],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[Budget { kernel: OP, registers: 32, shared_bytes: 0 }];

/// Names the masks of one layer in all steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerDropout {
    /// Which dropout of the network.
    pub layer: u32,
    /// Probability that an element is dropped, in 0..1.
    pub rate: f32,
}

impl LayerDropout {
    fn mask(&self) -> DropoutMask {
        DropoutMask { seed: 0, step: 0, layer: self.layer, rate: self.rate }
    }

    /// Elements whose bits are below it are dropped.
    pub(crate) fn threshold(&self) -> u32 {
        self.mask().threshold()
    }

    /// Factor of what is kept.
    pub(crate) fn scale(&self) -> f32 {
        self.mask().scale()
    }
}

/// Writes what the mask keeps of `x`; as [`dropout`](super::dropout).
///
/// - `draws`: seed and step, `[2]` or more
/// - `x`, `out`: of one length
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn dropout(
    drop: &LayerDropout,
    draws: View<'_, u64>,
    x: View<'_, f32>,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    check_length(OP, "out", out.len(), x.len())?;
    crate::cuda::check_scratch(OP, draws.len(), 2)?;
    let arguments = Arguments::new()
        .array(&x)
        .array(&draws)
        .output(out)
        .u32(check_count(OP, "x", x.len())?)
        .u32(drop.layer)
        .u32(drop.threshold())
        .f32(drop.scale());
    let kernel = out.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: x and out are of one length; there is a seed and a step.
    unsafe { kernel.launch(LaunchShape::elements(x.len()), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{draw, for_each_device};
    use crate::ops::dropout::dropout as on_cpu;

    #[test]
    fn masks_and_values_have_the_bits_of_the_cpu() {
        for_each_device(|gpu| {
            let steps = [(0, 0), (7, 1), (u64::MAX - 3, 1 << 40)];
            for ((seed, step), count) in steps.into_iter().zip([1, 1025, 5000]) {
                let x = draw(3, count);
                let device = DeviceArray::from_slice(gpu, &x)?;
                let draws = DeviceArray::from_slice(gpu, &[seed, step])?;
                for (layer, rate) in [(0, 0.2), (9, 0.5), (3, 1e-12)] {
                    let mut expected = vec![0.0; count];
                    on_cpu(&DropoutMask { seed, step, layer, rate }, &x, &mut expected).unwrap();
                    let mut out = DeviceArray::new(gpu, count)?;
                    let drop = LayerDropout { layer, rate };
                    dropout(&drop, draws.view(), device.view(), &mut out.view_mut())?;
                    assert_eq!(out.to_vec()?, expected, "{count} {layer} {rate}");
                }
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[0.0_f32; 4])?;
            let draws = DeviceArray::from_slice(gpu, &[0_u64; 2])?;
            let mut out = DeviceArray::<f32>::new(gpu, 3)?;
            let drop = LayerDropout { layer: 0, rate: 0.5 };
            assert!(dropout(&drop, draws.view(), x.view(), &mut out.view_mut()).is_err());
            let short = draws.view().part(0..1);
            assert!(dropout(&drop, short, x.view().part(0..3), &mut out.view_mut()).is_err());
            Ok(())
        });
    }
}
