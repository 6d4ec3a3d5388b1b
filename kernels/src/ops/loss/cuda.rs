//! Losses and penalties of a batch on a device.
//!
//! Leaves out: formulas (`loss`). Invariant: sums are f64 in a fixed order; nothing is read back before the epoch ends.

use super::LossKind;
use crate::cuda::{Arguments, Budget, Instance, LaunchShape, Source, View, ViewMut, check_count};
use crate::error::{KernelError, Result, check_length};

const OP: &str = "loss";

/// The kernels' text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../loss.cu"),
    kernels: &[OP, "penalty"],
    instances: &[Instance { defines: &[], budgets: BUDGETS }],
};

const BUDGETS: &[Budget] = &[
    Budget { kernel: OP, registers: 64, shared_bytes: 64 },
    Budget { kernel: "penalty", registers: 40, shared_bytes: 64 },
];

/// Where the losses of an epoch's batches go.
pub struct Losses<'a, 'b> {
    /// One for each batch of an epoch; the caller lets `clock` name none past it.
    pub losses: &'a mut ViewMut<'b, f64>,
    /// Seed, steps taken, batches of the epoch done, `[3]`.
    pub clock: View<'a, u64>,
}

impl Losses<'_, '_> {
    fn check(&self) -> Result<()> {
        check_length(OP, "clock", self.clock.len(), 3)?;
        if !self.losses.is_empty() {
            return Ok(());
        }
        let (expected, found) = ("at least one value".to_owned(), "0 values".to_owned());
        Err(KernelError::Shape { op: OP, operand: "losses", expected, found })
    }
}

fn shape() -> LaunchShape {
    LaunchShape::line(1, 256).shared(64)
}

/// Writes the loss of a batch and its gradient; as [`loss`](super::loss), the mean over the entries that
/// [`observed`](super::observed) counts.
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn loss(
    kind: LossKind,
    predictions: View<'_, f32>,
    targets: View<'_, f32>,
    gradient: &mut ViewMut<'_, f32>,
    losses: &mut Losses<'_, '_>,
) -> Result<()> {
    let count = check_count(OP, "predictions", predictions.len())?;
    let (number, each) = match kind {
        LossKind::MeanSquaredError => (0, 1),
        LossKind::CrossEntropyOfLogits => (1, 1),
        LossKind::CrossEntropyOfProbabilities => (2, 1),
        LossKind::CrossEntropyOfProbabilitiesKeras3 => (3, 1),
        LossKind::SplicingDivergence => (4, 2),
    };
    check_length(OP, "targets", targets.len(), predictions.len().saturating_mul(each))?;
    check_count(OP, "targets", targets.len())?;
    check_length(OP, "gradient", gradient.len(), predictions.len())?;
    losses.check()?;
    if count == 0 {
        let (expected, found) = ("at least one entry".to_owned(), "0".to_owned());
        return Err(KernelError::Shape { op: OP, operand: "predictions", expected, found });
    }
    let arguments = Arguments::new()
        .array(&predictions)
        .array(&targets)
        .output(gradient)
        .output(losses.losses)
        .array(&losses.clock)
        .u32(count)
        .u32(number);
    let kernel = predictions.gpu().kernel(&SOURCE, OP, &[])?;
    // SAFETY: predictions, targets and gradient hold `count` entries; the caller promises the place of the loss.
    unsafe { kernel.launch(shape(), arguments) }
}

