//! Fits on a device: near those of the CPU, and the same bytes however they come about.
//!
//! Leaves out: how fast. Invariant: a real device is asked where there is one; only what needs a small memory is left to the
//! emulator.

use super::missing::{holed, two_outputs};
use super::splicing::{exons, two_headed};
use super::world::*;
use super::{described, regression};
use crate::device::{Device, SharedDevice};
use glmeval_common::dataset::TaskName;
use glmeval_common::error::ErrorKind;
use glmeval_common::model::Precision;
use glmeval_common::network::{
    Activation, Architecture, ExampleOrder, LayerKind, Loss, Monitor, NetworkSpec, TrainingSpec,
};
use glmeval_common::representation::{FeatureSource, Pooling, SequenceFeature};
use glmeval_common::score::FitScores;
use glmeval_common::store::fits::{read_history, read_predictions};
use glmeval_common::unit::{Fit, FitUnit};
use glmeval_kernels::cuda::Gpu;
use std::sync::LazyLock;

const ONE_HOT: FeatureSource = FeatureSource::Sequence(SequenceFeature::OneHot);

/// The kind of [`device`], asked once.
static KIND: LazyLock<String> = LazyLock::new(|| device().get().kind());

fn device() -> SharedDevice {
    shared(Gpu::for_tests().unwrap())
}

fn shared(gpu: Gpu) -> SharedDevice {
    SharedDevice::new(Device::Cuda(gpu))
}

/// The unit as it is planned for [`device`].
fn planned(unit: FitUnit) -> FitUnit {
    planned_for(&KIND, unit)
}

fn planned_for(kind: &str, unit: FitUnit) -> FitUnit {
    let class = crate::numeric_class_on(kind, Precision::F32);
    FitUnit { training_class: Some(class), ..unit }
}

fn short(loss: Loss, order: ExampleOrder) -> TrainingSpec {
    TrainingSpec { epochs_max: 3, ..training(loss, order) }
}

/// A dense network in stored order, and a convolution in another.
fn two_fits() -> Vec<Fit> {
    let convolution = Architecture::Layers(NetworkSpec {
        inputs: vec!["x".to_owned()],
        layers: vec![
            layer("norm", "x", LayerKind::BatchNorm { momentum: 0.9, epsilon: 1e-3 }),
            layer("conv", "norm", convolution(3)),
            layer("pool", "conv", LayerKind::MaxPool { size: 2 }),
            layer("drop", "pool", LayerKind::Dropout { rate: 0.2 }),
            layer("flat", "drop", LayerKind::Flatten),
            layer("output", "flat", dense(1, Activation::Linear)),
        ],
    });
    let training = |order| short(Loss::MeanSquaredError, order);
    vec![
        network_fit("dense", small_network(Activation::Linear), training(ExampleOrder::Stored)),
        network_fit("conv", convolution, training(ExampleOrder::Shuffled)),
    ]
}

fn convolution(filters: usize) -> LayerKind {
    use glmeval_common::network::{Initializer, Padding};
    LayerKind::Conv1d {
        filters,
        kernel: 3,
        dilation: 1,
        padding: Padding::Same,
        bias: true,
        activation: Activation::Relu,
        initializer: Initializer::HeUniform,
        l2: 1e-3,
    }
}

/// Losses, measures and predictions of a fit.
async fn numbers(world: &World, scores: &FitScores) -> Vec<f64> {
    let mut all = Vec::new();
    for epoch in read_history(&world.store, scores).await.unwrap() {
        all.extend([epoch.loss, epoch.val_loss.unwrap_or(0.0), epoch.learning_rate]);
        for measures in [epoch.train, epoch.valid].into_iter().flatten() {
            all.extend([measures.accuracy, measures.auroc, measures.aupr]);
        }
    }
    let predictions = read_predictions(&world.store, scores).await.unwrap();
    all.extend(predictions.iter().map(|row| f64::from(row.prediction)));
    all
}

/// Runs `unit` on the CPU and on a device: within 1e-3 of the largest number, as sums over a batch are
/// added in another order and a step magnifies that.
async fn check_near(world: &World, unit: FitUnit) -> Vec<FitScores> {
    let rows = world.examples.len();
    world.write(rows).await;
    let on_cpu = world.run(&unit).await;
    let mut there = World::new(0, false);
    (there.examples, there.target_names) = (world.examples.clone(), world.target_names.clone());
    there.write(rows).await;
    let on_device = there.run_for(&planned(unit), &device()).await;
    for (expected, found) in on_cpu.iter().zip(&on_device) {
        assert_eq!(expected.notes, found.notes);
        let (expected, found) = (numbers(world, expected).await, numbers(&there, found).await);
        assert_eq!(expected.len(), found.len());
        let finite = expected.iter().filter(|x| x.is_finite());
        let largest = finite.fold(1e-3_f64, |most, x| most.max(x.abs()));
        for (expected, found) in expected.iter().zip(&found) {
            let is_same = expected == found || expected.is_nan() && found.is_nan();
            assert!(is_same || (expected - found).abs() <= 1e-3 * largest, "{expected} {found}");
        }
    }
    on_device
}

