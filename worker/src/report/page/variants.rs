//! The table of task 3: elements by models, signed r, means over cells, published values.
//!
//! Leaves out: verdicts and their table (agreement). Invariant: a correlation keeps its sign here; only the
//! published column is without, as the paper prints it.

use super::super::agreement::{Agreement, Verdict};
use super::super::view::{DatasetView, View, fit_probe_label, input_label};
use super::table::{Cell, HtmlTable};
use glmeval_common::dataset::TaskName;
use glmeval_common::score::{FitScores, Statistic};

/// Elements with a column of their own.
const ELEMENTS_MAX: usize = 8;
const ROWS_MAX: usize = 300;

/// What the table has columns of.
struct Columns<'a> {
    elements: Vec<&'a str>,
    cells: Vec<&'a str>,
    left_out: usize,
}

impl<'a> Columns<'a> {
    /// Elements and cell lines in order of first appearance.
    fn new(datasets: &[&DatasetView<'a>]) -> Self {
        let (mut elements, mut cells): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        let fits = datasets.iter().flat_map(|dataset| dataset.fits.iter());
        for statistic in fits.flat_map(|fit| &fit.scores.statistics) {
            let list = match statistic.name.as_str() {
                "pearson" => &mut elements,
                "pearson_mean" => &mut cells,
                _ => continue,
            };
            if !list.contains(&statistic.target.as_str()) {
                list.push(&statistic.target);
            }
        }
        let left_out = elements.len().saturating_sub(ELEMENTS_MAX);
        elements.truncate(ELEMENTS_MAX);
        Self { elements, cells, left_out }
    }

    fn titles(&self) -> Vec<String> {
        let mut titles = ["Input", "Score or probe", "#Window"].map(str::to_owned).to_vec();
        titles.extend(self.elements.iter().map(|element| format!("#{element}")));
        for cell in &self.cells {
            titles.extend([format!("#Mean {cell}"), format!("#Published {cell}")]);
        }
        titles
    }
}

/// The table; empty without fits of the task.
pub(super) fn variants(view: &View<'_>, agreement: &Agreement<'_>) -> String {
    let datasets: Vec<&DatasetView<'_>> =
        view.datasets.iter().filter(|d| d.task == TaskName::VariantEffect).collect();
    let columns = Columns::new(&datasets);
    let titles = columns.titles();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = HtmlTable::new(&titles, ROWS_MAX);
    for dataset in datasets {
        for fit in &dataset.fits {
            table.row("", &row(dataset, &fit.scores, &columns, agreement));
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let left_out = match columns.left_out {
        0 => String::new(),
        count => format!(" {count} more elements stand in scores.csv."),
    };
    format!(
        "<h3>Correlation with the measured effects</h3>\n{}<p class=\"muted\">Pearson r with its sign. Zero-shot scores are \
         held against the size of an effect, probes against the effect with its sign. Of zero-shot scores the paper prints |r|, \
         and so does the column of published values.{left_out}</p>\n",
        table.finish("scores.csv")
    )
}

fn row(
    dataset: &DatasetView<'_>,
    fit: &FitScores,
    columns: &Columns<'_>,
    agreement: &Agreement<'_>,
) -> Vec<Cell> {
    let find = |name: &str, target: &str| -> Option<&Statistic> {
        fit.statistics.iter().find(|s| s.name == name && s.target == target)
    };
    let window = dataset.planned.facts.length_max;
    let mut row = vec![
        Cell::text(&input_label(&fit.identity)).class("first"),
        Cell::text(&fit_probe_label(&fit.identity)).class("word"),
        Cell::written(window as f64, &window.to_string()),
    ];
    for element in &columns.elements {
        let of = find("pearson", element);
        let ends = of.and_then(|of| of.low.zip(of.high));
        let ends = ends.map_or(String::new(), |(low, high)| format!("{low:.2} to {high:.2}"));
        row.push(Cell::signed(of.and_then(|of| of.value)).small(&ends));
    }
    for cell in &columns.cells {
        let score = agreement.scores.iter().find(|score| {
            std::ptr::eq(score.identity, &fit.identity) && score.target == *cell && score.is_primary
        });
        let verdict = score.map_or("", |score| match score.verdict {
            Verdict::NoReference => "",
            verdict => verdict.name(),
        });
        let published = score.and_then(|score| score.reference).map(|row| row.value);
        row.push(Cell::signed(find("pearson_mean", cell).and_then(|of| of.value)));
        row.push(Cell::optional(published).small(verdict));
    }
    row
}
