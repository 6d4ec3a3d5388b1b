//! One gLM in two precisions: how close its embeddings are, and what probes make of them.
//!
//! Leaves out: reading embeddings (publish). Invariant: the finer precision comes first, and a difference
//! is the coarser one's value less the finer one's.

use super::super::summary::{Arm, Summaries, is_same_but_model};
use super::super::tables::Table;
use super::super::view::{View, paper_statistic};
use glmeval_common::dataset::TaskName;
use glmeval_common::model::{ModelOptions, Precision};
use glmeval_common::plan::Plan;
use glmeval_common::representation::Pooling;
use glmeval_common::score::FitIdentity;
use glmeval_common::unit::{ModelRef, SetSpec};

/// Two embedding sets of a plan that differ in the precision they are computed in.
#[derive(Clone, Copy, Debug)]
pub struct PrecisionPair<'a> {
    /// In the finer precision.
    pub fine: &'a SetSpec,
    /// In the coarser one.
    pub coarse: &'a SetSpec,
}

/// How close one layer and pooling of two sets is.
#[derive(Clone, Debug, PartialEq)]
pub struct Closeness {
    /// Layer.
    pub layer: u32,
    /// Pooling.
    pub pooling: Pooling,
    /// Vectors compared: one per sequence, for `full` one per token.
    pub vectors: u64,
    /// Mean of their cosines.
    pub mean: f64,
    /// The least of them.
    pub min: f64,
}

/// What was found of a pair.
#[derive(Clone, Debug)]
pub struct PairCloseness<'a> {
    /// The sets.
    pub pair: PrecisionPair<'a>,
    /// One per layer and pooling that both have; empty where their rows could not be read.
    pub tensors: Vec<Closeness>,
}

/// One arm in both precisions; or embeddings that no probe reads in both.
pub(in super::super) struct PrecisionRow<'a> {
    pub(in super::super) task: TaskName,
    pub(in super::super) dataset: &'a str,
    pub(in super::super) models: (&'a str, &'a str),
    pub(in super::super) precisions: (Precision, Precision),
    pub(in super::super) layer: Option<u32>,
    pub(in super::super) representation: String,
    pub(in super::super) closeness: Option<&'a Closeness>,
    /// Of the finer one.
    pub(in super::super) identity: Option<&'a FitIdentity>,
    pub(in super::super) statistic: Option<&'static str>,
    /// Means over repeats.
    pub(in super::super) values: (Option<f64>, Option<f64>),
}

impl PrecisionRow<'_> {
    /// The coarser one's value less the finer one's.
    pub(in super::super) fn difference(&self) -> Option<f64> {
        Some(self.values.1? - self.values.0?)
    }
}

/// The embedding sets of `plan` that differ in precision alone, each with the finest of its kind.
///
/// Sets of scores are left out: their fits tell what precision makes of them.
pub fn precision_pairs(plan: &Plan) -> Vec<PrecisionPair<'_>> {
    let states = || plan.sets.iter().filter(|set| set.effects.is_none());
    let mut pairs = Vec::new();
    for coarse in states() {
        let is_same = |fine: &&SetSpec| {
            is_finer(&fine.model, &coarse.model)
                && (&fine.dataset, fine.options) == (&coarse.dataset, coarse.options)
        };
        let fine = states().filter(is_same).min_by_key(|set| rank(set.model.options.precision));
        pairs.extend(fine.map(|fine| PrecisionPair { fine, coarse }));
    }
    pairs
}

/// Finer ones first.
fn rank(precision: Precision) -> u8 {
    match precision {
        Precision::F32 => 0,
        Precision::Tf32 => 1,
        Precision::Bf16 => 2,
    }
}

/// Whether `fine` is the gLM `coarse` in a finer precision.
fn is_finer(fine: &ModelRef, coarse: &ModelRef) -> bool {
    let but_precision =
        |options: &ModelOptions| ModelOptions { precision: Precision::F32, ..*options };
    fine.id == coarse.id
        && but_precision(&fine.options) == but_precision(&coarse.options)
        && rank(fine.options.precision) < rank(coarse.options.precision)
}

/// Every arm of a gLM beside the same arm of its finest precision, in the order of the view; then
/// embeddings that no probe reads in both.
pub(in super::super) fn precision_rows<'a>(
    view: &View<'a>,
    summaries: &Summaries<'a>,
    found: &'a [PairCloseness<'a>],
) -> Vec<PrecisionRow<'a>> {
    let mut rows = Vec::new();
    for (dataset, summary) in view.datasets.iter().zip(&summaries.datasets) {
        for arm in &summary.arms {
            rows.extend(row_of_arm(view, dataset.task, (&summary.arms, arm), found));
        }
    }
    for one in found {
        let PrecisionPair { fine, coarse } = one.pair;
        let datasets = view.plan.datasets.iter().filter(|d| d.facts.id == fine.dataset);
        for (dataset, closeness) in datasets.flat_map(|d| one.tensors.iter().map(move |t| (d, t))) {
            let is_read = |row: &PrecisionRow<'_>| {
                row.dataset == dataset.name
                    && row.closeness.is_some_and(|c| std::ptr::eq(c, closeness))
            };
            if !rows.iter().any(is_read) {
                rows.push(PrecisionRow {
                    task: dataset.task,
                    dataset: &dataset.name,
                    models: (&fine.model.name, &coarse.model.name),
                    precisions: (fine.model.options.precision, coarse.model.options.precision),
                    layer: Some(closeness.layer),
                    representation: fine.options.representation(closeness.pooling),
                    closeness: Some(closeness),
                    identity: None,
                    statistic: None,
                    values: (None, None),
                });
            }
        }
    }
    rows
}

