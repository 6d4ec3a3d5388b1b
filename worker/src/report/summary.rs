//! Repeats of one probe on one input gathered into an arm, and each statistic over them.
//!
//! Leaves out: comparing arms (comparisons). Invariant: a repeat without a value is counted, never
//! averaged; arms are in the order of the fits.

use super::FitResult;
use super::tables::Table;
use super::view::{DatasetView, View, arm_label, headline, paper_statistic};
use crate::statistics::{
    RESAMPLES, RepeatSummary, Resampled, ScoreContext, Scored, compared_statistic, resampled,
    splicing_tissues, two_level_interval,
};
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::job::Protocol;
use glmeval_common::score::{FitIdentity, Statistic};

/// Examples drawn for the intervals over repeats of all data sets, and resamples at least: these are the
/// costliest numbers of a report, and their ends are shown with three digits.
const DRAWS_MAX: usize = 100_000_000;
const RESAMPLES_MIN: usize = 200;

/// Fits that differ in their repeat only.
pub(super) struct Arm<'a> {
    pub(super) identity: &'a FitIdentity,
    pub(super) label: String,
    pub(super) fits: Vec<&'a FitResult>,
    /// Every statistic of the first fit, over the repeats.
    pub(super) rows: Vec<ArmStatistic<'a>>,
}

/// One statistic of an arm.
pub(super) struct ArmStatistic<'a> {
    /// Name, split and target, as the first repeat has them.
    pub(super) of: &'a Statistic,
    /// One per repeat; `None` where undefined.
    pub(super) values: Vec<Option<f64>>,
    pub(super) summary: RepeatSummary,
    /// 95 % over repeats and examples.
    pub(super) interval: Option<(f64, f64)>,
    /// Most examples any repeat was scored on.
    pub(super) examples: u64,
}

/// The arms of one data set.
pub(super) struct DatasetSummary<'a> {
    pub(super) arms: Vec<Arm<'a>>,
}

/// The arms of every data set, in the order of the view.
pub(super) struct Summaries<'a> {
    pub(super) datasets: Vec<DatasetSummary<'a>>,
}

/// What decides the statistics of `fit`, as the fit itself had it.
pub(super) fn context<'a>(
    dataset: &DatasetView<'_>,
    fit: &'a FitResult,
    seed: u64,
) -> ScoreContext<'a> {
    let identity = &fit.scores.identity;
    let corrected = identity.protocol == Protocol::Corrected.name();
    ScoreContext {
        task: dataset.task,
        protocol: if corrected { Protocol::Corrected } else { Protocol::Published },
        probe: &identity.probe,
        split: Split::Test,
        seed,
    }
}

/// The predictions of `fit` as statistics take them.
pub(super) fn scored(fit: &FitResult) -> Scored<'_> {
    let of = &fit.predictions;
    Scored { names: &of.target_names, targets: &of.targets, predictions: &of.predictions }
}

/// Whether the predictions are there, and for splicing the means that its filter needs.
pub(super) fn is_whole(dataset: &DatasetView<'_>, fit: &FitResult) -> bool {
    let names = &fit.predictions.target_names;
    let needs_means = dataset.task == TaskName::Splicing
        && names.first().is_some_and(|name| name == "delta_0")
        && splicing_tissues(names).is_none();
    !fit.predictions.ids.is_empty() && !needs_means
}

impl<'a> Summaries<'a> {
    pub(super) fn new(view: &View<'a>) -> Self {
        let datasets = view.datasets.iter().map(|dataset| {
            let mut arms: Vec<Arm<'a>> = Vec::new();
            for &fit in &dataset.fits {
                let identity = &fit.scores.identity;
                // Fits are sorted with the repeat last, so those of an arm are neighbours.
                match arms.last_mut() {
                    Some(arm) if is_same_arm(arm.identity, identity) => arm.fits.push(fit),
                    _ => arms.push(Arm {
                        identity,
                        label: arm_label(identity),
                        fits: vec![fit],
                        rows: Vec::new(),
                    }),
                }
            }
            let resamples = resamples(view, dataset, &arms);
            for arm in &mut arms {
                arm.rows = statistics(view, dataset, &arm.fits, resamples);
            }
            DatasetSummary { arms }
        });
        Self { datasets: datasets.collect() }
    }

