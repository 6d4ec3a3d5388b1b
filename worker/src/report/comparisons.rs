//! Every two arms of a data set compared on the same test examples.
//!
//! Leaves out: the tests themselves (statistics). Invariant: the family that a p-value is corrected
//! for is all comparisons of a task in the job; A and B are in the order of the fits, so no sign is
//! chosen after looking.

mod precisions;

use super::needed::ARMS_MAX;
use super::summary::{Arm, Summaries, context, is_whole, scored};
use super::tables::Table;
use super::view::{DatasetView, View};
use super::{FitResult, Predictions};
use crate::statistics::{
    Alternative, MannWhitney, PairedDifference, benjamini_hochberg, compared_statistic, holm,
    mann_whitney, mean_over_repeats, paired_difference, resampled,
};
use glmeval_common::dataset::TaskName;
use glmeval_common::digest::sha256_hex;
use glmeval_common::score::FitIdentity;
use std::collections::BTreeMap;

pub use precisions::{Closeness, PairCloseness, PrecisionPair, precision_pairs};
pub(super) use precisions::{PrecisionRow, precision_rows, precisions_table};

/// Resamples at most and at least; the smallest p-value is 2 / (resamples + 1).
const RESAMPLES_MAX: usize = 9_999;
const RESAMPLES_MIN: usize = 999;
/// Predictions looked at for all data sets together, unless the least resamples take more: some
/// seconds of one core.
const LOOKS_MAX: usize = 200_000_000;

/// One comparison.
pub(super) struct Comparison<'a> {
    pub(super) a: &'a FitIdentity,
    pub(super) b: &'a FitIdentity,
    pub(super) labels: (String, String),
    pub(super) statistic: &'static str,
    /// Mean over A's repeats less mean over B's.
    pub(super) difference: f64,
    pub(super) paired: PairedDifference,
    pub(super) p_holm: f64,
    pub(super) p_benjamini_hochberg: f64,
    pub(super) examples: u64,
    pub(super) repeats: (usize, usize),
    /// Mann-Whitney over the repeats: two-sided, and A greater; `None` below two on a side.
    pub(super) repeats_test: Option<(MannWhitney, f64)>,
}

/// The comparisons of one data set.
#[derive(Default)]
pub(super) struct DatasetComparisons<'a> {
    pub(super) rows: Vec<Comparison<'a>>,
    /// What was left out and why.
    pub(super) notes: Vec<String>,
}

/// The comparisons of every data set, in the order of the view.
pub(super) struct Comparisons<'a> {
    pub(super) datasets: Vec<DatasetComparisons<'a>>,
}

/// An arm with its values on the resamples.
struct Contender<'a> {
    identity: &'a FitIdentity,
    label: String,
    /// Scored examples.
    examples: u64,
    /// One per repeat.
    values: Vec<f64>,
    fits: Vec<&'a FitResult>,
    series: Vec<Option<f64>>,
}

impl<'a> Comparisons<'a> {
    pub(super) fn new(view: &View<'a>, summaries: &Summaries<'a>) -> Self {
        let mut datasets: Vec<DatasetComparisons<'a>> = (view.datasets.iter())
            .zip(&summaries.datasets)
            .map(|(dataset, summary)| compare(view, dataset, &summary.arms))
            .collect();
        for (task, _) in TaskName::ALL {
            let mut family: Vec<&mut Comparison<'_>> = (view.datasets.iter())
                .zip(&mut datasets)
                .filter(|(dataset, _)| dataset.task == task)
                .flat_map(|(_, of_dataset)| &mut of_dataset.rows)
                .collect();
            let p: Vec<f64> = family.iter().map(|row| row.paired.p).collect();
            let corrected = holm(&p).into_iter().zip(benjamini_hochberg(&p));
            for (row, (holm, benjamini_hochberg)) in family.iter_mut().zip(corrected) {
                row.p_holm = holm;
                row.p_benjamini_hochberg = benjamini_hochberg;
            }
        }
        Self { datasets }
    }

