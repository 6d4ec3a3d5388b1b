//! Training runs as a table of bounded height, and as lines of a log.
//!
//! Leaves out: where it is drawn (`progress`). Invariant: pure; hundreds of fits take no more lines
//! than a dozen.

use crate::output::seconds;
use glmeval_common::plan::Plan;
use glmeval_common::unit::ProbeSpec;
use glmeval_worker::agent::FitProgress;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Running fits in the table; the others are counted.
const RUNNING_SHOWN_MAX: usize = 10;
/// Fits in the table that have ended.
const ENDED_SHOWN_MAX: usize = 3;
/// Kinds of probe whose fits are counted apart.
const KINDS_SHOWN_MAX: usize = 4;
/// Lines that one look adds to a log.
const LOGGED_MAX: usize = 4;
/// Cells of the bar of one fit.
const BAR_CELLS: usize = 16;

/// What is known of the training runs of this process, from look to look.
#[derive(Debug, Default)]
pub(crate) struct TrainingRuns {
    /// Fits by training, per kind of probe, as planned.
    planned: BTreeMap<String, u64>,
    running: Vec<FitProgress>,
    /// Names of all that have ended.
    ended: BTreeSet<String>,
    /// The latest of them, newest first.
    latest: VecDeque<FitProgress>,
    /// Those that the log has not told of, oldest first.
    untold: VecDeque<FitProgress>,
}

impl TrainingRuns {
    /// No run yet; `plan` says how many there will be.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut planned = BTreeMap::new();
        for (_, unit) in plan.fit_units() {
            for fit in &unit.fits {
                if matches!(fit.probe, ProbeSpec::Network { .. }) {
                    *planned.entry(fit.identity.probe.clone()).or_default() += 1;
                }
            }
        }
        Self { planned, ..Self::default() }
    }

    /// Takes in which fits run now; one that ran before and is not among them has ended.
    pub(crate) fn look(&mut self, running: Vec<FitProgress>) {
        let before = std::mem::replace(&mut self.running, running);
        for fit in before {
            if !self.running.iter().any(|run| run.fit == fit.fit) {
                self.ended.insert(fit.fit.clone());
                self.latest.push_front(fit.clone());
                self.untold.push_back(fit);
            }
        }
        // An attempt that was given up is begun again, here or by another worker.
        for run in &self.running {
            if self.ended.remove(&run.fit) {
                self.latest.retain(|fit| fit.fit != run.fit);
                self.untold.retain(|fit| fit.fit != run.fit);
            }
        }
        self.latest.truncate(ENDED_SHOWN_MAX);
    }

    /// The table; empty as long as nothing was trained.
    pub(crate) fn table(&self, eta_seconds: Option<f64>) -> Vec<String> {
        if self.running.is_empty() && self.latest.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![self.headline(eta_seconds)];
        lines.extend(self.kinds());
        lines.push(cells([&pad("", BAR_CELLS + 2), "epoch", "loss", "monitor", "rate"], "fit"));
        lines.extend(self.running.iter().take(RUNNING_SHOWN_MAX).map(running_line));
        match self.running.len().saturating_sub(RUNNING_SHOWN_MAX) {
            0 => {}
            more => lines.push(format!("and {more} more running")),
        }
        lines.extend(self.latest.iter().map(ended_line));
        lines
    }

    /// Lines for a log: what ended since the last call, and with `running` what runs now.
    pub(crate) fn log(&mut self, running: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let ended: Vec<FitProgress> = self.untold.drain(..).collect();
        let told = ended
            .iter()
            .take(LOGGED_MAX)
            .map(|fit| format!("ended: {}", sentence("last seen at epoch", fit)));
        lines.extend(told);
        lines.extend(rest(ended.len(), "ended"));
        if running && !self.running.is_empty() {
            lines.push(self.headline(None));
            let shown = self.running.iter().take(LOGGED_MAX);
            lines.extend(shown.map(|fit| format!("training: {}", sentence("epoch", fit))));
            lines.extend(rest(self.running.len(), "running"));
        }
        lines
    }

    fn headline(&self, eta_seconds: Option<f64>) -> String {
        let (running, ended) = (self.running.len(), self.ended.len());
        let mut line = format!("training: {running} running, {ended} ended");
        match self.planned.values().sum::<u64>() {
            0 => {}
            planned => line.push_str(&format!(" of {planned}")),
        }
        if let Some(left) = eta_seconds.filter(|left| left.is_finite() && *left >= 0.0) {
            line.push_str(&format!(", about {} left", seconds(left)));
        }
        line
    }

    /// Counts per kind of probe, where there are several.
    fn kinds(&self) -> Option<String> {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for probe in self.planned.keys() {
            counts.entry(probe).or_default();
        }
        for fit in &self.running {
            counts.entry(probe_of(&fit.fit)).or_default().0 += 1;
        }
        for fit in &self.ended {
            counts.entry(probe_of(fit)).or_default().1 += 1;
        }
        if counts.len() < 2 {
            return None;
        }
        let mut parts: Vec<String> = counts
            .iter()
            .take(KINDS_SHOWN_MAX)
            .map(|(probe, (running, ended))| match self.planned.get(*probe) {
                Some(planned) => format!("{probe}: {running} running, {ended} of {planned} ended"),
                None => format!("{probe}: {running} running, {ended} ended"),
            })
            .collect();
        match counts.len().saturating_sub(KINDS_SHOWN_MAX) {
            0 => {}
            more => parts.push(format!("{more} other kinds")),
        }
        Some(parts.join("; "))
    }
}

