//! Units of work: what is leased. Self-contained, so a worker needs nothing but the store and the unit.
//!
//! Leaves out: who runs a unit and when (coordinator).

use crate::attribution::REPRESENTATION;
use crate::dataset::{DatasetSource, TaskName};
use crate::effect::{EffectSpec, Score};
use crate::ids::{DatasetId, FitId, JobId, ModelId, SetId};
use crate::model::ModelOptions;
use crate::network::{Architecture, TrainingSpec};
use crate::representation::{FeatureSource, Pooling, RepresentationOptions, StoredDtype};
use crate::score::FitIdentity;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;

mod attribution;

pub use attribution::{AttributionSpec, MaskedModel};

/// A gLM as the plan names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Digest of what `source` held when the job was planned; a worker refuses anything else.
    pub id: ModelId,
    /// Name in the job file.
    pub name: String,
    /// Folder or file, absolute, or `hf://org/name@revision`.
    pub source: PathBuf,
    /// How it is opened.
    #[serde(default)]
    pub options: ModelOptions,
}

/// An embedding set: what every shard of it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSpec {
    /// Digest of all of the below but names and paths.
    pub id: SetId,
    /// The gLM.
    pub model: ModelRef,
    /// The data set.
    pub dataset: DatasetId,
    /// Sorted, without repeats; 0 = input of the first block, n = output of block n.
    pub layers: Vec<u32>,
    /// Sorted, without repeats.
    pub poolings: Vec<Pooling>,
    /// Number format on disk.
    pub dtype: StoredDtype,
    /// How states become rows.
    #[serde(default)]
    pub options: RepresentationOptions,
    /// Numeric class: precision x device kind x kernel revision, such as `f32.cpu.1`.
    pub numeric_class: String,
    /// Scores of variants that the set holds instead of states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<EffectSpec>,
}

impl SetSpec {
    /// Names of the columns of scores; empty for states.
    pub fn columns(&self) -> Vec<String> {
        self.effects.as_ref().map_or_else(Vec::new, EffectSpec::columns)
    }
}

/// Ridge penalty of the paper.
pub const RIDGE_ALPHA: f64 = 1e-3;
/// Inverse penalty of the paper's logistic regression.
pub const LOGISTIC_C: f64 = 1.0;
/// Iterations of the paper's logistic regression at most.
pub const LOGISTIC_ITERATIONS_MAX: u32 = 100;

/// How a probe is fitted. Every number that decides the result stands here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ProbeSpec {
    /// min ||y - Xw - b||^2 + alpha ||w||^2.
    Ridge {
        /// Penalty.
        alpha: f64,
    },
    /// Minimum-norm ordinary least squares.
    LeastSquares,
    /// L2 logistic regression, sum of losses + ||w||^2 / (2 c).
    Logistic {
        /// Inverse penalty.
        c: f64,
        /// Iterations at most.
        iterations_max: u32,
    },
    /// A network of layers, trained by steps.
    Network {
        /// Its layers.
        architecture: Architecture,
        /// How it is trained.
        training: TrainingSpec,
    },
    /// Nothing: a column of zero-shot scores is compared with measured effects.
    ZeroShot {
        /// The score.
        score: Score,
        /// Whether its absolute value is compared.
        absolute: bool,
    },
    /// Nothing: f(alternative) - f(reference) of a fit on another data set is compared with measured
    /// effects.
    Applied {
        /// The fit.
        fit: FitId,
        /// Elements that are compared; empty = all.
        targets: Vec<String>,
    },
    /// Nothing: maps of what trained networks and a gLM rest on, and how far they agree.
    Attribution(Box<AttributionSpec>),
}

impl ProbeSpec {
    /// Whether numbers are fitted to examples; others only compare what is there.
    pub fn is_fitted(&self) -> bool {
        !matches!(self, Self::ZeroShot { .. } | Self::Applied { .. } | Self::Attribution(_))
    }

    /// The maps that are made, if it makes some.
    pub fn attribution(&self) -> Option<&AttributionSpec> {
        match self {
            Self::Attribution(spec) => Some(spec),
            _ => None,
        }
    }

    /// `ridge`, `least-squares`, `logistic`, the architecture's name, or the score's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ridge { .. } => "ridge",
            Self::LeastSquares => "least-squares",
            Self::Logistic { .. } => "logistic",
            Self::Network { architecture, .. } => architecture.name(),
            Self::ZeroShot { score, .. } => score.name(),
            Self::Applied { .. } => "applied",
            Self::Attribution(_) => REPRESENTATION,
        }
    }

    /// The name, with every setting that is not the paper's: `ridge, alpha 300`.
    pub fn label(&self) -> String {
        let mut label = self.name().to_owned();
        match *self {
            Self::Ridge { alpha } if alpha != RIDGE_ALPHA => {
                label.push_str(&format!(", alpha {alpha}"));
            }
            Self::Logistic { c, iterations_max } => {
                if c != LOGISTIC_C {
                    label.push_str(&format!(", C {c}"));
                }
                if iterations_max != LOGISTIC_ITERATIONS_MAX {
                    label.push_str(&format!(", {iterations_max} iterations"));
                }
            }
            _ => {}
        }
        label
    }
}

