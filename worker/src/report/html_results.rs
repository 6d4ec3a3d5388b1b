//! Sections of the page on repeats and comparisons.
//!
//! Leaves out: the scores of single fits (html). Invariant: a section shows a bounded number of
//! rows and says where the rest is.

use super::comparisons::{Comparison, Comparisons, DatasetComparisons};
use super::summary::{ArmStatistic, DatasetSummary, Summaries};
use super::svg::escape;
use super::view::{input_label, number, probe_label, statistic_title};
use crate::statistics::compared_statistic;
use glmeval_common::dataset::TaskName;

/// Rows of each table on the page.
const ROWS_MAX: usize = 60;

/// What was made from the scores of all fits together.
pub(super) struct Results<'a> {
    pub(super) summaries: &'a Summaries<'a>,
    pub(super) comparisons: &'a Comparisons<'a>,
}

impl Results<'_> {
    /// The sections of data set number `i`.
    pub(super) fn section(&self, i: usize, task: TaskName) -> String {
        let summary =
            self.summaries.datasets.get(i).map_or(String::new(), |s| over_repeats(s, task));
        let comparisons = self.comparisons.datasets.get(i).map_or(String::new(), comparisons);
        summary + &comparisons
    }
}

/// Empty unless something was repeated.
fn over_repeats(summary: &DatasetSummary<'_>, task: TaskName) -> String {
    let name = compared_statistic(task);
    let repeated: Vec<_> = summary.arms.iter().filter(|arm| arm.fits.len() > 1).collect();
    if repeated.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for arm in repeated.iter().take(ROWS_MAX) {
        let (input, probe) =
            (escape(&input_label(arm.identity)), escape(&probe_label(arm.identity)));
        rows.push_str(&format!("<tr><td class=\"first\">{input}</td><td>{probe}</td>"));
        rows.push_str(&arm.headline(name).map_or(String::new(), summary_cells));
        rows.push_str("</tr>\n");
    }
    let title = escape(statistic_title(name));
    format!(
        "<h3>Over repeats</h3>\n<div class=\"scroll\"><table>\n<tr><th>Input</th><th>Probe</th>\
         <th class=\"number\">n</th><th class=\"number\">Mean {title}</th>\
         <th class=\"number\">sd</th><th class=\"number\">Range</th></tr>\n{rows}</table></div>\n\
         <p class=\"muted\">sd: sample standard deviation; small numbers are 95 % intervals over repeats \
         and test examples; repeats without a value count in no mean.{}</p>\n",
        rest(repeated.len(), "summary")
    )
}

fn summary_cells(row: &ArmStatistic<'_>) -> String {
    let summary = &row.summary;
    let undefined = match summary.undefined {
        0 => String::new(),
        count => format!("<small>{count} n/a</small>"),
    };
    let interval = row
        .interval
        .map_or(String::new(), |(low, high)| format!("<small>{low:.3} to {high:.3}</small>"));
    let range = match (summary.min, summary.max) {
        (Some(min), Some(max)) => format!("{min:.3} to {max:.3}"),
        _ => "n/a".to_owned(),
    };
    format!(
        "<td class=\"number\">{}{undefined}</td><td class=\"number\">{}{interval}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{range}</td>",
        summary.repeats,
        number(summary.mean),
        number(summary.deviation)
    )
}

fn comparisons(comparisons: &DatasetComparisons<'_>) -> String {
    let notes: String =
        comparisons.notes.iter().map(|note| format!(" {}.", escape(note))).collect();
    let Some(first) = comparisons.rows.first() else {
        return if notes.is_empty() {
            notes
        } else {
            format!("<p class=\"muted\">Comparisons:{notes}</p>\n")
        };
    };
    let mut sorted: Vec<&Comparison<'_>> = comparisons.rows.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |row: &Comparison<'_>| (row.paired.p, -row.difference.abs());
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let rows: String = sorted.iter().take(ROWS_MAX).map(|row| comparison(row)).collect();
    let (statistic, resamples) = (escape(statistic_title(first.statistic)), first.paired.resamples);
    format!(
        "<h3>Comparisons</h3>\n<div class=\"scroll\"><table>\n<tr><th>A</th><th>B</th>\
         <th class=\"number\">A − B</th><th class=\"number\">p</th><th class=\"number\">Holm</th>\
         <th class=\"number\">Benjamini-Hochberg</th><th class=\"number\">Mann-Whitney over repeats</th></tr>\n\
         {rows}</table></div>\n\
         <p class=\"muted\">Difference of {statistic} on the same {} test examples, with its 95 % \
         interval and two-sided p from a paired bootstrap of the examples (about {resamples} resamples), averaged over \
         repeats; Holm and Benjamini-Hochberg correct for all comparisons of the task in this job. Only arms \
         fitted on the same fraction of the training split are compared.{}{notes}</p>\n",
        first.examples,
        rest(sorted.len(), "comparisons")
    )
}

fn comparison(row: &Comparison<'_>) -> String {
    let interval = row
        .paired
        .interval
        .map_or(String::new(), |(low, high)| format!("<small>{low:+.3} to {high:+.3}</small>"));
    let over_repeats = row.repeats_test.map_or("–".to_owned(), |(test, _)| {
        format!(
            "{}<small>U = {}, {} and {} repeats</small>",
            probability(test.p),
            test.u,
            row.repeats.0,
            row.repeats.1
        )
    });
    format!(
        "<tr><td>{}</td><td>{}</td><td class=\"number\">{:+.3}{interval}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{over_repeats}</td></tr>\n",
        escape(&row.labels.0),
        escape(&row.labels.1),
        row.difference,
        probability(row.paired.p),
        probability(row.p_holm),
        probability(row.p_benjamini_hochberg)
    )
}

/// Two significant digits.
fn probability(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

fn rest(all: usize, table: &str) -> String {
    if all <= ROWS_MAX {
        return String::new();
    }
    format!(" The first {ROWS_MAX} of {all} rows are shown; {table}.csv holds all.")
}