/// The probe in a fit's name, `cnn on mean of REST, repeat 2`.
fn probe_of(fit: &str) -> &str {
    fit.split_once(" on ").map_or(fit, |(probe, _)| probe)
}

fn rest(count: usize, what: &str) -> Option<String> {
    let more = count.saturating_sub(LOGGED_MAX);
    (more > 0).then(|| format!("and {more} more {what}"))
}

fn running_line(fit: &FitProgress) -> String {
    row(&bar(fit.epoch, fit.epochs_max), fit)
}

fn ended_line(fit: &FitProgress) -> String {
    row(&pad("ended", BAR_CELLS + 2), fit)
}

fn row(first: &str, fit: &FitProgress) -> String {
    let epoch = format!("{}/{}", fit.epoch, fit.epochs_max);
    let numbers = [number(fit.loss), number(fit.monitor), rate(fit.learning_rate)];
    let [loss, monitor, rate] = &numbers;
    cells([first, &epoch, loss, monitor, rate], &fit.fit)
}

/// Columns of a line; the name comes last, as a narrow terminal cuts that off.
fn cells([bar, epoch, loss, monitor, rate]: [&str; 5], fit: &str) -> String {
    format!("{bar} {epoch:>9} {loss:>10} {monitor:>10} {rate:>8}  {fit}")
}

/// `at`: what the epoch is. One that ended was looked at before, and may have gone on for some epochs, or be resumed.
fn sentence(at: &str, fit: &FitProgress) -> String {
    format!(
        "{}: {at} {}/{}, loss {}, monitor {}, rate {}",
        fit.fit,
        fit.epoch,
        fit.epochs_max,
        number(fit.loss),
        number(fit.monitor),
        rate(fit.learning_rate)
    )
}

/// `[#####-----------]`, in ASCII so that every terminal and log can show it.
fn bar(done: u32, total: u32) -> String {
    let cells = BAR_CELLS as u64;
    let full = u64::from(done.min(total)) * cells / u64::from(total.max(1));
    let full = usize::try_from(full).unwrap_or(BAR_CELLS);
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR_CELLS - full))
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// About five digits; `-` for what is not a number.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "-".to_owned()
    } else if size == 0.0 || (1e-3..1e5).contains(&size) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

