//! A normalisation with the function, dropouts and pool after it, in one.
//!
//! Leaves out: the order of its parts (plan). Invariant: the same bits as its parts one by one; only
//! the input is kept for the gradient.

use super::elementwise::{kernel, mask};
use super::normalisation::{Statistics, pair};
use super::{Needs, Operation, Reads, Run, Seen, Wanted};
use crate::network::plan::{Drop, NormBlock};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::batch_norm::NormGradient;
use glmeval_kernels::ops::batch_pool::PoolShape;
use glmeval_kernels::ops::norm_block::{self as kernels, norm_block, norm_block_gradient};

/// Normalisation, function, dropout, pool, dropout.
pub(super) struct Block {
    parts: NormBlock,
    statistics: Statistics,
    /// Places of maxima in their pools.
    picked: Vec<u16>,
}

impl Block {
    pub(super) fn new(parts: NormBlock) -> Self {
        let statistics = Statistics::new(parts.norm.width);
        Self { parts, statistics, picked: Vec::new() }
    }

    fn kernel<'a>(&'a self, run: &Run<'a>) -> kernels::NormBlock<'a> {
        let NormBlock { norm, function, before, pool, after } = self.parts;
        let normalisation = self.statistics.normalisation(&norm, run.weights);
        let in_training = |drop: Option<Drop>| Some(mask(drop.filter(|_| run.training)?, run));
        let width = norm.width;
        let pool = pool.map(|(length, size)| PoolShape { length, width, size });
        let (before, after) = (in_training(before), in_training(after));
        kernels::NormBlock { normalisation, function: kernel(function), before, pool, after }
    }
}

impl Operation for Block {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        self.statistics.find(run, &self.parts.norm, reads.inputs[0], reads.sums)?;
        let mut picked = std::mem::take(&mut self.picked);
        picked.resize(if self.parts.pool.is_some() { output.len() } else { 0 }, 0);
        let result = norm_block(&self.kernel(run), reads.inputs[0], output, &mut picked);
        self.picked = picked;
        result
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let dx = wanted.inputs.first_mut().and_then(|dx| dx.as_deref_mut());
        let [dgamma, dbeta] = pair(wanted.weights, self.parts.norm.gamma);
        let gradient = NormGradient { dx, dgamma, dbeta };
        let (block, training) = (self.kernel(run), run.training);
        let (x, dy) = (seen.inputs[0], seen.gradient);
        norm_block_gradient(&block, x, dy, &self.picked, training, gradient)
    }

    fn update_moving(&self, weights: &mut [Vec<f32>]) -> Result<(), KernelError> {
        self.statistics.update_moving(&self.parts.norm, weights)
    }
}
