//! How far a worker is: numbers for heartbeats and bars, read while a unit runs.
//!
//! Leaves out: drawing. Invariant: reading never waits for the unit.

use glmeval_common::clock::Clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// How far one training run is.
#[derive(Clone, Debug, PartialEq)]
pub struct FitProgress {
    /// The fit, for people.
    pub fit: String,
    /// Epochs done.
    pub epoch: u32,
    /// Epochs at most.
    pub epochs_max: u32,
    /// Loss of the last epoch.
    pub loss: f64,
    /// What early stopping watches, after the last epoch.
    pub monitor: f64,
    /// Learning rate of the last epoch.
    pub learning_rate: f64,
}

/// Rows of the unit in hand, and its training runs.
#[derive(Debug, Default)]
pub struct UnitProgress {
    rows_done: AtomicU64,
    rows_total: AtomicU64,
    started_ms: u64,
    fits: Mutex<Vec<FitProgress>>,
    computed: Notify,
    waiting: AtomicBool,
}

impl UnitProgress {
    /// Starts at `started_ms` with `rows_total` rows to do.
    pub fn new(started_ms: u64, rows_total: u64) -> Self {
        Self { rows_total: AtomicU64::new(rows_total), started_ms, ..Self::default() }
    }

    /// Says how many rows there are, once that is known.
    pub fn set_rows_total(&self, rows: u64) {
        self.rows_total.store(rows, Ordering::Relaxed);
    }

    /// Says that only the way to the store is left: the next unit may be computed meanwhile.
    pub fn mark_computed(&self) {
        self.computed.notify_one();
    }

    /// Waits, once, until that was said.
    pub(crate) async fn computed(&self) {
        self.computed.notified().await;
    }

    /// Says whether the finished unit waits for a store that is away.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Whether it waits so.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes back `rows` of the total that will not be done.
    pub fn drop_rows(&self, rows: u64) {
        let less = |total: u64| Some(total.saturating_sub(rows));
        let _ = self.rows_total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Says how far a training run is; the last word on a fit counts.
    pub fn tell_fit(&self, told: FitProgress) {
        let mut fits = self.fits.lock().unwrap_or_else(PoisonError::into_inner);
        match fits.iter_mut().find(|known| known.fit == told.fit) {
            Some(known) => *known = told,
            None => fits.push(told),
        }
    }

    /// Forgets a training run that is over.
    pub fn end_fit(&self, fit: &str) {
        self.fits.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known.fit != fit);
    }

    /// Training runs of the unit that are not over, in the order they began.
    pub fn fits(&self) -> Vec<FitProgress> {
        self.fits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds finished rows.
    pub fn add_rows(&self, rows: u64) {
        self.rows_done.fetch_add(rows, Ordering::Relaxed);
    }

    /// Finished rows.
    pub fn rows_done(&self) -> u64 {
        self.rows_done.load(Ordering::Relaxed)
    }

    /// Rows to do in all; 0 = not known.
    pub fn rows_total(&self) -> u64 {
        self.rows_total.load(Ordering::Relaxed)
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self, clock: &dyn Clock) -> u64 {
        clock.now_ms().saturating_sub(self.started_ms)
    }

    /// How long the rest will take at the pace so far; `None` before a row is done.
    pub fn left_ms(&self, clock: &dyn Clock) -> Option<u64> {
        let left = self.rows_total().saturating_sub(self.rows_done());
        self.elapsed_ms(clock).saturating_mul(left).checked_div(self.rows_done())
    }

    /// Rows per second since the start; 0 in the first millisecond.
    pub fn rows_per_second(&self, clock: &dyn Clock) -> f64 {
        match self.elapsed_ms(clock) {
            0 => 0.0,
            elapsed_ms => self.rows_done() as f64 * 1_000.0 / elapsed_ms as f64,
        }
    }
}

/// What one worker does and did, shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Board {
    current: Mutex<Option<(String, Arc<UnitProgress>)>>,
    units_done: AtomicU64,
    units_failed: AtomicU64,
    /// Rows of units that ended.
    rows_ended: AtomicU64,
}

impl Board {
    /// Label and progress of the unit in hand.
    pub fn current(&self) -> Option<(String, Arc<UnitProgress>)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Units this worker committed or found committed.
    pub fn units_done(&self) -> u64 {
        self.units_done.load(Ordering::Relaxed)
    }

    /// Attempts that failed here.
    pub fn units_failed(&self) -> u64 {
        self.units_failed.load(Ordering::Relaxed)
    }

    /// Rows this worker computed, those of the unit in hand included.
    pub fn rows_done(&self) -> u64 {
        let running = self.current().map_or(0, |(_, progress)| progress.rows_done());
        self.rows_ended.load(Ordering::Relaxed).saturating_add(running)
    }

    pub(super) fn show(&self, unit: Option<(String, Arc<UnitProgress>)>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ended)) = std::mem::replace(&mut *current, unit) {
            self.rows_ended.fetch_add(ended.rows_done(), Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, done: bool) {
        let counter = if done { &self.units_done } else { &self.units_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