fn rate(value: f64) -> String {
    format!("{value:.1e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(name: &str, epoch: u32) -> FitProgress {
        FitProgress {
            fit: name.to_owned(),
            epoch,
            epochs_max: 100,
            loss: 0.532_11,
            monitor: f64::NAN,
            learning_rate: f64::from(2e-4_f32),
        }
    }

    #[test]
    fn a_running_fit_is_a_bar_with_its_numbers_and_its_name_last() {
        let mut runs = TrainingRuns::default();
        assert!(runs.table(Some(1.0)).is_empty());
        runs.look(vec![fit("cnn on full of REST", 25)]);
        let table = runs.table(Some(200.0));
        assert_eq!(table[0], "training: 1 running, 0 ended, about 3 min 20 s left");
        let line =
            "[####------------]    25/100     0.5321          -   2.0e-4  cnn on full of REST";
        assert_eq!(table[2], line);
        assert_eq!(table[1].find("epoch").map(|at| at + 5), line.find("25/100").map(|at| at + 6));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn the_table_of_hundreds_of_fits_has_as_many_lines_as_that_of_a_few() {
        let mut runs = TrainingRuns::default();
        for kind in 0..7 {
            runs.planned.insert(format!("kind{kind}"), 100);
        }
        let fits = |range: std::ops::Range<u32>| -> Vec<FitProgress> {
            range.map(|n| fit(&format!("kind{} on full of D{n}", n % 7), 3)).collect()
        };
        runs.look(fits(0..300));
        runs.look(fits(250..500));
        let table = runs.table(None);
        assert_eq!(table.len(), 3 + RUNNING_SHOWN_MAX + 1 + ENDED_SHOWN_MAX);
        assert_eq!(table[0], "training: 250 running, 250 ended of 700");
        let kinds = "kind0: 36 running, 36 of 100 ended; ";
        assert!(
            table[1].starts_with(kinds) && table[1].ends_with("; 3 other kinds"),
            "{}",
            table[1]
        );
        assert_eq!(table[13], "and 240 more running");
        assert!(table[14].starts_with("ended ") && table[14].ends_with("of D249"), "{}", table[14]);
    }

    #[test]
    fn a_fit_that_begins_again_has_not_ended() {
        let mut runs = TrainingRuns::default();
        runs.look(vec![fit("cnn on full of A", 5), fit("cnn on full of B", 5)]);
        runs.look(vec![fit("cnn on full of B", 6)]);
        assert_eq!(runs.table(None)[0], "training: 1 running, 1 ended");
        runs.look(vec![fit("cnn on full of A", 1), fit("cnn on full of B", 7)]);
        assert_eq!(runs.table(None)[0], "training: 2 running, 0 ended");
        assert!(runs.log(false).is_empty());
    }

    #[test]
    fn a_log_tells_of_each_fit_that_ended_once_and_of_few_at_a_time() {
        let mut runs = TrainingRuns::default();
        runs.look((0..9).map(|n| fit(&format!("cnn on full of D{n}"), 9)).collect());
        assert!(runs.log(false).is_empty());
        assert_eq!(runs.log(true).len(), 1 + LOGGED_MAX + 1);
        runs.look(Vec::new());
        let lines = runs.log(true);
        let first = "ended: cnn on full of D0: last seen at epoch 9/100, loss 0.5321, monitor -, rate 2.0e-4";
        assert_eq!((lines.len(), lines[0].as_str()), (LOGGED_MAX + 1, first));
        assert_eq!(lines[LOGGED_MAX], "and 5 more ended");
        assert!(runs.log(true).is_empty());
    }

    #[test]
    fn numbers_of_any_size_keep_their_column() {
        let shown = [0.0, 1.0, 12_345.678_9, 1e-7, -4e-12, 3e38, f64::INFINITY].map(number);
        assert_eq!(shown[..4], ["0.0000", "1.0000", "12345.6789", "1.000e-7"]);
        assert!(shown.iter().all(|text| text.len() <= 10), "{shown:?}");
        assert_eq!((bar(3, 0), bar(9, 4)), (format!("[{}]", "-".repeat(16)), bar(4, 4)));
    }
}
