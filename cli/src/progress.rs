//! Progress on stderr: a bar per stage and per training run on a terminal, lines now and then otherwise.
//!
//! Leaves out: what the lines say of training runs (`training`). Invariant: no colour and no control
//! codes but those that redraw bars, and these on a terminal only.

use glmeval_common::control::{JobStatus, KindCounts};
use glmeval_common::plan::Plan;
use glmeval_worker::agent::Board;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;

pub(crate) mod rows;
mod training;
use training::TrainingRuns;

/// Statuses between two lines where stderr is no terminal.
const STATUSES_PER_LINE: u32 = 100;
/// Statuses between two accounts of the training runs of the moment.
const STATUSES_PER_ACCOUNT: u32 = 6 * STATUSES_PER_LINE;

/// Bars or lines of one job.
pub(crate) struct Progress {
    bars: Option<Bars>,
    statuses: u32,
    last: String,
    /// Workers of this process.
    boards: Vec<Arc<Board>>,
    runs: TrainingRuns,
}

/// What is drawn on a terminal.
struct Bars {
    all: MultiProgress,
    stages: Vec<ProgressBar>,
    /// Lines of the table of training runs, below the stages.
    lines: Vec<ProgressBar>,
}

impl Progress {
    /// Bars if stderr is a terminal that can redraw lines.
    pub(crate) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        let terminal = std::io::stderr().is_terminal() && !is_dumb;
        let bars = terminal.then(|| Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            stages: Vec::new(),
            lines: Vec::new(),
        });
        let runs = TrainingRuns::default();
        Self { bars, statuses: 0, last: String::new(), boards: Vec::new(), runs }
    }

    /// As [`Self::new`], for a job whose workers run in this process.
    pub(crate) fn of_workers(plan: &Plan, boards: Vec<Arc<Board>>) -> Self {
        Self { boards, runs: TrainingRuns::of(plan), ..Self::new() }
    }

    /// Shows `status`.
    pub(crate) fn show(&mut self, status: &JobStatus) {
        let units = self.boards.iter().filter_map(|board| board.current());
        self.runs.look(units.flat_map(|(_, progress)| progress.fits()).collect());
        match &mut self.bars {
            Some(bars) => {
                draw(&bars.all, &mut bars.stages, status);
                bars.write(&self.runs.table(status.eta_seconds));
            }
            None => self.line(status),
        }
    }

    /// Says something in between without tearing the bars.
    pub(crate) fn beside(&self, says: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.all.suspend(says),
            None => says(),
        }
    }

    /// Leaves the bars of the stages as they are, or prints the last line.
    pub(crate) fn finish(&mut self, status: &JobStatus) {
        match &mut self.bars {
            Some(bars) => {
                draw(&bars.all, &mut bars.stages, status);
                bars.write(&[]);
                for bar in &bars.stages {
                    bar.abandon();
                }
            }
            None => {
                self.statuses = 0;
                self.runs.look(Vec::new());
                self.line(status);
            }
        }
    }

    fn line(&mut self, status: &JobStatus) {
        let due = self.statuses.is_multiple_of(STATUSES_PER_LINE);
        let account = self.statuses.is_multiple_of(STATUSES_PER_ACCOUNT);
        self.statuses = self.statuses.wrapping_add(1);
        if !due {
            return;
        }
        for line in self.runs.log(account) {
            crate::output::complain(&line);
        }
        let line = summary(status);
        if line != self.last {
            crate::output::complain(&line);
            self.last = line;
        }
    }
}

impl Bars {
    /// Shows `texts` below the stages, in place of those shown before.
    fn write(&mut self, texts: &[String]) {
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.all.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let line = self.all.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template("{wide_msg}");
            line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.lines.push(line);
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text.clone());
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
