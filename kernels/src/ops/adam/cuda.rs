//! One step of Adam on a device, over one flat array.
//!
//! Leaves out: penalties, which are in the gradient. Invariant: the step and the rate are read on the device, so that one recorded
//! launch serves every step.

use super::AdamStep;
use crate::cuda::{
    Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count, check_scratch,
};
use crate::error::{Result, check_length};

const OP: &str = "adam";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../adam.cu"),
    kernels: &["factors", OP],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: "factors", registers: 48, shared_bytes: 0 },
    Budget { kernel: OP, registers: 40, shared_bytes: 0 },
];

/// Factors of a step that [`adam`] reads.
pub const FACTORS: usize = 2;

/// Counts a step and finds what all weights share in it.
///
/// - `clock`: seed, steps taken, batches of the epoch done, `[3]`; the last two become one more
/// - `rate`: the learning rate, `[1]`
/// - `factors`: [`FACTORS`] values, overwritten
///
/// `form` says all but step and rate.
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn count_step(
    form: &AdamStep,
    clock: &mut ViewMut<'_, u64>,
    rate: View<'_, f32>,
    factors: &mut ViewMut<'_, f32>,
) -> Result<()> {
    check_length(OP, "clock", clock.len(), 3)?;
    check_length(OP, "rate", rate.len(), 1)?;
    check_length(OP, "factors", factors.len(), FACTORS)?;
    let decay = |beta: f64| if form.torch_form { beta } else { f64::from(beta as f32) };
    let arguments = Arguments::new()
        .output(clock)
        .array(&rate)
        .output(factors)
        .f64(decay(form.beta_1))
        .f64(decay(form.beta_2))
        .u32(u32::from(form.torch_form));
    let kernel = rate.gpu().kernel(&SOURCE, "factors", &[])?;
    // SAFETY: the lengths were checked.
    unsafe { kernel.launch(LaunchShape::line(1, 32), arguments) }
}

/// The arrays of a fit, of one length.
pub struct Moments<'a, 'b> {
    /// First moments.
    pub first: &'a mut ViewMut<'b, f32>,
    /// Second moments.
    pub second: &'a mut ViewMut<'b, f32>,
    /// Weights.
    pub weights: &'a mut ViewMut<'b, f32>,
}

/// Moves weights one step; as [`adam`](super::adam).
///
/// - `factors`: as [`count_step`] left them
///
/// # Errors
/// `Shape` if lengths differ.
pub fn adam(
    form: &AdamStep,
    factors: View<'_, f32>,
    gradient: View<'_, f32>,
    moments: Moments<'_, '_>,
) -> Result<()> {
    let count = check_count(OP, "gradient", gradient.len())?;
    check_scratch(OP, factors.len(), FACTORS)?;
    let Moments { first, second, weights } = moments;
    for (operand, length) in [("m", first.len()), ("v", second.len()), ("weights", weights.len())] {
        check_length(OP, operand, length, gradient.len())?;
    }
    let arguments = Arguments::new()
        .array(&gradient)
        .array(&factors)
        .output(first)
        .output(second)
        .output(weights)
        .u32(count)
        .f32((1.0 - form.beta_1) as f32)
        .f32((1.0 - form.beta_2) as f32)
        .f32(form.epsilon as f32);
    let kernel = gradient.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: all arrays hold `count` values.
    unsafe { kernel.launch(LaunchShape::elements(gradient.len()), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::adam::adam as on_cpu;

    #[test]
    fn steps_are_those_of_the_cpu_in_both_forms() {
        for_each_device(|gpu| {
            for (torch_form, count) in [(false, 1), (true, 5), (false, 1500), (true, 1030)] {
                let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-7);
                let mut form =
                    AdamStep { step: 0, learning_rate: 0.01, beta_1, beta_2, epsilon, torch_form };
                let mut weights = draw(1, count);
                let (mut m, mut v) = (vec![0.0; count], vec![0.0; count]);
                let mut arrays =
                    [&m, &v, &weights].map(|from| DeviceArray::from_slice(gpu, from).unwrap());
                let mut clock = DeviceArray::from_slice(gpu, &[3_u64, 0, 0])?;
                let rate = DeviceArray::from_slice(gpu, &[form.learning_rate])?;
                let mut factors = DeviceArray::new(gpu, FACTORS)?;
                for step in 1..=3 {
                    form.step = step;
                    let gradient = draw(1 + step, count);
                    on_cpu(&form, &gradient, &mut m, &mut v, &mut weights).unwrap();
                    let gradient = DeviceArray::from_slice(gpu, &gradient)?;
                    let (clock, into) = (&mut clock.view_mut(), &mut factors.view_mut());
                    count_step(&form, clock, rate.view(), into)?;
                    let [first, second, weights] = &mut arrays;
                    let moments = Moments {
                        first: &mut first.view_mut(),
                        second: &mut second.view_mut(),
                        weights: &mut weights.view_mut(),
                    };
                    adam(&form, factors.view(), gradient.view(), moments)?;
                }
                for (found, expected) in arrays.iter().zip([&m, &v, &weights]) {
                    assert_close(&found.to_vec()?, expected, 1e-6);
                }
                assert_eq!(clock.to_vec()?, [3, 3, 3]);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let form = AdamStep {
                step: 0,
                learning_rate: 0.0,
                beta_1: 0.9,
                beta_2: 0.9,
                epsilon: 0.0,
                torch_form: false,
            };
            let (mut a, mut b, mut c) = (
                DeviceArray::<f32>::zeros(gpu, 2)?,
                DeviceArray::<f32>::zeros(gpu, 3)?,
                DeviceArray::<f32>::zeros(gpu, 3)?,
            );
            let three = DeviceArray::from_slice(gpu, &[0.0_f32; 3])?;
            let moments = Moments {
                first: &mut a.view_mut(),
                second: &mut b.view_mut(),
                weights: &mut c.view_mut(),
            };
            assert!(adam(&form, three.view(), three.view(), moments).is_err());
            let mut clock = DeviceArray::from_slice(gpu, &[0_u64; 2])?;
            let rate = three.view().part(0..1);
            assert!(count_step(&form, &mut clock.view_mut(), rate, &mut a.view_mut()).is_err());
            Ok(())
        });
    }
}
