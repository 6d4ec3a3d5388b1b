//! From the store to a state, at the start of a coordinator.
//!
//! Leaves out: leases; workers announce theirs when they meet the new epoch.
//! Invariant: what is committed is never granted again.

use crate::job_store::JobStore;
use crate::plan;
use crate::settings::Settings;
use crate::state::{Event, State};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::JobId;
use glmeval_common::job::JobSchedule;
use std::sync::Arc;

/// Reads every job of the store into a state of `epoch`.
///
/// A job whose records are damaged is left out, aloud; the others go on.
///
/// # Errors
/// `Unavailable` when the store cannot be read.
pub async fn recover(
    store: &dyn JobStore,
    epoch: u64,
    settings: Settings,
    now_ms: u64,
) -> Result<State> {
    let mut state = State::new(epoch, settings);
    for job in store.list_jobs().await? {
        match read_job(store, &job).await {
            Ok(event) => {
                state.apply(event, now_ms);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => tracing::error!(%job, error = error.chain(), "job left out"),
        }
    }
    Ok(state)
}

async fn read_job(store: &dyn JobStore, job: &JobId) -> Result<Event> {
    let plan = store.plan(job).await?;
    plan::verify(&plan)?;
    let cancelled = store.is_cancelled(job).await?;
    let committed = store.committed(&plan).await?;
    let failed = store.failed_units(job).await?;
    let quarantined = store.quarantined(job).await?;
    let schedule =
        JobSchedule::of_toml(&store.job_toml(job).await?.unwrap_or_default(), "job.toml");
    let schedule = schedule.unwrap_or_else(|error| {
        tracing::warn!(%job, error = error.chain(), "schedule left out");
        JobSchedule::default()
    });
    let plan = Arc::new(plan);
    Ok(Event::Submit { plan, committed, failed, quarantined, cancelled, schedule })
}