/// Reads a source once and writes its examples as Parquet parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrepareUnit {
    /// Content id the source must have.
    pub dataset: DatasetId,
    /// Name in the job file.
    pub name: String,
    /// The source.
    pub source: DatasetSource,
    /// Task whose rules the targets obey.
    pub task: TaskName,
    /// Rows the survey counted.
    pub rows: u64,
}

/// Embeds a range of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtractUnit {
    /// What to write.
    pub set: SetSpec,
    /// The source, for lazy ones; prepared ones are read from the store.
    pub lazy_source: Option<DatasetSource>,
    /// Task of the data set; part of what its id digests.
    pub task: TaskName,
    /// First example.
    pub start: u64,
    /// One past the last example.
    pub end: u64,
}

/// Fits probes that read the same features, and scores each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "StoredFitUnit")]
pub struct FitUnit {
    /// The data set.
    pub dataset: DatasetId,
    /// Task whose statistics are computed.
    pub task: TaskName,
    /// What all the probes read.
    pub features: FeatureSource,
    /// The fits; each is committed by itself and does not depend on the others.
    pub fits: Vec<Fit>,
    /// Pooling of the same set that validation reads in place of that of `features`: what the study
    /// did to networks on mean embeddings of splicing.
    pub validated_on: Option<Pooling>,
    /// Numeric class that its networks are trained in, such as `f32.cuda-sm90.1`; `None` = the CPU's,
    /// which every worker has.
    pub training_class: Option<String>,
}

/// What is not there has no name in a record, so that what digests it stays the same; by place, every
/// field keeps its own.
impl Serialize for FitUnit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { dataset, task, features, fits, validated_on, training_class } = self;
        let is_short = serializer.is_human_readable();
        let left_out = [validated_on.is_none(), training_class.is_none()].map(|it| it && is_short);
        let count = 6 - left_out.iter().filter(|left_out| **left_out).count();
        let mut unit = serializer.serialize_struct("FitUnit", count)?;
        unit.serialize_field("dataset", dataset)?;
        unit.serialize_field("task", task)?;
        unit.serialize_field("features", features)?;
        unit.serialize_field("fits", fits)?;
        if !left_out[0] {
            unit.serialize_field("validated_on", validated_on)?;
        }
        if !left_out[1] {
            unit.serialize_field("training_class", training_class)?;
        }
        unit.end()
    }
}

/// A fit unit as any plan holds it: the first ones had one fit each, written without a list.
#[derive(Deserialize)]
struct StoredFitUnit {
    dataset: DatasetId,
    task: TaskName,
    features: FeatureSource,
    #[serde(default)]
    fits: Vec<Fit>,
    // Beside `fits`, as some encodings go by place.
    #[serde(default)]
    validated_on: Option<Pooling>,
    #[serde(default)]
    training_class: Option<String>,
    #[serde(default)]
    identity: Option<FitIdentity>,
    #[serde(default)]
    probe: Option<ProbeSpec>,
}

impl FitUnit {
    /// Whether it makes maps; such a unit does nothing else.
    pub fn is_attribution(&self) -> bool {
        self.fits.iter().any(|fit| fit.probe.attribution().is_some())
    }

    /// The gLM that it runs with the numeric class it does so in; `None` for units that read what is stored.
    pub fn masked(&self) -> Option<&MaskedModel> {
        self.fits.iter().find_map(|fit| fit.probe.attribution()?.masked.as_ref())
    }

    /// Numeric class that a worker needs for it; `None` = any worker will do.
    pub fn required_class(&self) -> Option<&str> {
        let of_model = self.masked().map(|masked| masked.numeric_class.as_str());
        of_model.or(self.training_class.as_deref())
    }
}

impl From<StoredFitUnit> for FitUnit {
    fn from(stored: StoredFitUnit) -> Self {
        let StoredFitUnit { dataset, task, features, mut fits, identity, probe, .. } = stored;
        let StoredFitUnit { validated_on, training_class, .. } = stored;
        fits.extend(identity.zip(probe).map(|(identity, probe)| Fit { identity, probe }));
        Self { dataset, task, features, fits, validated_on, training_class }
    }
}

/// One fit of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// As people name it; copied into every score row.
    pub identity: FitIdentity,
    /// The probe.
    pub probe: ProbeSpec,
}

impl Fit {
    /// Digest of everything that decides the score.
    pub fn id(&self) -> &FitId {
        &self.identity.fit
    }

