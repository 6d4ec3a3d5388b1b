//! How fast a job went over its whole life, in a bounded number of points.
//!
//! Leaves out: clocks. Invariant: never more than [`POINTS_MAX`] points; when they are used up, two
//! become one and each stands for twice the time.

use serde::Serialize;
use std::collections::VecDeque;

/// Points kept.
const POINTS_MAX: usize = 240;
/// Time one point stands for at first.
const INTERVAL_MS_MIN: u64 = 2_000;

/// Time a rate is taken over; rows of running units are told every few seconds only.
const WINDOW_MS: u64 = 10_000;

/// What a job did in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Rows per second, mean.
    pub rows_per_second: f64,
    /// Units that ended per minute.
    pub units_per_minute: f64,
}

/// The rates of one job, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct History {
    /// Rows per second over the last ten seconds.
    pub rows_per_second: f64,
    /// Seconds one point stands for.
    pub interval_seconds: f64,
    /// The rates.
    pub points: Vec<Point>,
    #[serde(skip)]
    interval_ms: u64,
    #[serde(skip)]
    since_ms: u64,
    #[serde(skip)]
    units_since: u64,
    /// Rows done at moments of the window, oldest first.
    #[serde(skip)]
    window: VecDeque<(u64, u64)>,
    #[serde(skip)]
    rate_sum: f64,
    #[serde(skip)]
    samples: u32,
}

impl History {
    /// Begins at `now_ms` with `units` ended before.
    pub(super) fn new(now_ms: u64, units: u64) -> Self {
        Self {
            rows_per_second: 0.0,
            window: VecDeque::new(),
            interval_seconds: INTERVAL_MS_MIN as f64 / 1_000.0,
            points: Vec::new(),
            interval_ms: INTERVAL_MS_MIN,
            since_ms: now_ms,
            units_since: units,
            rate_sum: 0.0,
            samples: 0,
        }
    }

    /// Takes note that `rows` are done and `units` ended in all.
    pub(super) fn sample(&mut self, now_ms: u64, rows: u64, units: u64) {
        self.rows_per_second = self.rate(now_ms, rows);
        self.rate_sum += self.rows_per_second;
        self.samples += 1;
        let passed_ms = now_ms.saturating_sub(self.since_ms);
        if passed_ms < self.interval_ms {
            return;
        }
        let ended = units.saturating_sub(self.units_since) as f64;
        self.points.push(Point {
            rows_per_second: self.rate_sum / f64::from(self.samples),
            units_per_minute: ended * 60_000.0 / passed_ms as f64,
        });
        (self.since_ms, self.units_since) = (now_ms, units);
        (self.rate_sum, self.samples) = (0.0, 0);
        if self.points.len() >= POINTS_MAX {
            self.halve();
        }
    }

    /// Rows per second since the start of the window; rows that were lost count as none done.
    fn rate(&mut self, now_ms: u64, rows: u64) -> f64 {
        let is_old = |(ms, _): &(u64, u64)| now_ms.saturating_sub(*ms) > WINDOW_MS;
        while self.window.len() > 1 && self.window.front().is_some_and(is_old) {
            self.window.pop_front();
        }
        self.window.push_back((now_ms, rows));
        let (since_ms, before) = self.window.front().copied().unwrap_or((now_ms, rows));
        let passed_ms = now_ms.saturating_sub(since_ms).max(1);
        rows.saturating_sub(before) as f64 * 1_000.0 / passed_ms as f64
    }

    fn halve(&mut self) {
        let mean = |pair: &[Point]| {
            let count = pair.len().max(1) as f64;
            Point {
                rows_per_second: pair.iter().map(|p| p.rows_per_second).sum::<f64>() / count,
                units_per_minute: pair.iter().map(|p| p.units_per_minute).sum::<f64>() / count,
            }
        };
        self.points = self.points.chunks(2).map(mean).collect();
        self.interval_ms = self.interval_ms.saturating_mul(2);
        self.interval_seconds = self.interval_ms as f64 / 1_000.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_rates_fit_into_few_points_that_cover_all_of_them() {
        let mut history = History::new(0, 0);
        for second in 1..=100_000_u64 {
            history.sample(second * 1_000, second * 7, second / 60);
        }
        assert!(history.points.len() < POINTS_MAX && history.points.len() > POINTS_MAX / 3);
        let covered = history.interval_seconds * history.points.len() as f64;
        assert!(covered > 80_000.0, "{covered}");
        let after_the_start = history.points.iter().skip(1);
        assert!(after_the_start.clone().all(|point| (point.rows_per_second - 7.0).abs() < 1e-9));
        let last = history.points.last().unwrap();
        assert!((last.units_per_minute - 1.0).abs() < 0.2, "{last:?}");
    }
}
