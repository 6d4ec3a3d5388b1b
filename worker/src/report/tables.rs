//! Tables: columns written as CSV and Parquet, the scores of every fit, and the plain text for a terminal.
//!
//! Leaves out: what summaries and comparisons hold (their modules). Invariant: CSV and Parquet hold the same rows in the same order.

use super::view::{View, fit_label, headline, number, statistic_title};
use super::{ReportFile, ReportInput};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use glmeval_common::error::{Error, Result};
use glmeval_common::score::{FitScores, Statistic};
use std::fmt::Write as _;
use std::sync::Arc;

/// Statistics of each fit in the text table.
const TEXT_STATISTICS_MAX: usize = 4;

/// Values of one column, one per row.
pub(super) enum Values {
    /// `None` = not there.
    Text(Vec<Option<String>>),
    /// `None` = undefined or not there.
    Real(Vec<Option<f64>>),
    /// `None` = not there.
    Small(Vec<Option<u32>>),
    /// Counts.
    Large(Vec<u64>),
}

/// Named columns of one length, written as CSV and as Parquet.
pub(super) struct Table {
    name: &'static str,
    columns: Vec<(&'static str, Values)>,
}

impl Table {
    /// An empty table; files are named `name`.csv and `name`.parquet.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, columns: Vec::new() }
    }

    pub(super) fn text<R>(
        mut self,
        name: &'static str,
        rows: &[R],
        get: impl Fn(&R) -> Option<String>,
    ) -> Self {
        self.columns.push((name, Values::Text(rows.iter().map(get).collect())));
        self
    }

    pub(super) fn real<R>(
        mut self,
        name: &'static str,
        rows: &[R],
        get: impl Fn(&R) -> Option<f64>,
    ) -> Self {
        self.columns.push((name, Values::Real(rows.iter().map(get).collect())));
        self
    }

    pub(super) fn small<R>(
        mut self,
        name: &'static str,
        rows: &[R],
        get: impl Fn(&R) -> Option<u32>,
    ) -> Self {
        self.columns.push((name, Values::Small(rows.iter().map(get).collect())));
        self
    }

    pub(super) fn large<R>(
        mut self,
        name: &'static str,
        rows: &[R],
        get: impl Fn(&R) -> u64,
    ) -> Self {
        self.columns.push((name, Values::Large(rows.iter().map(get).collect())));
        self
    }

    /// `name`.csv and `name`.parquet.
    ///
    /// # Errors
    /// `Bug` if the Parquet writer refuses the rows.
    pub(super) fn files(&self) -> Result<[ReportFile; 2]> {
        let file = |extension: &str, bytes| {
            let name = format!("{}.{extension}", self.name);
            ReportFile { name, bytes }
        };
        Ok([file("csv", self.lines(",", quoted).into_bytes()), file("parquet", self.parquet()?)])
    }

    /// As lines of tab-separated fields; tabs and line ends within one are spaces.
    pub(super) fn tsv(&self) -> String {
        self.lines("\t", |field| field.replace(['\t', '\n', '\r'], " "))
    }

    /// Header and rows; empty = `None`.
    fn lines(&self, separator: &str, written: impl Fn(&str) -> String) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut out = format!("{}\n", names.join(separator));
        let rows = self.columns.first().map_or(0, |(_, values)| values.len());
        for row in 0..rows {
            for (i, (_, values)) in self.columns.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { separator });
                out.push_str(&written(&values.field(row)));
            }
            out.push('\n');
        }
        out
    }

    fn parquet(&self) -> Result<Vec<u8>> {
        let bug = |e: &dyn std::fmt::Display| Error::bug(format!("{}.parquet: {e}", self.name));
        let columns = self.columns.iter().map(|(name, values)| (*name, values.array(), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(|e| bug(&e))?;
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None)
            .map_err(|e| bug(&e))?;
        writer.write(&batch).map_err(|e| bug(&e))?;
        writer.close().map_err(|e| bug(&e))?;
        Ok(bytes)
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Real(values) => values.len(),
            Self::Small(values) => values.len(),
            Self::Large(values) => values.len(),
        }
    }

    fn field(&self, row: usize) -> String {
        fn shown<T: ToString>(values: &[Option<T>], row: usize) -> String {
            values.get(row).and_then(Option::as_ref).map_or(String::new(), T::to_string)
        }
        match self {
            Self::Text(values) => shown(values, row),
            Self::Real(values) => shown(values, row),
            Self::Small(values) => shown(values, row),
            Self::Large(values) => values.get(row).map_or(String::new(), u64::to_string),
        }
    }

    fn array(&self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringArray::from_iter(values)),
            Self::Real(values) => Arc::new(Float64Array::from_iter(values.iter().copied())),
            Self::Small(values) => Arc::new(UInt32Array::from_iter(values.iter().copied())),
            Self::Large(values) => Arc::new(UInt64Array::from_iter_values(values.iter().copied())),
        }
    }
}

