//! A kernel that a device holds.
//!
//! Leaves out: drivers, shapes of launches (`launch`). Invariant: a shape that no device takes is refused before the driver
//! sees it.

use super::Gpu;
use super::driver::Module;
use super::launch::{Arguments, LaunchShape, Source};
use crate::error::{KernelError, Result};
use std::sync::Arc;

/// A kernel that its device holds.
#[derive(Clone)]
pub struct Kernel {
    gpu: Gpu,
    module: Arc<dyn Module>,
    name: &'static str,
}

impl Kernel {
    pub(super) fn new(
        gpu: Gpu,
        module: Arc<dyn Module>,
        source: &'static Source,
        name: &'static str,
    ) -> Result<Self> {
        if !module.has(name) {
            return Err(KernelError::Compile {
                source_name: format!("{}.cu", source.name),
                target: gpu.properties().name.clone(),
                log: format!("it has no kernel {name}"),
            });
        }
        Ok(Self { gpu, module, name })
    }

    /// Registers and bytes of local memory of a thread.
    pub fn cost(&self) -> Option<(u32, u32)> {
        self.module.cost(self.name)
    }

    /// Runs it; a grid without blocks does nothing.
    ///
    /// # Safety
    /// Arguments must be those of the kernel, in order, and every array they point to must be as long as the kernel reads or
    /// writes with this shape.
    ///
    /// # Errors
    /// `Shape` for a shape no device takes; `Device` with kernel and shape if this one refuses.
    pub unsafe fn launch(&self, shape: LaunchShape, arguments: Arguments) -> Result<()> {
        if shape.is_empty() {
            return Ok(());
        }
        shape.check(self.name, self.gpu.properties().shared_bytes_max)?;
        // SAFETY: the caller's promise.
        unsafe { self.module.launch(self.name, &shape, arguments) }
    }
}
