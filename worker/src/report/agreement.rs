//! Every score beside the published one: difference, tolerance and verdict.
//!
//! Leaves out: order between inputs (orderings), how it is shown (page). Invariant: a verdict is passed
//! only on the published examples, as far as their number tells; what has no counterpart is said to
//! have none.

mod orderings;
mod repeats;
mod tolerance;

use super::published::{self, ALL_DATASETS, Center, Reference};
use super::summary::{Arm, ArmStatistic, Summaries};
use super::tables::Table;
use super::view::{DatasetView, View, paper_statistic};
use glmeval_common::dataset::TaskName;
use glmeval_common::score::FitIdentity;

pub(super) use orderings::{Ordering, Outcome, orderings, orderings_table};
pub(super) use repeats::{RepeatsTest, repeats_tests};
pub(super) use tolerance::tolerance;

/// What comes of setting a score beside the published one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Within the tolerance.
    Agrees,
    /// Beyond it.
    Differs,
    /// There is a published value, but of other examples.
    OtherExamples,
    /// The statistic is undefined here.
    Undefined,
    /// Nothing was published for this.
    NoReference,
}

impl Verdict {
    pub(super) const ALL: [Self; 5] =
        [Self::Agrees, Self::Differs, Self::OtherExamples, Self::Undefined, Self::NoReference];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::OtherExamples => "other examples",
            Self::Undefined => "undefined",
            Self::NoReference => "no reference",
        }
    }
}

/// One statistic of one arm, or of its mean over the ten data sets of a binding task.
#[derive(Clone, Debug)]
pub(super) struct Score<'a> {
    pub(super) task: TaskName,
    /// As the job names it, or `mean`.
    pub(super) dataset: &'a str,
    pub(super) identity: &'a FitIdentity,
    pub(super) statistic: &'a str,
    pub(super) target: &'a str,
    /// What `obtained` is over repeats.
    pub(super) of: Center,
    pub(super) obtained: Option<f64>,
    pub(super) deviation: Option<f64>,
    pub(super) repeats: u64,
    pub(super) examples: u64,
    pub(super) reference: Option<&'static Reference>,
    pub(super) verdict: Verdict,
    /// Whether it is what the paper reports; other statistics are not counted.
    pub(super) is_primary: bool,
}

impl Score<'_> {
    /// Obtained less published.
    pub(super) fn difference(&self) -> Option<f64> {
        Some(self.obtained? - self.reference?.value)
    }

    pub(super) fn tolerance(&self) -> Option<f64> {
        self.reference.map(tolerance)
    }
}

/// All scores of a job beside the published ones.
pub(super) struct Agreement<'a> {
    /// In the order of the view; means over data sets come last of their task.
    pub(super) scores: Vec<Score<'a>>,
    pub(super) orderings: Vec<Ordering>,
    pub(super) tests: Vec<RepeatsTest>,
}

impl<'a> Agreement<'a> {
    pub(super) fn new(view: &View<'a>, summaries: &'a Summaries<'a>) -> Self {
        let mut scores = Vec::new();
        for (dataset, summary) in view.datasets.iter().zip(&summaries.datasets) {
            for arm in &summary.arms {
                scores.extend(of_arm(view, dataset, arm));
            }
        }
        for task in [TaskName::ChipSeq, TaskName::Eclip] {
            let means = means_over_datasets(&scores, task);
            scores.extend(means);
        }
        let orderings = orderings(&scores);
        let tests = repeats_tests(&scores, summaries);
        Self { scores, orderings, tests }
    }

    /// How many primary scores of a task have each verdict, in the order of [`Verdict::ALL`].
    pub(super) fn counts(&self, task: TaskName) -> [usize; 5] {
        let of_task = |score: &&Score<'_>| score.task == task && score.is_primary;
        Verdict::ALL.map(|verdict| {
            self.scores.iter().filter(of_task).filter(|score| score.verdict == verdict).count()
        })
    }

    /// Published values of the paper's statistic that no fit of the job is the counterpart of.
    pub(super) fn without_fit(&self, task: TaskName) -> usize {
        let is_used = |row: &&Reference| {
            self.scores.iter().filter_map(|score| score.reference).any(|used| same(used, row))
        };
        let all = published::references().iter().filter(|row| row.task == task.name());
        all.filter(|row| is_primary(row)).filter(|row| !is_used(row)).count()
    }

