//! Runs a plan forward and backward over buffers that are handed on as soon as they are free.
//!
//! Leaves out: losses and steps (pass). Invariant: gradients of a value that several operations read
//! are added from its last reader to its first.

use super::buffers::{Examples, Memory};
use super::operations::{Needs, Operation, Reads, Run, Seen, Wanted, build};
use super::plan::{Mode, Plan, ValueIndex};
use super::{Network, NetworkState, defect};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::WeightShape;
use std::sync::Arc;

/// A plan with the memory it runs in.
pub(super) struct Engine {
    pub(super) plan: Plan,
    operations: Vec<Box<dyn Operation>>,
    needs: Vec<Needs>,
    memory: Memory,
    /// Gradients of trained weights; empty for the others.
    pub(super) weight_gradients: Vec<Vec<f32>>,
    /// The weights that the operations have packed.
    packed: Option<Arc<()>>,
}

impl Engine {
    pub(super) fn new(network: &Network, input_gradients: bool) -> Result<Self> {
        let plan = Plan::new(network.resolved(), network.loss, input_gradients);
        let operations = plan.nodes.iter().map(|node| build(network, &plan, node));
        let operations = operations.collect::<Result<Vec<_>>>()?;
        let needs = operations.iter().map(|operation| operation.needs()).collect();
        let shapes = network.resolved().weights.iter().enumerate();
        let count = |(index, shape): (usize, &WeightShape)| {
            let is_reached = plan.weights.contains(&index) && shape.role.is_trained();
            if is_reached { shape.values() } else { 0 }
        };
        let weight_gradients = shapes.map(|shape| vec![0.0; count(shape)]).collect();
        let memory = Memory::new(plan.values.len());
        Ok(Self { plan, operations, needs, memory, weight_gradients, packed: None })
    }

    /// Values of all buffers.
    pub(super) fn held_values(&self) -> usize {
        self.memory.held_values()
    }

