//! Which statistics a task reports, in the order the paper reports them.
//!
//! Leaves out: the fit. Invariant: examples whose target or prediction is NaN are left out of the
//! statistics of that target only; undefined values are left out of means over targets.

use super::bootstrap::{Counted, RESAMPLES, percentiles, resample};
use super::correlation::{PairSums, Ranked, mean};
use super::keras::{KERAS_THRESHOLDS, KerasCounts, bucket};
use super::ranking::{RankedBinary, accuracy_counted, hits};
use super::splicing::{splicing_exons, splicing_tissues};
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::job::Protocol;
use glmeval_common::score::Statistic;

mod effects;

pub use effects::{ScoredVariants, effect_statistics};

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

/// Measured and predicted values of one split.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Names of the targets as the data set has them.
    pub names: &'a [String],
    /// One vector per target, one value per example; NaN = not measured.
    pub targets: &'a [Vec<f64>],
    /// Likewise; probabilities for binary targets. For splicing, those of the differences are enough.
    pub predictions: &'a [Vec<f64>],
}

/// The statistics of every target, the one the paper reports for the task first; the columns are
/// those of [`Scored`].
///
/// With more than one target, the mean over the targets that define a statistic comes first, as
/// target `mean`. For the paper's splicing targets only the differences are scored, on the exons
/// of [`splicing_exons`]. Intervals resample examples, all targets of an example together.
pub fn scores(
    context: &ScoreContext<'_>,
    names: &[String],
    targets: &[Vec<f64>],
    predictions: &[Vec<f64>],
) -> Vec<Statistic> {
    let scored = Scored { names, targets, predictions };
    let Some(sample) = Sample::new(context, &scored) else { return Vec::new() };
    let mut rows = Vec::new();
    let mut means = Means::default();
    for (target, name) in sample.names.iter().enumerate() {
        let of_target = sample.evaluate(context, target, None, RESAMPLES);
        means.add(&of_target);
        for (s, name_of_statistic) in of_target.names.iter().enumerate() {
            let series = of_target.series(s);
            let values = (of_target.once[s], interval(series, of_target.examples));
            rows.push(row(context, name_of_statistic, name, values, of_target.examples));
        }
    }
    if sample.names.len() > 1 {
        let examples = sample.examples;
        let mean_rows = means.names.iter().enumerate().map(|(s, name)| {
            let values = (means.value(s), interval(means.series(s), examples));
            row(context, name, MEAN_TARGET, values, examples)
        });
        rows.splice(0..0, mean_rows.collect::<Vec<_>>());
    }
    rows
}

/// A statistic on resamples of the examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    /// As [`scores`] names it.
    pub name: &'static str,
    /// On the examples themselves.
    pub value: Option<f64>,
    /// One per resample.
    pub series: Vec<Option<f64>>,
}

/// Those of the statistics `names` that the task has, as they stand for a fit: of its target, or the
/// mean over several.
///
/// Resample b is the same for all fits with as many examples and the same seed.
pub fn resampled(
    context: &ScoreContext<'_>,
    scored: &Scored<'_>,
    names: &[&str],
    resamples: usize,
) -> Vec<Resampled> {
    let Some(sample) = Sample::new(context, scored) else { return Vec::new() };
    let mut means = Means::default();
    for target in 0..sample.names.len() {
        means.add(&sample.evaluate(context, target, Some(names), resamples));
    }
    let one = |(s, name): (usize, &&'static str)| Resampled {
        name,
        value: means.value(s),
        series: means.series(s).collect(),
    };
    means.names.iter().enumerate().map(one).collect()
}

fn row(
    context: &ScoreContext<'_>,
    name: &str,
    target: &str,
    (value, bounds): (Option<f64>, Option<(f64, f64)>),
    examples: usize,
) -> Statistic {
    let bounds = value.and(bounds);
    Statistic {
        name: name.to_owned(),
        split: context.split.name().to_owned(),
        target: target.to_owned(),
        value,
        low: bounds.map(|(low, _)| low),
        high: bounds.map(|(_, high)| high),
        examples: examples as u64,
    }
}

