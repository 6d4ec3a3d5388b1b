//! What a device can be told: memory, modules of kernels, launches, products of matrices.
//!
//! Leaves out: who answers (`nvidia`, `emulator`). Invariant: work is done in the order in which it was told.

use super::launch::{Arguments, LaunchShape, Source};
use super::pool::{MemoryStatistics, Pending};
use super::product::Product;
use crate::error::{KernelError, Result};
use std::sync::Arc;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Its name, for people.
    pub name: String,
    /// What kernels are compiled for, 80 or 90; 0 in the emulator.
    pub arch: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that a block may ask for, in bytes.
    pub shared_bytes_max: u32,
    /// Version of the driver, as 13000 for 13.0; 0 in the emulator.
    pub driver_version: u32,
    /// Version of the compiler, for people.
    pub compiler: String,
}

/// Kernels of one source that the device holds.
pub(super) trait Module: Send + Sync {
    /// Whether it has a kernel of this name.
    fn has(&self, kernel: &str) -> bool;

    /// Registers of a thread, bytes of local memory of a thread: for people.
    fn cost(&self, kernel: &str) -> Option<(u32, u32)>;

    /// Runs a kernel; it may still be running when this returns.
    ///
    /// # Safety
    /// Arguments must be those of the kernel, in order, and every array they point to must be as long as the kernel reads or
    /// writes with this shape.
    ///
    /// # Errors
    /// `Device` with kernel, shape and what the driver says.
    unsafe fn launch(
        &self,
        kernel: &'static str,
        shape: &LaunchShape,
        arguments: Arguments,
    ) -> Result<()>;
}

/// What is said of an operation that cannot be recorded.
pub(super) fn refused_recording(device: &str, operation: &str) -> KernelError {
    KernelError::Device {
        device: device.to_owned(),
        operation: operation.to_owned(),
        message:
            "it cannot be recorded: memory is neither found nor copied from or to the host there"
                .to_owned(),
    }
}

/// Work that was recorded.
pub(super) trait Recorded: Send + Sync {
    /// Does the work once more.
    ///
    /// # Errors
    /// `Device` if the driver refuses.
    fn run(&self) -> Result<()>;
}

/// Work that was recorded and can be done again; see [`super::Gpu::record`].
pub struct Graph(pub(super) Box<dyn Recorded>);

impl Graph {
    /// Does the work once more; it may still be running when this returns.
    ///
    /// # Safety
    /// Every array that took part when it was recorded must still be there.
    ///
    /// # Errors
    /// `Device` if the driver refuses.
    pub unsafe fn run(&self) -> Result<()> {
        self.0.run()
    }
}

/// A device. Addresses are the device's own.
pub(super) trait Driver: Send + Sync {
    /// What it is.
    fn properties(&self) -> Result<Properties>;

    /// Bytes of memory that are free and that there are.
    fn memory(&self) -> Result<(u64, u64)>;

    /// What memory is used for.
    fn statistics(&self) -> MemoryStatistics;

    /// Memory of `bytes` bytes, aligned to 256, not initialised.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Gives memory back once the work told so far is done.
    fn free(&self, address: u64);

    /// Copies to the device; `bytes` may be changed when this returns.
    ///
    /// # Safety
    /// The memory at `to` must be as long as `bytes`.
    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Waits for the work told so far and copies from the device.
    ///
    /// # Safety
    /// The memory at `from` must be as long as `bytes`.
    unsafe fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()>;

    /// Begins a copy from the device once the work told so far is done; work told later does not wait for it.
    ///
    /// # Safety
    /// The memory at `from` must be `bytes` long, and neither freed nor written until the copy is finished.
    unsafe fn begin_read(&self, from: u64, bytes: usize) -> Result<Box<dyn Pending>>;

    /// Copies on the device.
    ///
    /// # Safety
    /// Both must be `bytes` long and must not overlap.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// Sets every byte to `value`.
    ///
    /// # Safety
    /// The memory must be `bytes` long.
    unsafe fn fill(&self, to: u64, value: u8, bytes: usize) -> Result<()>;

    /// Compiles a source, or finds it compiled, and loads it.
    fn load(
        &self,
        source: &'static Source,
        defines: &[(&'static str, i64)],
    ) -> Result<Arc<dyn Module>>;

    /// Multiplies matrices; operands were checked.
    fn multiply(&self, product: &Product<'_>) -> Result<()>;

    /// Milliseconds the device takes for what `work` tells it; `None` if the device has no clock.
    fn measure(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<f64>>;

    /// Records from now on instead of doing.
    fn begin_recording(&self) -> Result<()>;

    /// What was recorded.
    fn end_recording(&self) -> Result<Graph>;

    /// Waits for the work told so far.
    fn synchronise(&self) -> Result<()>;
}
