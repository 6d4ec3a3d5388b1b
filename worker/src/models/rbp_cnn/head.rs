//! From the embedding to the published predictions.

use super::norm::BatchNorm;
use crate::config::RbpCnnConfig;
use crate::layers::{defect, kernel_precision, zeros};
use crate::model::{Precision, TensorSource};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::pool::mean_rows;
use glmeval_kernels::ops::relu::relu;
use glmeval_kernels::ops::sigmoid::sigmoid;

/// Index of the batch norm behind the hidden layer.
const NORM: usize = 5;

/// Hidden layer and output.
pub(super) struct Head {
    hidden: PackedLinear,
    norm: BatchNorm,
    output: PackedLinear,
    /// Positions of the embedding of a sequence.
    length: usize,
}

impl Head {
    /// `None` for weights that end at the embedding.
    pub(super) fn load(
        config: &RbpCnnConfig,
        (length, precision): (usize, Precision),
        tensors: &mut dyn TensorSource,
    ) -> Result<Option<Self>> {
        let held = tensors.contains("dense_1/kernel");
        let Some(sizes) = config.head.filter(|_| held) else { return Ok(None) };
        let precision = kernel_precision(precision);
        let (width, dense, outputs) = (config.filters[1], sizes.dense, sizes.outputs);
        let weight = tensors.take_f32("dense/kernel", &[width, dense])?;
        let hidden = PackedLinear::pack_by_input_as(precision, &weight, None, dense, width);
        let weight = tensors.take_f32("dense_1/kernel", &[dense, outputs])?;
        let bias = tensors.take_f32("dense_1/bias", &[outputs])?;
        let output =
            PackedLinear::pack_by_input_as(precision, &weight, Some(&bias), outputs, dense);
        let norm = BatchNorm::load(NORM, dense, config.batch_norm_eps, tensors)?;
        Ok(Some(Self {
            hidden: hidden.map_err(defect)?,
            norm,
            output: output.map_err(defect)?,
            length,
        }))
    }

    /// Probabilities `[B, outputs]` of embeddings `[B, T, D]`.
    ///
    /// ```text
    /// sigmoid(output(relu(norm(hidden(mean over T)))))
    /// ```
    ///
    /// # Errors
    /// `Invalid` for states of parts of a sequence.
    pub(super) fn predictions(&self, states: &[f32]) -> Result<Vec<f32>> {
        let width = self.hidden.input_width();
        let inputs = self.length.saturating_mul(width);
        if !states.len().is_multiple_of(inputs) {
            let found = states.len();
            return Err(Error::invalid(format!(
                "predictions: expected {inputs} numbers for each whole sequence, found {found}"
            )));
        }
        let count = states.len() / inputs;
        let mut means = zeros(count, width)?;
        for (mean, states) in means.chunks_exact_mut(width).zip(states.chunks_exact(inputs)) {
            mean_rows(states, mean).map_err(defect)?;
        }
        let mut hidden = zeros(count, self.hidden.output_width())?;
        linear(&means, &self.hidden, Epilogue::None, &mut hidden).map_err(defect)?;
        self.norm.apply(&mut hidden);
        relu(&mut hidden);
        let mut predictions = zeros(count, self.output.output_width())?;
        linear(&hidden, &self.output, Epilogue::None, &mut predictions).map_err(defect)?;
        sigmoid(&mut predictions);
        Ok(predictions)
    }
}
