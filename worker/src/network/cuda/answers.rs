//! Predictions of many batches in a device's memory, read back at once; a batch is one recorded graph.
//!
//! Leaves out: what is predicted. Invariant: an example's prediction does not depend on the batch it is in.

use super::engine::Engine;
use super::examples::DeviceExamples;
use super::recorded::Recorded;
use crate::network::plan::Mode;
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::gather::cuda::{Order, next_batch};

type Result<T> = std::result::Result<T, KernelError>;

/// Logits and predictions of the examples of an order, as far as they are found.
pub(super) struct Answers {
    // Dropped before the arrays it was recorded with.
    recorded: Recorded,
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
        let recorded = Recorded::default();
        Ok(Self { recorded, order, logits: array()?, predictions: array()?, done: 0, examples })
    }

    /// Whether it has room for exactly `count` answers.
    pub(super) fn is_of(&self, count: usize) -> bool {
        self.order.len() == count
    }

    /// Begins anew. The device counts the batches from here on, so that no step may come between them.
    pub(super) fn begin(&mut self, engine: &mut Engine, order: &[u32]) -> Result<()> {
        self.done = 0;
        self.order.write(order)?;
        engine.memory.set_batch(0)
    }

    /// Answers the next batch of at most `batch_size`; how many examples it has.
    pub(super) fn add(
        &mut self,
        (gpu, engine): (&Gpu, &mut Engine),
        examples: &DeviceExamples,
        batch_size: usize,
    ) -> Result<usize> {
        let rows = batch_size.min(self.order.len().saturating_sub(self.done));
        if rows == 0 {
            return Ok(0);
        }
        debug_assert_eq!(examples.count, self.examples, "the order names these examples");
        let Self { recorded, order, logits, predictions, .. } = self;
        recorded.run(gpu, rows, || {
            engine.take_batch((examples, None), order, rows)?;
            engine.forward(Mode::Predict, rows)?;
            let predicted = (Mode::Predict, rows);
            engine.keep(engine.plan.logits, predicted, logits)?;
            engine.keep(engine.plan.prediction, predicted, predictions)?;
            next_batch(&mut engine.memory.batch_mut())
        })?;
        self.done += rows;
        Ok(rows)
    }

    /// Logits and predictions.
    pub(super) fn read(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.logits.to_vec()?, self.predictions.to_vec()?))
    }
}