/// Adds the penalty on the squares of weights to the loss of the batch, and its gradient; as
/// [`l2_penalty`](crate::ops::arithmetic::l2_penalty).
///
/// # Errors
/// `Shape` if operands do not fit.
pub fn penalty(
    coefficient: f32,
    weights: View<'_, f32>,
    gradient: &mut ViewMut<'_, f32>,
    losses: &mut Losses<'_, '_>,
) -> Result<()> {
    let count = check_count(OP, "weights", weights.len())?;
    check_length(OP, "gradient", gradient.len(), weights.len())?;
    losses.check()?;
    let arguments = Arguments::new()
        .array(&weights)
        .output(gradient)
        .output(losses.losses)
        .array(&losses.clock)
        .u32(count)
        .f32(coefficient);
    let kernel = weights.gpu().kernel(&SOURCE, "penalty", &[])?;
    // SAFETY: weights and gradient hold `count` values; as above for the loss.
    unsafe { kernel.launch(shape(), arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::{assert_close, draw, for_each_device};
    use crate::ops::arithmetic::l2_penalty;
    use crate::ops::loss::{loss as on_cpu, observed};

    const KINDS: [LossKind; 5] = [
        LossKind::MeanSquaredError,
        LossKind::CrossEntropyOfLogits,
        LossKind::CrossEntropyOfProbabilities,
        LossKind::CrossEntropyOfProbabilitiesKeras3,
        LossKind::SplicingDivergence,
    ];

    #[test]
    fn losses_gradients_and_penalties_are_those_of_the_cpu() {
        for_each_device(|gpu| {
            for (kind, count) in KINDS.into_iter().zip([1, 700, 257, 3, 1030]) {
                let mut predictions: Vec<f32> = draw(1, count).iter().map(|p| 3.0 * p).collect();
                predictions[0] = 0.5;
                let each = if kind == LossKind::SplicingDivergence { 2 } else { 1 };
                let mut targets: Vec<f32> =
                    draw(2, each * count).iter().map(|y| 0.5 + 0.5 * y).collect();
                if each == 2 || count > 600 {
                    targets.iter_mut().step_by(6).for_each(|y| *y = f32::NAN);
                }
                let weights = draw(3, count);
                let (mut gradient, mut pulled) = (vec![0.0; count], draw(4, count));
                let expected = on_cpu(
                    kind,
                    &predictions,
                    &targets,
                    observed(kind, &targets),
                    Some(&mut gradient),
                )
                .unwrap();
                let expected =
                    [0.0, expected + l2_penalty(0.01, &weights, Some(&mut pulled)).unwrap()];
                let arrays = [&predictions, &targets, &weights]
                    .map(|values| DeviceArray::from_slice(gpu, values).unwrap());
                let mut found = DeviceArray::new(gpu, count)?;
                let mut found_pulled = DeviceArray::from_slice(gpu, &draw(4, count))?;
                let mut losses = DeviceArray::<f64>::zeros(gpu, 2)?;
                let clock = DeviceArray::from_slice(gpu, &[0_u64, 0, 1])?;
                let mut written = Losses { losses: &mut losses.view_mut(), clock: clock.view() };
                let [predictions, targets, weights] = &arrays;
                let into = &mut found.view_mut();
                loss(kind, predictions.view(), targets.view(), into, &mut written)?;
                penalty(0.01, weights.view(), &mut found_pulled.view_mut(), &mut written)?;
                assert_close(&found.to_vec()?, &gradient, 1e-6);
                assert_close(&found_pulled.to_vec()?, &pulled, 1e-6);
                for (found, expected) in losses.to_vec()?.iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-12 * (1.0 + expected), "{kind:?}");
                }
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let x = DeviceArray::from_slice(gpu, &[0.0_f32; 4])?;
            let mut gradient = DeviceArray::<f32>::new(gpu, 4)?;
            let mut losses = DeviceArray::<f64>::zeros(gpu, 1)?;
            let clock = DeviceArray::from_slice(gpu, &[0_u64; 3])?;
            let mut written = Losses { losses: &mut losses.view_mut(), clock: clock.view() };
            let (kind, into) = (LossKind::SplicingDivergence, &mut gradient.view_mut());
            assert!(loss(kind, x.view(), x.view(), into, &mut written).is_err());
            let (none, kind) = (x.view().part(0..0), LossKind::MeanSquaredError);
            assert!(loss(kind, none, none, &mut into.part(0..0), &mut written).is_err());
            assert!(penalty(0.1, x.view().part(0..3), into, &mut written).is_err());
            Ok(())
        });
    }
}
