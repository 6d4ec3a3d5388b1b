//! Steps of training, predictions, losses and gradients of inputs, over memory that is kept.
//!
//! Leaves out: which examples a batch holds (training). Invariant: nothing of a state stays in a pass
//! but its last predictions.

use super::buffers::Examples;
use super::engine::Engine;
use super::operations::InputSums;
use super::plan::Mode;
use super::{Network, NetworkState, defect, loss};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::{Adam, AdamForm, WeightShape};
use glmeval_kernels::ops::adam::{AdamStep, adam};
use glmeval_kernels::ops::loss::LossKind;

/// Examples with their targets.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Examples; at least one.
    pub rows: usize,
    /// One for each input of the network, `[rows, extent]`.
    pub inputs: &'a [&'a [f32]],
    /// `[rows, targets_per_example]`.
    pub targets: &'a [f32],
    /// Sums of inputs over positions, one for each input or none at all: where the first layer is a
    /// batch normalisation, its statistics are then found without reading the input. They differ
    /// from those found by reading in their last bits, so a fit gives them always or never.
    pub sums: &'a [Option<InputSums<'a>>],
}

/// What one step of training found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Loss of the batch before the step, penalties included; NaN or infinite if training fails.
    pub loss: f64,
}

/// Work space of one thread of training: activations, gradients, packed weights.
pub struct Pass {
    engine: Engine,
    /// As `engine` but with gradients of inputs; made when first asked for.
    explaining: Option<Engine>,
    loss: LossKind,
    keeps_input_gradients: bool,
    /// Of the last training step or prediction.
    rows: usize,
    logits: Vec<f32>,
    predictions: Vec<f32>,
}

impl Pass {
    /// Work space for `network`.
    ///
    /// # Errors
    /// `Bug` if the network cannot be computed.
    pub fn new(network: &Network) -> Result<Self> {
        Self::with(network, false)
    }

    /// Work space whose training steps leave the gradients of inputs, [`Pass::input_gradients`].
    ///
    /// # Errors
    /// As [`Pass::new`].
    pub fn with_input_gradients(network: &Network) -> Result<Self> {
        Self::with(network, true)
    }

    fn with(network: &Network, keeps_input_gradients: bool) -> Result<Self> {
        let engine = Engine::new(network, keeps_input_gradients)?;
        let loss = loss::kind(network, &engine.plan);
        let (logits, predictions) = (Vec::new(), Vec::new());
        let explaining = None;
        Ok(Self { engine, explaining, loss, keeps_input_gradients, rows: 0, logits, predictions })
    }

    /// One step: forward, loss, backward, moving statistics, optimiser.
    ///
    /// `dropout_seed` and the number of steps taken decide what is dropped. A loss that is no number
    /// is no error; weights then become NaN as anywhere else.
    ///
    /// # Errors
    /// `Bug` if batch or state do not fit the network.
    pub fn train(
        &mut self,
        (network, state): (&Network, &mut NetworkState),
        batch: &Batch<'_>,
        optimizer: &Adam,
        learning_rate: f32,
        dropout_seed: u64,
    ) -> Result<StepOutcome> {
        let draws = (dropout_seed, state.step);
        let loss = self.find_gradients(state, batch, draws)?;
        self.engine.update_moving(&mut state.weights)?;
        self.descend(network, state, optimizer, learning_rate)?;
        state.mark_changed();
        Ok(StepOutcome { loss })
    }

    /// Loss and gradients of a training pass; no weight changes.
    fn find_gradients(
        &mut self,
        state: &NetworkState,
        batch: &Batch<'_>,
        draws: (u64, u64),
    ) -> Result<f64> {
        if batch.rows == 0 {
            return Err(Error::bug("network: expected at least one example, found none"));
        }
        let examples = Examples { rows: batch.rows, inputs: batch.inputs, sums: batch.sums };
        self.engine.forward(Mode::Train, state, draws, &examples)?;
        self.keep_answers(Mode::Train, &examples);
        let mut gradient = self.engine.gradient_buffer(self.logits.len());
        let into = &mut gradient[..self.logits.len()];
        let loss = loss::of_predictions(self.loss, &self.logits, batch.targets, Some(into))?;
        let start = (self.engine.plan.logits, gradient);
        self.engine.backward(Mode::Train, state, draws, &examples, start)?;
        let gradients = Some(self.engine.weight_gradients.as_mut_slice());
        Ok(loss + loss::penalties(&self.engine.plan, state, gradients)?)
    }

