//! Jobs: the TOML file as written ([`JobSpec`]) and the checked form ([`Job`]).
//!
//! Leaves out: anything that needs the files themselves (survey, plan).
//! Invariant: a [`Job`] has unique names, absolute paths and only references that resolve.

use crate::dataset::{DatasetSource, Hdf5Keys, Hdf5Layout, Negatives, TableColumns, TaskName};
use crate::effect::Score;
use crate::error::{InputError, Result, io_error};
use crate::model::{
    ModelOptions, Padding, Precision, SpecialTokens, UndefinedBase, UnknownLetters,
};
use crate::representation::{
    FullRows, MeanOver, Pooling, RepresentationOptions, StoredDtype, Strands,
};
use crate::variant::Indels;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod attribution;
mod check;
mod cost;
mod grid;
mod probe;
pub mod published;
mod raw;
mod schedule;
mod split;
#[cfg(test)]
mod tests;

pub use attribution::{AttributionTable, JobAttribution};
pub use cost::Prices;
pub use grid::{JobFeature, ProbeLayers, SetNames, SetsOfTask};
pub use probe::{
    EffectsChoice, JobProbe, LayerTable, NetworkChoice, NetworkKind, OrderName, ProbeChoice,
    ProbeTable, TrainingChanges,
};
pub use raw::{PathList, PsiSpec};
pub use schedule::JobSchedule;
pub use split::{ChromosomeChoice, ListedValue, SplitTable};

/// Whether the registered quirks of the published code are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// As the published numbers were made.
    #[default]
    Published,
    /// As the text intends.
    Corrected,
}

impl Protocol {
    /// `published` or `corrected`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Corrected => "corrected",
        }
    }
}

/// A job file as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Name shown in reports.
    pub name: String,
    /// Root seed of every random draw.
    #[serde(default)]
    pub seed: u64,
    /// Keep the published quirks or not.
    #[serde(default)]
    pub protocol: Protocol,
    /// Precision of every gLM that says none itself; left out = f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Examples per shard; left out = sized by time.
    #[serde(default)]
    pub shard_rows: Option<u64>,
    /// gLMs.
    #[serde(default, rename = "model")]
    pub models: Vec<ModelSpec>,
    /// Data sets.
    #[serde(default, rename = "dataset")]
    pub datasets: Vec<DatasetSpec>,
    /// What probes read.
    #[serde(default, rename = "representation")]
    pub representations: Vec<RepresentationSpec>,
    /// Probes.
    #[serde(default, rename = "probe")]
    pub probes: Vec<ProbeTable>,
    /// What device time costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Prices>,
    /// How it shares workers with other jobs; changes no result.
    #[serde(default)]
    pub schedule: Option<JobSchedule>,
    /// Attribution maps.
    #[serde(default, rename = "attribution", skip_serializing_if = "Vec::is_empty")]
    pub attributions: Vec<AttributionTable>,
}