    /// One row per statistic of each arm.
    pub(super) fn table(&self, view: &View<'_>) -> Table {
        let arms = self.datasets.iter().flat_map(|dataset| dataset.arms.iter());
        let rows: Vec<(&Arm<'_>, &ArmStatistic<'_>)> =
            arms.flat_map(|arm| arm.rows.iter().map(move |row| (arm, row))).collect();
        let (rows, job) = (&rows, view.plan.job.to_string());
        Table::new("summary")
            .text("job", rows, |_| Some(job.clone()))
            .text("task", rows, |(arm, _)| Some(arm.identity.task.clone()))
            .text("dataset", rows, |(arm, _)| Some(arm.identity.dataset.clone()))
            .text("model", rows, |(arm, _)| arm.identity.model.clone())
            .small("layer", rows, |(arm, _)| arm.identity.layer)
            .text("representation", rows, |(arm, _)| Some(arm.identity.representation.clone()))
            .text("probe", rows, |(arm, _)| Some(arm.identity.probe.clone()))
            .real("factor", rows, |(arm, _)| Some(arm.identity.factor))
            .real("fraction", rows, |(arm, _)| Some(arm.identity.fraction))
            .text("trained_on", rows, |(arm, _)| arm.identity.trained_on.clone())
            .text("protocol", rows, |(arm, _)| Some(arm.identity.protocol.clone()))
            .text("split", rows, |(_, row)| Some(row.of.split.clone()))
            .text("target", rows, |(_, row)| Some(row.of.target.clone()))
            .text("statistic", rows, |(_, row)| Some(row.of.name.clone()))
            .real("mean", rows, |(_, row)| row.summary.mean)
            .real("sd", rows, |(_, row)| row.summary.deviation)
            .real("min", rows, |(_, row)| row.summary.min)
            .real("max", rows, |(_, row)| row.summary.max)
            .real("low", rows, |(_, row)| row.interval.map(|(low, _)| low))
            .real("high", rows, |(_, row)| row.interval.map(|(_, high)| high))
            .large("n", rows, |(_, row)| row.summary.repeats as u64)
            .large("undefined", rows, |(_, row)| row.summary.undefined as u64)
            .large("examples", rows, |(_, row)| row.examples)
    }
}

impl<'a> Arm<'a> {
    /// The statistic `name` that stands for the arm, as [`headline`] has it for a fit.
    pub(super) fn headline(&self, name: &str) -> Option<&ArmStatistic<'a>> {
        let first = self.fits.first()?;
        let of = headline(&first.scores).into_iter().find(|s| s.name == name)?;
        self.rows.iter().find(|row| std::ptr::eq(row.of, of))
    }

    /// Whether `row` is of the target and split that stand for the arm.
    pub(super) fn is_headline(&self, row: &ArmStatistic<'_>) -> bool {
        let stands = self.fits.first().map(|fit| headline(&fit.scores)).unwrap_or_default();
        stands.iter().any(|one| std::ptr::eq(*one, row.of))
    }
}

impl ArmStatistic<'_> {
    /// Quartiles over the repeats that define it.
    pub(super) fn quartiles(&self) -> Option<[f64; 3]> {
        quartiles(&self.values.iter().copied().flatten().collect::<Vec<f64>>())
    }

    /// Median over the repeats that define it.
    pub(super) fn median(&self) -> Option<f64> {
        self.quartiles().map(|[_, median, _]| median)
    }
}

/// First quartile, median and third quartile, with linear interpolation between order statistics as
/// numpy and matplotlib have it; `None` without values.
pub(super) fn quartiles(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = |share: f64| {
        let place = share * last as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        let (low, high) = (sorted.get(below).copied()?, sorted.get(above).copied()?);
        Some(low + (high - low) * (place - place.floor()))
    };
    Some([at(0.25)?, at(0.5)?, at(0.75)?])
}