/// RFC 4180 quoting.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// One row per statistic of each fit.
pub(super) fn scores_table(view: &View<'_>) -> Table {
    let rows: Vec<(&FitScores, &Statistic)> =
        view.fits().flat_map(|fit| fit.statistics.iter().map(move |s| (fit, s))).collect();
    let rows = &rows;
    let job = view.plan.job.to_string();
    Table::new("scores")
        .text("job", rows, |_| Some(job.clone()))
        .text("fit", rows, |(fit, _)| Some(fit.identity.fit.to_string()))
        .text("task", rows, |(fit, _)| Some(fit.identity.task.clone()))
        .text("dataset", rows, |(fit, _)| Some(fit.identity.dataset.clone()))
        .text("dataset_id", rows, |(fit, _)| Some(fit.identity.dataset_id.to_string()))
        .text("model", rows, |(fit, _)| fit.identity.model.clone())
        .text("model_id", rows, |(f, _)| f.identity.model_id.as_ref().map(ToString::to_string))
        .small("layer", rows, |(fit, _)| fit.identity.layer)
        .text("representation", rows, |(fit, _)| Some(fit.identity.representation.clone()))
        .text("probe", rows, |(fit, _)| Some(fit.identity.probe.clone()))
        .real("factor", rows, |(fit, _)| Some(fit.identity.factor))
        .real("fraction", rows, |(fit, _)| Some(fit.identity.fraction))
        .text("trained_on", rows, |(fit, _)| fit.identity.trained_on.clone())
        .small("repeat", rows, |(fit, _)| Some(fit.identity.repeat))
        .large("seed", rows, |(fit, _)| fit.identity.seed)
        .text("protocol", rows, |(fit, _)| Some(fit.identity.protocol.clone()))
        .text("split", rows, |(_, s)| Some(s.split.clone()))
        .text("target", rows, |(_, s)| Some(s.target.clone()))
        .text("statistic", rows, |(_, s)| Some(s.name.clone()))
        .real("value", rows, |(_, s)| s.value)
        .real("low", rows, |(_, s)| s.low)
        .real("high", rows, |(_, s)| s.high)
        .large("examples", rows, |(_, s)| s.examples)
        .real("seconds", rows, |(fit, _)| Some(fit.seconds))
        .text("worker", rows, |(fit, _)| Some(fit.worker.clone()))
}

/// One row per epoch of each fit that was trained by steps.
pub(super) fn histories_table(view: &View<'_>) -> Table {
    let fits = view.datasets.iter().flat_map(|dataset| dataset.fits.iter());
    let rows: Vec<_> =
        fits.flat_map(|fit| fit.history.iter().map(move |epoch| (&fit.scores, epoch))).collect();
    let rows = &rows;
    Table::new("histories")
        .text("fit", rows, |(fit, _)| Some(fit.identity.fit.to_string()))
        .text("dataset", rows, |(fit, _)| Some(fit.identity.dataset.clone()))
        .text("label", rows, |(fit, _)| Some(fit_label(&fit.identity)))
        .small("epoch", rows, |(_, epoch)| Some(epoch.epoch))
        .real("loss", rows, |(_, epoch)| Some(epoch.loss))
        .real("valid_loss", rows, |(_, epoch)| epoch.val_loss)
        .real("learning_rate", rows, |(_, epoch)| Some(epoch.learning_rate))
        .real("accuracy", rows, |(_, epoch)| Some(epoch.train?.accuracy))
        .real("auroc", rows, |(_, epoch)| Some(epoch.train?.auroc))
        .real("aupr", rows, |(_, epoch)| Some(epoch.train?.aupr))
        .real("valid_accuracy", rows, |(_, epoch)| Some(epoch.valid?.accuracy))
        .real("valid_auroc", rows, |(_, epoch)| Some(epoch.valid?.auroc))
        .real("valid_aupr", rows, |(_, epoch)| Some(epoch.valid?.aupr))
}

/// The score table for a terminal: one block per data set, one line per fit, then `maps`.
pub(super) fn text_table(input: &ReportInput<'_>, maps: &str) -> String {
    let view = View::new(input);
    let mut out = String::new();
    for dataset in &view.datasets {
        let mut columns: Vec<&str> = Vec::new();
        for statistic in dataset.fits.iter().flat_map(|fit| headline(&fit.scores)) {
            if !columns.contains(&statistic.name.as_str()) && columns.len() < TEXT_STATISTICS_MAX {
                columns.push(&statistic.name);
            }
        }
        let mut header = vec!["input · probe".to_owned()];
        header.extend(columns.iter().map(|name| statistic_title(name).to_owned()));
        let mut lines = vec![header];
        for fit in &dataset.fits {
            let shown = headline(&fit.scores);
            let mut line = vec![fit_label(&fit.scores.identity)];
            line.extend(columns.iter().map(|name| {
                shown.iter().find(|s| s.name == *name).map_or("–".to_owned(), |s| text_cell(s))
            }));
            lines.push(line);
        }
        let test = dataset.planned.facts.split_rows.get("test").copied().unwrap_or(0);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} ({}, {test} test examples)", dataset.name, dataset.task.name());
        out.push_str(&aligned(&lines));
        out.push('\n');
    }
    out.push_str(maps);
    for failed in input.failed {
        let _ = writeln!(out, "failed: {failed}");
    }
    out
}

/// A value with its interval, where it has one.
fn text_cell(statistic: &Statistic) -> String {
    let interval = match (statistic.low, statistic.high) {
        (Some(low), Some(high)) => format!(" [{low:.3}, {high:.3}]"),
        _ => String::new(),
    };
    format!("{}{interval}", number(statistic.value))
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| lines.iter().filter_map(|l| Some(l.get(c)?.chars().count())).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        out.push_str(format!("  {}", cells.join("  ")).trim_end());
        out.push('\n');
    }
    out
}