/// One `[[model]]` table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name used by representations; left out = the published one's.
    #[serde(default)]
    pub name: String,
    /// Folder in Hugging Face layout or a published single file, relative to the job file; or
    /// `hf://org/name@revision`; left out = where the published one is fetched from.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
    /// Epsilon of every layer norm; left out = the config's.
    pub layer_norm_eps: Option<f64>,
    /// `refuse` or `replace` letters outside the vocabulary; left out = refuse.
    pub unknown_letters: Option<UnknownLetters>,
    /// `checkpoint`, `original` or `hugging-face`; left out = as published with the checkpoint.
    pub special_tokens: Option<SpecialTokens>,
    /// `unknown` or `pad`: what `N` becomes for GPN; left out = unknown.
    pub undefined_bases: Option<UndefinedBase>,
    /// Tokens every sequence is padded to; left out = no padding.
    pub pad_to: Option<u32>,
    /// `f32`, `bf16` or, on CUDA devices, `tf32` matrix products; left out = the job's.
    pub precision: Option<Precision>,
    /// Which checkpoint of the study it is, such as `nt-2b5-1000g`; gives name, place and habits.
    pub published: Option<String>,
    /// Seed that weights are drawn from instead of read; left out = read.
    pub random: Option<u32>,
    /// `attended` or `masked`: whether padding is seen; left out = attended as published, masked with
    /// `protocol = "corrected"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl ModelSpec {
    /// The choices it makes.
    pub fn options(&self) -> ModelOptions {
        self.options_over(ModelOptions::default())
    }

    /// The choices it makes, where it makes none those of `habits`.
    pub fn options_over(&self, habits: ModelOptions) -> ModelOptions {
        ModelOptions {
            layer_norm_eps: self.layer_norm_eps.or(habits.layer_norm_eps),
            unknown_letters: self.unknown_letters.unwrap_or(habits.unknown_letters),
            special_tokens: self.special_tokens.unwrap_or(habits.special_tokens),
            undefined_bases: self.undefined_bases.unwrap_or(habits.undefined_bases),
            pad_to: self.pad_to.or(habits.pad_to),
            precision: self.precision.unwrap_or(habits.precision),
            random: self.random.or(habits.random),
            quirk: None,
            padding: self.padding.unwrap_or(habits.padding),
        }
    }
}

/// One `[[dataset]]` table: exactly one of `fasta`, `bed`, `narrowpeak`, `windows`, `table`, `hdf5`, `parquet`,
/// `variants`, `psi`, `peaks`, `tfrecord`, `archive`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Name shown in score tables; left out with `names`.
    #[serde(default)]
    pub name: String,
    /// Task; decides targets and statistics.
    #[serde(default)]
    pub task: TaskName,
    /// FASTA file.
    pub fasta: Option<PathBuf>,
    /// BED file; needs `genome`.
    pub bed: Option<PathBuf>,
    /// narrowPeak file; needs `genome`.
    pub narrowpeak: Option<PathBuf>,
    /// Genome FASTA for `bed` and `narrowpeak`.
    pub genome: Option<PathBuf>,
    /// Genome FASTA to cut into windows; needs `window`, `stride`.
    pub windows: Option<PathBuf>,
    /// Window length in nucleotides.
    pub window: Option<u64>,
    /// Distance between window starts in nucleotides; left out = `window`.
    pub stride: Option<u64>,
    /// Windows with a larger share of undefined letters are skipped; left out = 0.5.
    pub undefined_share_max: Option<f64>,
    /// TSV or CSV file; needs `columns`.
    pub table: Option<PathBuf>,
    /// Parquet file; needs `columns`.
    pub parquet: Option<PathBuf>,
    /// Column names.
    pub columns: Option<TableColumns>,
    /// HDF5 file in a layout of the paper's archive.
    pub hdf5: Option<PathBuf>,
    /// HDF5 layout; left out = the task's.
    pub layout: Option<Hdf5Layout>,
    /// Sequence length of `hdf5` to insist on in nucleotides.
    pub length: Option<u64>,
    /// Files of variants; `*` and `?` in the name of a file stand for any letters. Needs `window` and
    /// `genome`, unless the files hold windows.
    pub variants: Option<Vec<PathBuf>>,
    /// Regulatory elements of `variants` to read; left out = all.
    pub elements: Option<Vec<String>>,
    /// Columns of `variants` that are called otherwise than usual: `{ effect = "log2_ratio" }`.
    pub variant_columns: Option<BTreeMap<String, String>>,
    /// `refuse` or `skip` variants that are no exchange of one base; left out = refuse.
    pub indels: Option<Indels>,
    /// Keys of an HDF5 file of the user's own; instead of `layout`.
    pub keys: Option<Hdf5Keys>,
    /// Rule that divides examples into splits; left out = as the source says.
    pub split: Option<SplitTable>,
    /// Tables of percent spliced in; need `genome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<PsiSpec>,
    /// Columns of the tissues of `psi`; left out = the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tissues: Option<Vec<String>>,
    /// narrowPeak or BED files of positives; need `genome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peaks: Option<PathList>,
    /// Negatives for `peaks`: `gc-matched` or `accessible`; left out = gc-matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negatives: Option<Negatives>,
    /// Open chromatin that negatives are drawn from, narrowPeak or BED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessible: Option<PathBuf>,
    /// Regions that no example of `peaks` may touch, BED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<PathBuf>,
    /// Whether negatives have the positives' chromosomes; left out = false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_chromosomes: Option<bool>,
    /// Seed of negatives and split of `peaks`; left out = the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Folder of TFRecord files with one-hot sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tfrecord: Option<PathBuf>,
    /// Folder of the study's archive; `hdf5` is then a path below it, where the file lies elsewhere.
    pub archive: Option<PathBuf>,
    /// Which of the task's sets in the archive; left out = the one of that name.
    pub set: Option<String>,
    /// A data set for each of these names, `{name}` in paths standing for it; `"all"` = every set that
    /// the archive has of the task.
    pub names: Option<SetNames>,
}

