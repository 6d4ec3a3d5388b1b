//! Pure: what workers that are refused have committed is believed no more until it was looked at.
//!
//! Leaves out: looking (evidence). Invariant: a job does not end, and its report is not made, while
//! commits of a refused worker may stand in it that nobody looked at.

use crate::state::State;
use crate::state::UnitState;
use crate::state::job::JobState;
use glmeval_common::ids::{JobId, WorkerId};
use glmeval_common::unit::UnitKind;
use std::collections::BTreeSet;

impl State {
    /// Grants a worker nothing any more, takes back all it holds and suspects all it committed.
    pub(in crate::state) fn refuse_known(&mut self, worker: &WorkerId, reason: String) {
        if self.refused.contains_key(worker) {
            return;
        }
        self.leave(worker);
        self.refused.insert(worker.clone(), reason);
        for id in &self.live {
            if let Some(job) = self.jobs.get_mut(id) {
                job.suspects.insert(worker.clone());
            }
        }
    }

    /// Commits of `workers` were looked at: rows of `wrong` units are made again.
    pub(in crate::state) fn looked(
        &mut self,
        job: &JobId,
        workers: &BTreeSet<WorkerId>,
        wrong: &[(u32, u64, u64)],
    ) {
        let Some(job) = self.jobs.get_mut(job).filter(|job| !job.phase().is_over()) else { return };
        for &(unit, start, end) in wrong {
            job.doubt_rows(unit, (start, end));
        }
        job.suspects.retain(|suspect| !workers.contains(suspect));
        // The report may be granted again.
        job.became_ready |= job.groups.has_ready();
    }

    /// Workers that are refused.
    pub fn refused(&self) -> BTreeSet<WorkerId> {
        self.refused.keys().cloned().collect()
    }

    /// Running jobs in which commits of refused workers may stand that nobody looked at, and whose.
    pub fn suspects(&self) -> Vec<(JobId, BTreeSet<WorkerId>)> {
        let live = self.live.iter().filter_map(|id| Some((id, self.jobs.get(id)?)));
        let suspect = live.filter(|(_, job)| !job.suspects.is_empty());
        suspect.map(|(id, job)| (id.clone(), job.suspects.clone())).collect()
    }
}

impl JobState {
    /// A job that begins knows of refused workers. One that is over was looked at before its report was
    /// made, if it has one.
    pub(in crate::state) fn suspect<'a>(&mut self, refused: impl Iterator<Item = &'a WorkerId>) {
        let last = self.plan.unit_count().checked_sub(1);
        let has_report = last.and_then(|unit| self.plan.kind(unit)) == Some(UnitKind::Report);
        if !has_report || !self.phase().is_over() {
            self.suspects.extend(refused.cloned());
        }
    }

    /// Takes back what is committed of rows of a unit of the plan: the unit, or parts of it; one without rows
    /// is taken back whole.
    fn doubt_rows(&mut self, unit: u32, (start, end): (u64, u64)) {
        let parts = match self.unit(unit) {
            Some(UnitState::Committed) => vec![unit],
            Some(UnitState::Split) => self.children.of(unit),
            _ => return,
        };
        for part in parts {
            let overlaps = self.rows(part).is_none_or(|(first, past)| first < end && start < past);
            let is_whole = !self.splits.is_cut(part) || part == unit;
            if overlaps && is_whole && self.unit(part) == Some(UnitState::Committed) {
                self.doubts.open(part);
                self.uncommit(part);
            }
        }
    }
}
