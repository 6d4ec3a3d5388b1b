//! Predictions of many batches in a device's memory, read back at once.
//!
//! Leaves out: what is predicted. Invariant: an example's prediction does not depend on the batch it is in.

use super::engine::Engine;
use super::examples::DeviceExamples;
use crate::network::plan::Mode;
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::gather::cuda::Order;

type Result<T> = std::result::Result<T, KernelError>;

/// Logits and predictions of the examples of an order, as far as they are found.
pub(super) struct Answers {
    order: Order,
    logits: DeviceArray<f32>,
    predictions: DeviceArray<f32>,
    /// Examples that are through.
    done: usize,
    examples: usize,
}

impl Answers {
    /// Room for `count` answers of `outputs` values on `examples` examples.
    pub(super) fn new(
        gpu: &Gpu,
        count: usize,
        (outputs, examples): (usize, usize),
    ) -> Result<Self> {
        let array = || DeviceArray::new(gpu, count.saturating_mul(outputs));
        let order = Order::new(gpu, count, examples)?;
        Ok(Self { order, logits: array()?, predictions: array()?, done: 0, examples })
    }

    /// Whether it has room for exactly `count` answers.
    pub(super) fn is_of(&self, count: usize) -> bool {
        self.order.len() == count
    }

    /// Begins anew.
    pub(super) fn begin(&mut self, order: &[u32]) -> Result<()> {
        self.done = 0;
        self.order.write(order)
    }

    /// Answers the next batch of at most `batch_size`; how many examples it has.
    pub(super) fn add(
        &mut self,
        engine: &mut Engine,
        examples: &DeviceExamples,
        batch_size: usize,
    ) -> Result<usize> {
        let rows = batch_size.min(self.order.len().saturating_sub(self.done));
        if rows == 0 {
            return Ok(0);
        }
        debug_assert_eq!(examples.count, self.examples, "the order names these examples");
        engine.memory.set_batch(self.done / batch_size)?;
        engine.take_batch((examples, None), &self.order, rows)?;
        engine.forward(Mode::Predict, rows)?;
        let range = self.done * engine.outputs..(self.done + rows) * engine.outputs;
        for (into, value) in [
            (&mut self.logits, engine.plan.logits),
            (&mut self.predictions, engine.plan.prediction),
        ] {
            if let Some(from) = engine.value(Mode::Predict, value, rows) {
                into.view_mut().part(range.clone()).copy_from(from)?;
            }
        }
        self.done += rows;
        Ok(rows)
    }

    /// Logits and predictions.
    pub(super) fn read(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.logits.to_vec()?, self.predictions.to_vec()?))
    }
}
