//! The table of a task's gLMs that the job ran in two precisions.
//!
//! Leaves out: what is compared (comparisons/precisions). Invariant: a bounded number of rows, as in precisions.csv.

use super::super::comparisons::PrecisionRow;
use super::super::view::{probe_label, statistic_title};
use super::table::{Cell, HtmlTable};
use glmeval_common::dataset::TaskName;

const ROWS_MAX: usize = 200;

/// The section; empty where no gLM of the task ran in two precisions.
pub(super) fn section(task: TaskName, rows: &[PrecisionRow<'_>]) -> String {
    let columns = [
        "Data set",
        "gLM",
        "Input",
        "#Mean cosine",
        "#Least cosine",
        "Probe",
        "Statistic",
        "#Finer",
        "#Coarser",
        "#Difference",
    ];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for row in rows.iter().filter(|row| row.task == task) {
        table.row("", &cells(row));
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "<h3 id=\"{}-precisions\">Precision: what coarser products change</h3>\n{}\
         <p class=\"muted\">The cosine of each sequence's vector (of each token's, for full) in the finer and in the coarser \
         precision, over examples spread evenly over the data set; scores are means over repeats. The difference is the coarser score \
         less the finer one; its interval is among the paired comparisons of the data set.</p>\n",
        task.name(),
        table.finish("precisions.csv"),
    )
}

fn cells(row: &PrecisionRow<'_>) -> [Cell; 10] {
    let (fine, coarse) = row.precisions;
    let input = match row.layer {
        Some(layer) => format!("layer {layer}, {}", row.representation),
        None => row.representation.clone(),
    };
    // Three digits would say 1.000 of nearly all.
    let cosine = |value: Option<f64>| match value {
        Some(value) => Cell::written(value, &format!("{value:.6}")),
        None => Cell::optional(None),
    };
    let vectors = row.closeness.map_or(String::new(), |found| format!("{} vectors", found.vectors));
    [
        Cell::text(row.dataset),
        Cell::text(&format!("{}, {}", row.models.0, row.models.1)).small(&format!(
            "{}, {}",
            fine.name(),
            coarse.name()
        )),
        Cell::text(&input),
        cosine(row.closeness.map(|found| found.mean)).small(&vectors),
        cosine(row.closeness.map(|found| found.min)),
        Cell::text(&row.identity.map_or_else(|| "–".to_owned(), probe_label)),
        Cell::text(row.statistic.map_or("–", statistic_title)),
        Cell::optional(row.values.0),
        Cell::optional(row.values.1),
        Cell::signed(row.difference()),
    ]
}