fn interval(series: impl Iterator<Item = Option<f64>>, examples: usize) -> Option<(f64, f64)> {
    let values: Vec<f64> = series.flatten().collect();
    if examples < 2 { None } else { percentiles(values, RESAMPLES) }
}

/// The targets and examples that are scored.
struct Sample<'a> {
    names: &'a [String],
    targets: Vec<Vec<f64>>,
    predictions: Vec<Vec<f64>>,
    examples: usize,
}

impl<'a> Sample<'a> {
    /// `None` without targets or with columns of unequal length.
    fn new(context: &ScoreContext<'_>, scored: &Scored<'a>) -> Option<Self> {
        let examples = scored.targets.first()?.len();
        let columns = || scored.targets.iter().chain(scored.predictions);
        if columns().any(|column| column.len() != examples) {
            return None;
        }
        if context.task == TaskName::Splicing
            && let Some(tissues) = splicing_tissues(scored.names)
        {
            let (differences, means) = scored.targets.split_at_checked(tissues)?;
            let exons = splicing_exons(differences, means);
            let select = |columns: &[Vec<f64>]| -> Vec<Vec<f64>> {
                let pick = |column: &Vec<f64>| exons.iter().map(|&exon| column[exon]).collect();
                columns.iter().take(tissues).map(pick).collect()
            };
            return Some(Self {
                names: scored.names.get(..tissues)?,
                targets: select(differences),
                predictions: select(scored.predictions),
                examples: exons.len(),
            });
        }
        Some(Self {
            names: scored.names,
            targets: scored.targets.to_vec(),
            predictions: scored.predictions.to_vec(),
            examples,
        })
    }

    /// The statistics of one target, or those of `only`.
    fn evaluate(
        &self,
        context: &ScoreContext<'_>,
        target: usize,
        only: Option<&[&str]>,
        resamples: usize,
    ) -> OfTarget {
        let empty = Vec::new();
        let (targets, predictions) = (
            self.targets.get(target).unwrap_or(&empty),
            self.predictions.get(target).unwrap_or(&empty),
        );
        let complete = |i: &usize| targets[*i].is_finite() && predictions[*i].is_finite();
        let kept: Vec<usize> = (0..targets.len().min(predictions.len())).filter(complete).collect();
        let pick = |column: &[f64]| -> Vec<f64> { kept.iter().map(|&i| column[i]).collect() };
        let (targets, predictions) = (pick(targets), pick(predictions));
        let mut named = statistics(context, &targets, &predictions);
        named.retain(|(name, _)| only.is_none_or(|only| only.contains(name)));
        let (names, functions): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let at = |counts: &[u32]| -> Vec<Option<f64>> {
            functions.iter().map(|function| function(counts)).collect()
        };
        let once = at(&vec![1; kept.len()]);
        let rows = resample((self.examples, resamples), context.seed, |counts| {
            at(&kept.iter().map(|&i| counts[i]).collect::<Vec<u32>>())
        });
        OfTarget { examples: kept.len(), names, once, rows }
    }
}

/// The statistics of one target.
struct OfTarget {
    examples: usize,
    names: Vec<&'static str>,
    once: Vec<Option<f64>>,
    /// By resample, then statistic.
    rows: Vec<Vec<Option<f64>>>,
}

impl OfTarget {
    fn series(&self, statistic: usize) -> impl Iterator<Item = Option<f64>> {
        self.rows.iter().map(move |row| row.get(statistic).copied().flatten())
    }
}

/// Sums over the targets that define a statistic, as they come; what is held does not grow with
/// the number of targets.
#[derive(Default)]
struct Means {
    names: Vec<&'static str>,
    /// By statistic.
    once: Vec<Vec<f64>>,
    /// By statistic, then resample: sum and number.
    sums: Vec<Vec<(f64, u32)>>,
}