    /// One row per comparison.
    pub(super) fn table(&self, view: &View<'_>) -> Table {
        let rows: Vec<&Comparison<'_>> = self.datasets.iter().flat_map(|d| &d.rows).collect();
        let (rows, job) = (&rows, view.plan.job.to_string());
        Table::new("comparisons")
            .text("job", rows, |_| Some(job.clone()))
            .text("task", rows, |row| Some(row.a.task.clone()))
            .text("dataset", rows, |row| Some(row.a.dataset.clone()))
            .text("statistic", rows, |row| Some(row.statistic.to_owned()))
            .real("fraction", rows, |row| Some(row.a.fraction))
            .text("a", rows, |row| Some(row.labels.0.clone()))
            .text("model_a", rows, |row| row.a.model.clone())
            .small("layer_a", rows, |row| row.a.layer)
            .text("representation_a", rows, |row| Some(row.a.representation.clone()))
            .text("probe_a", rows, |row| Some(row.a.probe.clone()))
            .real("factor_a", rows, |row| Some(row.a.factor))
            .text("b", rows, |row| Some(row.labels.1.clone()))
            .text("model_b", rows, |row| row.b.model.clone())
            .small("layer_b", rows, |row| row.b.layer)
            .text("representation_b", rows, |row| Some(row.b.representation.clone()))
            .text("probe_b", rows, |row| Some(row.b.probe.clone()))
            .real("factor_b", rows, |row| Some(row.b.factor))
            .real("difference", rows, |row| Some(row.difference))
            .real("low", rows, |row| row.paired.interval.map(|(low, _)| low))
            .real("high", rows, |row| row.paired.interval.map(|(_, high)| high))
            .real("p", rows, |row| Some(row.paired.p))
            .real("p_holm", rows, |row| Some(row.p_holm))
            .real("p_bh", rows, |row| Some(row.p_benjamini_hochberg))
            .large("resamples", rows, |row| row.paired.resamples as u64)
            .large("examples", rows, |row| row.examples)
            .large("repeats_a", rows, |row| row.repeats.0 as u64)
            .large("repeats_b", rows, |row| row.repeats.1 as u64)
            .real("u_repeats", rows, |row| row.repeats_test.map(|(test, _)| test.u))
            .real("p_repeats", rows, |row| row.repeats_test.map(|(test, _)| test.p))
            .real("p_repeats_greater", rows, |row| row.repeats_test.map(|(_, greater)| greater))
    }
}

fn compare<'a>(
    view: &View<'a>,
    dataset: &DatasetView<'a>,
    arms: &[Arm<'a>],
) -> DatasetComparisons<'a> {
    let mut result = DatasetComparisons::default();
    // Scores of variants have signs of their own; what was published is held against them one by one.
    if dataset.task == TaskName::VariantEffect {
        return result;
    }
    let statistic = compared_statistic(dataset.task);
    let arms = best(arms, statistic, &mut result.notes);
    let mut contenders = contenders(dataset, &arms, statistic, &mut result.notes);
    if contenders.len() < 2 {
        return result;
    }
    let targets = |fit: &FitResult| fit.predictions.targets.len() * fit.predictions.ids.len();
    let looks: usize = contenders.iter().flat_map(|c| &c.fits).map(|fit| targets(fit)).sum();
    let resamples =
        (LOOKS_MAX / view.datasets.len().max(1) / looks.max(1)).clamp(RESAMPLES_MIN, RESAMPLES_MAX);
    for contender in &mut contenders {
        let mut series = Vec::new();
        contender.fits.retain(|fit| {
            let context = context(dataset, fit, view.plan.seed);
            let mut found = resampled(&context, &scored(fit), &[statistic], resamples);
            let Some((of_fit, value)) = found.pop().and_then(|one| Some((one.series, one.value?)))
            else {
                return false;
            };
            contender.values.push(value);
            series.push(of_fit);
            true
        });
        contender.series = mean_over_repeats(&series);
    }
    for (i, a) in contenders.iter().enumerate() {
        for b in contenders.iter().skip(i + 1) {
            result.rows.extend(comparison(a, b, statistic));
        }
    }
    result
}

