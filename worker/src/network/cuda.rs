//! Training of a network on a device: examples, weights and the optimiser's state stay there, and a step is one recorded graph.
//!
//! Leaves out: streaming of examples that do not fit, epochs' ends (training). Invariant: a step depends on state, order and
//! settings alone, to the byte; losses are read back once per epoch.

use super::plan::{Mode, Plan};
use super::{Network, NetworkState, loss};
use crate::device::device_error;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{Adam, AdamForm};
use glmeval_kernels::cuda::{Bf16, DeviceArray, F16, Gpu, Recording};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::adam::{AdamStep, cuda as adam};
use glmeval_kernels::ops::conv1d::cuda::ConvClass;
use glmeval_kernels::ops::gather::cuda::{Chosen, Order, gather};
use glmeval_kernels::ops::loss::{LossKind, cuda as losses};
use layers::Wanted;
use memory::{Memory, Run, Weights, part};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod layers;
mod memory;
mod products;
#[cfg(test)]
mod tests;

/// All examples of one input of the network, `[N, extent]`, as they are stored.
pub enum DeviceInput {
    /// As they are computed with.
    F32(DeviceArray<f32>),
    /// IEEE halves.
    F16(DeviceArray<F16>),
    /// bfloat16.
    Bf16(DeviceArray<Bf16>),
}

/// Examples that a device holds.
pub struct DeviceExamples {
    /// How many there are.
    pub count: usize,
    /// One for each input of the network.
    pub inputs: Vec<DeviceInput>,
    /// `[N, targets_per_example]`
    pub targets: DeviceArray<f32>,
}

/// What stays the same in a fit.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSettings {
    /// The optimiser.
    pub optimizer: Adam,
    /// Decides what is dropped.
    pub dropout_seed: u64,
    /// Examples of a batch; the last one of an epoch holds what is left.
    pub batch_size: usize,
    /// How products are computed; f32 operands alone.
    pub class: ConvClass,
}

/// A fit on a device.
pub struct DeviceFit {
    // Dropped before the arrays it was recorded with.
    recordings: BTreeMap<usize, Recording>,
    /// Numbers of rows that were stepped over once, so that all kernels are loaded.
    stepped: BTreeSet<usize>,
    gpu: Gpu,
    engine: Engine,
    examples: Arc<DeviceExamples>,
    order: Order,
    settings: DeviceSettings,
    /// Batches of the epoch that were told.
    batches: usize,
}

/// A plan with its arrays on a device.
struct Engine {
    plan: Plan,
    layers: Vec<layers::Layer>,
    memory: Memory,
    weights: Weights,
    loss: LossKind,
    form: AdamStep,
    batch_size: usize,
    outputs: usize,
}

impl DeviceFit {
    /// Copies a state to the device and makes room for batches.
    ///
    /// # Errors
    /// `Invalid` for a layer or precision that devices do not take; `Unavailable` if there is no room; `Bug` if examples do not fit.
    pub fn new(
        gpu: &Gpu,
        (network, state): (&Network, &NetworkState),
        examples: Arc<DeviceExamples>,
        settings: DeviceSettings,
    ) -> Result<Self> {
        if network.precision != Precision::F32 || settings.class == ConvClass::Bf16 {
            return Err(Error::invalid("network: expected f32 operands for training on a device"));
        }
        if settings.batch_size == 0 || examples.count == 0 {
            return Err(Error::bug("network: expected at least one example, found none"));
        }
        let plan = Plan::for_device(network.resolved(), network.loss);
        check_examples(&plan, network, &examples)?;
        let order = Order::new(gpu, examples.count, examples.count).map_err(device_error)?;
        let engine = Engine::new(gpu, plan, (network, state), &settings)?;
        Ok(Self {
            recordings: BTreeMap::new(),
            stepped: BTreeSet::new(),
            gpu: gpu.clone(),
            engine,
            examples,
            order,
            settings,
            batches: 0,
        })
    }

