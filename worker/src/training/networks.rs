//! Steps of training on the CPU: runs that share batches, each network with one work space.
//!
//! Leaves out: epochs (run), the steps themselves (network). Invariant: a run does not depend on those it shares batches with.

use super::batches::{BatchSource, for_each_batch};
use super::run::{Run, Source, Trainer, Watcher};
use super::sums::EpochSums;
use crate::network::{Batch, Network, Pass};
use glmeval_common::error::{Error, Result};
use std::ops::ControlFlow;

/// Compiled networks, each with one work space that its runs share.
pub struct Networks<'a> {
    compiled: &'a [Network],
    passes: Vec<Option<Pass>>,
}

impl<'a> Networks<'a> {
    /// No work space yet.
    pub fn new(compiled: &'a [Network]) -> Self {
        Self { compiled, passes: compiled.iter().map(|_| None).collect() }
    }

    fn get(&mut self, index: usize) -> Result<(&'a Network, &mut Pass)> {
        let missing = || Error::bug(format!("training: there is no network {index}"));
        let network = self.compiled.get(index).ok_or_else(missing)?;
        let pass = match self.passes.get_mut(index).ok_or_else(missing)? {
            Some(pass) => pass,
            none => none.insert(Pass::new(network)?),
        };
        Ok((network, pass))
    }
}

fn nothing(live: &[(usize, Run)]) -> Vec<EpochSums> {
    live.iter().map(|(_, run)| EpochSums::new(run.is_binary())).collect()
}

impl Trainer for Networks<'_> {
    fn outputs(&mut self, run: &Run) -> Result<usize> {
        Ok(self.get(run.network)?.0.outputs_per_example())
    }

    fn train_epoch(
        &mut self,
        source: &Source<'_>,
        order: &[usize],
        live: &mut [(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>> {
        let mut all = nothing(live);
        for_each_batch(&source.batches, order, &mut |batch| {
            watcher.go_on()?;
            let inputs = batch.input_slices();
            let (rows, targets) = (batch.rows, batch.targets.as_slice());
            let step = Batch { rows, inputs: &inputs, targets, sums: &[] };
            let mut is_any_sound = false;
            for ((_, run), sums) in live.iter_mut().zip(&mut all) {
                if !sums.is_sound() {
                    continue;
                }
                let (network, pass) = self.get(run.network)?;
                let (adam, dropout) = (&run.spec.adam, run.seeds.dropout);
                let state = (network, &mut run.state);
                let outcome = pass.train(state, &step, adam, run.learning_rate, dropout)?;
                let extents = (rows, network.outputs_per_example());
                sums.add(outcome.loss, extents, targets, pass.predictions());
                is_any_sound |= outcome.loss.is_finite();
            }
            watcher.trained(rows * live.len());
            Ok(if is_any_sound { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(all)
    }

    fn validate(
        &mut self,
        source: &Source<'_>,
        live: &[(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>> {
        let mut all = nothing(live);
        let mut predictions = Vec::new();
        for_each_batch(&source.batches, &source.valid, &mut |batch| {
            watcher.go_on()?;
            for ((_, run), sums) in live.iter().zip(&mut all) {
                let (network, pass) = self.get(run.network)?;
                pass.predict(&run.state, batch.rows, &batch.input_slices(), &mut predictions)?;
                let loss = pass.loss(&run.state, &batch.targets)?;
                let extents = (batch.rows, network.outputs_per_example());
                sums.add(loss, extents, &batch.targets, &predictions);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    fn predict(
        &mut self,
        runs: &[&Run],
        source: &BatchSource<'_>,
        rows: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        let (mut all, mut some) = (vec![Vec::new(); runs.len()], Vec::new());
        if runs.is_empty() {
            return Ok(all);
        }
        for_each_batch(source, rows, &mut |batch| {
            for (run, of_run) in runs.iter().zip(&mut all) {
                let (_, pass) = self.get(run.network)?;
                pass.predict(&run.state, batch.rows, &batch.input_slices(), &mut some)?;
                of_run.extend_from_slice(&some);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}
