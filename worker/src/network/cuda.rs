//! Training of a network on a device: weights and the optimiser's state stay there, and a step is one recorded graph.
//!
//! Leaves out: which examples lie there, epochs' ends (training). Invariant: a step depends on state, order and settings alone, to
//! the byte, whether the device holds all examples or one batch; losses are read back once per epoch.

use super::plan::{Kind, Plan};
use super::{Network, NetworkState, loss};
use crate::device::device_error;
use answers::Answers;
use engine::{Engine, Targeted};
use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{Adam, ResolvedNetwork, TrainingSpec};
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::conv1d::cuda::ConvClass;
use glmeval_kernels::ops::gather::cuda::Order;
use recorded::Recorded;
use std::sync::Arc;

pub use examples::{DeviceExamples, DeviceInput, DeviceNumber};

mod answers;
mod engine;
mod examples;
mod layers;
mod memory;
mod products;
mod recorded;
#[cfg(test)]
mod tests;

/// Examples of a batch at most: so many rows of blocks a launch has.
const BATCH_ROWS_MAX: usize = 65_535;
/// Values of a batch, or of all weights, at most: kernels count them in 32 bits.
const VALUES_MAX: usize = i32::MAX as usize;

/// What stays the same in a fit.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSettings {
    /// The optimiser.
    pub optimizer: Adam,
    /// Decides what is dropped.
    pub dropout_seed: u64,
    /// Examples of a batch; the last one of an epoch holds what is left.
    pub batch_size: usize,
    /// Examples of an epoch.
    pub epoch_rows: usize,
    /// How products are computed; f32 operands alone.
    pub class: ConvClass,
    /// Whether the predictions of an epoch's steps are kept until its end.
    pub keeps_predictions: bool,
}

impl DeviceSettings {
    /// Batches of an epoch.
    fn batches(&self) -> usize {
        self.epoch_rows.div_ceil(self.batch_size.max(1))
    }
}

/// How a device multiplies for networks of a precision; `None` for one it does not train in.
///
/// For `f32`, convolutions have the CPU's bits: three products of tf32 parts would be faster on matrix units, but
/// differ from them by 4e-6 a layer, and dense layers are in f32 either way. Steps in this class were compared with Keras.
pub fn training_conv_class(precision: Precision) -> Option<ConvClass> {
    match precision {
        Precision::F32 => Some(ConvClass::F32),
        Precision::Tf32 => Some(ConvClass::Tf32),
        Precision::Bf16 => None,
    }
}

/// Whether devices train `network`: all its layers, in this precision, in batches of this size.
pub fn is_trained_on_devices(network: &ResolvedNetwork, training: &TrainingSpec) -> bool {
    let plan = Plan::for_device(network, training.loss);
    let rows = usize::try_from(training.batch_rows).unwrap_or(usize::MAX);
    let longest = plan.values.iter().map(|value| value.length).max().unwrap_or(0);
    let weights: usize = network.weights.iter().map(|weight| weight.values()).sum();
    training_conv_class(training.precision).is_some()
        && plan.nodes.iter().all(|node| !matches!(node.kind, Kind::Depthwise { .. }))
        && rows <= BATCH_ROWS_MAX
        && rows.saturating_mul(longest) <= VALUES_MAX
        && weights <= VALUES_MAX
}

/// What a fit takes its batches from, with targets.
enum Held {
    /// All examples.
    Shared(Arc<DeviceExamples>, DeviceArray<f32>),
    /// One batch, which is filled before each step.
    Batch(DeviceExamples, DeviceArray<f32>),
}

impl Held {
    fn get(&self) -> Targeted<'_> {
        match self {
            Self::Shared(examples, targets) => (examples, targets),
            Self::Batch(examples, targets) => (examples, targets),
        }
    }
}

/// A fit on a device.
pub struct DeviceFit {
    // Both dropped before the arrays that were recorded.
    steps: Recorded,
    answers: Option<Answers>,
    gpu: Gpu,
    engine: Engine,
    held: Held,
    order: Order,
    settings: DeviceSettings,
    /// Batches of the epoch that were told.
    batches: usize,
    /// Predictions of the epoch's steps, if they are kept.
    predictions: Option<DeviceArray<f32>>,
    /// Which weights the device has.
    version: Arc<()>,
}

impl DeviceFit {
    /// Copies a state to the device and makes room for batches of `examples`, which have these targets.
    ///
    /// # Errors
    /// `Invalid` for a layer or precision that devices do not take; `Unavailable` if there is no room; `Bug` if examples do not fit.
    pub fn new(
        gpu: &Gpu,
        known: (&Network, &NetworkState),
        (examples, targets): (Arc<DeviceExamples>, &[f32]),
        settings: DeviceSettings,
    ) -> Result<Self> {
        let targets = DeviceArray::from_slice(gpu, targets).map_err(device_error)?;
        Self::with(gpu, known, Held::Shared(examples, targets), settings)
    }

