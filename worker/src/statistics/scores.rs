//! Which statistics a task reports, in the order the paper reports them.
//!
//! Leaves out: the fit. Invariant: examples whose target or prediction is NaN are left out of the
//! statistics of that target only.

use super::bootstrap::{Counted, intervals};
use super::correlation::{PairSums, Ranked, mean};
use super::keras::{KerasCounts, bucket};
use super::ranking::{RankedBinary, accuracy_counted, hits};
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::job::Protocol;
use glmeval_common::score::Statistic;

/// Name of the row that averages a statistic over all targets.
const MEAN_TARGET: &str = "mean";

/// What decides which statistics are computed, and how they are named.
#[derive(Clone, Copy, Debug)]
pub struct ScoreContext<'a> {
    /// Task.
    pub task: TaskName,
    /// Quirks.
    pub protocol: Protocol,
    /// `ridge`, `logistic`, …
    pub probe: &'a str,
    /// Split the predictions were made for.
    pub split: Split,
    /// Root seed; decides the resamples.
    pub seed: u64,
}

/// The statistics of every target, the one the paper reports for the task first.
///
/// `target_names`, `targets` and `predictions` have one entry per target; predictions of binary
/// targets are probabilities. With more than one target, the mean over targets follows each
/// group as target `mean`.
pub fn scores(
    context: &ScoreContext<'_>,
    target_names: &[String],
    targets: &[Vec<f64>],
    predictions: &[Vec<f64>],
) -> Vec<Statistic> {
    let mut rows = Vec::new();
    for ((name, targets), predictions) in target_names.iter().zip(targets).zip(predictions) {
        let complete = |pair: &(f64, f64)| pair.0.is_finite() && pair.1.is_finite();
        let pairs = targets.iter().copied().zip(predictions.iter().copied());
        let (targets, predictions): (Vec<f64>, Vec<f64>) = pairs.filter(complete).unzip();
        let named = statistics(context, &targets, &predictions);
        let (names, functions): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let bounds = intervals(targets.len(), &functions, context.seed);
        let once = vec![1; targets.len()];
        for ((statistic, function), bounds) in names.iter().zip(&functions).zip(bounds) {
            let value = function(&once);
            let bounds = value.and(bounds);
            rows.push(Statistic {
                name: (*statistic).to_owned(),
                split: context.split.name().to_owned(),
                target: name.clone(),
                value,
                low: bounds.map(|(low, _)| low),
                high: bounds.map(|(_, high)| high),
                examples: targets.len() as u64,
            });
        }
    }
    if target_names.len() > 1 {
        let means = means_over_targets(&rows);
        rows.splice(0..0, means);
    }
    rows
}

/// The statistic the paper reports for `task`, as [`scores`] names it.
pub fn primary_statistic(task: TaskName, protocol: Protocol, probe: &str) -> &'static str {
    match task {
        TaskName::Splicing => "spearman",
        TaskName::ChipSeq | TaskName::Eclip | TaskName::Classification => {
            if scores_hard_labels(protocol, probe) { "auroc_hard" } else { "auroc_exact" }
        }
        TaskName::LentiMpra
        | TaskName::VariantEffect
        | TaskName::InsertSeq
        | TaskName::Regression
        | TaskName::None => "pearson",
    }
}

/// The published logistic rows score predicted labels, not probabilities.
fn scores_hard_labels(protocol: Protocol, probe: &str) -> bool {
    protocol == Protocol::Published && probe.starts_with("logistic")
}

type Named<'a> = (&'static str, Counted<'a>);

fn statistics<'a>(
    context: &ScoreContext<'_>,
    targets: &'a [f64],
    predictions: &'a [f64],
) -> Vec<Named<'a>> {
    if context.task.is_binary() {
        let hard = scores_hard_labels(context.protocol, context.probe);
        return binary(targets, predictions, hard);
    }
    let mut named = real(targets, predictions);
    let order: &[&str] = match context.task {
        TaskName::Splicing => &["spearman"],
        TaskName::InsertSeq => &["pearson", "mse"],
        _ => &["pearson"],
    };
    let place = |name: &str| order.iter().position(|first| *first == name).unwrap_or(order.len());
    named.sort_by_key(|(name, _)| place(name));
    named
}

fn real<'a>(targets: &'a [f64], predictions: &'a [f64]) -> Vec<Named<'a>> {
    let origin = (mean(predictions), mean(targets));
    let sums = move |counts: &[u32]| {
        let mut sums = PairSums::new(origin);
        for ((&count, &x), &y) in counts.iter().zip(predictions).zip(targets) {
            sums.add(f64::from(count), x, y);
        }
        sums
    };
    let ranked = Ranked::new(predictions, targets);
    vec![
        ("pearson", Box::new(move |counts| sums(counts).pearson())),
        ("spearman", Box::new(move |counts| ranked.spearman(counts))),
        ("r2", Box::new(move |counts| sums(counts).r_squared())),
        ("mse", Box::new(move |counts| sums(counts).mean_squared_error())),
    ]
}