/// Which layers of a gLM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerChoice {
    /// `"last"` or `"all"`.
    Word(String),
    /// 1-based numbers; 0 = the input of the first block.
    List(Vec<u32>),
}

/// One `[[representation]]` table: exactly one of `model`, `one_hot`, `kmer`, `nucleotides`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepresentationSpec {
    /// Name of a `[[model]]`.
    pub model: Option<String>,
    /// Layers; left out = last.
    pub layers: Option<LayerChoice>,
    /// Poolings; left out = cls and mean.
    pub pooling: Option<Vec<Pooling>>,
    /// Number format on disk; left out = f32.
    pub dtype: Option<StoredDtype>,
    /// `forward` or `averaged` (with the reverse complement); left out = forward.
    pub strands: Option<Strands>,
    /// Tokens of pooling mean: `published`, `nucleotides` or `all`; left out = published.
    pub mean_over: Option<MeanOver>,
    /// Rows of pooling full: `tokens` or `nucleotides`; left out = tokens.
    pub full_rows: Option<FullRows>,
    /// `true` = one-hot.
    pub one_hot: Option<bool>,
    /// Length of k-mers to count.
    pub kmer: Option<u32>,
    /// `true` = shares of A, C, G and T.
    pub nucleotides: Option<bool>,
    /// Data sets of a gLM's representation; left out = all, of zero-shot scores all of variants.
    pub datasets: Option<Vec<String>>,
    /// `true` = scores of variants instead of states.
    pub zero_shot: Option<bool>,
    /// Scores of variants; left out = the study's for the gLM.
    pub scores: Option<Vec<Score>>,
    /// `true` = each score is averaged with that of the reverse complements.
    pub both_strands: Option<bool>,
    /// Tasks whose data sets it is computed on; left out = all.
    pub tasks: Option<Vec<TaskName>>,
    /// As in `[[model]]`, for this representation.
    pub pad_to: Option<u32>,
    /// As in `[[model]]`, for this representation.
    pub undefined_bases: Option<UndefinedBase>,
    /// As in `[[model]]`, for this representation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<Padding>,
}

/// A checked job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Path of the job file, for error messages.
    pub file: String,
    /// The file's text.
    pub toml: String,
    /// Name.
    pub name: String,
    /// Root seed.
    pub seed: u64,
    /// Quirks.
    pub protocol: Protocol,
    /// Examples per shard, if fixed.
    pub shard_rows: Option<u64>,
    /// gLMs.
    pub models: Vec<JobModel>,
    /// Data sets.
    pub datasets: Vec<JobDataset>,
    /// Representations of gLMs.
    pub embeddings: Vec<JobEmbedding>,
    /// Sequence features.
    pub features: Vec<JobFeature>,
    /// Probes.
    pub probes: Vec<JobProbe>,
    /// What device time costs, if that is told.
    pub prices: Option<Prices>,
    /// Attribution maps.
    pub attributions: Vec<JobAttribution>,
}

/// A checked gLM.
#[derive(Clone, Debug, PartialEq)]
pub struct JobModel {
    /// Name.
    pub name: String,
    /// Absolute path, or `hf://org/name@revision`.
    pub source: PathBuf,
    /// How it is opened.
    pub options: ModelOptions,
    /// Which of [`crate::model::published::ALL`] it is said to be.
    pub published: Option<String>,
}