    /// As [`DeviceFit::new`], for examples that are given batch by batch.
    ///
    /// # Errors
    /// As [`DeviceFit::new`].
    pub fn streamed(
        gpu: &Gpu,
        (network, state): (&Network, &NetworkState),
        settings: DeviceSettings,
    ) -> Result<Self> {
        let extents = &network.resolved().inputs;
        let inputs: Vec<usize> = extents.iter().map(|extent| extent.values()).collect();
        let rows = settings.batch_size;
        let examples = DeviceExamples::new(gpu, rows, &inputs, DeviceNumber::F32)?;
        let targets = rows.saturating_mul(network.targets_per_example());
        let targets = DeviceArray::zeros(gpu, targets).map_err(device_error)?;
        Self::with(gpu, (network, state), Held::Batch(examples, targets), settings)
    }

    fn with(
        gpu: &Gpu,
        (network, state): (&Network, &NetworkState),
        held: Held,
        settings: DeviceSettings,
    ) -> Result<Self> {
        if network.precision == Precision::Bf16 || settings.class == ConvClass::Bf16 {
            return Err(Error::invalid("network: expected f32 operands for training on a device"));
        }
        let count = held.get().0.count;
        if settings.batch_size == 0 || settings.epoch_rows == 0 || count == 0 {
            return Err(Error::bug("network: expected at least one example, found none"));
        }
        let plan = Plan::for_device(network.resolved(), network.loss);
        check_examples(&plan, network, held.get())?;
        let kept = settings.epoch_rows.saturating_mul(network.outputs_per_example());
        let kept = settings.keeps_predictions.then(|| DeviceArray::new(gpu, kept)).transpose();
        Ok(Self {
            steps: Recorded::default(),
            answers: None,
            gpu: gpu.clone(),
            engine: Engine::new(gpu, plan, (network, state), &settings)?,
            held,
            order: Order::new(gpu, settings.epoch_rows, count).map_err(device_error)?,
            settings,
            batches: 0,
            predictions: kept.map_err(device_error)?,
            version: Arc::clone(state.version()),
        })
    }

    /// Whether batches must be given with [`DeviceFit::fill`].
    pub fn is_streamed(&self) -> bool {
        matches!(self.held, Held::Batch(..))
    }

    /// Examples of a batch.
    pub fn batch_size(&self) -> usize {
        self.settings.batch_size
    }

    /// Examples of an epoch.
    pub fn epoch_rows(&self) -> usize {
        self.settings.epoch_rows
    }

    /// Gives the next batch: `[rows, extent]` for each input, `[rows, targets_per_example]`. A step that still runs is not
    /// disturbed.
    ///
    /// # Errors
    /// `Bug` if it does not fit or all examples are held; `Unavailable` if the device fails.
    pub fn fill(&mut self, inputs: &[&[f32]], targets: &[f32]) -> Result<()> {
        let Held::Batch(examples, into) = &mut self.held else {
            return Err(Error::bug("network: a batch for a device that holds all examples"));
        };
        examples.fill(inputs)?;
        if targets.len() > into.len() {
            return Err(Error::bug("network: a batch of other targets"));
        }
        into.view_mut().part(0..targets.len()).write(targets).map_err(device_error)
    }

    /// Begins an epoch over the examples in `order`, by their numbers on the device; as many as the settings say.
    ///
    /// # Errors
    /// `Bug` if it names others; `Unavailable` if the device fails.
    pub fn begin_epoch(&mut self, order: &[u32], learning_rate: f32) -> Result<()> {
        self.batches = 0;
        let mut begin = || -> Result<(), KernelError> {
            self.order.write(order)?;
            self.engine.memory.begin_epoch(learning_rate)
        };
        begin().map_err(device_error)
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.settings.batches()
    }

    /// Steps over the next batch; it may still be running when this returns.
    ///
    /// # Errors
    /// `Bug` after the epoch's last batch; `Unavailable` if the device fails.
    pub fn step(&mut self) -> Result<()> {
        let DeviceSettings { batch_size, epoch_rows, .. } = self.settings;
        let start = self.batches * batch_size;
        let rows = batch_size.min(epoch_rows.saturating_sub(start));
        if rows == 0 {
            return Err(Error::bug("network: the epoch has no more batches"));
        }
        self.batches += 1;
        // These are other weights than any that were read.
        self.version = Arc::new(());
        let Self { steps, gpu, engine, held, order, predictions, .. } = self;
        let step = || engine.train(held.get(), order, predictions.as_mut(), rows);
        steps.run(gpu, rows, step).map_err(device_error)
    }

