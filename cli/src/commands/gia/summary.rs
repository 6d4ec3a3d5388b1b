//! What is told at the end: importance and tests of every experiment.

use super::experiments::Group;
use super::{Arguments, Findings};
use crate::output::{Format, Table, complain, say, say_json};
use glmeval_common::error::Result;
use glmeval_worker::importance::{Comparison, compare};
use serde::Serialize;
use std::process::ExitCode;

/// Sets that are compared with each other.
const COMPARED_SETS_MAX: usize = 12;

/// The document of `--format json`.
#[derive(Serialize)]
struct Document<'a> {
    out: String,
    sequence: &'a str,
    wild_type: f64,
    backgrounds: usize,
    background_mean: f64,
    experiments: Vec<Row>,
    comparisons: Vec<Pair>,
    interactions: Vec<Interaction<'a>>,
}

/// One experiment.
#[derive(Serialize)]
struct Row {
    name: String,
    group: &'static str,
    motifs: Vec<String>,
    mean: f64,
    median: f64,
    importance: f64,
    importance_sd: Option<f64>,
    versus_shuffled: Option<Test>,
}

/// Two sets of motifs.
#[derive(Serialize)]
struct Pair {
    first: String,
    second: String,
    test: Option<Test>,
}

/// The Mann-Whitney test, two-sided.
#[derive(Serialize)]
struct Test {
    u: f64,
    p: f64,
    p_exact: Option<f64>,
}

/// What two motifs do together beyond what each does alone.
#[derive(Serialize)]
struct Interaction<'a> {
    name: &'a str,
    value: f64,
}

fn test(found: Option<Comparison>) -> Option<Test> {
    let found = found?;
    let (u, p) = (found.asymptotic.u, found.asymptotic.p);
    Some(Test { u, p, p_exact: found.exact.map(|exact| exact.p) })
}

/// Prints all of it.
pub(super) fn tell(arguments: &Arguments, findings: &Findings) -> Result<ExitCode> {
    let before = &findings.analysis.predictions;
    let row = |(planned, found): &(super::Planned, super::Importance)| Row {
        name: planned.experiment.name.clone(),
        group: planned.group.name(),
        motifs: planned.experiment.motifs.iter().map(ToString::to_string).collect(),
        mean: found.mean,
        median: found.median,
        importance: found.importance,
        importance_sd: found.importance_sd,
        versus_shuffled: test(compare(before, &found.predictions)),
    };
    let document = Document {
        out: arguments.out.display().to_string(),
        sequence: &findings.id,
        wild_type: findings.wild_type,
        backgrounds: before.len(),
        background_mean: before.iter().sum::<f64>() / before.len() as f64,
        experiments: findings.experiments.iter().map(row).collect(),
        comparisons: pairs(findings),
        interactions: findings
            .interactions
            .iter()
            .map(|(name, value)| Interaction { name, value: *value })
            .collect(),
    };
    let rows = before.len() * (1 + document.experiments.len());
    complain(&format!("{rows} predictions: {}", document.out));
    if arguments.format == Format::Json {
        say_json(&document)?;
    } else {
        print(&document, arguments.format);
    }
    Ok(ExitCode::SUCCESS)
}

/// Every two sets of motifs, if they are not too many.
fn pairs(findings: &Findings) -> Vec<Pair> {
    let sets = findings.experiments.iter().filter(|(planned, _)| planned.group == Group::Set);
    let sets: Vec<_> = sets.take(COMPARED_SETS_MAX).collect();
    let mut pairs = Vec::new();
    for (index, (second, of_second)) in sets.iter().enumerate() {
        for (first, of_first) in sets.iter().skip(index + 1) {
            pairs.push(Pair {
                first: first.experiment.name.clone(),
                second: second.experiment.name.clone(),
                test: test(compare(&of_first.predictions, &of_second.predictions)),
            });
        }
    }
    pairs
}

fn print(document: &Document<'_>, format: Format) {
    let number = |value: f64| format!("{value:.4}");
    let (u, p) = (
        |test: &Option<Test>| test.as_ref().map_or("-".to_owned(), |test| test.u.to_string()),
        |test: &Option<Test>| {
            test.as_ref().map_or("-".to_owned(), |test| format!("{:.2e}", test.p))
        },
    );
    let header =
        ["experiment", "mean", "median", "importance", "sd", "U vs shuffled", "p", "motifs"];
    let mut table = Table::new(&header);
    let blank = || "-".to_owned();
    let lines = [("wild type", document.wild_type), ("shuffled", document.background_mean)];
    for (name, mean) in lines {
        let mut row = vec![name.to_owned(), number(mean)];
        row.extend((2..header.len()).map(|_| blank()));
        table.row(row);
    }
    for row in &document.experiments {
        table.row(vec![
            row.name.clone(),
            number(row.mean),
            number(row.median),
            number(row.importance),
            row.importance_sd.map_or_else(blank, number),
            u(&row.versus_shuffled),
            p(&row.versus_shuffled),
            row.motifs.join(","),
        ]);
    }
    say(&table.text(format));
    if !document.comparisons.is_empty() {
        let mut table = Table::new(&["first", "second", "U", "p"]);
        for pair in &document.comparisons {
            let (first, second) = (pair.first.clone(), pair.second.clone());
            table.row(vec![first, second, u(&pair.test), p(&pair.test)]);
        }
        say(&format!("\n{}", table.text(format)));
    }
    if !document.interactions.is_empty() {
        let mut table = Table::new(&["interaction", "value"]);
        for pair in &document.interactions {
            table.row(vec![pair.name.to_owned(), number(pair.value)]);
        }
        say(&format!("\n{}", table.text(format)));
    }
}
