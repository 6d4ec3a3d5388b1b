//! From the states of the spline layer to the published predictions.

use crate::config::sei::CLASSIFIER;
use crate::layers::{defect, load_linear, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::sigmoid::sigmoid;

/// Both maps; by far most weights of the network.
pub(super) struct Classifier {
    hidden: PackedLinear,
    output: PackedLinear,
}

impl Classifier {
    pub(super) fn load(
        (outputs, states): (usize, usize),
        precision: Precision,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let [hidden, output] = CLASSIFIER;
        Ok(Self {
            hidden: load_linear(hidden, (outputs, states), precision, tensors)?,
            output: load_linear(output, (outputs, outputs), precision, tensors)?,
        })
    }

    /// Probabilities `[B, outputs]` of states `[B, C, functions]`.
    ///
    /// ```text
    /// sigmoid(output(relu(hidden(states))))
    /// ```
    ///
    /// # Errors
    /// `Invalid` for states of parts of a sequence.
    pub(super) fn predictions(&self, states: &[f32]) -> Result<Vec<f32>> {
        let (inputs, outputs) = (self.hidden.input_width(), self.output.output_width());
        if !states.len().is_multiple_of(inputs) {
            let found = states.len();
            return Err(Error::invalid(format!(
                "predictions: expected {inputs} numbers for each whole sequence, found {found}"
            )));
        }
        let mut hidden = zeros(states.len() / inputs, outputs)?;
        let mut predictions = hidden.clone();
        linear(states, &self.hidden, Epilogue::Relu, &mut hidden).map_err(defect)?;
        linear(&hidden, &self.output, Epilogue::None, &mut predictions).map_err(defect)?;
        sigmoid(&mut predictions);
        Ok(predictions)
    }
}