    /// The optimiser's step.
    fn descend(
        &self,
        network: &Network,
        state: &mut NetworkState,
        optimizer: &Adam,
        learning_rate: f32,
    ) -> Result<()> {
        state.step += 1;
        let step = AdamStep {
            step: state.step,
            learning_rate,
            beta_1: optimizer.beta_1,
            beta_2: optimizer.beta_2,
            epsilon: optimizer.epsilon,
            torch_form: optimizer.form == AdamForm::Torch,
        };
        for (index, gradient) in self.engine.weight_gradients.iter().enumerate() {
            // Weights that the prediction does not depend on stay as they were drawn.
            if gradient.is_empty() || !network.shapes[index].role.is_trained() {
                continue;
            }
            let (first, second) = (&mut state.first[index], &mut state.second[index]);
            adam(&step, gradient, first, second, &mut state.weights[index]).map_err(defect)?;
        }
        Ok(())
    }

    /// Predictions in inference mode, as the network's last function gives them.
    ///
    /// `out` is overwritten: `[rows, outputs_per_example]`.
    ///
    /// # Errors
    /// `Bug` if the inputs do not fit the network.
    pub fn predict(
        &mut self,
        state: &NetworkState,
        rows: usize,
        inputs: &[&[f32]],
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let examples = Examples { rows, inputs, sums: &[] };
        self.logits.clear();
        self.predictions.clear();
        if rows > 0 {
            self.engine.forward(Mode::Predict, state, (0, 0), &examples)?;
            self.keep_answers(Mode::Predict, &examples);
        }
        out.clear();
        out.extend_from_slice(&self.predictions);
        Ok(())
    }

    fn keep_answers(&mut self, mode: Mode, examples: &Examples<'_>) {
        let plan = &self.engine.plan;
        self.rows = examples.rows;
        self.logits.clear();
        self.logits.extend_from_slice(self.engine.value(mode, plan.logits, examples));
        self.predictions.clear();
        self.predictions.extend_from_slice(self.engine.value(mode, plan.prediction, examples));
    }

    /// f32 values of activations and gradients that are held for the next step.
    pub fn held_values(&self) -> usize {
        let explaining = self.explaining.as_ref().map_or(0, Engine::held_values);
        self.engine.held_values() + explaining
    }

    /// Predictions of the last training step, before its weights changed, or of the last
    /// [`Pass::predict`]: `[rows, outputs_per_example]`.
    pub fn predictions(&self) -> &[f32] {
        &self.predictions
    }

    /// Loss of the last predictions, penalties of `state` included.
    ///
    /// # Errors
    /// `Bug` if `targets` are not those of as many examples.
    pub fn loss(&self, state: &NetworkState, targets: &[f32]) -> Result<f64> {
        let loss = loss::of_predictions(self.loss, &self.logits, targets, None)?;
        Ok(loss + loss::penalties(&self.engine.plan, state, None)?)
    }

    /// Gradients of the last training step's loss with respect to trained weights, penalties
    /// included; those that the prediction does not depend on have none.
    pub fn gradients<'a>(
        &'a self,
        network: &'a Network,
    ) -> impl Iterator<Item = (&'a WeightShape, &'a [f32])> {
        let gradients = self.engine.weight_gradients.iter().map(Vec::as_slice);
        network.shapes.iter().zip(gradients).filter(|(_, gradient)| !gradient.is_empty())
    }

    /// Gradients of the last training step's loss with respect to the inputs, `[rows, extent]` each;
    /// empty unless asked for by [`Pass::with_input_gradients`].
    pub fn input_gradients(&self) -> impl Iterator<Item = &[f32]> {
        let count = if self.keeps_input_gradients { self.engine.plan.inputs } else { 0 };
        (0..count).map(|input| self.engine.input_gradient(input, self.rows))
    }

    /// How the sum over examples of one output changes with each value of each input, in inference
    /// mode: `[rows, extent]` for each input.
    ///
    /// # Errors
    /// `Invalid` for an output that the network does not have; `Bug` if inputs do not fit.
    pub fn input_gradient(
        &mut self,
        (network, state): (&Network, &NetworkState),
        rows: usize,
        inputs: &[&[f32]],
        output_index: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let outputs = network.outputs_per_example();
        if output_index >= outputs {
            let message = format!("network: expected an output below {outputs}");
            return Err(Error::invalid(format!("{message}, found {output_index}")));
        }
        let engine = match &mut self.explaining {
            Some(engine) => engine,
            empty => empty.insert(Engine::new(network, true)?),
        };
        let examples = Examples { rows, inputs, sums: &[] };
        if rows == 0 {
            return Ok(vec![Vec::new(); inputs.len()]);
        }
        let (draws, mode) = ((0, 0), Mode::Explain);
        engine.forward(mode, state, draws, &examples)?;
        let mut gradient = engine.gradient_buffer(rows * outputs);
        let chosen = |index: usize| if index % outputs == output_index { 1.0 } else { 0.0 };
        gradient.iter_mut().enumerate().for_each(|(index, value)| *value = chosen(index));
        let start = (engine.plan.prediction, gradient);
        engine.backward(mode, state, draws, &examples, start)?;
        Ok((0..inputs.len()).map(|input| engine.input_gradient(input, rows).to_vec()).collect())
    }
}
