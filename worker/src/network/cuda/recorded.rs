//! Work that is done again and again for the same numbers of rows: recorded once for each.
//!
//! Leaves out: the work. Invariant: it is recorded only after it ran once as it is, so that all its kernels are loaded.

use glmeval_kernels::cuda::{Gpu, Recording};
use glmeval_kernels::error::KernelError;
use std::collections::{BTreeMap, BTreeSet};

/// Recordings by numbers of rows.
#[derive(Default)]
pub(super) struct Recorded {
    recordings: BTreeMap<usize, Recording>,
    /// Numbers of rows of which the work was done once.
    done: BTreeSet<usize>,
}

impl Recorded {
    /// Does `work`, which is the same for the same number of rows; from the second time on as one graph.
    ///
    /// # Errors
    /// As `work`; `Device` if the driver refuses.
    pub(super) fn run(
        &mut self,
        gpu: &Gpu,
        rows: usize,
        work: impl FnOnce() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        if let Some(recording) = self.recordings.get(&rows) {
            return recording.run();
        }
        if self.done.insert(rows) {
            return work();
        }
        let recording = gpu.record_keeping(work)?;
        recording.run()?;
        self.recordings.insert(rows, recording);
        Ok(())
    }
}
