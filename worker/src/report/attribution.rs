//! Attribution maps of a job: how they agree, beside the published correlations.
//!
//! Leaves out: logos (figures/logos), the page. Invariant: a verdict is passed only on as many test
//! sequences as the study ranked.

use super::ReportInput;
use super::agreement::{Verdict, tolerance};
use super::published::{self, Reference};
use super::tables::Table;
use super::view::{View, of_dataset};
use crate::attribution::MapKind;
use glmeval_common::dataset::TaskName;
use glmeval_common::plan::PlannedDataset;
use glmeval_common::score::{FitIdentity, FitScores};

/// Task of the published rows.
const TASK: &str = "attribution";
/// Test sequences of the split that the study mapped lentiMPRA on, an earlier one than its scores have.
const FIRST_SPLIT_TEST: u64 = 22_626;

/// Two maps of a data set.
pub(super) struct MapScore<'a> {
    pub(super) task: TaskName,
    pub(super) scores: &'a FitScores,
    pub(super) map: &'a str,
    pub(super) other: &'a str,
    pub(super) pearson: Option<f64>,
    pub(super) spearman: Option<f64>,
    /// Sequences that define them.
    pub(super) sequences: u64,
    pub(super) reference: Option<&'static Reference>,
    pub(super) verdict: Verdict,
}

impl MapScore<'_> {
    pub(super) fn identity(&self) -> &FitIdentity {
        &self.scores.identity
    }

    pub(super) fn difference(&self) -> Option<f64> {
        Some(self.pearson? - self.reference?.value)
    }

    pub(super) fn tolerance(&self) -> Option<f64> {
        self.reference.map(tolerance)
    }
}

/// All of a job.
#[derive(Default)]
pub(super) struct Attributions<'a> {
    pub(super) rows: Vec<MapScore<'a>>,
    /// What the maps have to say, a line each.
    pub(super) notes: Vec<(TaskName, String)>,
}

impl<'a> Attributions<'a> {
    pub(super) fn new(input: &ReportInput<'a>) -> Self {
        let mut all = Self::default();
        for planned in &input.plan.datasets {
            for result in of_dataset(input.attributions, &planned.name) {
                all.rows.extend(rows(planned, &result.scores));
                let label = label(&result.scores.identity);
                let notes = result.scores.notes.iter();
                all.notes.extend(notes.map(|note| (planned.task, format!("{label}: {note}"))));
            }
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.notes.is_empty()
    }

    /// One row for each two maps.
    pub(super) fn table(&self, view: &View<'_>) -> Table {
        let (rows, job) = (&self.rows[..], view.plan.job.to_string());
        Table::new("attributions")
            .text("job", rows, |_| Some(job.clone()))
            .text("fit", rows, |row| Some(row.identity().fit.to_string()))
            .text("task", rows, |row| Some(row.task.name().to_owned()))
            .text("dataset", rows, |row| Some(row.identity().dataset.clone()))
            .text("probe", rows, |row| Some(row.identity().probe.clone()))
            .text("model", rows, |row| row.identity().model.clone())
            .small("layer", rows, |row| row.identity().layer)
            .text("protocol", rows, |row| Some(row.identity().protocol.clone()))
            .text("map", rows, |row| Some(row.map.to_owned()))
            .text("other", rows, |row| Some(row.other.to_owned()))
            .large("sequences", rows, |row| row.sequences)
            .real("pearson", rows, |row| row.pearson)
            .real("spearman", rows, |row| row.spearman)
            .real("published", rows, |row| row.reference.map(|reference| reference.value))
            .real("difference", rows, MapScore::difference)
            .real("tolerance", rows, MapScore::tolerance)
            .text("verdict", rows, |row| Some(row.verdict.name().to_owned()))
            .real("seconds", rows, |row| Some(row.scores.seconds))
            .text("worker", rows, |row| Some(row.scores.worker.clone()))
    }

    /// Lines for a terminal.
    pub(super) fn text(&self) -> String {
        let line = |row: &MapScore<'_>| {
            let number = |r: Option<f64>| r.map_or("n/a".to_owned(), |r| format!("{r:.3}"));
            let (map, other, label) = (row.map, row.other, label(row.identity()));
            let (pearson, spearman) = (number(row.pearson), number(row.spearman));
            format!("  {label}: {map} vs {other}: Pearson {pearson}, Spearman {spearman}\n")
        };
        match self.rows.is_empty() {
            true => String::new(),
            false => {
                let lines: String = self.rows.iter().map(line).collect();
                format!("Attribution maps (means over sequences, absolute values)\n{lines}\n")
            }
        }
    }
}

/// `resnet and GPN-human on K562`.
pub(super) fn label(identity: &FitIdentity) -> String {
    let FitIdentity { probe, model, dataset, .. } = identity;
    let model = model.as_ref().map_or_else(String::new, |model| format!(" and {model}"));
    format!("{probe}{model} on {dataset}")
}

fn rows<'a>(planned: &PlannedDataset, scores: &'a FitScores) -> Vec<MapScore<'a>> {
    let pearson = scores.statistics.iter().filter(|one| one.name == "map_pearson");
    let row = |one: &'a glmeval_common::score::Statistic| {
        let (map, other) = one.target.split_once(" vs ")?;
        let is_same = |s: &&glmeval_common::score::Statistic| {
            s.name == "map_spearman" && s.target == one.target
        };
        let spearman = scores.statistics.iter().find(is_same).and_then(|s| s.value);
        let reference = reference(planned, scores.identity.model.as_deref(), (map, other));
        let verdict = match (one.value, reference) {
            (_, None) => Verdict::NoReference,
            (None, _) => Verdict::Undefined,
            (Some(_), Some(_)) if !is_same_sequences(planned, reference) => Verdict::OtherExamples,
            (Some(r), Some(row)) if (r - row.value).abs() <= tolerance(row) => Verdict::Agrees,
            _ => Verdict::Differs,
        };
        Some(MapScore {
            task: planned.task,
            scores,
            map,
            other,
            pearson: one.value,
            spearman,
            sequences: one.examples,
            reference,
            verdict,
        })
    };
    pearson.filter_map(row).collect()
}

fn reference(
    planned: &PlannedDataset,
    model: Option<&str>,
    (map, other): (&str, &str),
) -> Option<&'static Reference> {
    let published = match MapKind::find(map)? {
        MapKind::Saliency => return None,
        MapKind::Information => "information",
        MapKind::InformationGradient => "information x gradient",
    };
    let tasks = [TaskName::LentiMpra, TaskName::ChipSeq];
    published::references().iter().find(|row| {
        row.task == TASK
            && row.representation == published
            && row.probe == other
            && tasks.contains(&planned.task)
            && published::is_of_model(row, model)
            && published::is_called(row, &planned.name, planned.task)
    })
}

/// Whether the split that was ranked is as large as the study's; lentiMPRA was mapped on an earlier split.
fn is_same_sequences(planned: &PlannedDataset, reference: Option<&Reference>) -> bool {
    let test = planned.facts.split_rows.get("test").copied().unwrap_or(0);
    let name = reference.map_or("", |row| row.dataset);
    match planned.task {
        TaskName::LentiMpra => test == FIRST_SPLIT_TEST,
        task => published::is_same_size(task, name, "", test) == Some(true),
    }
}
