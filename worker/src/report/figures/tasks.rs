//! Figures over all data sets of a task: inputs over the data sets of a binding task, models by cell line
//! for the effects of variants.
//!
//! Leaves out: single data sets (figures). Invariant: a row is drawn from the data sets that all rows of
//! the figure have, so that rows can be held against each other.

use super::super::agreement::Agreement;
use super::super::published::{self, Reference};
use super::super::summary::{Arm, Summaries};
use super::super::view::{View, arm_label, input_label, probe_label, statistic_title};
use super::bars::{Bar, draw_bars};
use super::spreads::{Spread, draw};
use super::{BARS_MAX, Figure};
use crate::statistics::compared_statistic;
use glmeval_common::dataset::TaskName;
use std::collections::BTreeMap;

/// Every figure over all data sets of a task.
pub(in super::super) fn task_figures(
    view: &View<'_>,
    summaries: &Summaries<'_>,
    agreement: &Agreement<'_>,
) -> Vec<(TaskName, Figure)> {
    let mut figures = Vec::new();
    for (task, _) in TaskName::ALL {
        if task == TaskName::VariantEffect {
            figures.extend(variants(agreement).into_iter().map(|figure| (task, figure)));
        } else {
            figures.extend(across(view, summaries, task).map(|figure| (task, figure)));
        }
    }
    figures
}

/// An arm of several data sets: as one of them has it, and its mean on each.
struct Wide<'b, 'a> {
    arm: &'b Arm<'a>,
    means: Vec<f64>,
}

/// One row per arm: its means on each data set.
fn across(view: &View<'_>, summaries: &Summaries<'_>, task: TaskName) -> Option<Figure> {
    let name = compared_statistic(task);
    let mut arms: BTreeMap<String, Wide<'_, '_>> = BTreeMap::new();
    let of_task = || view.datasets.iter().zip(&summaries.datasets).filter(|(d, _)| d.task == task);
    let datasets = of_task().count();
    for (_, summary) in of_task() {
        for arm in super::headline_arms(summary, name) {
            if let Some(mean) = arm.headline(name).and_then(|row| row.summary.mean) {
                let wide = Wide { arm, means: Vec::new() };
                arms.entry(arm_label(arm.identity)).or_insert(wide).means.push(mean);
            }
        }
    }
    arms.retain(|_, wide| wide.means.len() == datasets);
    if datasets < 3 || arms.len() < 2 {
        return None;
    }
    let probes = super::names(arms.values().map(|wide| wide.arm.identity.probe.as_str()));
    let published = |arm: &Arm<'_>| {
        let last = view.last_layer(arm.identity);
        let is_it = |row: &&Reference| {
            row.statistic == "auroc_keras" && row.is_counterpart(arm.identity, last)
        };
        let is_whole = published::datasets(task).len() == datasets;
        published::of_all_datasets(task)
            .find(is_it)
            .filter(|_| is_whole)
            .map(|row| (row.value, None))
    };
    let mut rows: Vec<Spread> = arms
        .iter()
        .map(|(label, Wide { arm, means })| Spread {
            label: label.clone(),
            values: means.clone(),
            number: means.iter().sum::<f64>() / means.len() as f64,
            colour: probes.iter().position(|p| *p == arm.identity.probe).unwrap_or(0),
            published: published(arm),
        })
        .collect();
    rows.sort_by(|a, b| b.number.total_cmp(&a.number));
    let all = rows.len();
    rows.truncate(BARS_MAX);
    let title = format!("{} over {datasets} data sets", statistic_title(name));
    let mut caption = format!(
        "{title}: boxes from the first to the third quartile, whiskers to the last value within 1.5 times that range, \
         violins from ten data sets on; the number is the mean. One colour per probe. A data set counts with its mean over repeats."
    );
    if rows.iter().any(|row| row.published.is_some()) {
        caption.push_str(" Diamonds: published means over the data sets.");
    }
    if all > rows.len() {
        caption.push_str(&format!(" The best {} of {all} are shown.", rows.len()));
    }
    let svg = draw(&rows, &title, statistic_title(name));
    Some(Figure { name: format!("{}-datasets", task.name()), caption, svg, wide: true })
}

/// One figure per cell line: what the paper's table has, as bars.
fn variants(agreement: &Agreement<'_>) -> Vec<Figure> {
    let of_task =
        || agreement.scores.iter().filter(|s| s.task == TaskName::VariantEffect && s.is_primary);
    let mut cells: Vec<&str> = Vec::new();
    for score in of_task() {
        if !cells.contains(&score.target) {
            cells.push(score.target);
        }
    }
    let figure = |cell: &&str| {
        let mut bars: Vec<Bar> = of_task()
            .filter(|score| score.target == *cell)
            .filter_map(|score| {
                let zero_shot = score.identity.representation == "zero-shot";
                Some(Bar {
                    label: format!(
                        "{} · {}",
                        input_label(score.identity),
                        probe_label(score.identity)
                    ),
                    value: score.obtained?.abs(),
                    low: None,
                    high: None,
                    colour: Some(super::super::svg::PALETTE[usize::from(!zero_shot)]),
                    counterpart: score.reference.map(|row| row.value),
                })
            })
            .collect();
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
        bars.truncate(BARS_MAX);
        let title = format!("|r| with the measured effects of variants, {cell}");
        let caption = format!(
            "{title}: mean over the cell's elements. Two colours: zero-shot scores and probes trained on task 1. \
             Diamonds: the published value."
        );
        let svg = draw_bars(&bars, &[], &title, "|Pearson r|", 0.0);
        let stem = super::file_stem(cell);
        (!bars.is_empty()).then_some(Figure {
            name: format!("variants-{stem}"),
            caption,
            svg,
            wide: true,
        })
    };
    cells.iter().filter_map(figure).collect()
}
