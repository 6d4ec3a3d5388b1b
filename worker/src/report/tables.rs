//! Score tables: CSV and Parquet (one row per statistic with its whole identity), plain text.
//!
//! Leaves out: figures. Invariant: CSV and Parquet hold the same rows in the same order.

use super::ReportInput;
use super::view::{View, fit_label, headline, number, statistic_title};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use glmeval_common::error::{Error, Result};
use glmeval_common::score::{FitScores, Statistic};
use std::fmt::Write as _;
use std::sync::Arc;

/// Statistics of each fit in the text table.
const TEXT_STATISTICS_MAX: usize = 4;

const HEADER: &str = "job,fit,task,dataset,dataset_id,model,model_id,layer,representation,probe,\
                      factor,fraction,repeat,seed,protocol,split,target,statistic,value,low,high,\
                      examples,seconds,worker";

fn rows<'a>(view: &'a View<'a>) -> Vec<(&'a FitScores, &'a Statistic)> {
    view.fits().flat_map(|fit| fit.statistics.iter().map(move |s| (fit, s))).collect()
}

/// One row per statistic; empty = not there or undefined.
pub(super) fn csv(view: &View<'_>) -> String {
    let mut out = format!("{HEADER}\n");
    let job = view.plan.job.as_str();
    let real = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for (fit, statistic) in rows(view) {
        let id = &fit.identity;
        let fields = [
            job.to_owned(),
            id.fit.to_string(),
            id.task.clone(),
            id.dataset.clone(),
            id.dataset_id.to_string(),
            id.model.clone().unwrap_or_default(),
            id.model_id.as_ref().map_or(String::new(), ToString::to_string),
            id.layer.map_or(String::new(), |layer| layer.to_string()),
            id.representation.clone(),
            id.probe.clone(),
            id.factor.to_string(),
            id.fraction.to_string(),
            id.repeat.to_string(),
            id.seed.to_string(),
            id.protocol.clone(),
            statistic.split.clone(),
            statistic.target.clone(),
            statistic.name.clone(),
            real(statistic.value),
            real(statistic.low),
            real(statistic.high),
            statistic.examples.to_string(),
            fit.seconds.to_string(),
            fit.worker.clone(),
        ];
        out.push_str(&fields.map(|field| quoted(&field)).join(","));
        out.push('\n');
    }
    out
}

/// RFC 4180 quoting.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// The rows of [`csv`] as one Parquet file.
///
/// # Errors
/// `Bug` if the writer refuses the rows.
pub(super) fn parquet(view: &View<'_>) -> Result<Vec<u8>> {
    let bug = |e: &dyn std::fmt::Display| Error::bug(format!("scores.parquet: {e}"));
    let batch = batch(view).map_err(|e| bug(&e))?;
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None)
        .map_err(|e| bug(&e))?;
    writer.write(&batch).map_err(|e| bug(&e))?;
    writer.close().map_err(|e| bug(&e))?;
    Ok(bytes)
}

fn batch(view: &View<'_>) -> std::result::Result<RecordBatch, arrow_schema::ArrowError> {
    let rows = rows(view);
    let job = Some(view.plan.job.to_string());
    let text = |get: &dyn Fn(&FitScores, &Statistic) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|(fit, s)| get(fit, s))))
    };
    let real = |get: &dyn Fn(&FitScores, &Statistic) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter(rows.iter().map(|(fit, s)| get(fit, s))))
    };
    let small = |get: &dyn Fn(&FitScores) -> Option<u32>| -> ArrayRef {
        Arc::new(UInt32Array::from_iter(rows.iter().map(|(fit, _)| get(fit))))
    };
    let large = |get: &dyn Fn(&FitScores, &Statistic) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(fit, s)| get(fit, s))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|_, _| job.clone()),
        text(&|fit, _| Some(fit.identity.fit.to_string())),
        text(&|fit, _| Some(fit.identity.task.clone())),
        text(&|fit, _| Some(fit.identity.dataset.clone())),
        text(&|fit, _| Some(fit.identity.dataset_id.to_string())),
        text(&|fit, _| fit.identity.model.clone()),
        text(&|fit, _| fit.identity.model_id.as_ref().map(ToString::to_string)),
        small(&|fit| fit.identity.layer),
        text(&|fit, _| Some(fit.identity.representation.clone())),
        text(&|fit, _| Some(fit.identity.probe.clone())),
        real(&|fit, _| Some(fit.identity.factor)),
        real(&|fit, _| Some(fit.identity.fraction)),
        small(&|fit| Some(fit.identity.repeat)),
        large(&|fit, _| fit.identity.seed),
        text(&|fit, _| Some(fit.identity.protocol.clone())),
        text(&|_, s| Some(s.split.clone())),
        text(&|_, s| Some(s.target.clone())),
        text(&|_, s| Some(s.name.clone())),
        real(&|_, s| s.value),
        real(&|_, s| s.low),
        real(&|_, s| s.high),
        large(&|_, s| s.examples),
        real(&|fit, _| Some(fit.seconds)),
        text(&|fit, _| Some(fit.worker.clone())),
    ];
    RecordBatch::try_from_iter_with_nullable(
        HEADER.split(',').zip(columns).map(|(name, column)| (name, column, true)),
    )
}

/// The score table for a terminal: one block per data set, one line per fit.
pub fn text_table(input: &ReportInput<'_>) -> String {
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