impl Means {
    /// Targets that do not define a statistic on the examples themselves count in none of its resamples.
    fn add(&mut self, of_target: &OfTarget) {
        if self.names.is_empty() {
            self.names.clone_from(&of_target.names);
            self.once = vec![Vec::new(); self.names.len()];
            self.sums = vec![vec![(0.0, 0); of_target.rows.len()]; self.names.len()];
        }
        for (s, (once, sums)) in self.once.iter_mut().zip(&mut self.sums).enumerate() {
            let Some(value) = of_target.once.get(s).copied().flatten() else { continue };
            once.push(value);
            for (sum, value) in sums.iter_mut().zip(of_target.series(s)) {
                if let Some(value) = value {
                    *sum = (sum.0 + value, sum.1 + 1);
                }
            }
        }
    }

    fn value(&self, statistic: usize) -> Option<f64> {
        let values = self.once.get(statistic)?;
        (!values.is_empty()).then(|| mean(values))
    }

    /// Undefined where one of the targets is: means over other targets are no resamples of this one.
    fn series(&self, statistic: usize) -> impl Iterator<Item = Option<f64>> {
        let sums = self.sums.get(statistic).map_or(&[][..], Vec::as_slice);
        let targets = self.once.get(statistic).map_or(0, Vec::len);
        let is_whole = move |count: u32| count > 0 && count as usize == targets;
        sums.iter().map(move |&(sum, count)| is_whole(count).then(|| sum / f64::from(count)))
    }
}

/// The statistic by which fits of `task` are compared: the paper's, but from probabilities even
/// where the published logistic rows take hard labels, so that every two probes share it.
pub fn compared_statistic(task: TaskName) -> &'static str {
    primary_statistic(task, Protocol::Corrected, "")
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
    protocol == Protocol::Published && is_logistic(probe)
}

/// Whether a probe's label, its kind before what differs from the paper's, is that of logistic regression.
pub fn is_logistic(label: &str) -> bool {
    label.split(',').next() == Some("logistic")
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
    // An area says nothing where one class is missing, though Keras makes it zero.
    let area = |area: Counted<'a>| -> Counted<'a> {
        Box::new(move |counts| if is_mixed(targets, counts) { area(counts) } else { None })
    };
    let hits = hits(targets, predictions);
    let accuracy: Named<'a> = ("accuracy", Box::new(move |counts| accuracy_counted(&hits, counts)));
    let ranked = || RankedBinary::new(targets, predictions);
    let (roc, precision) = (ranked(), ranked());
    let exact: [Named<'a>; 2] = [
        ("auroc_exact", area(Box::new(move |counts| roc.auroc(counts)))),
        ("aupr", area(Box::new(move |counts| precision.average_precision(counts)))),
    ];
    let mut named: Vec<Named<'a>> = Vec::new();
    if hard {
        let (roc, precision) =
            (RankedBinary::new(targets, &labels), RankedBinary::new(targets, &labels));
        named.push(("auroc_hard", area(Box::new(move |counts| roc.auroc(counts)))));
        let precision = move |counts: &[u32]| precision.average_precision(counts);
        named.push(("aupr_hard", area(Box::new(precision))));
        named.push(accuracy);
        named.extend(exact);
    } else {
        named.extend(exact);
        named.push(accuracy);
    }
    let buckets: Vec<usize> =
        predictions.iter().map(|&score| bucket(score, KERAS_THRESHOLDS)).collect();
    let of_curve = buckets.clone();
    let keras = move |buckets: &[usize], counts: &[u32]| {
        let mut sums = KerasCounts::empty(KERAS_THRESHOLDS);
        for ((&count, &bucket), &target) in counts.iter().zip(buckets).zip(targets) {
            sums.add(target > 0.5, bucket, f64::from(count));
        }
        sums
    };
    named.push(("auroc_keras", area(Box::new(move |counts| keras(&buckets, counts).roc()))));
    let precision = move |counts: &[u32]| keras(&of_curve, counts).precision_recall();
    named.push(("aupr_keras", area(Box::new(precision))));
    named
}

/// Whether both classes are among the examples that count.
fn is_mixed(targets: &[f64], counts: &[u32]) -> bool {
    let has = |class: bool| {
        targets.iter().zip(counts).any(|(&target, &count)| count > 0 && (target > 0.5) == class)
    };
    has(true) && has(false)
}

#[cfg(test)]
mod tests;
