//! Networks of layers: from extents to numbers, forward, backward and one step of training.
//!
//! Leaves out: epochs, files and callbacks (training). Invariant: a step depends on the state, the
//! batch and the settings alone, to the bit, on any number of threads; one pass serves any number of
//! states of its network.

use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{LayerKind, Loss, ResolvedNetwork, WeightShape};
use glmeval_kernels::error::KernelError;
use std::sync::Arc;

mod buffers;
mod cuda;
mod description;
mod draw;
mod engine;
mod loss;
mod operations;
mod pass;
mod plan;
mod state;

pub use cuda::{
    DeviceExamples, DeviceFit, DeviceInput, DeviceNumber, DeviceSettings, is_trained_on_devices,
    training_conv_class,
};
pub use description::NetworkDescription;
pub use operations::InputSums;
pub use pass::{Batch, Pass, StepOutcome};
pub use state::{NetworkState, StateArrays};

/// Positions of a pool at most: a maximum's place in its pool is kept in 16 bits.
const POOL_MAX: usize = u16::MAX as usize;

/// Layers with extents, what is made small, and the precision of products.
#[derive(Clone, Debug)]
pub struct Network {
    resolved: ResolvedNetwork,
    shapes: Arc<[WeightShape]>,
    loss: Loss,
    precision: Precision,
}

impl Network {
    /// Puts layers and loss together.
    ///
    /// # Errors
    /// `Invalid` for a network without layers, or with a pool of more positions than can be named, or in tf32.
    pub fn new(resolved: ResolvedNetwork, loss: Loss, precision: Precision) -> Result<Self> {
        if precision == Precision::Tf32 {
            let expected = "f32 or bf16: this is computed on the CPU";
            return Err(InputError::new("network", "precision", expected, precision.name()).into());
        }
        Self::with(resolved, loss, precision)
    }

    /// As [`Network::new`], for [`DeviceFit`].
    ///
    /// # Errors
    /// As [`Network::new`], but in bf16 instead of tf32.
    pub fn for_device(resolved: ResolvedNetwork, loss: Loss, precision: Precision) -> Result<Self> {
        if training_conv_class(precision).is_none() {
            let expected = "f32 or tf32: this is computed on a device";
            return Err(InputError::new("network", "precision", expected, precision.name()).into());
        }
        Self::with(resolved, loss, precision)
    }

    fn with(resolved: ResolvedNetwork, loss: Loss, precision: Precision) -> Result<Self> {
        if resolved.output().values() == 0 {
            return Err(Error::invalid("network: expected a prediction, found no values"));
        }
        for layer in &resolved.layers {
            let (LayerKind::MaxPool { size } | LayerKind::AveragePool { size }) = layer.spec.kind
            else {
                continue;
            };
            if size > POOL_MAX {
                let place = format!("layer {}", layer.spec.name);
                let expected = format!("a pool of at most {POOL_MAX} positions");
                return Err(InputError::new("network", place, expected, size).into());
            }
        }
        let shapes = resolved.weights.clone().into();
        Ok(Self { resolved, shapes, loss, precision })
    }

    /// Layers and weights with their extents.
    pub fn resolved(&self) -> &ResolvedNetwork {
        &self.resolved
    }

    /// Precision of its products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Values of one prediction.
    pub fn outputs_per_example(&self) -> usize {
        self.resolved.output().values()
    }

    /// Values of one example's target: one for each of the prediction's, two for splicing.
    pub fn targets_per_example(&self) -> usize {
        match self.loss {
            Loss::SplicingDivergence => 2 * self.outputs_per_example(),
            _ => self.outputs_per_example(),
        }
    }
}

/// Extents were checked when the pass began, so a refusal is a defect of ours.
fn defect(error: KernelError) -> Error {
    Error::bug("network").with_source(error)
}

#[cfg(test)]
mod tests;
