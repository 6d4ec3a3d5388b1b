//! Normalisations of channels over the batch, and of positions over their channels.
//!
//! Leaves out: those that a product reads its input through (product). Invariant: moving statistics
//! change once for each training pass.

use super::{InputSums, Needs, Operation, Reads, Run, Seen, Wanted};
use crate::network::plan::Norm;
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::batch_norm::{self as kernels, NormGradient, Normalisation};
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::layer_norm_gradient::layer_norm_gradient;

/// Mean and biased variance of each channel, `[C]`.
pub(super) struct Statistics {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

impl Statistics {
    pub(super) fn new(width: usize) -> Self {
        Self { mean: vec![0.0; width], variance: vec![0.0; width] }
    }

    /// Those of the batch in training, the moving ones elsewhere.
    pub(super) fn find(
        &mut self,
        run: &Run<'_>,
        norm: &Norm,
        x: &[f32],
        sums: Option<InputSums<'_>>,
    ) -> Result<(), KernelError> {
        let (mean, variance) = (&mut self.mean, &mut self.variance);
        if !run.training {
            mean.copy_from_slice(&run.weights[norm.moving_mean()]);
            variance.copy_from_slice(&run.weights[norm.moving_variance()]);
            return Ok(());
        }
        let Some(InputSums { shift, sums, squares }) = sums else {
            return kernels::batch_statistics(x, norm.width, mean, variance);
        };
        let rows = x.len() / norm.width;
        kernels::statistics_of_sums(sums, squares, shift, rows, mean, variance)
    }

    /// The normalisation by these, as the kernels take it.
    pub(super) fn normalisation<'a>(
        &'a self,
        norm: &Norm,
        weights: &'a [Vec<f32>],
    ) -> Normalisation<'a> {
        Normalisation {
            mean: &self.mean,
            variance: &self.variance,
            gamma: &weights[norm.gamma],
            beta: &weights[norm.beta()],
            epsilon: norm.epsilon,
        }
    }

    /// Moves the moving statistics towards these.
    pub(super) fn update_moving(
        &self,
        norm: &Norm,
        weights: &mut [Vec<f32>],
    ) -> Result<(), KernelError> {
        kernels::update_moving(&mut weights[norm.moving_mean()], &self.mean, norm.momentum)?;
        let variance = &mut weights[norm.moving_variance()];
        kernels::update_moving(variance, &self.variance, norm.momentum)
    }
}

/// Normalisation of each channel over batch and positions.
pub(super) struct BatchNorm {
    norm: Norm,
    statistics: Statistics,
}

impl BatchNorm {
    pub(super) fn new(norm: Norm) -> Self {
        Self { norm, statistics: Statistics::new(norm.width) }
    }
}

impl Operation for BatchNorm {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.statistics.find(run, &self.norm, reads.inputs[0], reads.sums)?;
        let normalisation = self.statistics.normalisation(&self.norm, run.weights);
        kernels::batch_norm(reads.inputs[0], &normalisation, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let dx = wanted.inputs.first_mut().and_then(|dx| dx.as_deref_mut());
        let [dgamma, dbeta] = pair(wanted.weights, self.norm.gamma);
        let gradient = NormGradient { dx, dgamma, dbeta };
        let normalisation = self.statistics.normalisation(&self.norm, run.weights);
        let (x, dy) = (seen.inputs[0], seen.gradient);
        kernels::batch_norm_gradient(x, dy, &normalisation, run.training, gradient)
    }

    fn update_moving(&self, weights: &mut [Vec<f32>]) -> Result<(), KernelError> {
        self.statistics.update_moving(&self.norm, weights)
    }
}

/// The arrays of two weights, one after the other.
pub(super) fn pair(weights: &mut [Vec<f32>], first: usize) -> [&mut [f32]; 2] {
    let (before, after) = weights.split_at_mut(first + 1);
    [&mut before[first], &mut after[0]]
}

/// Normalisation of each position over its channels.
pub(super) struct LayerNorm {
    pub(super) width: usize,
    /// Index of gamma; beta follows.
    pub(super) gamma: usize,
    pub(super) epsilon: f32,
}

impl Operation for LayerNorm {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let (gamma, beta) = (&run.weights[self.gamma], &run.weights[self.gamma + 1]);
        layer_norm(reads.inputs[0], gamma, Some(beta), self.epsilon, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let dx = wanted.inputs.first_mut().and_then(|dx| dx.as_deref_mut());
        let [dgamma, dbeta] = pair(wanted.weights, self.gamma);
        let gradient = NormGradient { dx, dgamma, dbeta };
        let gamma = &run.weights[self.gamma];
        debug_assert_eq!(gamma.len(), self.width, "one scale for each channel");
        layer_norm_gradient(seen.inputs[0], seen.gradient, gamma, self.epsilon, gradient)
    }
}