    /// Losses of the batches of the epoch so far, penalties included, each before its step.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn losses(&self) -> Result<Vec<f64>> {
        self.engine.memory.losses(self.batches).map_err(device_error)
    }

    /// Predictions of the epoch's steps, each before its step, in the epoch's order; empty if they are not kept.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn step_predictions(&self) -> Result<Vec<f32>> {
        let kept = self.predictions.as_ref().map(DeviceArray::to_vec);
        Ok(kept.transpose().map_err(device_error)?.unwrap_or_default())
    }

    /// Begins to predict the examples of `order` in inference mode, by their numbers on the device.
    ///
    /// # Errors
    /// `Bug` if it names others; `Unavailable` if there is no room or the device fails.
    pub fn begin_predictions(&mut self, order: &[u32]) -> Result<()> {
        let extents = (self.engine.outputs, self.held.get().0.count);
        // Made anew only for another number: what is dropped beside a recording keeps its memory.
        if self.answers.as_ref().is_none_or(|answers| !answers.is_of(order.len())) {
            let made = Answers::new(&self.gpu, order.len(), extents);
            self.answers = Some(made.map_err(device_error)?);
        }
        let Self { engine, answers, .. } = self;
        let begun = answers.as_mut().map_or(Ok(()), |answers| answers.begin(engine, order));
        begun.map_err(device_error)
    }

    /// Predicts the next batch; how many examples it had, none at the end. No step comes between the batches of an order.
    ///
    /// # Errors
    /// `Bug` before [`DeviceFit::begin_predictions`]; `Unavailable` if the device fails.
    pub fn predict_batch(&mut self) -> Result<usize> {
        let Self { gpu, engine, held, answers, settings, .. } = self;
        let answers =
            answers.as_mut().ok_or_else(|| Error::bug("network: nothing is predicted"))?;
        let (engine, examples) = ((&*gpu, engine), held.get().0);
        answers.add(engine, examples, settings.batch_size).map_err(device_error)
    }

    /// Logits and predictions of the order that was begun, `[N, outputs_per_example]` each.
    ///
    /// # Errors
    /// As [`DeviceFit::predict_batch`].
    pub fn end_predictions(&mut self) -> Result<(Vec<f32>, Vec<f32>)> {
        self.engine.memory.set_batch(self.batches).map_err(device_error)?;
        let answers = self.answers.as_ref();
        let answers = answers.ok_or_else(|| Error::bug("network: nothing is predicted"))?;
        answers.read().map_err(device_error)
    }

    /// Logits and predictions of examples that the device holds, in inference mode: `[N, outputs_per_example]` each.
    ///
    /// # Errors
    /// `Bug` if `order` names others; `Unavailable` if the device fails.
    pub fn predict(&mut self, order: &[u32]) -> Result<(Vec<f32>, Vec<f32>)> {
        self.begin_predictions(order)?;
        while self.predict_batch()? > 0 {}
        self.end_predictions()
    }

    /// Loss of logits, without penalties.
    ///
    /// # Errors
    /// `Bug` if `targets` are not those of as many examples.
    pub fn loss(&self, logits: &[f32], targets: &[f32]) -> Result<f64> {
        loss::of_predictions(self.engine.loss, logits, targets, None)
    }

    /// Penalties of a state's weights.
    ///
    /// # Errors
    /// `Bug` if the state is another network's.
    pub fn penalties(&self, state: &NetworkState) -> Result<f64> {
        loss::penalties(&self.engine.plan, state, None)
    }

    /// Gives the device the weights and the optimiser's state of `state`, unless it has them.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn hold(&mut self, state: &NetworkState) -> Result<()> {
        if Arc::ptr_eq(&self.version, state.version()) {
            return Ok(());
        }
        let Engine { weights, memory, .. } = &mut self.engine;
        let written = weights.write(state).and_then(|()| memory.set_steps(state.step));
        written.map_err(device_error)?;
        self.version = Arc::clone(state.version());
        Ok(())
    }

    /// Copies weights and the optimiser's state back.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn read_state(&mut self, state: &mut NetworkState) -> Result<()> {
        let steps = self.engine.memory.steps().map_err(device_error)?;
        self.engine.weights.read(state).map_err(device_error)?;
        state.step = steps;
        state.mark_changed();
        self.version = Arc::clone(state.version());
        Ok(())
    }

    /// Gradients of the last step, by the index of the weight; empty for those that are not trained.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>> {
        self.engine.weights.gradients.read().map_err(device_error)
    }
}

/// Refuses examples of other extents than the network's.
fn check_examples(plan: &Plan, network: &Network, (examples, targets): Targeted<'_>) -> Result<()> {
    let count = examples.count;
    let lengths = plan.values.iter().take(plan.inputs);
    let expected: Vec<Option<usize>> =
        lengths.map(|value| value.length.checked_mul(count)).collect();
    let found: Vec<Option<usize>> = examples.inputs.iter().map(|input| Some(input.len())).collect();
    let wanted = network.targets_per_example().checked_mul(count);
    if expected == found && wanted == Some(targets.len()) {
        return Ok(());
    }
    Err(Error::bug(format!(
        "network: {count} examples: expected {expected:?} values and {wanted:?} targets, found {found:?} and {}",
        targets.len()
    )))
}