/// `coarse` beside the same arm of the finest precision among `arms`, if there is one.
fn row_of_arm<'a>(
    view: &View<'a>,
    task: TaskName,
    (arms, coarse): (&[Arm<'a>], &Arm<'a>),
    found: &'a [PairCloseness<'a>],
) -> Option<PrecisionRow<'a>> {
    let model = |arm: &Arm<'a>| {
        let FitIdentity { model: Some(name), model_id: Some(id), .. } = arm.identity else {
            return None;
        };
        let mut models = view.plan.models.iter().map(|planned| &planned.model);
        models.find(|model| model.name == *name && model.id == *id)
    };
    let of_coarse = model(coarse)?;
    let finer = |arm: &'_ Arm<'a>| {
        let of_arm = model(arm).filter(|of_arm| is_finer(of_arm, of_coarse))?;
        is_same_but_model(arm.identity, coarse.identity).then_some(of_arm)
    };
    let both = arms.iter().filter_map(|arm| Some((arm, finer(arm)?)));
    let (fine, of_fine) = both.min_by_key(|(_, model)| rank(model.options.precision))?;
    let (identity, statistic) = (fine.identity, paper_statistic(task, fine.identity));
    let mean = |arm: &Arm<'_>| arm.headline(statistic)?.summary.mean;
    let closeness = found
        .iter()
        .filter(|one| {
            one.pair.fine.dataset == identity.dataset_id
                && one.pair.fine.model.id == of_fine.id
                && one.pair.fine.model.options.precision == of_fine.options.precision
                && one.pair.coarse.model.options.precision == of_coarse.options.precision
        })
        .flat_map(|one| one.tensors.iter().map(move |tensor| (one, tensor)))
        .find(|(one, tensor)| {
            Some(tensor.layer) == identity.layer
                && one.pair.fine.options.representation(tensor.pooling) == identity.representation
        });
    Some(PrecisionRow {
        task,
        dataset: &identity.dataset,
        models: (&of_fine.name, &of_coarse.name),
        precisions: (of_fine.options.precision, of_coarse.options.precision),
        layer: identity.layer,
        representation: identity.representation.clone(),
        closeness: closeness.map(|(_, tensor)| tensor),
        identity: Some(identity),
        statistic: Some(statistic),
        values: (mean(fine), mean(coarse)),
    })
}

/// One row per arm in both precisions.
pub(in super::super) fn precisions_table(view: &View<'_>, rows: &[PrecisionRow<'_>]) -> Table {
    let job = view.plan.job.to_string();
    Table::new("precisions")
        .text("job", rows, |_| Some(job.clone()))
        .text("task", rows, |row| Some(row.task.name().to_owned()))
        .text("dataset", rows, |row| Some(row.dataset.to_owned()))
        .text("model_fine", rows, |row| Some(row.models.0.to_owned()))
        .text("precision_fine", rows, |row| Some(row.precisions.0.name().to_owned()))
        .text("model_coarse", rows, |row| Some(row.models.1.to_owned()))
        .text("precision_coarse", rows, |row| Some(row.precisions.1.name().to_owned()))
        .small("layer", rows, |row| row.layer)
        .text("representation", rows, |row| Some(row.representation.clone()))
        .large("vectors", rows, |row| row.closeness.map_or(0, |found| found.vectors))
        .real("cosine_mean", rows, |row| Some(row.closeness?.mean))
        .real("cosine_min", rows, |row| Some(row.closeness?.min))
        .text("probe", rows, |row| Some(row.identity?.probe.clone()))
        .real("factor", rows, |row| Some(row.identity?.factor))
        .real("fraction", rows, |row| Some(row.identity?.fraction))
        .text("trained_on", rows, |row| row.identity?.trained_on.clone())
        .text("statistic", rows, |row| row.statistic.map(str::to_owned))
        .real("fine", rows, |row| row.values.0)
        .real("coarse", rows, |row| row.values.1)
        .real("difference", rows, PrecisionRow::difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::bare_plan;
    use glmeval_common::ids::{DatasetId, ModelId, SetId};
    use glmeval_common::representation::StoredDtype;

    fn set(model: &str, dataset: &str, precision: Precision) -> SetSpec {
        SetSpec {
            id: SetId::new(format!("{model}-{dataset}-{}", precision.name())),
            model: ModelRef {
                id: ModelId::new(model),
                name: precision.name().into(),
                source: "m".into(),
                options: ModelOptions { precision, ..ModelOptions::default() },
            },
            dataset: DatasetId::new(dataset),
            layers: vec![1],
            poolings: vec![Pooling::Mean],
            dtype: StoredDtype::F32,
            options: Default::default(),
            numeric_class: format!("{}.cpu.1", precision.name()),
            effects: None,
        }
    }

    #[test]
    fn each_coarser_set_is_paired_with_the_finest_of_its_kind() {
        let mut plan = bare_plan();
        plan.sets = vec![
            set("a", "d", Precision::Bf16),
            set("a", "d", Precision::Tf32),
            set("a", "d", Precision::F32),
            set("a", "e", Precision::Tf32),
            set("a", "e", Precision::Bf16),
            set("b", "d", Precision::Bf16),
        ];
        let pairs = precision_pairs(&plan);
        let ids: Vec<_> =
            pairs.iter().map(|pair| (pair.fine.id.as_str(), pair.coarse.id.as_str())).collect();
        let expected = [("a-d-f32", "a-d-bf16"), ("a-d-f32", "a-d-tf32"), ("a-e-tf32", "a-e-bf16")];
        assert_eq!(ids, expected);
    }
}