#[tokio::test(flavor = "multi_thread")]
async fn fits_on_a_device_are_near_those_of_the_cpu() {
    check_near(&World::new(40, false), regression(two_fits())).await;
    let training = TrainingSpec {
        monitor: Monitor::Aupr,
        ..short(Loss::BinaryCrossEntropy, ExampleOrder::Buffered { rows: 8 })
    };
    let fits = vec![network_fit("binary", small_network(Activation::Sigmoid), training)];
    let unit = unit(TaskName::ChipSeq, embedded(Pooling::Full), fits);
    let scores = check_near(&World::new(40, true), unit).await;
    assert!(scores[0].statistics.iter().any(|row| row.value.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_two_sides_and_missing_targets_are_what_they_are_on_the_cpu() {
    let training = short(Loss::SplicingDivergence, ExampleOrder::Stored);
    let fits = vec![network_fit("two", two_headed(), training)];
    check_near(&exons(), unit(TaskName::Splicing, ONE_HOT, fits)).await;
    let training = short(Loss::BinaryCrossEntropyOfLogits, ExampleOrder::Stored);
    let fits = vec![network_fit("holed", two_outputs(Activation::Linear), training)];
    let unit = unit(TaskName::Classification, embedded(Pooling::Full), fits);
    check_near(&holed(60, true), unit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_that_diverges_ends_as_on_the_cpu() {
    let training =
        TrainingSpec { learning_rate: 1e30, ..short(Loss::MeanSquaredError, ExampleOrder::Stored) };
    let fits = vec![network_fit("wild", small_network(Activation::Linear), training)];
    let scores = check_near(&World::new(40, false), regression(fits)).await;
    assert!(scores[0].notes[0].contains("training ended in epoch 1"), "{:?}", scores[0].notes);
}

/// What `unit` leaves in a world of `rows` on `device`; told to stop at the readings `stops` of a clock, it is
/// run again after each.
async fn left(
    (rows, budget): (usize, u64),
    unit: &FitUnit,
    device: &SharedDevice,
    stops: std::ops::Range<u64>,
) -> Vec<String> {
    let world = World::new(rows, false);
    world.write(7).await;
    for stop_at in stops {
        let stopped = world.run_with(unit, (60_000, Some(stop_at)), (device, budget)).await.0;
        if let Err(error) = stopped {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        }
    }
    described(&world.run_for(unit, device).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_interruptions_and_where_rows_lie_do_not_change_a_byte() {
    let both = planned(regression(two_fits()));
    let expected = left((40, u64::MAX), &both, &device(), 0..0).await;
    assert_eq!(left((40, 100), &both, &device(), 0..0).await, expected);
    assert_eq!(left((40, u64::MAX), &both, &device(), 4..9).await, expected);
    for (fit, expected) in two_fits().into_iter().zip(expected) {
        let alone = planned(regression(vec![fit]));
        assert_eq!(left((40, u64::MAX), &alone, &device(), 0..0).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_one_process_take_turns_on_a_device() {
    let world = World::new(40, false);
    world.write(7).await;
    let units = two_fits().into_iter().map(|fit| planned(regression(vec![fit])));
    let units: Vec<FitUnit> = units.collect();
    let device = device();
    let (dense, conv) =
        tokio::join!(world.run_for(&units[0], &device), world.run_for(&units[1], &device));
    let both = planned(regression(two_fits()));
    let expected = left((40, u64::MAX), &both, &self::device(), 0..0).await;
    assert_eq!([described(&dense), described(&conv)].concat(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_for_another_kind_of_device_is_refused_before_anything_is_read() {
    let world = World::new(10, false);
    let unit = planned(regression(two_fits()));
    let other = FitUnit { training_class: Some("f32.cuda-sm70.1".to_owned()), ..unit.clone() };
    for (unit, device) in [(&unit, SharedDevice::default()), (&other, device())] {
        let error = world.run_with(unit, (1, None), (&device, u64::MAX)).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let class = unit.training_class.as_deref().unwrap();
        assert!(error.chain().contains(&format!("numeric class {class}, found")), "{error:?}");
    }
}

/// What a device of little memory does, to the byte.
mod emulated {
    use super::*;

    /// One epoch over many rows, in few batches.
    fn long() -> FitUnit {
        let training = TrainingSpec {
            epochs_max: 1,
            batch_rows: 400,
            ..training(Loss::MeanSquaredError, ExampleOrder::Shuffled)
        };
        let fit = network_fit("long", small_network(Activation::Linear), training);
        planned_for("cuda-emulated", regression(vec![fit]))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn examples_that_a_device_does_not_hold_are_given_in_batches_with_the_same_bytes() {
        const ROWS: usize = 4_000;
        /// Halves of all tokens of all rows.
        const EXAMPLES: u64 = (ROWS * 2 * TOKENS * WIDTH) as u64;
        let unit = long();
        let run = async |gpu: Gpu| {
            let device = shared(gpu.clone());
            (left((ROWS, u64::MAX), &unit, &device, 0..0).await, gpu.statistics().peak)
        };
        let (expected, most) = run(Gpu::emulated().unwrap()).await;
        // The examples have no room; then more than their share; then room, but none beside them for the fit.
        let limits = [EXAMPLES - 10_000, EXAMPLES + 20_000, EXAMPLES * 4 / 3 + 1_000];
        assert!(EXAMPLES < most && limits[2] < most, "{most} bytes if they are held");
        for (limit, are_tried) in limits.into_iter().zip([false, false, true]) {
            let (found, peak) = run(Gpu::emulated_within(limit).unwrap()).await;
            assert_eq!(found, expected, "within {limit}");
            assert_eq!(EXAMPLES <= peak, are_tried, "{peak} within {limit}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_batch_that_finds_no_room_is_another_workers() {
        let world = World::new(500, false);
        world.write(100).await;
        let full = shared(Gpu::emulated_within(40_000).unwrap());
        let error = world.run_with(&long(), (1, None), (&full, u64::MAX)).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().contains("no room there for a batch of 300 examples"), "{error:?}");
    }
}