fn binary<'a>(targets: &'a [f64], predictions: &'a [f64], hard: bool) -> Vec<Named<'a>> {
    let labels: Vec<f64> = predictions.iter().map(|&p| if p > 0.5 { 1.0 } else { 0.0 }).collect();
    let hits = hits(targets, predictions);
    let accuracy: Named<'a> = ("accuracy", Box::new(move |counts| accuracy_counted(&hits, counts)));
    let ranked = || RankedBinary::new(targets, predictions);
    let (roc, precision) = (ranked(), ranked());
    let exact: [Named<'a>; 2] = [
        ("auroc_exact", Box::new(move |counts| roc.auroc(counts))),
        ("aupr", Box::new(move |counts| precision.average_precision(counts))),
    ];
    let mut named: Vec<Named<'a>> = Vec::new();
    if hard {
        let (roc, precision) =
            (RankedBinary::new(targets, &labels), RankedBinary::new(targets, &labels));
        named.push(("auroc_hard", Box::new(move |counts| roc.auroc(counts))));
        named.push(("aupr_hard", Box::new(move |counts| precision.average_precision(counts))));
        named.push(accuracy);
        named.extend(exact);
    } else {
        named.extend(exact);
        named.push(accuracy);
    }
    let buckets: Vec<usize> = predictions.iter().map(|&score| bucket(score)).collect();
    let of_curve = buckets.clone();
    let keras = move |buckets: &[usize], counts: &[u32]| {
        let mut sums = KerasCounts::default();
        for ((&count, &bucket), &target) in counts.iter().zip(buckets).zip(targets) {
            sums.add(target > 0.5, bucket, f64::from(count));
        }
        sums
    };
    named.push(("auroc_keras", Box::new(move |counts| keras(&buckets, counts).roc())));
    named.push(("aupr_keras", Box::new(move |counts| keras(&of_curve, counts).precision_recall())));
    named
}

/// Unweighted means over the targets that define each statistic, in order of first appearance.
fn means_over_targets(rows: &[Statistic]) -> Vec<Statistic> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let mean_row = |name: &&str| {
        let of_name: Vec<&Statistic> = rows.iter().filter(|row| row.name == **name).collect();
        let values: Vec<f64> = of_name.iter().filter_map(|row| row.value).collect();
        Statistic {
            name: (*name).to_owned(),
            split: of_name.first().map_or(String::new(), |row| row.split.clone()),
            target: MEAN_TARGET.to_owned(),
            value: (!values.is_empty()).then(|| mean(&values)),
            low: None,
            high: None,
            examples: of_name.iter().map(|row| row.examples).max().unwrap_or(0),
        }
    };
    names.iter().map(mean_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(task: TaskName, protocol: Protocol, probe: &str) -> ScoreContext<'_> {
        ScoreContext { task, protocol, probe, split: Split::Test, seed: 1 }
    }

    fn names(rows: &[Statistic]) -> Vec<&str> {
        rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn published_logistic_reports_hard_labels_first() {
        let targets = vec![vec![1.0, 0.0, 1.0, 0.0, 1.0]];
        let predictions = vec![vec![0.9, 0.2, 0.3, 0.4, 0.8]];
        let target = ["bound".to_owned()];
        for (protocol, first) in
            [(Protocol::Published, "auroc_hard"), (Protocol::Corrected, "auroc_exact")]
        {
            let context = context(TaskName::ChipSeq, protocol, "logistic");
            let rows = scores(&context, &target, &targets, &predictions);
            assert_eq!(rows[0].name, first);
            assert_eq!(rows[0].name, primary_statistic(TaskName::ChipSeq, protocol, "logistic"));
            assert!(names(&rows).contains(&"auroc_exact"));
        }
    }

    #[test]
    fn several_targets_open_with_their_mean() {
        let target = ["liver".to_owned(), "lung".to_owned()];
        let targets = vec![vec![1.0, 2.0, f64::NAN, 3.0], vec![3.0, 2.0, 1.0, 0.0]];
        let predictions = vec![vec![1.0, 2.0, 9.0, 3.0], vec![0.0, 1.0, 2.0, 3.0]];
        let context = context(TaskName::Splicing, Protocol::Published, "ridge");
        let rows = scores(&context, &target, &targets, &predictions);
        assert_eq!((rows[0].name.as_str(), rows[0].target.as_str()), ("spearman", "mean"));
        assert_eq!(rows[0].value, Some(0.0));
        let lung = rows.iter().find(|row| row.target == "lung" && row.name == "spearman").unwrap();
        assert_eq!((lung.value, lung.examples), (Some(-1.0), 4));
    }

    #[test]
    fn undefined_statistics_are_none() {
        let context = context(TaskName::Eclip, Protocol::Corrected, "logistic");
        let rows = scores(&context, &["y".to_owned()], &[vec![1.0; 4]], &[vec![0.5; 4]]);
        assert_eq!(rows[0].value, None);
        assert_eq!(rows[0].low, None);
    }
}
