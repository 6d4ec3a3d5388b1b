//! Time: the only module that reads it.
//!
//! Invariant: clocks of two machines are never compared; a [`Clock`] is one machine's own.

use std::sync::Mutex;
use std::time::Duration;

/// Monotonic milliseconds of one machine, from an arbitrary start.
pub trait Clock: Send + Sync {
    /// Milliseconds since this clock's start.
    fn now_ms(&self) -> u64;
    /// Milliseconds since 1970 (UTC), for records that people read; never compared by the program.
    fn unix_ms(&self) -> u64;
}

/// The machine's own clock.
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    fn unix_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Seconds since it was made, for people and metrics; nothing is decided by it.
pub struct Stopwatch(tokio::time::Instant);

impl Default for Stopwatch {
    fn default() -> Self {
        // Follows a runtime whose time is simulated.
        Self(tokio::time::Instant::now())
    }
}

impl Stopwatch {
    /// Seconds since it was made.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A clock that moves only when told to.
#[derive(Default)]
pub struct ManualClock {
    now_ms: Mutex<u64>,
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now_ms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        *self.now_ms.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn unix_ms(&self) -> u64 {
        self.now_ms()
    }
}
