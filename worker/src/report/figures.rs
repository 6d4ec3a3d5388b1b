//! Which figures a data set gets, with their captions.
//!
//! Leaves out: drawing (bars, curves, scatter). Invariant: every figure says in its caption what
//! was left out of it.

mod bars;
mod curves;
mod histories;
mod profiles;
mod scatter;

use super::summary::DatasetSummary;
use super::view::{DatasetView, View};
use crate::statistics::compared_statistic;

/// Bars of a figure; the rest stands in the tables.
const BARS_MAX: usize = 40;
/// Curves of a figure.
const CURVES_MAX: usize = 6;

/// One figure.
pub(super) struct Figure {
    /// File name without extension.
    pub(super) name: String,
    /// Sentence under the figure.
    pub(super) caption: String,
    /// The `<svg>` element.
    pub(super) svg: String,
    /// Whether it takes the page's whole width.
    pub(super) wide: bool,
}

/// The figures of one data set, in the order they are shown.
pub(super) fn figures(
    view: &View<'_>,
    dataset: &DatasetView<'_>,
    summary: &DatasetSummary<'_>,
) -> Vec<Figure> {
    let mut figures = Vec::new();
    let first = super::view::statistic_names(dataset);
    if dataset.task.is_binary() {
        figures.extend(bars::bars(dataset, summary, "auroc_exact", 0.5));
        figures.extend(bars::bars(dataset, summary, "auroc_hard", 0.5));
        figures.extend(curves::roc(dataset));
        figures.extend(curves::precision_recall(dataset));
    } else {
        if let Some(name) = first.first() {
            figures.extend(bars::bars(dataset, summary, name, 0.0));
        }
        figures.extend(scatter::scatter(dataset));
    }
    let (name, chance) =
        (compared_statistic(dataset.task), if dataset.task.is_binary() { 0.5 } else { 0.0 });
    figures.extend(bars::factor_bars(dataset, summary, name, chance));
    figures.extend(profiles::fractions(dataset, summary, name, view.plan.protocol));
    figures.extend(profiles::layers(dataset, summary, name, view.plan.protocol));
    figures.extend(histories::histories(dataset, summary));
    let place = view.datasets.iter().position(|other| std::ptr::eq(other, dataset)).unwrap_or(0);
    for figure in &mut figures {
        figure.name = format!("{place:02}-{}-{}", file_stem(dataset.name), figure.name);
    }
    figures
}

/// Letters, digits, `-`, `_` and `.` only.
fn file_stem(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}
