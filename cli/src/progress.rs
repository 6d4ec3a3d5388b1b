//! Progress on stderr: one bar per stage on a terminal, one line now and then otherwise.

use glmeval_common::control::{JobStatus, KindCounts};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Statuses between two lines where stderr is no terminal.
const STATUSES_PER_LINE: u32 = 100;

/// Bars or lines of one job.
pub(crate) struct Progress {
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
    statuses: u32,
    last: String,
}

impl Progress {
    /// Bars if stderr is a terminal.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bars = terminal
            .then(|| (MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), Vec::new()));
        Self { bars, statuses: 0, last: String::new() }
    }

    /// Shows `status`.
    pub(crate) fn show(&mut self, status: &JobStatus) {
        match &mut self.bars {
            Some((all, bars)) => draw(all, bars, status),
            None => self.line(status),
        }
    }

    /// Removes the bars, or prints the last line.
    pub(crate) fn finish(&mut self, status: &JobStatus) {
        match &mut self.bars {
            Some((all, bars)) => {
                draw(all, bars, status);
                for bar in bars.iter() {
                    bar.abandon();
                }
            }
            None => {
                self.statuses = 0;
                self.line(status);
            }
        }
    }

    fn line(&mut self, status: &JobStatus) {
        let due = self.statuses.is_multiple_of(STATUSES_PER_LINE);
        self.statuses += 1;
        let line = summary(status);
        if due && line != self.last {
            crate::output::complain(&line);
            self.last = line;
        }
    }
}

/// One line: what is done of each stage.
pub(crate) fn summary(status: &JobStatus) -> String {
    let stages = status.kinds.iter().filter(|counts| counts.total() > 0);
    let stages: Vec<String> = stages
        .map(|counts| format!("{} {}/{}", counts.kind.name(), counts.committed, counts.total()))
        .collect();
    format!("{}: {}: {}", status.name, status.phase.name(), stages.join(", "))
}

fn draw(all: &MultiProgress, bars: &mut Vec<ProgressBar>, status: &JobStatus) {
    let stages: Vec<&KindCounts> =
        status.kinds.iter().filter(|counts| counts.total() > 0).collect();
    while bars.len() < stages.len() {
        let bar = all.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("{prefix:>8} {wide_bar} {pos}/{len} {msg:24}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bars.push(bar);
    }
    for (bar, counts) in bars.iter().zip(stages) {
        bar.set_prefix(counts.kind.name());
        let extract = counts.kind == glmeval_common::unit::UnitKind::Extract && status.rows > 0;
        if extract {
            bar.set_length(status.rows);
            bar.set_position(status.rows_done);
            bar.set_message(format!("rows, {:.0}/s", status.rows_per_second));
        } else {
            bar.set_length(counts.total());
            bar.set_position(counts.committed);
            let failed =
                if counts.failed > 0 { format!("{} failed", counts.failed) } else { String::new() };
            bar.set_message(failed);
        }
    }
}
