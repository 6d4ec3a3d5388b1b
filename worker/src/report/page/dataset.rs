//! One data set on the page: scores of its arms, comparisons, published neighbours, figures.
//!
//! Leaves out: verdicts (agreement), comparisons (results). Invariant: a table shows arms, not repeats,
//! so that its length does not grow with them.

use super::super::published::Reference;
use super::super::summary::{Arm, ArmStatistic, DatasetSummary};
use super::super::svg::escape;
use super::super::view::{
    DatasetView, View, grouped, headline, input_label, number, paper_statistic, probe_label,
    statistic_names, statistic_title,
};
use super::table::{Cell, HtmlTable};
use super::{Parts, figure_element, results};
use crate::statistics::{compared_statistic, primary_statistic};
use glmeval_common::dataset::TaskName;

/// Rows of the scores of a data set.
const ROWS_MAX: usize = 200;
/// Published rows shown where a job has few of its own.
const PUBLISHED_MAX: usize = 12;

/// The folded section of data set number `i`.
pub(super) fn section(
    view: &View<'_>,
    (i, dataset): (usize, &DatasetView<'_>),
    parts: &Parts<'_>,
    is_open: bool,
) -> String {
    let Some(summary) = parts.summaries.datasets.get(i) else { return String::new() };
    let open = if is_open { " open" } else { "" };
    let mut out = format!(
        "<details class=\"dataset\"{open}><summary id=\"d{i}\">{} <span class=\"muted\">{}</span></summary>\n\
         <p class=\"muted\">{}</p>\n",
        escape(dataset.name),
        escape(&best(dataset, summary)),
        escape(&examples(dataset)),
    );
    if dataset.task != TaskName::VariantEffect {
        out.push_str(&score_table(view, dataset, summary));
        out.push_str(
            &parts.comparisons.datasets.get(i).map_or(String::new(), results::comparisons),
        );
        out.push_str(&published_table(view, dataset));
    }
    let figures = parts.figures.get(i).map_or(&[][..], Vec::as_slice);
    let (wide, square): (Vec<_>, Vec<_>) = figures.iter().partition(|figure| figure.wide);
    out.extend(wide.into_iter().map(figure_element));
    if !square.is_empty() {
        out.push_str("<div class=\"pair\">\n");
        out.extend(square.into_iter().map(figure_element));
        out.push_str("</div>\n");
    }
    out.push_str("</details>\n");
    out
}

/// The best mean, for the line that opens the section.
fn best(dataset: &DatasetView<'_>, summary: &DatasetSummary<'_>) -> String {
    if dataset.task == TaskName::VariantEffect {
        let window = dataset.planned.facts.length_max;
        return format!("windows of {window} nucleotides, {} arms", summary.arms.len());
    }
    let name = compared_statistic(dataset.task);
    let mean = |arm: &Arm<'_>| arm.headline(name).and_then(|row| row.summary.mean);
    let best = summary.arms.iter().filter_map(|arm| Some((mean(arm)?, arm)));
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(String::new(), |(value, arm)| {
        let of = match summary.arms.len() {
            1 => String::new(),
            arms => format!(", best of {arms}"),
        };
        format!("{} {}{of}: {}", statistic_title(name), number(Some(value)), arm.label)
    })
}

fn examples(dataset: &DatasetView<'_>) -> String {
    let facts = &dataset.planned.facts;
    let splits: Vec<String> = ["train", "valid", "test"]
        .iter()
        .filter_map(|split| {
            facts.split_rows.get(*split).map(|rows| format!("{} {split}", grouped(*rows)))
        })
        .collect();
    let lengths = if facts.length_min == facts.length_max {
        facts.length_min.to_string()
    } else {
        format!("{} to {}", facts.length_min, facts.length_max)
    };
    let splits =
        if splits.is_empty() { String::new() } else { format!(" ({})", splits.join(", ")) };
    format!("{} examples{splits}; sequences of {lengths} nucleotides.", grouped(facts.rows))
}

fn score_table(view: &View<'_>, dataset: &DatasetView<'_>, summary: &DatasetSummary<'_>) -> String {
    let mut names = statistic_names(dataset);
    // Areas over 200 thresholds differ in the third decimal; the tables on disk hold them.
    names.retain(|name| !name.ends_with("_keras"));
    let probe = dataset.fits.first().map_or("", |fit| fit.scores.identity.probe.as_str());
    let first = primary_statistic(dataset.task, view.plan.protocol, probe);
    let first = names.iter().find(|name| *name == first).or(names.first()).cloned();
    let first = first.unwrap_or_default();
    let mean = |arm: &Arm<'_>| arm.headline(&first).and_then(|row| row.summary.mean);
    let best = summary.arms.iter().filter_map(mean).fold(f64::NEG_INFINITY, f64::max);
    let is_repeated = summary.arms.iter().any(|arm| arm.fits.len() > 1);
    let mut columns = vec!["Input".to_owned(), "Probe".to_owned()];
    columns.extend(is_repeated.then(|| "#n".to_owned()));
    columns.extend(names.iter().map(|name| format!("#{}", statistic_title(name))));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for arm in &summary.arms {
        let mut cells = vec![
            Cell::text(&input_label(arm.identity)).class("first"),
            Cell::text(&probe_label(arm.identity)).class("word"),
        ];
        let repeats = arm.fits.len();
        cells.extend(is_repeated.then(|| Cell::written(repeats as f64, &repeats.to_string())));
        cells.extend(names.iter().map(|name| statistic_cell(arm.headline(name))));
        table.row(if mean(arm) == Some(best) { "best" } else { "" }, &cells);
    }
    let target = dataset.fits.first().and_then(|fit| {
        headline(&fit.scores).first().map(|s| format!("Target {}, {} split", s.target, s.split))
    });
    let over = if is_repeated {
        "means over n repeats with their sample standard deviation (±) and 95 % intervals over repeats and examples"
    } else {
        "small numbers are 95 % bootstrap intervals over examples"
    };
    format!(
        "<h3>Scores</h3>\n{}<p class=\"muted\">{}; {over}; bold marks the highest {}.</p>\n",
        table.finish("summary.csv"),
        escape(&target.unwrap_or_default()),
        escape(statistic_title(&first))
    )
}

fn statistic_cell(row: Option<&ArmStatistic<'_>>) -> Cell {
    let Some(row) = row else { return Cell::optional(None) };
    let summary = &row.summary;
    let mut cell = Cell::number(summary.mean);
    if let Some(deviation) = summary.deviation {
        cell = cell.small(&format!("± {deviation:.3}"));
    }
    if let Some((low, high)) = row.interval {
        cell = cell.small(&format!("{low:.3} to {high:.3}"));
    }
    match summary.undefined {
        0 => cell,
        _ if summary.repeats == 0 => cell,
        count => cell.small(&format!("{count} n/a")),
    }
}

/// Published rows of this data set that no fit is the counterpart of, closest to the job's inputs first.
fn published_table(view: &View<'_>, dataset: &DatasetView<'_>) -> String {
    let name = |row: &Reference| match row.probe {
        "logistic" => "auroc_hard",
        _ if dataset.task.is_binary() => "auroc_keras",
        _ => compared_statistic(dataset.task),
    };
    let identities = || dataset.fits.iter().map(|fit| &fit.scores.identity);
    let is_new = |row: &&&'static Reference| {
        let is_paper = row.statistic == name(row) && row.factor == 1.0 && row.fraction == 1.0;
        let is_headline_layer = row.layer.is_none_or(|layer| layer == 32);
        let last = |identity| view.last_layer(identity);
        is_paper && is_headline_layer && !identities().any(|i| row.is_counterpart(i, last(i)))
    };
    let mut rows: Vec<&'static Reference> =
        dataset.published.iter().filter(is_new).copied().collect();
    let is_ours = |row: &Reference| identities().any(|i| row.is_same_input(i, view.last_layer(i)));
    rows.sort_by_key(|row| (!is_ours(row), !row.model.is_empty()));
    let mut table = HtmlTable::new(&["Input", "Probe", "#Published", "Value is"], PUBLISHED_MAX);
    for row in rows.iter().take(PUBLISHED_MAX) {
        let spread = row.deviation.map_or(String::new(), |deviation| format!("± {deviation:.3}"));
        let cells = [
            Cell::text(&row.input()).class("first"),
            Cell::text(row.probe),
            Cell::number(Some(row.value)).small(&spread),
            Cell::text(&row.provenance()),
        ];
        table.row("", &cells);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "<details class=\"more\"><summary>Published under this name, without a fit here</summary>\n{}\
         <p class=\"muted\">{}, on the authors' examples and split. Found by task and by the data set's name: \
         compare only if the examples are the same.</p></details>\n",
        table.finish("the study"),
        escape(statistic_title(
            dataset
                .fits
                .first()
                .map_or("", |fit| { paper_statistic(dataset.task, &fit.scores.identity) })
        ))
    )
}
