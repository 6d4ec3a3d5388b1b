//! What follows when a worker is refused: every coordinator of the name hears of it, and what the worker
//! committed is looked at.
//!
//! Leaves out: why it is refused (state). Invariant: a store that is away changes nothing: what could not
//! be looked at is looked at later, and its job does not end before.

use super::{Coordinator, lock};
use crate::state::Event;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Checks for a newer coordinator between two looks for what others refused.
const FENCE_CHECKS_PER_LOOK: u64 = 12;

impl Coordinator {
    /// Takes over what a coordinator before this one refused while it was not fenced yet.
    pub(super) async fn look_for_refusals(&self) {
        let now_ms = self.inner.clock.now_ms();
        let checked_ms = self.inner.refusals_checked_ms.load(Ordering::Relaxed);
        let interval_ms =
            self.inner.settings.fence_interval_ms.saturating_mul(FENCE_CHECKS_PER_LOOK);
        if now_ms.saturating_sub(checked_ms) < interval_ms {
            return;
        }
        let known = lock(&self.inner.state).refused();
        match self.inner.store.refused(&self.inner.name, &known).await {
            Ok(refused) => {
                self.inner.refusals_checked_ms.store(now_ms, Ordering::Relaxed);
                for (worker, reason) in refused {
                    tracing::warn!(%worker, reason, "a worker was refused by another coordinator");
                    self.apply(Event::Refuse { worker, reason });
                }
            }
            Err(error) => tracing::warn!(error = error.chain(), "refusals cannot be listed"),
        }
    }

    /// Looks at what refused workers committed in running jobs; wrong commits are made again.
    pub async fn look_at_suspects(&self) {
        let suspects = lock(&self.inner.state).suspects();
        for (job, workers) in suspects {
            let plan = lock(&self.inner.state).plans().find(|plan| plan.job == job).map(Arc::clone);
            let Some(plan) = plan else { continue };
            match self.inner.store.wrong_rows(&plan, &workers).await {
                Ok(wrong) => {
                    tracing::info!(%job, wrong = wrong.len(), "commits of refused workers looked at");
                    self.apply(Event::Looked { job, workers, wrong });
                }
                Err(error) => {
                    tracing::warn!(%job, error = error.chain(), "commits not looked at yet");
                }
            }
        }
    }
}
