//! One process per seed: this test program starts itself again for each, several at a time.
//!
//! Leaves out: what a seed does. Invariant: traces repeat only so; two runs inside one process share counters of
//! the runtime and differ.

use crate::THE_SEED;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How one seed ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) ended_well: bool,
    /// The line that a seed ends with: digest and counts; empty without one.
    pub(crate) summary: String,
    /// All it said.
    pub(crate) output: String,
}

/// What starts the line that a seed ends with.
pub(crate) const SUMMARY: &str = "simulated ";

/// Runs one seed in a process of its own, with a rule broken on purpose if `sabotage` names one.
pub(crate) fn run(seed: u64, sabotage: &str) -> Run {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--exact", THE_SEED, "--nocapture", "--test-threads=1"]);
    command.env("GLMEVAL_SIM_SEED", seed.to_string()).env("GLMEVAL_SIM_BREAK", sabotage);
    command.env_remove("GLMEVAL_SIM_TRACE");
    let output = command.output().expect("this program can be started again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let summary = text.lines().find_map(|line| line.strip_prefix(SUMMARY)).unwrap_or_default();
    let ended_well = output.status.success() && !summary.is_empty();
    Run { seed, ended_well, summary: summary.to_owned(), output: format!("{text}{errors}") }
}

/// Runs seeds `first..past`, as many at a time as there are cores; in the order of the seeds.
pub(crate) fn run_all(first: u64, past: u64, sabotage: &str) -> Vec<Run> {
    let next = AtomicU64::new(first);
    let runs = Mutex::new(BTreeMap::new());
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= past {
                        return;
                    }
                    let run = run(seed, sabotage);
                    runs.lock().expect("no run panics").insert(seed, run);
                }
            });
        }
    });
    runs.into_inner().expect("no run panics").into_values().collect()
}

/// Sums of what happened in many runs.
pub(crate) fn totals(runs: &[Run]) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for part in runs.iter().flat_map(|run| run.summary.split(", ")) {
        let (number, name) = part.split_once(' ').unwrap_or(("", ""));
        if let Ok(number) = number.parse::<u64>() {
            *totals.entry(name.to_owned()).or_default() += number;
        }
    }
    totals
}

/// The largest number that goes by `name` in one of many runs.
pub(crate) fn largest(runs: &[Run], name: &str) -> u64 {
    let parts = runs.iter().flat_map(|run| run.summary.split(", "));
    let numbers = parts.filter_map(|part| part.strip_suffix(name)?.trim_end().parse().ok());
    numbers.max().unwrap_or(0)
}
