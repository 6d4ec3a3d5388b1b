//! Networks for tests: one without room, one whose states never stay on their device; checks of supervised ones.
//!
//! Leaves out: gLMs to wrap. Invariant: what they compute is the wrapped network's.

mod supervised;

use super::{LayerRequest, Network, Sink, States, TokenBatch};
use crate::device::device_error;
use glmeval_common::error::Result;
use glmeval_kernels::error::KernelError;

pub(crate) use supervised::Supervised;

/// Width of the states that a network without room hands out before it is full.
const CRAMPED_WIDTH: usize = 64;

/// A network on a device with room for so many tokens.
pub(crate) struct Cramped(pub(crate) Box<dyn Network>, pub(crate) usize);

impl Network for Cramped {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let tokens = batch.token_count();
        if tokens <= self.1 {
            return self.0.forward(batch, request, sink);
        }
        // A layer was handed out before the device was full.
        sink(0, States::Host(&vec![7.0; tokens * CRAMPED_WIDTH]))?;
        let (device, bytes) = ("the device".to_owned(), tokens as u64);
        let full = KernelError::OutOfMemory { device, bytes, free: 0, total: 0 };
        Err(device_error(full))
    }

    fn vocabulary_size(&self) -> usize {
        self.0.vocabulary_size()
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        self.0.head(states)
    }

    fn mean_skips_first(&self) -> bool {
        self.0.mean_skips_first()
    }
}

/// A network whose states always leave the device.
pub(crate) struct OnHost(pub(crate) Box<dyn Network>);

impl Network for OnHost {
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.0.forward(batch, request, &mut |layer, states| {
            assert!(matches!(states, States::Device(_)), "layer {layer} left the device");
            sink(layer, States::Host(&states.on_host()?))
        })
    }

    fn vocabulary_size(&self) -> usize {
        self.0.vocabulary_size()
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        self.0.head(states)
    }

    fn mean_skips_first(&self) -> bool {
        self.0.mean_skips_first()
    }
}