fn comparison<'a>(
    a: &Contender<'a>,
    b: &Contender<'a>,
    statistic: &'static str,
) -> Option<Comparison<'a>> {
    let paired = paired_difference(&a.series, &b.series)?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let test = |alternative| mann_whitney(&a.values, &b.values, alternative);
    let repeats = (a.values.len(), b.values.len());
    let repeats_test = (repeats.0.min(repeats.1) > 1)
        .then(|| test(Alternative::TwoSided).zip(test(Alternative::Greater)))
        .flatten();
    Some(Comparison {
        a: a.identity,
        b: b.identity,
        labels: (a.label.clone(), b.label.clone()),
        statistic,
        difference: mean(&a.values) - mean(&b.values),
        paired,
        p_holm: paired.p,
        p_benjamini_hochberg: paired.p,
        examples: a.examples,
        repeats,
        repeats_test: repeats_test.map(|(both, greater)| (both, greater.p)),
    })
}

/// The arms on the largest fraction of the training split with the best means, in their order.
fn best<'a, 'b>(arms: &'b [Arm<'a>], statistic: &str, notes: &mut Vec<String>) -> Vec<&'b Arm<'a>> {
    let fraction = arms.iter().map(|arm| arm.identity.fraction).fold(0.0, f64::max);
    let mut means: Vec<(usize, f64)> = arms
        .iter()
        .enumerate()
        .filter(|(_, arm)| arm.identity.fraction == fraction)
        .filter_map(|(i, arm)| Some((i, arm.headline(statistic)?.summary.mean?)))
        .collect();
    let on_all = arms.iter().filter(|arm| arm.identity.fraction == fraction).count();
    if means.len() < on_all {
        let missing = on_all - means.len();
        notes.push(format!("{missing} of {on_all} have no value and are not compared"));
    }
    if means.len() > ARMS_MAX {
        notes.push(format!("only the best {ARMS_MAX} of {} are compared", means.len()));
    }
    means.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    means.truncate(ARMS_MAX);
    means.sort_by_key(|(i, _)| *i);
    means.iter().filter_map(|(i, _)| arms.get(*i)).collect()
}

/// Arms whose repeats were scored on the examples and measured values that most arms share.
fn contenders<'a>(
    dataset: &DatasetView<'_>,
    arms: &[&Arm<'a>],
    statistic: &str,
    notes: &mut Vec<String>,
) -> Vec<Contender<'a>> {
    let mut shared: BTreeMap<String, usize> = BTreeMap::new();
    let mut digests: Vec<Vec<Option<String>>> = Vec::new();
    for arm in arms {
        let digest = |fit: &&FitResult| is_whole(dataset, fit).then(|| examples_digest(fit));
        let of_arm: Vec<Option<String>> = arm.fits.iter().map(digest).collect();
        if let Some(first) = of_arm.iter().flatten().next() {
            *shared.entry(first.clone()).or_insert(0) += 1;
        }
        digests.push(of_arm);
    }
    let reference = shared.into_iter().max_by_key(|(_, arms)| *arms).map(|(digest, _)| digest);
    let mut contenders = Vec::new();
    for (arm, digests) in arms.iter().zip(digests) {
        let fits: Vec<&FitResult> = (arm.fits.iter().zip(digests))
            .filter(|(_, digest)| digest.is_some() && *digest == reference)
            .map(|(fit, _)| *fit)
            .collect();
        let left_out = arm.fits.len() - fits.len();
        if left_out > 0 {
            notes.push(format!(
                "{}: {left_out} of {} fits lack predictions on the same examples and are not compared",
                arm.label,
                arm.fits.len()
            ));
        }
        if !fits.is_empty() {
            let (identity, label) = (arm.identity, arm.label.clone());
            contenders.push(Contender {
                identity,
                label,
                examples: arm.headline(statistic).map_or(0, |row| row.examples),
                values: Vec::new(),
                fits,
                series: Vec::new(),
            });
        }
    }
    contenders
}

/// Digest of ids, target names and measured values.
fn examples_digest(fit: &FitResult) -> String {
    let Predictions { ids, target_names, targets, .. } = &fit.predictions;
    let mut bytes = Vec::new();
    for text in ids.iter().chain(target_names) {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend(targets.iter().flatten().flat_map(|value| value.to_bits().to_le_bytes()));
    sha256_hex(&bytes)
}
