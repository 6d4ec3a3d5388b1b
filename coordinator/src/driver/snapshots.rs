//! When a coordinator writes down what is committed and what was spent, so that the next one need not list it.
//!
//! ```text
//! stop before the object is created    the next coordinator reads the snapshot before, lists the rest
//! stop while it is created             the store holds all of it or nothing; a damaged one is passed over
//! stop behind it                       the next coordinator lists what was committed since
//! commit between view and write        not named, so listed
//! number taken by a higher epoch       this coordinator was replaced: it stops
//! number taken by another name         told aloud, and the next one is taken: no name fences another
//! ```
//!
//! Leaves out: format and listing (`common::store`). Invariant: a snapshot names committed units only;
//! numbers only rise.

#[cfg(test)]
mod tests;

use super::{Coordinator, lock};
use crate::job_store::JobSnapshot;
use glmeval_common::error::{ErrorKind, Result};
use glmeval_common::ids::JobId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Numbers tried for one snapshot: coordinators of lower epochs may have taken some.
const NUMBERS_TRIED_MAX: u32 = 16;

/// Intervals between two snapshots that only tell what was spent.
const INTERVALS_PER_SPENT: u64 = 5;
/// Seconds of devices that are worth a snapshot meanwhile, and at a job's end or the coordinator's.
const SPENT_SECONDS_MIN: (f64, f64) = (60.0, 1.0);

/// What was written of one job.
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Number of the next snapshot.
    next: u64,
    /// Committed units in the last.
    committed: u64,
    /// Seconds of devices in the last.
    seconds: f64,
    /// When the last was written, or the first look was taken.
    at_ms: u64,
}

/// What was written of every job.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    by_job: BTreeMap<JobId, Written>,
}

impl Coordinator {
    /// Writes a snapshot of every job that is due; with `stops`, of every job that has made progress
    /// worth it.
    pub(super) async fn write_snapshots(&self, stops: bool) {
        let mut snapshots = self.inner.snapshots.lock().await;
        let now_ms = self.inner.clock.now_ms();
        let progress = lock(&self.inner.state).commits();
        for (job, committed, is_over) in progress {
            let least = self.inner.settings.snapshot_commits_min;
            let seconds = lock(&self.inner.ledger).spent(&job).seconds();
            let is_small = committed < least && seconds < SPENT_SECONDS_MIN.1;
            if is_small || self.inner.fenced.load(Ordering::Relaxed) {
                continue;
            }
            let written = match snapshots.by_job.get(&job) {
                Some(written) => *written,
                None => match self.last_written(&job, now_ms).await {
                    Ok(written) => written,
                    Err(error) => {
                        tracing::warn!(%job, error = error.chain(), "snapshots cannot be listed");
                        continue;
                    }
                },
            };
            let age_ms = now_ms.saturating_sub(written.at_ms);
            let interval_ms = self.inner.settings.snapshot_interval_ms;
            let is_end = stops || is_over;
            let is_time = is_end || age_ms >= interval_ms;
            let spends_time = is_end || age_ms >= interval_ms.saturating_mul(INTERVALS_PER_SPENT);
            let worth = if is_end { SPENT_SECONDS_MIN.1 } else { SPENT_SECONDS_MIN.0 };
            let is_spent = spends_time && seconds - written.seconds >= worth;
            let is_due = is_time && committed.saturating_sub(written.committed) >= least;
            let written = if is_due || is_spent {
                self.write_snapshot(&job, written, now_ms).await
            } else {
                // What was doubted since is worth writing again once it is sound.
                Written { committed: written.committed.min(committed), ..written }
            };
            snapshots.by_job.insert(job, written);
        }
    }

    async fn last_written(&self, job: &JobId, now_ms: u64) -> Result<Written> {
        let (newest, next) = self.inner.store.snapshot(job).await?;
        let Some(newest) = newest else {
            return Ok(Written { next, committed: 0, seconds: 0.0, at_ms: now_ms });
        };
        let ranges = newest.committed.iter();
        let committed = ranges.map(|(a, b)| u64::from(b.saturating_sub(*a))).sum();
        Ok(Written { next, committed, seconds: newest.spent.seconds(), at_ms: now_ms })
    }

    /// Writes one snapshot; what cannot be written is due again after the interval.
    async fn write_snapshot(&self, job: &JobId, written: Written, now_ms: u64) -> Written {
        let Some(units) = lock(&self.inner.state).committed_units(job) else { return written };
        let (committed, mut next) = (units.1.len(), written.next);
        let spent = lock(&self.inner.ledger).spent(job);
        let seconds = spent.seconds();
        let ranges = units.1.ranges().collect();
        let snapshot = JobSnapshot { units: units.0, committed: ranges, spent };
        for _ in 0..NUMBERS_TRIED_MAX {
            let (name, numbers) = (&self.inner.name, (next, self.inner.epoch));
            match self.inner.store.put_snapshot(job, name, numbers, &snapshot).await {
                Ok(()) => {
                    tracing::debug!(%job, number = next, committed, "snapshot written");
                    let next = next.saturating_add(1);
                    return Written { next, committed, seconds, at_ms: now_ms };
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    tracing::error!(%job, error = error.chain(), "a newer coordinator exists");
                    self.fence();
                    break;
                }
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Corrupt) => {
                    tracing::warn!(%job, error = error.chain(), "a snapshot takes the next number");
                    next = next.saturating_add(1);
                }
                Err(error) => {
                    tracing::warn!(%job, error = error.chain(), "snapshot not written yet");
                    break;
                }
            }
        }
        Written { next, at_ms: now_ms, ..written }
    }
}
