//! Work of one process that Ctrl-C or SIGTERM ends between two steps, leaving nothing half-written.
//!
//! Leaves out: jobs, which resume (`stopping`). Invariant: what was interrupted ends with exit code 130.

use crate::output::complain;
use glmeval_common::error::{Error, Result};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user interrupted the work.
pub(crate) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Ends the work once the user interrupted it.
    ///
    /// # Errors
    /// `Unavailable` from then on.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::unavailable("interrupted")),
            false => Ok(()),
        }
    }
}

/// Waits for Ctrl-C, or for SIGTERM, by which time limits, Slurm and containers ask a program to end.
///
/// # Errors
/// Those of listening for signals.
pub(crate) async fn asked() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Runs `work`, which asks now and then and removes what it has not finished.
///
/// # Errors
/// Those of `work`, unless it was interrupted.
pub(crate) async fn run(work: impl FnOnce(&Interruption) -> Result<ExitCode>) -> Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn({
        let interrupted = Arc::clone(&interrupted);
        async move {
            if asked().await.is_ok() {
                interrupted.store(true, Ordering::Relaxed);
            }
        }
    });
    let interruption = Interruption(Arc::clone(&interrupted));
    let result = tokio::task::block_in_place(|| work(&interruption));
    listening.abort();
    match result {
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            complain("interrupted: nothing was written");
            Ok(ExitCode::from(crate::exit::INTERRUPTED))
        }
        result => result,
    }
}
