//! What motifs add over many sequences: a row for each sequence, and means over all.
//!
//! Leaves out: predictions. Invariant: each sequence counts once, however many backgrounds it has.

use super::{Arguments, Findings};
use crate::output::{Format, Table, complain, say, say_json};
use crate::writing;
use glmeval_common::error::Result;
use glmeval_worker::importance::{compare, figure};
use glmeval_worker::row_table::{Cell, ColumnKind};
use glmeval_worker::statistics::RepeatSummary;
use serde::Serialize;
use std::process::ExitCode;

/// One experiment on one sequence.
#[derive(Serialize)]
pub(super) struct Effect {
    record: String,
    experiment: String,
    group: &'static str,
    wild_type: f64,
    background_mean: f64,
    mean: f64,
    median: f64,
    importance: f64,
    importance_sd: Option<f64>,
    u: Option<f64>,
    p: Option<f64>,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document {
    out: String,
    sequences: usize,
    backgrounds: usize,
    experiments: Vec<Row>,
    per_sequence: Vec<Effect>,
}

/// One experiment over all sequences.
#[derive(Serialize)]
struct Row {
    name: String,
    sequences: usize,
    /// Mean over sequences of the importance in each.
    importance: f64,
    /// Standard deviation over sequences, with n - 1.
    importance_sd: Option<f64>,
    least: f64,
    greatest: f64,
    /// Share of sequences in which predictions rise.
    share_above_0: f64,
}

/// The effects of one sequence.
pub(super) fn effects(findings: &Findings) -> Vec<Effect> {
    let before = &findings.analysis.predictions;
    let effect = |(planned, found): &(super::Planned, super::Importance)| {
        let test = compare(before, &found.predictions).map(|test| test.asymptotic);
        Effect {
            record: findings.id.clone(),
            experiment: planned.experiment.name.clone(),
            group: planned.group.name(),
            wild_type: findings.wild_type,
            background_mean: before.iter().sum::<f64>() / before.len() as f64,
            mean: found.mean,
            median: found.median,
            importance: found.importance,
            importance_sd: found.importance_sd,
            u: test.as_ref().map(|test| test.u),
            p: test.as_ref().map(|test| test.p),
        }
    };
    findings.experiments.iter().map(effect).collect()
}

/// Writes the table of sequences and the figure, and prints means over sequences.
pub(super) fn tell(
    arguments: &Arguments,
    effects: Vec<Effect>,
    (sequences, backgrounds): (usize, usize),
) -> Result<ExitCode> {
    if let Some(path) = &arguments.per_sequence {
        let format = writing::table_format("--per-sequence", path)?;
        writing::table(path, format, &COLUMNS, |push| {
            effects.iter().try_for_each(|effect| push(&[cells(effect)]))
        })?;
    }
    let mut names: Vec<&str> = Vec::new();
    for effect in &effects {
        if !names.contains(&effect.experiment.as_str()) {
            names.push(&effect.experiment);
        }
    }
    let rows: Vec<Row> = names.iter().map(|name| row(name, &effects)).collect();
    if let Some(path) = &arguments.figure {
        let of = |name: &str, value: fn(&Effect) -> f64| -> Vec<f64> {
            effects.iter().filter(|one| one.experiment == name).map(value).collect()
        };
        let first = names.first().copied().unwrap_or_default();
        let mut series = vec![
            ("wild type", of(first, |one| one.wild_type)),
            ("shuffled", of(first, |one| one.background_mean)),
        ];
        series.extend(names.iter().map(|&name| (name, of(name, |one| one.mean))));
        series.truncate(super::VIOLINS_MAX);
        let violins: Vec<(&str, &[f64])> =
            series.iter().map(|(name, values)| (*name, values.as_slice())).collect();
        writing::text(path, &figure(&violins, None))?;
    }
    complain(&format!("{sequences} sequences of {backgrounds} backgrounds each"));
    if arguments.format == Format::Json {
        let out = arguments.out.display().to_string();
        let (experiments, per_sequence) = (rows, effects);
        say_json(&Document { out, sequences, backgrounds, experiments, per_sequence })?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["experiment", "sequences", "importance", "sd", "least", "greatest", "above 0"];
    let mut table = Table::new(&header);
    let number = |value: f64| format!("{value:.4}");
    for row in rows {
        table.row(vec![
            row.name,
            row.sequences.to_string(),
            number(row.importance),
            row.importance_sd.map_or_else(|| "-".to_owned(), number),
            number(row.least),
            number(row.greatest),
            format!("{:.0} %", 100.0 * row.share_above_0),
        ]);
    }
    say(&table.text(arguments.format));
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [(&str, ColumnKind); 11] = [
    ("record", ColumnKind::Text),
    ("experiment", ColumnKind::Text),
    ("group", ColumnKind::Text),
    ("wild_type", ColumnKind::Real),
    ("background_mean", ColumnKind::Real),
    ("mean", ColumnKind::Real),
    ("median", ColumnKind::Real),
    ("importance", ColumnKind::Real),
    ("importance_sd", ColumnKind::Real),
    ("u", ColumnKind::Real),
    ("p", ColumnKind::Real),
];

fn cells(effect: &Effect) -> Vec<Cell<'_>> {
    let Effect { record, experiment, group, wild_type, background_mean, mean, .. } = effect;
    vec![
        Cell::Text(Some(record)),
        Cell::Text(Some(experiment)),
        Cell::Text(Some(group)),
        Cell::Real(Some(*wild_type)),
        Cell::Real(Some(*background_mean)),
        Cell::Real(Some(*mean)),
        Cell::Real(Some(effect.median)),
        Cell::Real(Some(effect.importance)),
        Cell::Real(effect.importance_sd),
        Cell::Real(effect.u),
        Cell::Real(effect.p),
    ]
}

fn row(name: &str, effects: &[Effect]) -> Row {
    let of_name = effects.iter().filter(|effect| effect.experiment == name);
    let values: Vec<Option<f64>> = of_name.map(|effect| Some(effect.importance)).collect();
    let above = values.iter().filter(|value| value.is_some_and(|value| value > 0.0)).count();
    let over = RepeatSummary::new(&values);
    Row {
        name: name.to_owned(),
        sequences: over.repeats,
        importance: over.mean.unwrap_or(f64::NAN),
        importance_sd: over.deviation,
        least: over.min.unwrap_or(f64::INFINITY),
        greatest: over.max.unwrap_or(f64::NEG_INFINITY),
        share_above_0: above as f64 / over.repeats as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_counts_once_in_the_means() {
        let effect = |experiment: &str, importance: f64| Effect {
            record: String::new(),
            experiment: experiment.to_owned(),
            group: "set",
            wild_type: 0.0,
            background_mean: 0.0,
            mean: 0.0,
            median: 0.0,
            importance,
            importance_sd: None,
            u: None,
            p: None,
        };
        let effects = [effect("a", 1.0), effect("b", 9.0), effect("a", -3.0), effect("a", 5.0)];
        let found = row("a", &effects);
        assert_eq!((found.sequences, found.importance, found.importance_sd), (3, 1.0, Some(4.0)));
        assert_eq!((found.least, found.greatest), (-3.0, 5.0));
        assert!((found.share_above_0 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(row("b", &effects).importance_sd, None);
    }
}
