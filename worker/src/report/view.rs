//! The fits of a job as a reader wants them: by data set, in a fixed order, with labels.
//!
//! Leaves out: any output format. Invariant: the order depends on the plan and the identities only.

use super::published::{self, Reference};
use super::{AttributionResult, FitResult, ReportInput};
use crate::attribution::MapKind;
use crate::statistics::{compared_statistic, is_logistic};
use glmeval_common::dataset::TaskName;
use glmeval_common::job::Protocol;
use glmeval_common::plan::{Plan, PlannedDataset};
use glmeval_common::score::{FitIdentity, FitScores, Statistic};

/// A job as its report shows it.
pub(super) struct View<'a> {
    pub(super) plan: &'a Plan,
    pub(super) failed: &'a [String],
    pub(super) cost: &'a [(String, String)],
    pub(super) datasets: Vec<DatasetView<'a>>,
}

/// One data set with its fits.
pub(super) struct DatasetView<'a> {
    pub(super) name: &'a str,
    pub(super) task: TaskName,
    pub(super) planned: &'a PlannedDataset,
    pub(super) fits: Vec<&'a FitResult>,
    /// Every value published under this name.
    pub(super) published: Vec<&'static Reference>,
}

impl<'a> View<'a> {
    pub(super) fn new(input: &ReportInput<'a>) -> Self {
        let datasets = input.plan.datasets.iter().filter_map(|planned| {
            let mut fits: Vec<&FitResult> = input
                .fits
                .iter()
                .filter(|fit| fit.scores.identity.dataset == planned.name)
                .collect();
            fits.sort_by_cached_key(|fit| sort_key(&fit.scores.identity));
            let published = published::of_dataset(planned.task, planned);
            (!fits.is_empty()).then_some(DatasetView {
                name: &planned.name,
                task: planned.task,
                planned,
                fits,
                published,
            })
        });
        let ReportInput { plan, failed, cost, .. } = *input;
        Self { plan, failed, cost, datasets: datasets.collect() }
    }

    /// Layers of the gLM that a fit reads, if the plan tells.
    pub(super) fn last_layer(&self, identity: &FitIdentity) -> Option<u32> {
        let id = identity.model_id.as_ref()?;
        let model = self.plan.models.iter().find(|model| model.model.id == *id)?;
        Some(model.facts.layer_count)
    }

    /// All fits in report order.
    pub(super) fn fits(&self) -> impl Iterator<Item = &FitScores> {
        self.datasets.iter().flat_map(|dataset| dataset.fits.iter().map(|fit| &fit.scores))
    }
}

/// What people call a task.
pub(super) fn task_title(task: TaskName) -> &'static str {
    match task {
        TaskName::LentiMpra => "Task 1 · regulatory activity, lentiMPRA",
        TaskName::ChipSeq => "Task 2 · transcription factor binding, ChIP-seq",
        TaskName::VariantEffect => "Task 3 · effects of variants, CAGI5",
        TaskName::Splicing => "Task 4 · alternative splicing, ASCOT",
        TaskName::InsertSeq => "Task 5 · elongation potential, INSERT-seq",
        TaskName::Eclip => "Task 6 · binding of RNA, eCLIP",
        TaskName::Regression => "Regression on own data",
        TaskName::Classification => "Classification on own data",
        TaskName::None => "Sequences without targets",
    }
}

type SortKey = (Option<String>, Option<u32>, String, String, String);

fn sort_key(identity: &FitIdentity) -> SortKey {
    let rest = format!(
        "{:?} {:012.6} {:012.6} {:06} {}",
        identity.trained_on, identity.factor, identity.fraction, identity.repeat, identity.fit
    );
    (
        identity.model.clone(),
        identity.layer,
        identity.representation.clone(),
        identity.probe.clone(),
        rest,
    )
}

/// What the probe reads: `NT, layer 32, mean` or `one-hot`.
pub(super) fn input_label(identity: &FitIdentity) -> String {
    let what = match identity.representation.strip_prefix("kmer-") {
        Some(k) => format!("{k}-mer counts"),
        None => identity.representation.clone(),
    };
    match (&identity.model, identity.layer) {
        (Some(model), Some(layer)) => format!("{model}, layer {layer}, {what}"),
        (Some(model), None) => format!("{model}, {what}"),
        _ => what,
    }
}

