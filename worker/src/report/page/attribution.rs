//! The section of a task on what networks and gLMs rest on: correlations of maps, logos.
//!
//! Leaves out: what is compared (attribution). Invariant: a published value stands beside ours with the
//! same tolerance as in attributions.csv.

use super::super::attribution::{Attributions, MapScore};
use super::super::figures::Figure;
use super::super::svg::escape;
use super::super::view::{grouped, kind_title};
use super::agreement::{class_of, pill};
use super::figure_element;
use super::table::{Cell, HtmlTable};
use glmeval_common::dataset::TaskName;

const ROWS_MAX: usize = 300;
/// Logos that stand open; the rest is folded.
const OPEN_MAX: usize = 2;

/// The section; empty without maps of the task.
pub(super) fn section(
    task: TaskName,
    (attributions, logos): (&Attributions<'_>, &[(TaskName, Figure)]),
) -> String {
    let rows: Vec<&MapScore<'_>> =
        attributions.rows.iter().filter(|row| row.task == task).collect();
    let of_task = logos.iter().filter(|(of, _)| *of == task);
    let figures: Vec<String> = of_task.map(|(_, figure)| figure_element(figure)).collect();
    let notes: Vec<&String> =
        attributions.notes.iter().filter(|(of, _)| *of == task).map(|(_, note)| note).collect();
    if rows.is_empty() && figures.is_empty() && notes.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<h3 id=\"{}-maps\">Attribution: what networks and gLMs rest on</h3>\n",
        task.name()
    );
    if !rows.is_empty() {
        out.push_str(&correlations(task, &rows));
    }
    let (open, folded) = figures.split_at(figures.len().min(OPEN_MAX));
    out.push_str(&open.concat());
    if !folded.is_empty() {
        let (count, rest) = (folded.len(), folded.concat());
        let end = if count == 1 { "" } else { "s" };
        out.push_str(&format!(
            "<details class=\"more\"><summary>{count} more logo{end}</summary>\n{rest}</details>\n"
        ));
    }
    if !notes.is_empty() {
        let lines: String =
            notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
        out.push_str(&format!(
            "<details class=\"more\"><summary>Which fits were explained</summary>\n<ul class=\"muted\">{lines}</ul></details>\n"
        ));
    }
    out
}

fn correlations(task: TaskName, rows: &[&MapScore<'_>]) -> String {
    let columns = [
        "Verdict",
        "Data set",
        "Map",
        "Against",
        "#Pearson r",
        "#Published",
        "#Difference",
        "#Tolerance",
        "#Spearman ρ",
    ];
    let mut table = HtmlTable::new(&columns, ROWS_MAX);
    for row in rows {
        let (identity, sequences) =
            (row.identity(), format!("{} sequences", grouped(row.sequences)));
        let of_model = identity.model.as_deref().unwrap_or_default();
        let other = if row.other == "saliency" { identity.probe.as_str() } else { of_model };
        table.row(
            "",
            &[
                pill(class_of(row.verdict), row.verdict.name()),
                Cell::text(&identity.dataset).class("word"),
                Cell::text(kind_title(row.map)).small(of_model).class("word"),
                Cell::text(kind_title(row.other)).small(other).class("word"),
                Cell::signed(row.pearson).small(&sequences),
                Cell::signed(row.reference.map(|reference| reference.value)),
                Cell::signed(row.difference()),
                Cell::optional(row.tolerance()),
                Cell::signed(row.spearman),
            ],
        );
    }
    let earlier = match task {
        TaskName::LentiMpra => {
            " The study mapped lentiMPRA with an earlier split and network, so its values are of other examples."
        }
        _ => "",
    };
    format!(
        "{}<p class=\"muted\">Means over sequences of the correlation of two maps' absolute values: the test sequences that the \
         explained network puts highest. Saliency is the network's gradient at each base; information is how much less \
         uncertain than at worst the gLM is of a masked token; gradient, how far a network of the gLM's states heeds that token.{earlier}</p>\n",
        table.finish("attributions.csv")
    )
}
