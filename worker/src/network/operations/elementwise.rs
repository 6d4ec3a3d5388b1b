//! Functions of values, and dropout.
//!
//! Leaves out: formulas (kernels). Invariant: what is dropped depends on seed, step, layer and place.

use super::{Needs, Operation, Reads, Run, Seen, Wanted};
use crate::network::plan::Drop;
use glmeval_common::network::Activation;
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::dropout::{DropoutMask, dropout};
use glmeval_kernels::ops::function::{self, Function as KernelFunction};

/// A function of each value, or of each row for softmax.
pub(super) struct Function {
    pub(super) function: KernelFunction,
    pub(super) width: usize,
}

/// The kernels' name of a function.
pub(in crate::network) fn kernel(function: Activation) -> KernelFunction {
    match function {
        Activation::Linear => KernelFunction::Linear,
        Activation::Relu => KernelFunction::Relu,
        Activation::Silu => KernelFunction::Silu,
        Activation::Exponential => KernelFunction::Exponential,
        Activation::Softmax => KernelFunction::Softmax,
        Activation::Sigmoid => KernelFunction::Sigmoid,
        Activation::Tanh => KernelFunction::Tanh,
        Activation::Gelu => KernelFunction::Gelu,
    }
}

impl Function {
    /// Whether the derivative is found from the input; from the output otherwise.
    fn reads_input(&self) -> bool {
        matches!(self.function, KernelFunction::Silu | KernelFunction::Gelu)
    }
}

impl Operation for Function {
    fn needs(&self) -> Needs {
        Needs { inputs: self.reads_input(), output: true }
    }

    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        function::apply(self.function, self.width, reads.inputs[0], output)
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        // Of the other functions only the output is kept; a relu's is positive where its input is.
        let x = if self.reads_input() { seen.inputs[0] } else { seen.output };
        let Some(Some(dx)) = wanted.inputs.first_mut() else { return Ok(()) };
        function::gradient(self.function, self.width, x, seen.output, seen.gradient, dx)
    }
}

/// Zeroes values at random; only ever run in training.
pub(super) struct Dropout(pub(super) Drop);

/// What one step of training drops.
pub(super) fn mask(Drop { layer, rate }: Drop, run: &Run<'_>) -> DropoutMask {
    let (seed, step) = run.draws;
    DropoutMask { seed, step, layer, rate }
}

impl Operation for Dropout {
    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        dropout(&mask(self.0, run), reads.inputs[0], output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let Some(Some(dx)) = wanted.inputs.first_mut() else { return Ok(()) };
        dropout(&mask(self.0, run), seen.gradient, dx)
    }
}