/// The probe with whatever else tells it from its neighbours, but the repeat.
pub(super) fn probe_label(identity: &FitIdentity) -> String {
    let mut label = identity.probe.clone();
    if identity.factor != 1.0 {
        label.push_str(&format!(" ×{}", identity.factor));
    }
    if identity.fraction != 1.0 {
        label.push_str(&format!(", {} % of train", rounded(identity.fraction * 100.0)));
    }
    if let Some(dataset) = &identity.trained_on {
        label.push_str(&format!(", trained on {dataset}"));
    }
    label
}

/// Two decimals at most.
pub(super) fn rounded(value: f64) -> String {
    ((value * 100.0).round() / 100.0).to_string()
}

/// What the probe reads and the probe, without the repeat.
pub(super) fn arm_label(identity: &FitIdentity) -> String {
    format!("{} · {}", input_label(identity), probe_label(identity))
}

/// The probe with whatever else tells it from its neighbours.
pub(super) fn fit_probe_label(identity: &FitIdentity) -> String {
    let label = probe_label(identity);
    if identity.repeat == 0 { label } else { format!("{label}, repeat {}", identity.repeat) }
}

/// What the probe reads and the probe, with whatever else tells it from its neighbours.
pub(super) fn fit_label(identity: &FitIdentity) -> String {
    format!("{} · {}", input_label(identity), fit_probe_label(identity))
}

/// The statistics that stand for a fit: on test, of the first target (the mean over several).
pub(super) fn headline(scores: &FitScores) -> Vec<&Statistic> {
    let on_test: Vec<&Statistic> =
        scores.statistics.iter().filter(|statistic| statistic.split == "test").collect();
    let all = if on_test.is_empty() { scores.statistics.iter().collect() } else { on_test };
    let first = all.first().map(|statistic| (statistic.target.clone(), statistic.split.clone()));
    all.into_iter()
        .filter(|s| first.as_ref().is_some_and(|(t, split)| s.target == *t && s.split == *split))
        .collect()
}

/// One statistic of a fit by name, as [`headline`] has it.
pub(super) fn statistic<'a>(scores: &'a FitScores, name: &str) -> Option<&'a Statistic> {
    headline(scores).into_iter().find(|statistic| statistic.name == name)
}

/// Names of the headline statistics over all fits of a data set, in order of first appearance.
pub(super) fn statistic_names(dataset: &DatasetView<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for fit in &dataset.fits {
        for statistic in headline(&fit.scores) {
            if !names.contains(&statistic.name) {
                names.push(statistic.name.clone());
            }
        }
    }
    names
}

/// The statistic that the paper reports for a fit, as scores name it.
pub(super) fn paper_statistic(task: TaskName, identity: &FitIdentity) -> &'static str {
    let is_published = identity.protocol == Protocol::Published.name();
    match task {
        TaskName::VariantEffect if identity.representation == "zero-shot" => "r_reported",
        TaskName::VariantEffect => "pearson_mean",
        _ if !task.is_binary() => compared_statistic(task),
        _ if is_published && is_logistic(&identity.probe) => "auroc_hard",
        _ => "auroc_keras",
    }
}

/// A statistic's name as people write it.
pub(super) fn statistic_title(name: &str) -> &str {
    match name {
        "pearson" => "Pearson r",
        "spearman" => "Spearman ρ",
        "r2" => "R²",
        "mse" => "MSE",
        "auroc_exact" => "AUROC",
        "auroc_hard" => "AUROC, hard labels",
        "auroc_keras" => "AUROC, 200 thresholds",
        "aupr" => "AUPR",
        "aupr_hard" => "AUPR, hard labels",
        "aupr_keras" => "AUPR, 200 thresholds",
        "accuracy" => "Accuracy",
        "pearson_mean" => "Pearson r, mean over the cell's elements",
        "r_reported" => "|r|, as the paper prints it",
        other => other,
    }
}

/// Three decimals, or `n/a`.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.3}"))
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What people call a kind of map.
pub(super) fn kind_title(name: &str) -> &str {
    match MapKind::find(name) {
        Some(MapKind::Saliency) => "saliency",
        Some(MapKind::Information) => "information",
        Some(MapKind::InformationGradient) => "information × gradient",
        None => name,
    }
}

/// The maps of a data set, in a fixed order.
pub(super) fn of_dataset<'a>(
    all: &'a [AttributionResult],
    dataset: &str,
) -> Vec<&'a AttributionResult> {
    let is_its = |one: &&AttributionResult| one.scores.identity.dataset == dataset;
    let mut found: Vec<_> = all.iter().filter(is_its).collect();
    found.sort_by_cached_key(|one| {
        let FitIdentity { probe, model, fit, .. } = &one.scores.identity;
        (probe.clone(), model.clone(), fit.to_string())
    });
    found
}