    /// Begins an epoch over the examples in `order`, which names as many as there are.
    ///
    /// # Errors
    /// `Bug` if it names others; `Unavailable` if the device fails.
    pub fn begin_epoch(&mut self, order: &[u32], learning_rate: f32) -> Result<()> {
        self.batches = 0;
        let begun = || -> Result<(), KernelError> {
            self.order.write(order)?;
            self.engine.memory.begin_epoch(learning_rate, self.batches_per_epoch())
        };
        begun_or(begun)
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.examples.count.div_ceil(self.settings.batch_size)
    }

    /// Steps over the next batch; it may still be running when this returns.
    ///
    /// # Errors
    /// `Bug` after the epoch's last batch; `Unavailable` if the device fails.
    pub fn step(&mut self) -> Result<()> {
        let batch_size = self.settings.batch_size;
        let rows = batch_size.min(self.examples.count.saturating_sub(self.batches * batch_size));
        if rows == 0 {
            return Err(Error::bug("network: the epoch has no more batches"));
        }
        self.batches += 1;
        self.run(rows).map_err(device_error)
    }

    fn run(&mut self, rows: usize) -> Result<(), KernelError> {
        if let Some(recording) = self.recordings.get(&rows) {
            return recording.run();
        }
        let Self { engine, examples, order, .. } = self;
        // Kernels are loaded by the first step, which a recording must not do.
        if self.stepped.insert(rows) {
            return engine.train(examples, order, rows);
        }
        let recording = self.gpu.record_keeping(|| engine.train(examples, order, rows))?;
        recording.run()?;
        self.recordings.insert(rows, recording);
        Ok(())
    }

    /// Losses of the batches of the epoch so far, penalties included, each before its step.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn losses(&self) -> Result<Vec<f64>> {
        self.engine.memory.losses(self.batches).map_err(device_error)
    }

    /// Logits and predictions of other examples in inference mode, `[N, outputs_per_example]` each.
    ///
    /// # Errors
    /// `Bug` if the examples do not fit; `Unavailable` if the device fails.
    pub fn predict(
        &mut self,
        network: &Network,
        examples: &DeviceExamples,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        check_examples(&self.engine.plan, network, examples)?;
        self.engine.predict(&self.gpu, examples).map_err(device_error)
    }

    /// Copies weights and the optimiser's state back.
    ///
    /// # Errors
    /// `Unavailable` if the device fails.
    pub fn read_state(&self, state: &mut NetworkState) -> Result<()> {
        let steps = self.engine.memory.steps().map_err(device_error)?;
        self.engine.weights.read(state).map_err(device_error)?;
        state.step = steps;
        state.mark_changed();
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

fn begun_or(begun: impl FnOnce() -> Result<(), KernelError>) -> Result<()> {
    begun().map_err(device_error)
}

/// Refuses examples of other extents than the network's.
fn check_examples(plan: &Plan, network: &Network, examples: &DeviceExamples) -> Result<()> {
    let expected: Vec<Option<usize>> = plan
        .values
        .iter()
        .take(plan.inputs)
        .map(|value| value.length.checked_mul(examples.count))
        .collect();
    let found: Vec<Option<usize>> = examples.inputs.iter().map(|input| Some(input.len())).collect();
    let targets = examples.count.checked_mul(network.targets_per_example());
    if expected == found && targets == Some(examples.targets.len()) {
        return Ok(());
    }
    let count = examples.count;
    Err(Error::bug(format!("network: {count} examples: expected {expected:?}, found {found:?}")))
}

impl DeviceInput {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }
}

impl Engine {
    fn new(
        gpu: &Gpu,
        plan: Plan,
        (network, state): (&Network, &NetworkState),
        settings: &DeviceSettings,
    ) -> Result<Self> {
        let rows = settings.batch_size;
        let adam = settings.optimizer;
        let mut made = Vec::new();
        let mut scratch = 1;
        for node in &plan.nodes {
            let layer = layers::Layer::new(gpu, &plan, node, (rows, settings.class))?;
            scratch = scratch.max(layer.scratch_values(&plan, node, rows));
            made.push(layer);
        }
        let weights = Weights::new(gpu, &plan, state).map_err(device_error)?;
        let targets = network.targets_per_example();
        let clock = [settings.dropout_seed, state.step, 0];
        let memory = Memory::new(gpu, &plan, (rows, targets, scratch), &clock);
        Ok(Self {
            loss: loss::kind(network, &plan),
            outputs: network.outputs_per_example(),
            layers: made,
            memory: memory.map_err(device_error)?,
            weights,
            plan,
            form: AdamStep {
                step: 0,
                learning_rate: 0.0,
                beta_1: adam.beta_1,
                beta_2: adam.beta_2,
                epsilon: adam.epsilon,
                torch_form: adam.form == AdamForm::Torch,
            },
            batch_size: rows,
        })
    }