    /// One row per statistic of each arm that has a published value or is the paper's.
    pub(super) fn table(&self, view: &View<'_>) -> Table {
        let (rows, job) = (&self.scores[..], view.plan.job.to_string());
        fn of<T>(score: &Score<'_>, get: impl Fn(&'static Reference) -> T) -> Option<T> {
            score.reference.map(get)
        }
        Table::new("agreement")
            .text("job", rows, |_| Some(job.clone()))
            .text("task", rows, |row| Some(row.task.name().to_owned()))
            .text("dataset", rows, |row| Some(row.dataset.to_owned()))
            .text("model", rows, |row| row.identity.model.clone())
            .small("layer", rows, |row| row.identity.layer)
            .text("representation", rows, |row| Some(row.identity.representation.clone()))
            .text("probe", rows, |row| Some(row.identity.probe.clone()))
            .real("factor", rows, |row| Some(row.identity.factor))
            .real("fraction", rows, |row| Some(row.identity.fraction))
            .text("trained_on", rows, |row| row.identity.trained_on.clone())
            .text("protocol", rows, |row| Some(row.identity.protocol.clone()))
            .text("target", rows, |row| Some(row.target.to_owned()))
            .text("statistic", rows, |row| Some(row.statistic.to_owned()))
            .text("of", rows, |row| Some(row.of.name().to_owned()))
            .real("obtained", rows, |row| row.obtained)
            .real("obtained_sd", rows, |row| row.deviation)
            .large("obtained_n", rows, |row| row.repeats)
            .large("examples", rows, |row| row.examples)
            .real("published", rows, |row| of(row, |reference| reference.value))
            .real("published_sd", rows, |row| of(row, |reference| reference.deviation)?)
            .small("published_n", rows, |row| of(row, |reference| reference.repeats))
            .real("published_q1", rows, |row| of(row, |r| r.quartiles)?.map(|(q1, _)| q1))
            .real("published_q3", rows, |row| of(row, |r| r.quartiles)?.map(|(_, q3)| q3))
            .text("published_origin", rows, |row| of(row, |r| r.origin.to_owned()))
            .real("published_error", rows, |row| of(row, |reference| reference.error)?)
            .real("difference", rows, |row| row.difference())
            .real("tolerance", rows, |row| row.tolerance())
            .text("verdict", rows, |row| Some(row.verdict.name().to_owned()))
            .text("is_primary", rows, |row| Some(row.is_primary.to_string()))
    }
}

/// Whether two rows publish the same arm, statistic and data set, one as mean and one as median.
fn same(a: &Reference, b: &Reference) -> bool {
    let key = |row: &Reference| {
        let input = (row.model, row.representation, row.layer, row.probe);
        let axes = (row.factor.to_bits(), row.fraction.to_bits());
        (row.task, row.dataset, row.target, row.length, input, axes, row.statistic)
    };
    key(a) == key(b)
}

/// Whether the paper reports the row's statistic for its task.
fn is_primary(row: &Reference) -> bool {
    match row.statistic {
        "pearson" => row.task != TaskName::VariantEffect.name(),
        "pearson_mean" => row.representation != "zero-shot",
        "r_reported" | "spearman" | "auroc_keras" | "auroc_hard" | "map_pearson" => true,
        _ => false,
    }
}

/// The scores of an arm that have a published value, and the paper's statistic where none has.
fn of_arm<'a>(view: &View<'_>, dataset: &DatasetView<'a>, arm: &'a Arm<'a>) -> Vec<Score<'a>> {
    let last = view.last_layer(arm.identity);
    let counterparts: Vec<&'static Reference> = dataset
        .published
        .iter()
        .copied()
        .filter(|row| row.is_counterpart(arm.identity, last))
        .collect();
    let mut scores: Vec<Score<'a>> = Vec::new();
    for row in &arm.rows {
        let is_shown = row.of.split == "test"
            && (dataset.task == TaskName::VariantEffect || arm.is_headline(row));
        let of_row = |reference: &&&'static Reference| {
            reference.statistic == row.of.name
                && (reference.target.is_empty() || reference.target == row.of.target)
        };
        let found: Vec<&'static Reference> =
            counterparts.iter().filter(of_row).copied().filter(|_| is_shown).collect();
        // Where a median was published, the mean stands in the tables only.
        let median = found.iter().find(|reference| reference.of == Center::Median);
        if let Some(reference) = median.or(found.first()).copied() {
            scores.push(beside(dataset, arm, row, reference));
        }
    }
    if !scores.iter().any(|score| score.is_primary) {
        let paper = paper_statistic(dataset.task, arm.identity);
        let by_target = || arm.rows.iter().filter(|row| row.of.name == paper);
        match dataset.task {
            TaskName::VariantEffect => {
                scores.extend(by_target().map(|row| alone(dataset, arm, row)))
            }
            _ => scores.extend(arm.headline(paper).map(|row| alone(dataset, arm, row))),
        }
    }
    scores
}

