//! Pure: how fast units of a job went, what is left, and which running unit is a straggler.
//!
//! Leaves out: clocks; durations of attempts come from workers, ages from this coordinator.

use std::collections::VecDeque;

const DURATIONS_MAX: usize = 128;
/// Work of a unit beside its FLOPs, so that stages without any still count.
const FLOPS_PER_UNIT: f64 = 1e9;

/// Durations of the latest attempts of one stage, and their mean rate.
#[derive(Clone, Debug, Default)]
struct KindPace {
    durations_ms: VecDeque<u64>,
    total_ms: f64,
    total_work: f64,
}

/// Per stage, the 95th percentile of durations and the mean time of a piece of work, both in
/// milliseconds.
pub(super) struct StragglerLimits([Option<(u64, f64)>; 4]);

impl StragglerLimits {
    /// Age in milliseconds beyond which a unit of stage `kind` is a straggler: twice what its work
    /// should take and no less than the 95th percentile of its stage.
    pub(super) fn of(&self, kind: usize, work: f64) -> Option<u64> {
        let (p95, ms_of_work) = self.0.get(kind).copied().flatten()?;
        Some(p95.max((2.0 * work * ms_of_work) as u64))
    }
}

/// Pace of one job.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    kinds: [KindPace; 4],
    work_left: f64,
    work_done: f64,
    started_ms: Option<u64>,
}

/// Work of `units` units with so many FLOPs together.
pub(super) fn work_of(units: u32, flops: f64) -> f64 {
    f64::from(units) * FLOPS_PER_UNIT + if flops.is_finite() { flops.max(0.0) } else { 0.0 }
}

impl Pace {
    pub(super) fn new(work_left: f64) -> Self {
        Self { kinds: Default::default(), work_left, work_done: 0.0, started_ms: None }
    }

    /// A unit needs no more work.
    pub(super) fn settle(&mut self, work: f64) {
        self.work_left = (self.work_left - work).max(0.0);
        if self.started_ms.is_some() {
            self.work_done += work;
        }
    }

    /// A unit that needed no more work does after all.
    pub(super) fn reopen(&mut self, work: f64) {
        self.work_left += work;
    }

    /// The first grant starts the count.
    pub(super) fn start(&mut self, now_ms: u64) {
        self.started_ms.get_or_insert(now_ms);
    }

    /// An attempt of stage `kind` took `ran_ms`.
    pub(super) fn record(&mut self, kind: usize, work: f64, ran_ms: u64) {
        let Some(pace) = self.kinds.get_mut(kind) else { return };
        if pace.durations_ms.len() == DURATIONS_MAX {
            pace.durations_ms.pop_front();
        }
        pace.durations_ms.push_back(ran_ms);
        pace.total_ms += ran_ms as f64;
        pace.total_work += work;
    }

    /// When units of each stage are stragglers; never before `units_min` attempts of it ended.
    pub(super) fn straggler_limits(&self, units_min: usize) -> StragglerLimits {
        let limit = |pace: &KindPace| {
            if pace.durations_ms.len() < units_min.max(1) {
                return None;
            }
            let mut sorted: Vec<_> = pace.durations_ms.iter().copied().collect();
            sorted.sort_unstable();
            let p95 = sorted.get(sorted.len() * 95 / 100).or(sorted.last()).copied()?;
            Some((p95, pace.total_ms / pace.total_work.max(1.0)))
        };
        StragglerLimits(self.kinds.each_ref().map(limit))
    }

    /// Seconds to the end at the pace so far.
    pub(super) fn eta_seconds(&self, now_ms: u64) -> Option<f64> {
        let elapsed_ms = now_ms.saturating_sub(self.started_ms?);
        (self.work_done > 0.0)
            .then(|| self.work_left / self.work_done * elapsed_ms as f64 / 1_000.0)
    }
}
