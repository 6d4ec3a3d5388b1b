//! Recorded work that any crate may run: arrays that are dropped meanwhile are given back after it.
//!
//! Leaves out: what is recorded. Invariant: while a recording is there, no array's memory is given back, so none that it uses is.

use super::driver::Graph;
use super::{Gpu, lock};
use crate::error::Result;
use std::sync::PoisonError;

/// Recordings that are there, and arrays dropped since.
#[derive(Default)]
pub(super) struct Kept {
    recordings: usize,
    addresses: Vec<u64>,
}

/// Work that was recorded and can be done again.
pub struct Recording {
    gpu: Gpu,
    graph: Option<Graph>,
}

impl Gpu {
    /// As [`Gpu::record`], for work that may be run without care: arrays dropped while the recording is there hold their memory
    /// until it is dropped too.
    ///
    /// # Errors
    /// As `work`; `Device` if the driver refuses.
    pub fn record_keeping(&self, work: impl FnOnce() -> Result<()>) -> Result<Recording> {
        lock(&self.0.kept).recordings += 1;
        // Counted down again when this is dropped, also after an error.
        let mut recording = Recording { gpu: self.clone(), graph: None };
        recording.graph = Some(self.record(work)?);
        Ok(recording)
    }

    /// Gives an array's memory back, now or after the last recording.
    pub(super) fn release(&self, address: u64) {
        let mut kept = lock(&self.0.kept);
        if kept.recordings > 0 {
            kept.addresses.push(address);
        } else {
            self.driver().free(address);
        }
    }
}

impl Recording {
    /// Does the work once more; it may still be running when this returns.
    ///
    /// # Errors
    /// `Device` if the driver refuses.
    pub fn run(&self) -> Result<()> {
        let Some(graph) = &self.graph else { return Ok(()) };
        // SAFETY: arrays that were there when it was recorded have their memory until `self` is dropped.
        unsafe { graph.run() }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.graph = None;
        let mut kept = self.gpu.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.recordings -= 1;
        if kept.recordings == 0 {
            kept.addresses.drain(..).for_each(|address| self.gpu.driver().free(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cuda::DeviceArray;
    use crate::cuda::testing::for_each_device;

    #[test]
    fn arrays_dropped_before_the_recording_are_still_there_when_it_runs() {
        for_each_device(|gpu| {
            let used = gpu.statistics().used;
            let from = DeviceArray::from_slice(gpu, &[1.0_f32, 2.0])?;
            let mut to = DeviceArray::<f32>::zeros(gpu, 2)?;
            let recording = gpu.record_keeping(|| to.view_mut().copy_from(from.view()))?;
            drop(from);
            recording.run()?;
            assert_eq!(to.to_vec()?, [1.0, 2.0]);
            drop((recording, to));
            gpu.synchronise()?;
            assert_eq!(gpu.statistics().used, used);
            Ok(())
        });
    }
}
