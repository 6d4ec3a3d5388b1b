//! Plans: the immutable list of units of one job, and the facts it was made from.
//!
//! Leaves out: how a plan is made (coordinator), how a unit is found by its number (entries).
//! Invariant: prerequisites point to earlier units only; a plan does not grow with its shards.

use crate::dataset::{DatasetSource, TaskName};
use crate::example::ExampleSchema;
use crate::ids::{DatasetId, JobId};
use crate::job::Protocol;
use crate::leakage::{LEAKAGE_ROWS_MAX, Leakage};
use crate::model::ModelFacts;
use crate::unit::{
    ExtractUnit, FitUnit, ModelRef, PrepareUnit, ReportUnit, SetSpec, UnitKind, WorkUnit,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod entries;

pub use entries::{Entries, EntrySpec, PlanEntry, Totals};

/// Newest version of plans that this program knows. Plans of version 1 list every shard by itself; those of
/// version 2 train no network on a device.
pub const PLAN_VERSION: u32 = 3;

/// What a survey of a data set found; enough to plan without holding an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Digest of source bytes, reader options and format version.
    pub id: DatasetId,
    /// What every example has.
    pub schema: ExampleSchema,
    /// Examples; for windows an upper bound (windows with too many undefined letters are skipped).
    pub rows: u64,
    /// Sum of sequence lengths.
    pub nucleotides: u64,
    /// Shortest sequence in nucleotides.
    pub length_min: u64,
    /// Longest sequence in nucleotides.
    pub length_max: u64,
    /// Examples by split name; empty without splits.
    pub split_rows: BTreeMap<String, u64>,
    /// What people should know of it, such as how many rows were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Sequences that stand in several splits, by pair of splits; empty without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leakage: Vec<Leakage>,
    /// What people call the first targets of the schema, where the source says so; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_titles: Vec<String>,
}

impl DatasetFacts {
    /// What people call the target `name`: `Liver` instead of `delta_37`; `tissue 37` where the source
    /// only numbers its tissues.
    pub fn target_title(&self, name: &str) -> String {
        let place = self.schema.targets.iter().position(|known| known == name);
        match (place.and_then(|place| self.target_titles.get(place)), name.strip_prefix("delta_")) {
            (Some(title), _) => title.clone(),
            (None, Some(number)) if self.schema.sequences.len() == 2 => format!("tissue {number}"),
            _ => name.to_owned(),
        }
    }

    /// What people should know about leakage between splits, a line each; nothing where there is none.
    pub fn leakage_lines(&self) -> Vec<String> {
        if self.split_rows.len() > 1 && self.rows > LEAKAGE_ROWS_MAX {
            let rows = self.rows;
            return vec![format!(
                "leakage between splits was not looked for: {rows} examples, above {LEAKAGE_ROWS_MAX}"
            )];
        }
        let examples =
            |leakage: &Leakage| self.split_rows.get(leakage.split.name()).copied().unwrap_or(0);
        self.leakage.iter().map(|leakage| leakage.line(examples(leakage))).collect()
    }
}

/// A data set of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedDataset {
    /// Name in the job file.
    pub name: String,
    /// Task.
    pub task: TaskName,
    /// Source with absolute paths.
    pub source: DatasetSource,
    /// What the survey found.
    pub facts: DatasetFacts,
}

/// A gLM of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedModel {
    /// Id, name, source.
    pub model: ModelRef,
    /// What it tells about itself.
    pub facts: ModelFacts,
}

/// What a planned unit does, by index into the plan's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnitSpec<'a> {
    /// Prepare this data set.
    Prepare {
        /// Index into [`Plan::datasets`].
        dataset: usize,
    },
    /// Embed examples `start..end`.
    Extract {
        /// Index into [`Plan::sets`].
        set: usize,
        /// Index into [`Plan::datasets`].
        dataset: usize,
        /// First example.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Fit a probe.
    Fit(&'a FitUnit),
    /// Write the report.
    Report,
}

impl UnitSpec<'_> {
    /// Its stage.
    pub fn kind(&self) -> UnitKind {
        match self {
            Self::Prepare { .. } => UnitKind::Prepare,
            Self::Extract { .. } => UnitKind::Extract,
            Self::Fit(_) => UnitKind::Fit,
            Self::Report => UnitKind::Report,
        }
    }
}