    /// One step over `rows` examples.
    fn train(
        &mut self,
        examples: &DeviceExamples,
        order: &Order,
        rows: usize,
    ) -> Result<(), KernelError> {
        self.take_batch(examples, order, rows, true)?;
        self.forward(Mode::Train, rows)?;
        self.find_loss(rows)?;
        self.backward(rows)?;
        let memory = &mut self.memory;
        for (range, coefficient) in &self.weights.penalised {
            let weights = self.weights.values.trained.view().part(range.clone());
            let mut gradient = self.weights.gradients.flat.view_mut();
            let mut written = losses::Losses {
                losses: &mut memory.losses.view_mut(),
                clock: memory.clock.view(),
            };
            let gradient = &mut gradient.part(range.clone());
            losses::penalty(*coefficient, weights, gradient, &mut written)?;
        }
        let (clock, factors) = (&mut memory.clock.view_mut(), &mut memory.factors.view_mut());
        adam::count_step(&self.form, clock, memory.rate.view(), factors)?;
        let Weights { values, gradients, first, second, .. } = &mut self.weights;
        let moments = adam::Moments {
            first: &mut first.view_mut(),
            second: &mut second.view_mut(),
            weights: &mut values.trained.view_mut(),
        };
        adam::adam(&self.form, memory.factors.view(), gradients.flat.view(), moments)
    }

    /// Copies a batch's inputs, and its targets in training.
    fn take_batch(
        &mut self,
        examples: &DeviceExamples,
        order: &Order,
        rows: usize,
        training: bool,
    ) -> Result<(), KernelError> {
        let memory = &mut self.memory;
        let batch = Some(memory.clock.view().part(2..3));
        let chosen = Chosen { order, batch, batch_size: self.batch_size };
        for (input, stored) in examples.inputs.iter().enumerate() {
            let length = self.plan.values[input].length * rows;
            let Some(array) = memory.values[input].as_mut() else { continue };
            let out = &mut array.view_mut();
            let out = &mut out.part(0..length);
            match stored {
                DeviceInput::F32(values) => gather(values.view(), &chosen, None, out, rows)?,
                DeviceInput::F16(values) => gather(values.view(), &chosen, None, out, rows)?,
                DeviceInput::Bf16(values) => gather(values.view(), &chosen, None, out, rows)?,
            }
        }
        if !training {
            return Ok(());
        }
        let length = memory.targets.len() / self.batch_size * rows;
        let out = &mut memory.targets.view_mut();
        gather(examples.targets.view(), &chosen, None, &mut out.part(0..length), rows)
    }

    fn forward(&mut self, mode: Mode, rows: usize) -> Result<(), KernelError> {
        let Self { plan, layers, memory, weights, .. } = self;
        for (node, layer) in plan.nodes.iter().zip(layers) {
            if plan.is_left_out(mode, node) {
                continue;
            }
            let Some(mut out) = memory.values[node.output].take() else { continue };
            let places = node.inputs.iter().map(|&input| plan.place(mode, input));
            let inputs: Vec<_> =
                places.filter_map(|place| part(&memory.values, plan, place, rows)).collect();
            let mut run = Run {
                training: mode == Mode::Train,
                values: &mut weights.values,
                gradients: &mut weights.gradients,
                draws: memory.clock.view(),
                scratch: memory.scratch.view_mut(),
            };
            let length = plan.values[node.output].length * rows;
            let done = layer.forward(&mut run, &inputs, &mut out.view_mut().part(0..length));
            memory.values[node.output] = Some(out);
            done?;
        }
        Ok(())
    }

