//! A stop watch that tells which repetitions other programs disturbed.
//!
//! Leaves out: what is timed. Invariant: nothing that is stored or compared between runs of a job
//! reads it; a repetition counts as clean only if the rest of the machine left it alone.

use glmeval_common::error::Result;
use std::time::Instant;

/// Repetitions are at least so long where there is time for it: CPU times advance in steps of 10 ms.
const REPETITION_SECONDS_MIN: f64 = 0.12;
const REPETITIONS_MIN: usize = 3;
const REPETITIONS_MAX: usize = 200;
/// Share of a core that other programs may use during a clean repetition, and the grain of CPU times.
const FOREIGN_SHARE_MAX: f64 = 0.06;
const FOREIGN_SECONDS_GRAIN: f64 = 0.011;
/// Linux tells CPU times in hundredths of a second whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Times of one piece of work, ms.
pub(super) struct Timing {
    /// The first call, which warms caches and sizes buffers.
    pub(super) first_ms: f64,
    pub(super) median_ms: f64,
    pub(super) min_ms: f64,
    pub(super) max_ms: f64,
    /// Repetitions that these are of: the clean ones, or all if none is.
    pub(super) n: usize,
    pub(super) clean: usize,
    pub(super) dirty: usize,
}

/// Runs `work` for about `seconds`, after a first call and two that warm up.
///
/// # Errors
/// As `work`.
pub(super) fn measure(seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<Timing> {
    let first_ms = timed(&mut work)?.0 * 1e3;
    work()?;
    let one = timed(&mut work)?.0;
    let repetition = REPETITION_SECONDS_MIN.min(seconds / REPETITIONS_MIN as f64);
    let inner = (repetition / one.max(1e-7)).clamp(1.0, 1e6) as usize;
    let count = (seconds / (one * inner as f64).max(1e-7)) as usize;
    let count = count.clamp(REPETITIONS_MIN, REPETITIONS_MAX);
    let (mut clean, mut dirty) = (Vec::new(), Vec::new());
    let watch = Watch::start();
    // Dirty repetitions are made up for as long as the time lasts.
    let seconds_max = (2.0 * seconds).max(8.0 * one);
    while clean.len() < count
        && (clean.len() + dirty.len() < REPETITIONS_MIN || watch.seconds() < seconds_max)
    {
        let repetition = Watch::start();
        for _ in 0..inner {
            work()?;
        }
        let seconds = repetition.seconds();
        let times = if repetition.is_clean(seconds) { &mut clean } else { &mut dirty };
        times.push(seconds * 1e3 / inner as f64);
    }
    let counts = (clean.len(), dirty.len());
    let mut times = if clean.is_empty() { dirty } else { clean };
    times.sort_by(f64::total_cmp);
    Ok(Timing {
        first_ms,
        median_ms: median(&times),
        min_ms: times.first().copied().unwrap_or_default(),
        max_ms: times.last().copied().unwrap_or_default(),
        n: times.len(),
        clean: counts.0,
        dirty: counts.1,
    })
}

/// Seconds of the fastest of a few calls of `work` within about `seconds`.
///
/// # Errors
/// As `work`.
pub(super) fn fastest(seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let watch = Watch::start();
    let mut best = timed(&mut work)?.0;
    for _ in 1..REPETITIONS_MAX {
        if watch.seconds() > seconds {
            break;
        }
        best = best.min(timed(&mut work)?.0);
    }
    Ok(best)
}

/// Seconds that one call of `work` takes, and what it gives.
///
/// # Errors
/// As `work`.
pub(super) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let watch = Watch::start();
    let value = work()?;
    Ok((watch.seconds(), value))
}

/// The middle of sorted times; of two middles their mean.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) {
        (at(middle.saturating_sub(1)) + at(middle)) / 2.0
    } else {
        at(middle)
    }
}

/// A moment: wall clock, and CPU seconds used so far.
struct Watch {
    start: Instant,
    cpu: Option<CpuSeconds>,
}

/// CPU seconds used so far.
struct CpuSeconds {
    machine: f64,
    own: f64,
}

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a stop watch is the point of this module")]
    fn start() -> Self {
        Self { cpu: CpuSeconds::read(), start: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Whether other programs left the machine alone since; where nothing tells, they did.
    fn is_clean(&self, seconds: f64) -> bool {
        let (Some(before), Some(now)) = (&self.cpu, CpuSeconds::read()) else { return true };
        let foreign = (now.machine - before.machine) - (now.own - before.own);
        foreign < FOREIGN_SHARE_MAX * seconds + FOREIGN_SECONDS_GRAIN
    }
}

impl CpuSeconds {
    fn read() -> Option<Self> {
        let machine = machine_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
        let own = own_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { machine: machine / TICKS_PER_SECOND, own: own / TICKS_PER_SECOND })
    }
}

/// Busy ticks of all CPUs: all kinds of time in the first line but idle and waiting for disks.
fn machine_ticks(stat: &str) -> Option<f64> {
    let mut words = stat.lines().next()?.split_ascii_whitespace();
    words.next().filter(|&word| word == "cpu")?;
    let kinds: Vec<f64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let &[user, nice, system, _, _, interrupts, soft_interrupts, stolen] = kinds.as_slice() else {
        return None;
    };
    Some(user + nice + system + interrupts + soft_interrupts + stolen)
}

/// Ticks of this process in user and system mode: fields 14 and 15, counted behind its name.
fn own_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<f64>().ok();
    Some(field()? + field()?)
}

/// Most memory this process ever held; `None` where the system does not tell.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_repeated_at_least_three_times_in_the_shortest_run() {
        let mut calls = 0;
        let timing = measure(1e-6, || {
            calls += 1;
            Ok(())
        });
        let timing = timing.unwrap();
        assert!(timing.n >= 1 && timing.clean + timing.dirty >= REPETITIONS_MIN);
        assert!(calls >= 3 + REPETITIONS_MIN);
        assert!(timing.min_ms <= timing.median_ms && timing.median_ms <= timing.max_ms);
        fastest(1e-6, || Ok(())).unwrap();
    }

    #[test]
    fn the_middle_of_two_times_is_their_mean() {
        assert_eq!([median(&[1.0, 2.0, 9.0]), median(&[1.0, 2.0]), median(&[])], [2.0, 1.5, 0.0]);
    }

    #[test]
    fn cpu_times_and_memory_are_read_from_the_text_of_linux() {
        assert_eq!(machine_ticks("cpu  1 2 4 800 900 8 16 32 5 5\ncpu0 1"), Some(63.0));
        assert_eq!(machine_ticks("cpu  1 2 4"), None);
        let stat = "7 (a) b (c) R 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20";
        assert_eq!(own_ticks(stat), Some(42.0));
        assert_eq!(own_ticks("7 (a) R 1"), None);
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(peak_of("VmHWM: 12 MB"), None);
    }
}
