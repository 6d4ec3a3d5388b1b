//! Paired comparisons of a data set on the page.
//!
//! Leaves out: how they are made (comparisons). Invariant: a bounded number of rows, the clearest first.

use super::super::comparisons::{Comparison, DatasetComparisons};
use super::super::svg::escape;
use super::super::view::statistic_title;
use super::table::{Cell, HtmlTable};

/// Rows of the table.
const ROWS_MAX: usize = 60;

pub(super) fn comparisons(comparisons: &DatasetComparisons<'_>) -> String {
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
    let columns =
        ["A", "B", "#A − B", "#p", "#Holm", "#Benjamini-Hochberg", "#Mann-Whitney over repeats"];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for row in sorted {
        table.row("", &comparison(row));
    }
    let (statistic, resamples) = (escape(statistic_title(first.statistic)), first.paired.resamples);
    let count = comparisons.rows.len();
    format!(
        "<details class=\"more\"><summary>{count} paired comparisons of inputs</summary>\n{}\
         <p class=\"muted\">Difference of {statistic} on the same {} test examples, with its 95 % \
         interval and two-sided p from a paired bootstrap of the examples (about {resamples} resamples), averaged over \
         repeats; Holm and Benjamini-Hochberg correct for all comparisons of the task in this job. Only arms \
         fitted on the largest fraction of the training split are compared.{notes}</p></details>\n",
        table.finish("comparisons.csv"),
        first.examples,
    )
}

fn comparison(row: &Comparison<'_>) -> [Cell; 7] {
    let interval = row.paired.interval;
    let interval = interval.map_or(String::new(), |(low, high)| format!("{low:+.3} to {high:+.3}"));
    let p = |p: f64| Cell::written(p, &probability(p));
    let over_repeats = row.repeats_test.map_or(Cell::optional(None), |(test, _)| {
        let (a, b) = row.repeats;
        p(test.p).small(&format!("U = {}, {a} and {b} repeats", test.u))
    });
    [
        Cell::text(&row.labels.0),
        Cell::text(&row.labels.1),
        Cell::signed(Some(row.difference)).small(&interval),
        p(row.paired.p),
        p(row.p_holm),
        p(row.p_benjamini_hochberg),
        over_repeats,
    ]
}

/// Two significant digits.
fn probability(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}
