//! Where a gLM runs.
//!
//! Leaves out: which operations there are (`kernels`). Invariant: only loading asks for the device; what is loaded knows its own.

use glmeval_common::error::Error;
use glmeval_kernels::cuda::Gpu;
use glmeval_kernels::error::KernelError;

/// A device.
#[derive(Clone, Debug, Default)]
pub enum Device {
    /// The threads of the caller's pool.
    #[default]
    Cpu,
    /// A CUDA device, or the emulator.
    Cuda(Gpu),
}

/// What a device's error means to the caller: a device that is full, lost or absent may serve another time or elsewhere; all
/// else is a defect of ours.
pub fn device_error(error: KernelError) -> Error {
    match &error {
        KernelError::NoDevice { .. }
        | KernelError::OutOfMemory { .. }
        | KernelError::Device { .. } => Error::unavailable("device").with_source(error),
        KernelError::Shape { .. } | KernelError::Compile { .. } => {
            Error::bug("device").with_source(error)
        }
    }
}
