//! A plan with its arrays on a device: one batch forward and back, and the optimiser's step.
//!
//! Leaves out: which batch, recordings (cuda). Invariant: nothing is allocated or read back after it was made, so that what it
//! does can be recorded.

use super::DeviceSettings;
use super::examples::{DeviceExamples, DeviceInput};
use super::layers::{Layer, Wanted};
use super::memory::{BATCH, BatchSizes, Memory, Run, Weights, part};
use crate::device::device_error;
use crate::network::plan::{Mode, Plan, ValueIndex};
use crate::network::{Network, NetworkState, loss};
use glmeval_common::error::Result;
use glmeval_common::network::AdamForm;
use glmeval_kernels::cuda::{DeviceArray, Gpu, View};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::adam::{AdamStep, cuda as adam};
use glmeval_kernels::ops::gather::cuda::{Chosen, Order, gather, scatter};
use glmeval_kernels::ops::loss::{LossKind, cuda as losses};

/// A plan with its arrays on a device.
pub(super) struct Engine {
    pub(super) plan: Plan,
    layers: Vec<Layer>,
    pub(super) memory: Memory,
    pub(super) weights: Weights,
    pub(super) loss: LossKind,
    form: AdamStep,
    batch_size: usize,
    pub(super) outputs: usize,
}

/// Examples with their targets, `[N, targets_per_example]`.
pub(super) type Targeted<'a> = (&'a DeviceExamples, &'a DeviceArray<f32>);

impl Engine {
    /// The arrays of a plan, with a state's weights.
    ///
    /// # Errors
    /// `Invalid` for a layer that devices do not take; `Unavailable` if there is no room.
    pub(super) fn new(
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
            let layer = Layer::new(gpu, &plan, node, (rows, settings.class))?;
            scratch = scratch.max(layer.scratch_values(&plan, node, rows));
            made.push(layer);
        }
        let weights = Weights::new(gpu, &plan, state).map_err(device_error)?;
        let targets = network.targets_per_example();
        let clock = [settings.dropout_seed, state.step, 0];
        let sizes = BatchSizes { rows, targets, scratch, batches: settings.batches() };
        let memory = Memory::new(gpu, &plan, &sizes, &clock);
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

    /// One step over `rows` examples; its predictions go to their place in `kept`, those of all steps of the epoch.
    pub(super) fn train(
        &mut self,
        (examples, targets): Targeted<'_>,
        order: &Order,
        kept: Option<&mut DeviceArray<f32>>,
        rows: usize,
    ) -> Result<(), KernelError> {
        self.take_batch((examples, Some(targets)), order, rows)?;
        self.forward(Mode::Train, rows)?;
        self.find_loss(rows)?;
        self.backward(rows)?;
        if let Some(kept) = kept {
            self.keep(self.plan.prediction, (Mode::Train, rows), kept)?;
        }
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

    /// Copies a batch's inputs, and its targets if they are given.
    pub(super) fn take_batch(
        &mut self,
        (examples, targets): (&DeviceExamples, Option<&DeviceArray<f32>>),
        order: &Order,
        rows: usize,
    ) -> Result<(), KernelError> {
        let memory = &mut self.memory;
        let batch = Some(memory.clock.view().part(BATCH));
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
        let Some(targets) = targets else { return Ok(()) };
        let length = memory.targets.len() / self.batch_size * rows;
        let out = &mut memory.targets.view_mut();
        gather(targets.view(), &chosen, None, &mut out.part(0..length), rows)
    }

    /// Computes all values of `rows` examples.
    pub(super) fn forward(&mut self, mode: Mode, rows: usize) -> Result<(), KernelError> {
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

    /// What is held of `value` after a pass over `rows` examples.
    fn value(&self, mode: Mode, value: ValueIndex, rows: usize) -> Option<View<'_, f32>> {
        part(&self.memory.values, &self.plan, self.plan.place(mode, value), rows)
    }

    /// Copies what was found of `value` to the place that the batch has in `kept`.
    pub(super) fn keep(
        &self,
        value: ValueIndex,
        (mode, rows): (Mode, usize),
        kept: &mut DeviceArray<f32>,
    ) -> Result<(), KernelError> {
        let Some(from) = self.value(mode, value, rows) else { return Ok(()) };
        scatter(from, (self.memory.batch(), self.batch_size), &mut kept.view_mut(), rows)
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
}
