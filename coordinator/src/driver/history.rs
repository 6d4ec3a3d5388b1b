//! How fast a job went over its whole life, in a bounded number of points.
//!
//! Leaves out: clocks. Invariant: never more than [`POINTS_MAX`] points; when they are used up, two
//! become one and each stands for twice the time.

use serde::Serialize;

/// Points kept.
const POINTS_MAX: usize = 240;
/// Time one point stands for at first.
const INTERVAL_MS_MIN: u64 = 2_000;

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
    #[serde(skip)]
    rate_sum: f64,
    #[serde(skip)]
    samples: u32,
}

impl History {
    /// Begins at `now_ms` with `units` ended before.
    pub(super) fn new(now_ms: u64, units: u64) -> Self {
        Self {
            interval_seconds: INTERVAL_MS_MIN as f64 / 1_000.0,
            points: Vec::new(),
            interval_ms: INTERVAL_MS_MIN,
            since_ms: now_ms,
            units_since: units,
            rate_sum: 0.0,
            samples: 0,
        }
    }

    /// Takes note that rows go at `rows_per_second` and `units` ended in all.
    pub(super) fn sample(&mut self, now_ms: u64, rows_per_second: f64, units: u64) {
        self.rate_sum += rows_per_second;
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
            history.sample(second * 1_000, 7.0, second / 60);
        }
        assert!(history.points.len() < POINTS_MAX && history.points.len() > POINTS_MAX / 3);
        let covered = history.interval_seconds * history.points.len() as f64;
        assert!(covered > 80_000.0, "{covered}");
        assert!(history.points.iter().all(|point| (point.rows_per_second - 7.0).abs() < 1e-9));
        let last = history.points.last().unwrap();
        assert!((last.units_per_minute - 1.0).abs() < 0.2, "{last:?}");
    }
}