/// A unit, what must be committed before it, what it costs; worked out from a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedUnit<'a> {
    /// What it does.
    pub spec: UnitSpec<'a>,
    /// Ranges of unit numbers `[first, past)` that must be committed before.
    pub prerequisites: &'a [(u32, u32)],
    /// Floating-point operations, estimated.
    pub flops: f64,
    /// Bytes written, estimated.
    pub bytes: u64,
}

/// The immutable plan of a job (`jobs/<job-id>/plan.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Format version of this record.
    pub version: u32,
    /// Digest of all of the below.
    pub job: JobId,
    /// Name in the job file.
    pub name: String,
    /// Root seed.
    pub seed: u64,
    /// Quirks.
    pub protocol: Protocol,
    /// Data sets.
    pub datasets: Vec<PlannedDataset>,
    /// gLMs.
    pub models: Vec<PlannedModel>,
    /// Embedding sets.
    pub sets: Vec<SetSpec>,
    /// What the units are, in the order of their numbers; see [`Plan::unit`].
    #[serde(rename = "units")]
    pub entries: Entries,
}

impl Plan {
    /// The oldest version that has all that `entries` ask for, so that a program which does not know it
    /// refuses the plan, and other plans keep their ids.
    pub fn version_of(entries: &Entries) -> u32 {
        let is_on_device = |entry: &PlanEntry| match &entry.spec {
            EntrySpec::Fit(unit) => unit.training_class.is_some(),
            _ => false,
        };
        let has_device_fits = entries.iter().any(|(_, entry)| is_on_device(entry));
        if has_device_fits { PLAN_VERSION } else { 2 }
    }

    /// Units; they are numbered from 0.
    pub fn unit_count(&self) -> u32 {
        self.entries.unit_count()
    }

    /// Unit `index`; `None` past the end. Takes the logarithm of the number of entries.
    pub fn unit(&self, index: u32) -> Option<PlannedUnit<'_>> {
        self.entries.unit(index)
    }

    /// Every unit, in order.
    pub fn units(&self) -> impl Iterator<Item = PlannedUnit<'_>> {
        self.entries.units()
    }

    /// What units `first..past` are together. Takes as long as there are entries, not units.
    pub fn totals(&self, first: u32, past: u32) -> Totals {
        self.entries.totals(first, past)
    }

    /// Every unit that fits probes, with its number; shards cost nothing here.
    pub fn fit_units(&self) -> impl Iterator<Item = (u32, &FitUnit)> {
        self.entries.iter().filter_map(|(first, entry)| match &entry.spec {
            EntrySpec::Fit(unit) => Some((first, &**unit)),
            _ => None,
        })
    }

    /// The self-contained form of unit `index`, as it is leased; `None` past the end.
    pub fn work_unit(&self, index: u32) -> Option<WorkUnit> {
        self.self_contained(self.unit(index)?.spec)
    }

    /// The self-contained form of what `spec` names; `None` if an index lies outside the plan.
    pub fn self_contained(&self, spec: UnitSpec<'_>) -> Option<WorkUnit> {
        Some(match spec {
            UnitSpec::Prepare { dataset } => {
                let dataset = self.datasets.get(dataset)?;
                WorkUnit::Prepare(PrepareUnit {
                    dataset: dataset.facts.id.clone(),
                    name: dataset.name.clone(),
                    source: dataset.source.clone(),
                    task: dataset.task,
                    rows: dataset.facts.rows,
                })
            }
            UnitSpec::Extract { set, dataset, start, end } => {
                let PlannedDataset { source, task, .. } = self.datasets.get(dataset)?;
                WorkUnit::Extract(ExtractUnit {
                    set: self.sets.get(set)?.clone(),
                    lazy_source: source.is_lazy().then(|| source.clone()),
                    task: *task,
                    start,
                    end,
                })
            }
            UnitSpec::Fit(unit) => WorkUnit::Fit(unit.clone()),
            UnitSpec::Report => WorkUnit::Report(ReportUnit { job: self.job.clone() }),
        })
    }

    /// Stage of unit `index`; `None` past the end.
    pub fn kind(&self, index: u32) -> Option<UnitKind> {
        Some(self.unit(index)?.spec.kind())
    }
}