    /// One line for people: `ridge on mean of REST`, `rep-cnn x2 on full of HepG2, repeat 3`.
    pub fn label(&self) -> String {
        let FitIdentity { probe, representation, dataset, factor, fraction, repeat, .. } =
            &self.identity;
        if self.probe.attribution().is_some() {
            let model = self.identity.model.as_ref();
            let of_model = model.map_or_else(String::new, |name| format!(" and {name}"));
            return format!("maps of {probe}{of_model} on {dataset}");
        }
        let mut label = probe.clone();
        if *factor != 1.0 {
            label.push_str(&format!(" x{factor}"));
        }
        label.push_str(&format!(" on {representation} of {dataset}"));
        if let Some(trained_on) = &self.identity.trained_on {
            label.push_str(&format!(", trained on {trained_on}"));
        }
        if *fraction != 1.0 {
            label.push_str(&format!(", fraction {fraction}"));
        }
        if *repeat > 0 {
            label.push_str(&format!(", repeat {repeat}"));
        }
        label
    }
}

/// Gathers the scores of a job into tables, figures and one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportUnit {
    /// The job.
    pub job: JobId,
}

/// One unit of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "a worker holds a unit or two, never a list")]
pub enum WorkUnit {
    /// See [`PrepareUnit`].
    Prepare(PrepareUnit),
    /// See [`ExtractUnit`].
    Extract(ExtractUnit),
    /// See [`FitUnit`].
    Fit(FitUnit),
    /// See [`ReportUnit`].
    Report(ReportUnit),
}

impl WorkUnit {
    /// `prepare`, `extract`, `fit` or `report`.
    pub fn kind(&self) -> UnitKind {
        match self {
            Self::Prepare(_) => UnitKind::Prepare,
            Self::Extract(_) => UnitKind::Extract,
            Self::Fit(_) => UnitKind::Fit,
            Self::Report(_) => UnitKind::Report,
        }
    }

    /// One line for people: `extract NT 0-1000`.
    pub fn label(&self) -> String {
        match self {
            Self::Prepare(unit) => format!("prepare {}", unit.name),
            Self::Extract(unit) => {
                format!("extract {} {}-{}", unit.set.model.name, unit.start, unit.end)
            }
            Self::Fit(unit) => match &unit.fits[..] {
                [] => "fit".to_owned(),
                [fit] => format!("fit {}", fit.label()),
                [fit, others @ ..] => format!("fit {} and {} more", fit.label(), others.len()),
            },
            Self::Report(_) => "report".to_owned(),
        }
    }
}

/// The stages of a job, in the order they can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// Source to examples.
    Prepare,
    /// Examples to embeddings.
    Extract,
    /// Embeddings to scores.
    Fit,
    /// Scores to report.
    Report,
}

impl UnitKind {
    /// All stages in order.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Extract, Self::Fit, Self::Report];

    /// `prepare`, `extract`, `fit` or `report`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Extract => "extract",
            Self::Fit => "fit",
            Self::Report => "report",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_what_differs_from_the_paper() {
        let label = |probe: ProbeSpec| probe.label();
        assert_eq!(label(ProbeSpec::Ridge { alpha: 0.001 }), "ridge");
        assert_eq!(label(ProbeSpec::Ridge { alpha: 300.0 }), "ridge, alpha 300");
        let logistic = ProbeSpec::Logistic { c: 0.5, iterations_max: 7 };
        assert_eq!(label(logistic), "logistic, C 0.5, 7 iterations");
    }

    fn fit(fraction: f64, repeat: u32) -> Fit {
        let identity = FitIdentity {
            fit: FitId::new("f"),
            task: "insert-seq".to_owned(),
            dataset: "D".to_owned(),
            dataset_id: DatasetId::new("d"),
            model: None,
            model_id: None,
            layer: None,
            representation: "one-hot".to_owned(),
            probe: "rep-cnn".to_owned(),
            factor: 2.0,
            fraction,
            repeat,
            seed: 7,
            protocol: "published".to_owned(),
            trained_on: None,
        };
        Fit { identity, probe: ProbeSpec::LeastSquares }
    }

    #[test]
    fn records_of_units_name_only_what_is_there() {
        let unit = |training_class: Option<&str>| FitUnit {
            dataset: DatasetId::new("d"),
            task: TaskName::Regression,
            features: FeatureSource::Sequence(crate::representation::SequenceFeature::OneHot),
            fits: vec![fit(1.0, 0)],
            validated_on: None,
            training_class: training_class.map(str::to_owned),
        };
        for (class, keys) in [(None, 4), (Some("f32.cuda-sm90.1"), 5)] {
            let text = serde_json::to_string(&unit(class)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value.as_object().unwrap().len(), keys, "{text}");
            let read: FitUnit = serde_json::from_str(&text).unwrap();
            assert_eq!((read.required_class(), &read), (class, &unit(class)));
        }
    }

    #[test]
    fn a_fit_says_its_factor_fraction_and_repeat_where_they_are_not_plain() {
        assert_eq!(fit(0.5, 1).label(), "rep-cnn x2 on one-hot of D, fraction 0.5, repeat 1");
    }
}
