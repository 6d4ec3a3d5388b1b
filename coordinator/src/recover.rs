//! From the store to a state, at the start of a coordinator.
//!
//! Leaves out: leases; workers announce theirs when they meet the new epoch.
//! Invariant: what is committed is never granted again; a snapshot is believed only for units that it
//! says are committed, all others are looked up in the store.

use crate::job_store::{JobSnapshot, JobStore};
use crate::plan;
use crate::schedule::UnitSet;
use crate::state::{Ended, Event, State};
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::JobId;
use glmeval_common::job::JobSchedule;
use glmeval_common::plan::Plan;
use glmeval_common::store::jobs::Spent;
use glmeval_common::unit::UnitKind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of a job beside its units.
pub struct Known {
    /// The round it is in.
    pub round: u32,
    /// What earlier coordinators counted.
    pub spent: Spent,
}

/// Reads every job of the store into a new state; returns what else is known of them.
///
/// A job whose records are damaged is left out, aloud; the others go on.
///
/// # Errors
/// `Unavailable` when the store cannot be read.
pub async fn recover(
    store: &dyn JobStore,
    state: &mut State,
    now_ms: u64,
) -> Result<BTreeMap<JobId, Known>> {
    let mut jobs = BTreeMap::new();
    for job in store.list_jobs().await? {
        match read_job(store, &job).await {
            Ok((event, known)) => {
                jobs.insert(job, known);
                state.apply(event, now_ms);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => tracing::error!(%job, error = error.chain(), "job left out"),
        }
    }
    Ok(jobs)
}

async fn read_job(store: &dyn JobStore, job: &JobId) -> Result<(Event, Known)> {
    let round = store.round(job).await?;
    let plan = store.plan(job).await?;
    plan::verify(&plan)?;
    let cancelled = store.is_cancelled(job).await?;
    let snapshot = store.snapshot(job).await?.0;
    let spent = snapshot.as_ref().map_or_else(Spent::default, |snapshot| snapshot.spent.clone());
    let committed = match snapshot {
        Some(snapshot) if snapshot.units == plan.unit_count() => {
            let known = known(&plan, &snapshot);
            tracing::info!(%job, known = known.len(), units = snapshot.units, "snapshot read");
            store.committed_beyond(&plan, &known).await?
        }
        _ => store.committed(&plan).await?,
    };
    let failed = store.failed_units(job).await?;
    let quarantined = store.quarantined(job).await?;
    let cut: BTreeSet<u32> = quarantined.iter().map(|rows| rows.unit).collect();
    let kept = store.kept_rows(&plan, &cut).await?;
    let schedule =
        JobSchedule::of_toml(&store.job_toml(job).await?.unwrap_or_default(), "job.toml");
    let schedule = schedule.unwrap_or_else(|error| {
        tracing::warn!(%job, error = error.chain(), "schedule left out");
        JobSchedule::default()
    });
    let plan = Arc::new(plan);
    let ended = Ended { failed, quarantined, kept, cancelled };
    let event = Event::Submit { plan, committed, ended, schedule };
    Ok((event, Known { round, spent }))
}

/// What a snapshot says of the plan's units. Reports are out of date more easily than they are looked up.
fn known(plan: &Plan, snapshot: &JobSnapshot) -> UnitSet {
    let mut known = UnitSet::of_ranges(snapshot.committed.iter().copied());
    known.remove(plan.unit_count(), u32::MAX);
    for (first, entry) in plan.entries.iter().filter(|(_, it)| it.kind() == UnitKind::Report) {
        let count = u32::try_from(entry.unit_count()).unwrap_or(u32::MAX);
        known.remove(first, first.saturating_add(count));
    }
    known
}
