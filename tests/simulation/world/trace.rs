//! Everything that happened in one simulation, in order, and its digest.
//!
//! Invariant: a line holds nothing that differs between two runs of one seed.

use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Lines that a failure shows.
const LINES_KEPT: usize = 60;

/// The trace of one seed.
pub(crate) struct Trace {
    digest: Sha256,
    last: VecDeque<String>,
    lines: u64,
    is_shown: bool,
}

impl Trace {
    /// An empty trace; `GLMEVAL_SIM_TRACE` has every line shown as it comes.
    pub(crate) fn new() -> Self {
        let is_shown = std::env::var_os("GLMEVAL_SIM_TRACE").is_some();
        Self { digest: Sha256::new(), last: VecDeque::new(), lines: 0, is_shown }
    }

    pub(crate) fn note(&mut self, now_ms: u64, who: &str, what: &str) {
        let line = format!("{:>7}.{:03} {who:<6} {what}", now_ms / 1_000, now_ms % 1_000);
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
        self.lines += 1;
        if self.is_shown {
            show(&line);
        }
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// First 16 hexadecimal digits of the digest over all lines.
    pub(crate) fn digest(&self) -> String {
        let digest = self.digest.clone().finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last lines, for the report of a failure.
    pub(crate) fn tail(&self) -> String {
        self.last.iter().map(|line| format!("{line}\n")).collect()
    }
}

#[expect(clippy::print_stdout, reason = "the trace is what a replay is asked for")]
pub(crate) fn show(line: &str) {
    println!("{line}");
}
