//! Pure: whose turn it is: jobs share the workers' time by weight (start-time fair queueing; Goyal,
//! Vin, Cheng 1996).
//!
//! Leaves out: which unit of a job. Properties wanted: the time granted to two jobs that always have
//! work goes as their weights; a worker stays with the job whose gLM it holds while that job is not
//! too far ahead; a job that had no work meanwhile gets no more than that much for its absence.

use glmeval_common::ids::JobId;
use std::collections::BTreeMap;

/// What was granted so far, in milliseconds of one worker, divided by the job's weight.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// No job with work starts below.
    floor: f64,
    ahead: BTreeMap<JobId, f64>,
}

impl Turns {
    fn start(&self, job: &JobId) -> f64 {
        self.ahead.get(job).copied().unwrap_or(0.0).max(self.floor)
    }

    /// `jobs` in the order they are served: `own` first while it is no more than `slack_ms` ahead of
    /// the one that is furthest behind, ties in turn after `cursor`.
    pub(super) fn order(
        &self,
        jobs: impl Iterator<Item = JobId>,
        own: Option<&JobId>,
        cursor: Option<&JobId>,
        slack_ms: f64,
    ) -> Vec<JobId> {
        let mut jobs: Vec<(f64, JobId)> = jobs.map(|job| (self.start(&job), job)).collect();
        let least = jobs.iter().map(|(start, _)| *start).fold(f64::INFINITY, f64::min);
        jobs.sort_by(|(start, job), (other_start, other)| {
            let leaves = |start: f64, job: &JobId| own != Some(job) || start > least + slack_ms;
            let had_turn = |job: &JobId| cursor.is_some_and(|cursor| job <= cursor);
            (leaves(*start, job).cmp(&leaves(*other_start, other)))
                .then(start.total_cmp(other_start))
                .then(had_turn(job).cmp(&had_turn(other)))
                .then(job.cmp(other))
        });
        jobs.into_iter().map(|(_, job)| job).collect()
    }

    /// A unit of `job` that should take `ms` was granted.
    pub(super) fn charge(&mut self, job: &JobId, ms: f64, weight: f64, slack_ms: f64) {
        let start = self.start(job);
        self.ahead.insert(job.clone(), start + ms.max(1.0) / weight);
        // Nobody is served who is further ahead than this of the one furthest behind.
        self.floor = self.floor.max(start - slack_ms);
    }

    /// A job is over.
    pub(super) fn forget(&mut self, job: &JobId) {
        self.ahead.remove(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(number: usize) -> JobId {
        JobId::new(format!("job-{number}"))
    }

    /// Serves `times` units to workers that stay with their job, and counts them by job.
    fn serve(weights: &[f64], workers: usize, times: usize, slack_ms: f64) -> Vec<f64> {
        let mut turns = Turns::default();
        let mut served = vec![0.0; weights.len()];
        let (mut own, mut cursor) = (vec![None; workers], None);
        for time in 0..times {
            let worker = time % workers;
            let jobs = (0..weights.len()).map(job);
            let next = turns.order(jobs, own[worker].as_ref(), cursor.as_ref(), slack_ms).remove(0);
            let index = (0..weights.len()).find(|i| job(*i) == next).expect("one of them");
            turns.charge(&next, 10.0, weights[index], slack_ms);
            served[index] += 1.0;
            own[worker] = Some(next.clone());
            cursor = Some(next);
        }
        served
    }

    #[test]
    fn one_worker_serves_two_jobs_by_weight_and_changes_seldom() {
        let served = serve(&[3.0, 1.0], 1, 4_000, 100.0);
        assert!((served[0] - 3_000.0).abs() < 100.0, "{served:?}");
    }

    #[test]
    fn a_job_that_comes_late_gets_no_more_than_its_share_and_the_slack() {
        let mut turns = Turns::default();
        for _ in 0..1_000 {
            turns.charge(&job(0), 10.0, 1.0, 50.0);
        }
        let mut late = 0;
        for _ in 0..100 {
            let next = turns.order((0..2).map(job), None, None, 50.0).remove(0);
            turns.charge(&next, 10.0, 1.0, 50.0);
            late += usize::from(next == job(1));
        }
        assert!((45..=60).contains(&late), "{late}");
    }

    proptest! {
        #[test]
        fn shares_go_as_weights_for_any_weights(
            weights in prop::collection::vec(0.25_f64..4.0, 1..5),
            workers in 1_usize..6,
        ) {
            let times = 4_000;
            let served = serve(&weights, workers, times, 60.0);
            let all: f64 = weights.iter().sum();
            for (served, weight) in served.iter().zip(&weights) {
                let fair = times as f64 * weight / all;
                prop_assert!((served - fair).abs() < 60.0, "{served} of {fair}");
            }
        }
    }
}
