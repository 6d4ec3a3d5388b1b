//! Pools of positions.
//!
//! Leaves out: formulas (kernels). Invariant: of equal maxima the first receives the gradient.

use super::{Operation, Reads, Run, Seen, Wanted};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::batch_pool::{self, PoolShape};

/// Largest of each pool.
pub(super) struct MaxPool {
    shape: PoolShape,
    /// Place of the maximum in its pool.
    picked: Vec<u16>,
}

impl MaxPool {
    pub(super) fn new(length: usize, width: usize, size: usize) -> Self {
        Self { shape: PoolShape { length, width, size }, picked: Vec::new() }
    }
}

impl Operation for MaxPool {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.picked.resize(output.len(), 0);
        batch_pool::max_pool(reads.inputs[0], &self.shape, output, &mut self.picked)
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let Some(Some(dx)) = wanted.inputs.first_mut() else { return Ok(()) };
        batch_pool::max_pool_gradient(seen.gradient, &self.picked, &self.shape, dx)
    }
}

/// Mean of each pool.
pub(super) struct AveragePool {
    shape: PoolShape,
}

impl AveragePool {
    pub(super) fn new(length: usize, width: usize, size: usize) -> Self {
        Self { shape: PoolShape { length, width, size } }
    }
}

impl Operation for AveragePool {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        batch_pool::average_pool(reads.inputs[0], &self.shape, output)
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let Some(Some(dx)) = wanted.inputs.first_mut() else { return Ok(()) };
        batch_pool::average_pool_gradient(seen.gradient, &self.shape, dx)
    }
}

/// Mean over all positions.
pub(super) struct GlobalAveragePool {
    pub(super) length: usize,
    pub(super) width: usize,
}

impl Operation for GlobalAveragePool {
    fn forward(
        &mut self,
        _run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        batch_pool::global_average_pool(reads.inputs[0], self.length, self.width, output)
    }

    fn backward(
        &mut self,
        _run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let Some(Some(dx)) = wanted.inputs.first_mut() else { return Ok(()) };
        batch_pool::global_average_pool_gradient(seen.gradient, self.length, self.width, dx)
    }
}
