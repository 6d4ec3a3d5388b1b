//! Operations with weights of each channel alone: depthwise convolutions and spline weights.
//!
//! Leaves out: formulas (kernels). Invariant: a spline's basis depends on the extents alone.

use super::{Needs, Operation, Reads, Run, Seen, Wanted};
use crate::network::plan::Taps;
use glmeval_common::network::Padding;
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::depthwise_conv1d::{
    DepthwiseConv1dShape, depthwise_conv1d, depthwise_input_gradient, depthwise_weight_gradient,
};
use glmeval_kernels::ops::spline_weights::{basis, spline_weights, spline_weights_gradient};

/// Convolution of every channel with its own taps.
pub(super) struct Depthwise {
    pub(super) taps: Taps,
    pub(super) kernel: usize,
    pub(super) bias: Option<usize>,
}

impl Depthwise {
    fn shape(&self) -> DepthwiseConv1dShape {
        let Taps { length, input_width, kernel, dilation, padding, .. } = self.taps;
        match padding {
            Padding::Same => DepthwiseConv1dShape::same(length, input_width, kernel, dilation),
            Padding::Valid => DepthwiseConv1dShape::valid(length, input_width, kernel, dilation),
        }
    }
}

impl Operation for Depthwise {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let bias = self.bias.map(|bias| run.weights[bias].as_slice());
        let filters = &run.weights[self.kernel];
        depthwise_conv1d(reads.inputs[0], &self.shape(), filters, bias, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let (shape, dy) = (self.shape(), seen.gradient);
        if let Some(Some(dx)) = wanted.inputs.first_mut() {
            depthwise_input_gradient(dy, &shape, &run.weights[self.kernel], dx)?;
        }
        let (filters, after) = wanted.weights.split_at_mut(self.kernel + 1);
        let dbias = self.bias.map(|bias| after[bias - self.kernel - 1].as_mut_slice());
        depthwise_weight_gradient(seen.inputs[0], dy, &shape, &mut filters[self.kernel], dbias)
    }
}

/// A weight of each position and channel that a B-spline gives.
pub(super) struct Spline {
    width: usize,
    kernel: usize,
    /// `[length, bases]`
    basis: Vec<f32>,
}

impl Spline {
    pub(super) fn new(
        (length, width): (usize, usize),
        (bases, degree): (usize, usize),
        kernel: usize,
    ) -> Self {
        Self { width, kernel, basis: basis(length, bases, degree) }
    }
}

impl Operation for Spline {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let weights = &run.weights[self.kernel];
        spline_weights(reads.inputs[0], &self.basis, weights, self.width, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let dx = wanted.inputs.first_mut().and_then(|dx| dx.as_deref_mut());
        let given = (seen.inputs[0], seen.gradient);
        let dweights = &mut wanted.weights[self.kernel];
        let weights = &run.weights[self.kernel];
        spline_weights_gradient(given, &self.basis, weights, self.width, dx, dweights)
    }
}