    /// A value that the last pass ended with.
    pub(super) fn value<'a>(
        &'a self,
        mode: Mode,
        value: ValueIndex,
        examples: &Examples<'a>,
    ) -> &'a [f32] {
        self.memory.value(&self.plan, self.plan.place(mode, value), examples)
    }

    /// Refuses examples of other extents than the plan's.
    fn check(&self, examples: &Examples<'_>) -> Result<()> {
        let expected: Vec<usize> =
            self.plan.values.iter().take(self.plan.inputs).map(|value| value.length).collect();
        let found: Vec<usize> = examples.inputs.iter().map(|input| input.len()).collect();
        let all = expected.iter().map(|length| length.checked_mul(examples.rows));
        if all.eq(found.iter().map(|&length| Some(length))) {
            return Ok(());
        }
        let rows = examples.rows;
        Err(Error::bug(format!(
            "network: expected {rows} examples of {expected:?} values, found {found:?} values"
        )))
    }

    /// Computes all values; the logits and the prediction are held until the next pass.
    ///
    /// # Errors
    /// `Bug` if the inputs do not fit.
    pub(super) fn forward(
        &mut self,
        mode: Mode,
        state: &NetworkState,
        draws: (u64, u64),
        examples: &Examples<'_>,
    ) -> Result<()> {
        self.check(examples)?;
        self.memory.begin(examples.rows);
        // Forgotten until the pass is through: a pass that fails has packed some.
        let packed = self.packed.take();
        let repack = !packed.is_some_and(|packed| Arc::ptr_eq(&packed, state.version()));
        let weights = &state.weights;
        let run = Run { training: mode == Mode::Train, weights, repack, draws };
        for (index, operation) in self.operations.iter_mut().enumerate() {
            let node = &self.plan.nodes[index];
            if self.plan.is_left_out(mode, node) {
                continue;
            }
            let length = self.plan.length(node.output, examples.rows)?;
            let mut buffer = self.memory.buffers.take(length);
            let places = node.inputs.iter().map(|&input| self.plan.place(mode, input));
            let places: Vec<ValueIndex> = places.collect();
            let value = |&place: &ValueIndex| self.memory.value(&self.plan, place, examples);
            let inputs: Vec<&[f32]> = places.iter().map(value).collect();
            let sums = places.first().and_then(|&input| examples.sums.get(input).copied());
            let reads = Reads { inputs: &inputs, sums: sums.flatten() };
            operation.forward(&run, &reads, &mut buffer[..length]).map_err(defect)?;
            self.memory.values[node.output] = buffer;
            for place in places {
                let is_needed = self.plan.is_read_after(mode, index, place)
                    || self.plan.is_answer(mode, place)
                    || (mode.keeps() && is_kept(&self.plan, &self.needs, mode, place));
                if !is_needed {
                    self.memory.release_value(place);
                }
            }
        }
        self.packed = Some(Arc::clone(state.version()));
        Ok(())
    }

    /// Takes the statistics of the last training pass into the moving ones.
    ///
    /// # Errors
    /// `Bug` if `weights` are another network's.
    pub(super) fn update_moving(&self, weights: &mut [Vec<f32>]) -> Result<()> {
        let mut operations = self.operations.iter();
        operations.try_for_each(|operation| operation.update_moving(weights)).map_err(defect)
    }

    /// A buffer for the gradient of `value`, to be handed to [`Engine::backward`].
    pub(super) fn gradient_buffer(&mut self, length: usize) -> Vec<f32> {
        self.memory.buffers.take(length)
    }

    /// The gradient of an input of the network after a backward pass; empty if it has none.
    pub(super) fn input_gradient(&self, input: usize, rows: usize) -> &[f32] {
        let length = self.plan.values[input].length * rows;
        self.memory.gradients[input].get(..length).unwrap_or(&[])
    }

    /// From the gradient of `start` to those of weights and inputs.
    ///
    /// # Errors
    /// `Bug` if the pass before was another.
    pub(super) fn backward(
        &mut self,
        mode: Mode,
        state: &NetworkState,
        draws: (u64, u64),
        examples: &Examples<'_>,
        (start, gradient): (ValueIndex, Vec<f32>),
    ) -> Result<()> {
        let start = self.plan.place(mode, start);
        if !self.plan.values[start].needs_gradient {
            self.memory.buffers.give(gradient);
            return Ok(());
        }
        self.memory.gradients[start] = gradient;
        let weights = &state.weights;
        let run = Run { training: mode == Mode::Train, weights, repack: false, draws };
        for index in (0..self.plan.nodes.len()).rev() {
            let node = &self.plan.nodes[index];
            let output = node.output;
            let is_unseen = self.memory.gradients[output].is_empty();
            if is_unseen || self.plan.is_left_out(mode, node) {
                continue;
            }
            self.step_back(mode, &run, examples, index)?;
            self.memory.release_gradient(output);
            if !self.plan.is_answer(mode, output) {
                self.memory.release_value(output);
            }
        }
        Ok(())
    }

    /// The backward pass of one node.
    fn step_back(
        &mut self,
        mode: Mode,
        run: &Run<'_>,
        examples: &Examples<'_>,
        index: usize,
    ) -> Result<()> {
        let (plan, needs) = (&self.plan, self.needs[index]);
        let node = &plan.nodes[index];
        let places = node.inputs.iter().map(|&input| plan.place(mode, input));
        let places: Vec<ValueIndex> = places.collect();
        let mut found = Vec::new();
        for &place in &places {
            let length = plan.length(place, examples.rows)?;
            let is_wanted = plan.values[place].needs_gradient;
            found.push(is_wanted.then(|| (self.memory.buffers.take(length), length)));
        }
        let memory = &self.memory;
        let value = |place: ValueIndex, needed: bool| {
            if needed { memory.value(plan, place, examples) } else { &[] }
        };
        let inputs: Vec<&[f32]> = places.iter().map(|&place| value(place, needs.inputs)).collect();
        let output = value(node.output, needs.output);
        let gradient = &memory.gradients[node.output][..plan.length(node.output, examples.rows)?];
        let seen = Seen { inputs: &inputs, output, gradient };
        let mut slices: Vec<Option<&mut [f32]>> = Vec::new();
        for found in &mut found {
            slices.push(found.as_mut().map(|(buffer, length)| &mut buffer[..*length]));
        }
        let mut wanted = Wanted { inputs: &mut slices, weights: &mut self.weight_gradients };
        self.operations[index].backward(run, &seen, &mut wanted).map_err(defect)?;
        for (place, found) in places.into_iter().zip(found) {
            let Some((buffer, length)) = found else { continue };
            self.memory.add_gradient(place, buffer, length)?;
        }
        Ok(())
    }
}

/// Whether the backward pass reads `value`.
fn is_kept(plan: &Plan, needs: &[Needs], mode: Mode, value: ValueIndex) -> bool {
    plan.nodes.iter().zip(needs).any(|(node, needs)| {
        let is_input = node.inputs.iter().any(|&input| plan.place(mode, input) == value);
        let is_output = node.output == value;
        let runs = plan.values[node.output].needs_gradient && !plan.is_left_out(mode, node);
        runs && ((needs.inputs && is_input) || (needs.output && is_output))
    })
}