    fn find_loss(&mut self, rows: usize) -> Result<(), KernelError> {
        let (memory, logits) = (&mut self.memory, self.plan.logits);
        memory.held.fill(false);
        memory.held[logits] = true;
        let Some(mut gradient) = memory.gradients[logits].take() else { return Ok(()) };
        let count = self.plan.values[logits].length * rows;
        let targets = memory.targets.len() / self.batch_size * rows;
        let mut done = Ok(());
        if let Some(predictions) = part(&memory.values, &self.plan, logits, rows) {
            let mut losses = memory.losses.view_mut();
            let mut written = losses::Losses { losses: &mut losses, clock: memory.clock.view() };
            let targets = memory.targets.view().part(0..targets);
            let into = &mut gradient.view_mut();
            done = losses::loss(
                self.loss,
                predictions,
                targets,
                &mut into.part(0..count),
                &mut written,
            );
        }
        memory.gradients[logits] = Some(gradient);
        done
    }

    fn backward(&mut self, rows: usize) -> Result<(), KernelError> {
        let Self { plan, layers, memory, weights, .. } = self;
        for (node, layer) in plan.nodes.iter().zip(layers).rev() {
            if !memory.held[node.output] {
                continue;
            }
            for (slot, &place) in node.inputs.iter().enumerate() {
                let is_wanted = plan.values[place].needs_gradient;
                let is_held = is_wanted && memory.held[place];
                let mut into = match (is_wanted, is_held) {
                    (false, _) => None,
                    (true, false) => memory.gradients[place].take(),
                    (true, true) => memory.spare.take(),
                };
                let length = plan.values[place].length * rows;
                let done = {
                    let inputs: Vec<_> = node
                        .inputs
                        .iter()
                        .filter_map(|&place| part(&memory.values, plan, place, rows))
                        .collect();
                    let mut run = Run {
                        training: true,
                        values: &mut weights.values,
                        gradients: &mut weights.gradients,
                        draws: memory.clock.view(),
                        scratch: memory.scratch.view_mut(),
                    };
                    let mut whole = into.as_mut().map(DeviceArray::view_mut);
                    let mut dx = whole.as_mut().map(|whole| whole.part(0..length));
                    let output = part(&memory.values, plan, node.output, rows);
                    let dy = part(&memory.gradients, plan, node.output, rows);
                    match (output, dy) {
                        (Some(output), Some(dy)) => {
                            let mut wanted = Wanted { slot, dx: dx.as_mut() };
                            layer.backward(&mut run, (&inputs, output, dy), &mut wanted)
                        }
                        _ => Ok(()),
                    }
                };
                match (is_wanted, is_held) {
                    (false, _) => {}
                    (true, false) => memory.gradients[place] = into,
                    (true, true) => memory.spare = into,
                }
                done?;
                if is_held {
                    memory.add_spare(place, length)?;
                } else if is_wanted {
                    memory.held[place] = true;
                }
            }
        }
        Ok(())
    }

    fn predict(
        &mut self,
        gpu: &Gpu,
        examples: &DeviceExamples,
    ) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
        let mut order = Order::new(gpu, examples.count, examples.count)?;
        let numbers: Vec<u32> = (0..examples.count).map(|n| n as u32).collect();
        order.write(&numbers)?;
        let values = examples.count * self.outputs;
        let mut answers = [DeviceArray::new(gpu, values)?, DeviceArray::new(gpu, values)?];
        let batch_before = self.memory.clock.to_vec()?;
        for (batch, first) in (0..examples.count).step_by(self.batch_size).enumerate() {
            let rows = self.batch_size.min(examples.count - first);
            self.memory.clock.view_mut().part(2..3).write(&[batch as u64])?;
            self.take_batch(examples, &order, rows, false)?;
            self.forward(Mode::Predict, rows)?;
            let answered = [self.plan.logits, self.plan.prediction];
            for (into, value) in answers.iter_mut().zip(answered) {
                let place = self.plan.place(Mode::Predict, value);
                let Some(from) = part(&self.memory.values, &self.plan, place, rows) else {
                    continue;
                };
                let range = first * self.outputs..(first + rows) * self.outputs;
                into.view_mut().part(range).copy_from(from)?;
            }
        }
        self.memory.clock.view_mut().write(&batch_before)?;
        let [logits, predictions] = answers;
        Ok((logits.to_vec()?, predictions.to_vec()?))
    }
}
