//! From scores and predictions to tables, figures and one self-contained page.
//!
//! Leaves out: reading and writing the store (runner). Invariant: pure; the same input gives the
//! same bytes, whatever the order of the fits.

mod agreement;
mod attribution;
mod comparisons;
mod figures;
mod needed;
mod page;
mod published;
mod summary;
pub(crate) mod svg;
mod tables;
mod view;

use crate::attribution::StoredMaps;
use glmeval_common::error::Result;
use glmeval_common::plan::Plan;
use glmeval_common::score::FitScores;
use glmeval_common::store::fits::EpochRecord;

pub use comparisons::{Closeness, PairCloseness, PrecisionPair, precision_pairs};
pub use needed::needs_predictions;
pub use page::TABLES;

/// Predictions of one fit on the split it is scored on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Ids of the examples.
    pub ids: Vec<String>,
    /// Names of the targets.
    pub target_names: Vec<String>,
    /// Measured values: one vector per target, one value per example; NaN = not measured.
    pub targets: Vec<Vec<f64>>,
    /// Predicted values, likewise; probabilities for binary targets.
    pub predictions: Vec<Vec<f64>>,
}

/// One fit of the job.
#[derive(Clone, Debug, PartialEq)]
pub struct FitResult {
    /// What its commit says.
    pub scores: FitScores,
    /// Its predictions; empty if they could not be read, which costs figures only.
    pub predictions: Predictions,
    /// Its epochs in order; empty for closed forms.
    pub history: Vec<EpochRecord>,
}

/// Attribution maps of the job: one data set, one network, one gLM or none.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributionResult {
    /// What their commit says.
    pub scores: FitScores,
    /// The first sequences, of which logos are drawn.
    pub logos: Vec<StoredMaps>,
}

/// Everything a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    /// The job.
    pub plan: &'a Plan,
    /// Its fits, in any order.
    pub fits: &'a [FitResult],
    /// Its attribution maps, in any order.
    pub attributions: &'a [AttributionResult],
    /// How close embeddings of one gLM in two precisions are.
    pub precisions: &'a [PairCloseness<'a>],
    /// One line per unit that was given up.
    pub failed: &'a [String],
    /// What the results took and cost, as names and values; empty without prices.
    pub cost: &'a [(String, String)],
}

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Path below the report's folder: `report.html`, `scores.csv`, `figures/REST-roc.svg`, …
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// The score table for a terminal: one block per data set, one line per fit; correlations of maps.
pub fn text_table(input: &ReportInput<'_>) -> String {
    let maps = attribution::Attributions::new(input).text();
    tables::text_table(input, &maps)
}

/// The table `scores` as tab-separated lines.
pub fn scores_tsv(input: &ReportInput<'_>) -> String {
    tables::scores_table(&view::View::new(input)).tsv()
}

/// Renders `report.html`, the tables `scores`, `summary`, `comparisons`, `agreement` and `orderings` (and `histories`, `attributions`
/// and `precisions`, if there are any) as CSV and Parquet, `scores.txt` and `figures/*.svg`.
///
/// # Errors
/// `Bug` if the Parquet writer refuses the rows.
pub fn render(input: &ReportInput<'_>) -> Result<Vec<ReportFile>> {
    let view = view::View::new(input);
    let summaries = summary::Summaries::new(&view);
    let comparisons = comparisons::Comparisons::new(&view, &summaries);
    let agreement = agreement::Agreement::new(&view, &summaries);
    let figures: Vec<Vec<figures::Figure>> = (view.datasets.iter().zip(&summaries.datasets))
        .map(|(dataset, summary)| figures::figures(&view, dataset, summary))
        .collect();
    let precisions = comparisons::precision_rows(&view, &summaries, input.precisions);
    let attributions = attribution::Attributions::new(input);
    let logos = figures::all_logos(input);
    let task_figures = figures::task_figures(&view, &summaries, &agreement);
    let parts = page::Parts {
        summaries: &summaries,
        comparisons: &comparisons,
        agreement: &agreement,
        precisions: &precisions,
        figures: &figures,
        attributions: (&attributions, &logos),
        task_figures: &task_figures,
    };
    let file = |name: &str, bytes: Vec<u8>| ReportFile { name: name.to_owned(), bytes };
    let mut files = vec![
        file("report.html", page::page(&view, &parts).into_bytes()),
        file("scores.txt", text_table(input).into_bytes()),
    ];
    files.extend(tables::scores_table(&view).files()?);
    files.extend(summaries.table(&view).files()?);
    files.extend(comparisons.table(&view).files()?);
    files.extend(agreement.table(&view).files()?);
    files.extend(agreement::orderings_table(&view, &agreement.orderings).files()?);
    if input.fits.iter().any(|fit| !fit.history.is_empty()) {
        files.extend(tables::histories_table(&view).files()?);
    }
    if !precisions.is_empty() {
        files.extend(comparisons::precisions_table(&view, &precisions).files()?);
    }
    if !attributions.is_empty() {
        files.extend(attributions.table(&view).files()?);
    }
    let task_figures = task_figures.iter().chain(&logos).map(|(_, figure)| figure);
    for figure in figures.iter().flatten().chain(task_figures) {
        let svg = svg::standalone(&figure.svg);
        files.push(file(&format!("figures/{}.svg", figure.name), svg.into_bytes()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