fn alone<'a>(dataset: &DatasetView<'a>, arm: &'a Arm<'a>, row: &'a ArmStatistic<'a>) -> Score<'a> {
    Score {
        task: dataset.task,
        dataset: dataset.name,
        identity: arm.identity,
        statistic: &row.of.name,
        target: &row.of.target,
        of: Center::Mean,
        obtained: row.summary.mean,
        deviation: row.summary.deviation,
        repeats: row.summary.repeats as u64,
        examples: row.examples,
        reference: None,
        verdict: Verdict::NoReference,
        is_primary: true,
    }
}

fn beside<'a>(
    dataset: &DatasetView<'a>,
    arm: &'a Arm<'a>,
    row: &'a ArmStatistic<'a>,
    reference: &'static Reference,
) -> Score<'a> {
    let obtained = match reference.of {
        Center::Mean => row.summary.mean,
        Center::Median => row.median(),
    };
    let same = match dataset.task {
        TaskName::VariantEffect => {
            published::is_same_size(dataset.task, reference.dataset, reference.target, row.examples)
        }
        _ => {
            let test = dataset.planned.facts.split_rows.get("test").copied().unwrap_or(0);
            published::is_same_size(dataset.task, reference.dataset, "", test)
        }
    };
    let verdict = verdict(obtained, reference, same != Some(false));
    let is_primary = is_primary(reference);
    let of = reference.of;
    Score {
        of,
        obtained,
        reference: Some(reference),
        verdict,
        is_primary,
        ..alone(dataset, arm, row)
    }
}

fn verdict(obtained: Option<f64>, reference: &Reference, is_same_examples: bool) -> Verdict {
    // The last bit of a difference decides nothing.
    const ROUNDING: f64 = 1e-12;
    match obtained {
        None => Verdict::Undefined,
        Some(_) if !is_same_examples => Verdict::OtherExamples,
        Some(value) if (value - reference.value).abs() <= tolerance(reference) + ROUNDING => {
            Verdict::Agrees
        }
        Some(_) => Verdict::Differs,
    }
}

/// For each published mean over ten data sets: that of the same arm, where all ten have a value.
fn means_over_datasets<'a>(scores: &[Score<'a>], task: TaskName) -> Vec<Score<'a>> {
    let names = published::datasets(task);
    let mean = |reference: &'static Reference| {
        let is_part = |score: &&Score<'a>| {
            score.task == task
                && score.reference.is_some_and(|of_dataset| {
                    let of_all = Reference { dataset: of_dataset.dataset, ..reference.clone() };
                    same(of_dataset, &of_all)
                })
        };
        let parts: Vec<&Score<'a>> = scores.iter().filter(is_part).collect();
        let has = |name: &&&str| {
            parts.iter().any(|part| part.reference.is_some_and(|row| row.dataset == **name))
        };
        let first = *parts.first()?;
        if names.iter().filter(has).count() < names.len() || parts.len() != names.len() {
            return None;
        }
        let values: Option<Vec<f64>> = parts.iter().map(|part| part.obtained).collect();
        let obtained = values.map(|values| values.iter().sum::<f64>() / values.len() as f64);
        let is_same = parts.iter().all(|part| part.verdict != Verdict::OtherExamples);
        Some(Score {
            dataset: ALL_DATASETS,
            obtained,
            deviation: None,
            repeats: names.len() as u64,
            examples: parts.iter().map(|part| part.examples).sum(),
            reference: Some(reference),
            verdict: verdict(obtained, reference, is_same),
            is_primary: is_primary(reference),
            ..first.clone()
        })
    };
    published::of_all_datasets(task).filter_map(mean).collect()
}

#[cfg(test)]
mod tests;