/// Whether two fits differ in their repeat at most.
pub(super) fn is_same_arm(a: &FitIdentity, b: &FitIdentity) -> bool {
    (&a.model_id, &a.model) == (&b.model_id, &b.model) && is_same_but_model(a, b)
}

/// Whether two fits differ in their repeat and their gLM at most.
pub(super) fn is_same_but_model(a: &FitIdentity, b: &FitIdentity) -> bool {
    let text = |identity: &FitIdentity| {
        let FitIdentity { dataset, representation, probe, protocol, .. } = identity;
        [dataset, representation, probe, protocol].map(String::clone)
    };
    let real = |identity: &FitIdentity| (identity.factor.to_bits(), identity.fraction.to_bits());
    a.layer == b.layer
        && real(a) == real(b)
        && (&a.task, &a.dataset_id) == (&b.task, &b.dataset_id)
        && text(a) == text(b)
        && a.trained_on == b.trained_on
}

fn statistics<'a>(
    view: &View<'_>,
    dataset: &DatasetView<'_>,
    fits: &[&'a FitResult],
    resamples: usize,
) -> Vec<ArmStatistic<'a>> {
    let Some(first) = fits.first() else { return Vec::new() };
    let mut stands: Vec<&Statistic> = headline(&first.scores);
    let names =
        [compared_statistic(dataset.task), paper_statistic(dataset.task, &first.scores.identity)];
    stands.retain(|statistic| names.contains(&statistic.name.as_str()));
    let names: Vec<&str> = stands.iter().map(|stands| stands.name.as_str()).collect();
    let repeated =
        if fits.len() > 1 { series(view, dataset, fits, (&names, resamples)) } else { Vec::new() };
    let row = |of: &'a Statistic| {
        let same =
            |s: &&Statistic| s.name == of.name && s.target == of.target && s.split == of.split;
        let found: Vec<Option<&Statistic>> =
            fits.iter().map(|fit| fit.scores.statistics.iter().find(same)).collect();
        let values: Vec<Option<f64>> = found.iter().map(|s| s.and_then(|s| s.value)).collect();
        let interval = if fits.len() == 1 {
            of.low.zip(of.high)
        } else if stands.iter().any(|stands| std::ptr::eq(*stands, of)) {
            let with_value = repeated.iter().flatten().filter(|one| one.name == of.name);
            let series: Vec<&[Option<f64>]> = with_value
                .filter(|one| one.value.is_some())
                .map(|one| one.series.as_slice())
                .collect();
            two_level_interval(&series, view.plan.seed)
        } else {
            None
        };
        let examples = found.iter().flatten().map(|s| s.examples).max().unwrap_or(0);
        ArmStatistic { of, summary: RepeatSummary::new(&values), values, interval, examples }
    };
    first.scores.statistics.iter().map(row).collect()
}

/// As many resamples as the repeated arms of the data set can afford.
fn resamples(view: &View<'_>, dataset: &DatasetView<'_>, arms: &[Arm<'_>]) -> usize {
    let repeated = arms.iter().filter(|arm| arm.fits.len() > 1).flat_map(|arm| &arm.fits);
    let drawn = |fit: &&FitResult| match dataset.task {
        TaskName::Splicing => fit.predictions.targets.len() * fit.predictions.ids.len() / 8,
        _ => fit.predictions.targets.len() * fit.predictions.ids.len(),
    };
    let draws: usize = repeated.map(drawn).sum();
    (DRAWS_MAX / view.datasets.len().max(1) / draws.max(1)).clamp(RESAMPLES_MIN, RESAMPLES)
}

/// The statistics `names` on resamples of the examples, for each repeat.
fn series(
    view: &View<'_>,
    dataset: &DatasetView<'_>,
    fits: &[&FitResult],
    (names, resamples): (&[&str], usize),
) -> Vec<Vec<Resampled>> {
    let of_fit = |fit: &&FitResult| {
        let context = context(dataset, fit, view.plan.seed);
        resampled(&context, &scored(fit), names, resamples)
    };
    fits.iter().filter(|fit| is_whole(dataset, fit)).map(of_fit).collect()
}