/// A checked data set.
#[derive(Clone, Debug)]
pub struct JobDataset {
    /// Name.
    pub name: String,
    /// Task.
    pub task: TaskName,
    /// Source with absolute paths.
    pub source: DatasetSource,
}

/// A checked representation of a gLM.
#[derive(Clone, Debug)]
pub struct JobEmbedding {
    /// Index into [`Job::models`].
    pub model_index: usize,
    /// Layers; checked against the gLM when planned.
    pub layers: LayerChoice,
    /// Sorted poolings.
    pub poolings: Vec<Pooling>,
    /// Number format on disk.
    pub dtype: StoredDtype,
    /// How states become rows.
    pub options: RepresentationOptions,
    /// Key of the table in the job file, for error messages.
    pub key: String,
    /// Indices into [`Job::datasets`]; `None` = all.
    pub dataset_indices: Option<BTreeSet<usize>>,
    /// Scores of variants instead of states.
    pub zero_shot: Option<ZeroShot>,
}

/// Scores of variants that a representation asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZeroShot {
    /// Scores, sorted, without repeats; `None` = the study's for the gLM.
    pub scores: Option<Vec<Score>>,
    /// Tokens of the longest window by data set, where somebody counted them; see
    /// [`Published::pad_to`](crate::effect::Published::pad_to).
    pub longest: BTreeMap<usize, u64>,
}

impl Job {
    /// Reads and checks a job file.
    ///
    /// # Errors
    /// `Invalid` with file, line or key, the allowed values and the value found.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &|_| Vec::new())
    }

    /// As [`Job::read`], where `sets` names what an archive has of a task (`names = "all"`).
    ///
    /// # Errors
    /// As [`Job::read`].
    pub fn read_with(path: &Path, sets: &SetsOfTask<'_>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| io_error(path, e))?;
        let base = std::path::absolute(path).map_err(|e| io_error(path, e))?;
        let folder = base.parent().unwrap_or(Path::new("/"));
        // One job whichever way its path is written; a link to the file itself keeps the link's folder.
        let folder = std::fs::canonicalize(folder).map_err(|e| io_error(folder, e))?;
        Self::parse_with(&text, &path.display().to_string(), &folder, sets)
    }

    /// Checks the text of a job file; relative paths start at `folder`.
    ///
    /// # Errors
    /// As [`Job::read`].
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self> {
        Self::parse_with(text, file, folder, &|_| Vec::new())
    }

    fn parse_with(text: &str, file: &str, folder: &Path, sets: &SetsOfTask<'_>) -> Result<Self> {
        let spec: JobSpec = toml::from_str(text).map_err(|e| toml_error(text, file, &e))?;
        check::check(spec, text, (file, folder), sets)
    }

    /// Checks a job that was not read from a file; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Job::read`].
    pub fn from_spec(spec: JobSpec, name: &str, folder: &Path) -> Result<Self> {
        let text = toml::to_string(&spec)
            .map_err(|e| crate::error::Error::bug("write a job as TOML").with_source(e))?;
        check::check(spec, &text, (name, folder), &|_| Vec::new())
    }
}

fn toml_error(text: &str, file: &str, error: &toml::de::Error) -> InputError {
    let place = error.span().map_or(String::new(), |span| {
        let before = &text.as_bytes()[..span.start.min(text.len())];
        format!("line {}", before.iter().filter(|&&b| b == b'\n').count() + 1)
    });
    let found = error
        .span()
        .and_then(|span| text.get(span))
        .and_then(|snippet| snippet.lines().next())
        .unwrap_or("end of file");
    let message = error.message().replace('\n', " ");
    let expected = match message.split_once(", expected ") {
        Some((_, expected)) => expected,
        None => message.strip_prefix("missing ").unwrap_or(&message),
    };
    InputError::new(file, place, expected, format!("`{found}`"))
}
