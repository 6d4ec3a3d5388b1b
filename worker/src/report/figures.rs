//! Which figures a data set gets, with their captions.
//!
//! Leaves out: drawing (bars, curves, spreads, …). Invariant: every figure says in its caption what
//! was left out of it.

mod bars;
mod curves;
mod histories;
mod logos;
mod profiles;
mod scatter;
mod spreads;
mod tasks;

use super::published::Reference;
use super::summary::{Arm, DatasetSummary};
use super::view::{DatasetView, View, statistic_title};
use crate::statistics::compared_statistic;
use glmeval_common::dataset::TaskName;
use glmeval_common::score::FitIdentity;
use spreads::Spread;
use std::collections::BTreeMap;

pub(super) use logos::all_logos;
pub(super) use tasks::task_figures;

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
    // Effects of variants are held against each other over all data sets of the task.
    if dataset.task == TaskName::VariantEffect {
        return Vec::new();
    }
    let (name, chance) =
        (compared_statistic(dataset.task), if dataset.task.is_binary() { 0.5 } else { 0.0 });
    let both = (dataset, summary);
    let mut figures = Vec::new();
    let is_repeated = |arm: &&Arm<'_>| arm.fits.len() > 1;
    if headline_arms(summary, name).iter().any(is_repeated) {
        figures.extend(over_repeats(view, both, name));
    } else {
        figures.extend(bars::bars(view, both, name, chance));
    }
    if dataset.task.is_binary() {
        figures.extend(bars::bars(view, both, "auroc_hard", 0.5));
        figures.extend(curves::roc(dataset));
        figures.extend(curves::precision_recall(dataset));
    } else {
        figures.extend(scatter::scatter(dataset));
    }
    figures.extend(bars::factor_bars(dataset, summary, name, chance));
    figures.extend(profiles::fractions(view, both, name));
    figures.extend(profiles::layers(view, both, name));
    figures.extend(histories::histories(dataset, summary));
    let place = view.datasets.iter().position(|other| std::ptr::eq(other, dataset)).unwrap_or(0);
    for figure in &mut figures {
        figure.name = format!("{place:02}-{}-{}", file_stem(dataset.name), figure.name);
    }
    figures
}

/// The arms a figure of one data set compares: on the largest fraction, one width, and of a gLM whose layers
/// were scanned only the last, the published ones and the best.
fn headline_arms<'b, 'a>(summary: &'b DatasetSummary<'a>, name: &str) -> Vec<&'b Arm<'a>> {
    /// Layers of one gLM from which on they are a scan, which has a figure of its own.
    const SCAN_MIN: usize = 4;
    /// The layer that the study chose by its scan.
    const CHOSEN: u32 = 10;
    let fraction = summary.arms.iter().map(|arm| arm.identity.fraction).fold(0.0, f64::max);
    let key = |arm: &Arm<'_>| {
        let identity = arm.identity;
        (identity.model.clone(), identity.representation.clone(), identity.probe.clone())
    };
    let is_wide = |arm: &Arm<'_>| arm.identity.fraction == fraction;
    let has_usual_width = |arm: &Arm<'_>| {
        let same = |other: &&Arm<'_>| key(other) == key(arm) && other.identity.factor == 1.0;
        arm.identity.factor == 1.0 || !summary.arms.iter().any(|other| same(&other))
    };
    let mut groups: BTreeMap<_, Vec<&Arm<'_>>> = BTreeMap::new();
    for arm in summary.arms.iter().filter(|arm| is_wide(arm) && has_usual_width(arm)) {
        groups.entry(key(arm)).or_default().push(arm);
    }
    let mean = |arm: &Arm<'_>| arm.headline(name).and_then(|row| row.summary.mean);
    let mut kept: Vec<&FitIdentity> = Vec::new();
    for arms in groups.values() {
        let last = arms.iter().filter_map(|arm| arm.identity.layer).max();
        let best = arms.iter().filter_map(|arm| mean(arm)).fold(f64::NEG_INFINITY, f64::max);
        let is_kept = |arm: &&&Arm<'_>| {
            let layer = arm.identity.layer;
            arms.len() < SCAN_MIN
                || layer == last
                || layer == Some(CHOSEN)
                || mean(arm) == Some(best)
        };
        kept.extend(arms.iter().filter(is_kept).map(|arm| arm.identity));
    }
    let is_kept =
        |arm: &&Arm<'_>| kept.iter().any(|identity| std::ptr::eq(*identity, arm.identity));
    summary.arms.iter().filter(is_kept).collect()
}

/// Boxes or violins over repeats, the published spread below each.
fn over_repeats(
    view: &View<'_>,
    (dataset, summary): (&DatasetView<'_>, &DatasetSummary<'_>),
    name: &str,
) -> Option<Figure> {
    let arms = headline_arms(summary, name);
    let probes = names(arms.iter().map(|arm| arm.identity.probe.as_str()));
    let row = |arm: &&Arm<'_>| {
        let values: Vec<f64> = arm.headline(name)?.values.iter().copied().flatten().collect();
        let published = counterpart(view, dataset, arm.identity, name).map(|row| {
            let around = row.deviation.map(|sd| (row.value - sd, row.value + sd));
            (row.value, row.quartiles.or(around))
        });
        let colour = probes.iter().position(|probe| *probe == arm.identity.probe).unwrap_or(0);
        let (label, number) = (arm.label.clone(), arm.headline(name)?.median()?);
        Some(Spread { label, values, number, colour, published })
    };
    let mut rows: Vec<Spread> = arms.iter().filter_map(row).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by(|a, b| b.number.total_cmp(&a.number));
    let all = rows.len();
    rows.truncate(BARS_MAX);
    let title = format!("{} over repeats on {}", statistic_title(name), dataset.name);
    let mut caption = format!(
        "{title}, test split: boxes from the first to the third quartile, whiskers to the last value within 1.5 times \
         that range, violins from ten repeats on, points up to ten; the number is the median. One colour per probe."
    );
    if rows.iter().any(|row| row.published.is_some()) {
        caption.push_str(
            " Below, diamonds: the published value, in grey its quartiles or one standard deviation.",
        );
    }
    if all > rows.len() {
        caption.push_str(&format!(" The best {} of {all} are shown.", rows.len()));
    }
    let svg = spreads::draw(&rows, &title, statistic_title(name));
    Some(Figure { name: "repeats".to_owned(), caption, svg, wide: true })
}

/// The published value of the same arm for a figure of statistic `name`.
fn counterpart(
    view: &View<'_>,
    dataset: &DatasetView<'_>,
    identity: &FitIdentity,
    name: &str,
) -> Option<&'static Reference> {
    let last = view.last_layer(identity);
    let is_it = |row: &&&'static Reference| {
        row.statistic == published_name(name) && row.is_counterpart(identity, last)
    };
    let mut rows: Vec<_> = dataset.published.iter().filter(is_it).copied().collect();
    rows.sort_by_key(|row| row.quartiles.is_none());
    rows.first().copied()
}

/// Areas were published over 200 thresholds, which differs in the third decimal from the exact ones.
fn published_name(name: &str) -> &str {
    match name {
        "auroc_exact" => "auroc_keras",
        "aupr" => "aupr_keras",
        other => other,
    }
}

/// Sorted, without repeats.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Letters, digits, `-`, `_` and `.` only.
fn file_stem(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}
