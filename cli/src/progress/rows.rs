//! Progress of rows that one process works through: a bar on a terminal, lines now and then otherwise.

use crate::output::complain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Lines where stderr is no terminal.
const LINES: u64 = 10;

/// A bar or lines of one stage.
pub(crate) struct RowProgress {
    bar: Option<ProgressBar>,
    stage: &'static str,
    total: u64,
    done: u64,
    /// Tenths that were told.
    told: u64,
}

impl RowProgress {
    /// A stage of `total` rows.
    pub(crate) fn new(stage: &'static str, total: u64) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        let terminal = std::io::stderr().is_terminal() && !is_dumb;
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = "{prefix:>8} {wide_bar} {pos}/{len} rows, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style);
            bar.with_prefix(stage)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, stage, total, done: 0, told: 0 }
    }

    /// Tells of `rows` more.
    pub(crate) fn advance(&mut self, rows: u64) {
        self.done = self.done.saturating_add(rows);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None => {
                let part = self.done.saturating_mul(LINES).checked_div(self.total).unwrap_or(LINES);
                if part > self.told {
                    self.told = part;
                    complain(&format!("{}: {}/{} rows", self.stage, self.done, self.total));
                }
            }
        }
    }

    /// Leaves the bar as it is.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
