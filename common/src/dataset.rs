//! What a data set is read from, as plain values: the checked form of a `[[dataset]]` table.
//!
//! Leaves out: reading (`readers`). Invariant: a source describes every option that changes what
//! is read, so its digest with the digests of its files identifies the data set.

use crate::split_rule::SplitRule;
use crate::variant::Indels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod raw;

pub use raw::{Negatives, PeakSet, PsiSet, PsiSplit, PsiTable};

/// One benchmark task of the paper, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Task 1: regulatory activity, lentiMPRA; one or more real targets; Pearson.
    LentiMpra,
    /// Task 2: TF binding, ChIP-seq; binary; AUROC, AUPR, accuracy.
    ChipSeq,
    /// Task 3: CAGI5 variants as ref/alt pairs; Pearson.
    VariantEffect,
    /// Task 4: alternative splicing; left and right windows, 56 tissues; Spearman.
    Splicing,
    /// Task 5: INSERT-seq elongation potential; real; Pearson, MSE.
    InsertSeq,
    /// Task 6: RBP binding, eCLIP; binary; AUROC, AUPR, accuracy.
    Eclip,
    /// The user's own real-valued targets.
    Regression,
    /// The user's own binary targets.
    Classification,
    /// Sequences without targets: embedded, never probed.
    #[default]
    None,
}

impl TaskName {
    /// Every task, with its name in a job file.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::LentiMpra, "lenti-mpra"),
        (Self::ChipSeq, "chip-seq"),
        (Self::VariantEffect, "variant-effect"),
        (Self::Splicing, "splicing"),
        (Self::InsertSeq, "insert-seq"),
        (Self::Eclip, "eclip"),
        (Self::Regression, "regression"),
        (Self::Classification, "classification"),
        (Self::None, "none"),
    ];

    /// Name in a job file.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(task, _)| *task == self).map_or("none", |(_, name)| name)
    }

    /// Whether a source may say that some of its targets are missing.
    pub fn may_lack_targets(self) -> bool {
        matches!(self, Self::Regression | Self::Classification)
    }

    /// Whether targets are 0 or 1.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::ChipSeq | Self::Eclip | Self::Classification)
    }
}

/// Columns of a table by name. Empty = not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableColumns {
    /// Column of the sequence.
    pub sequence: String,
    /// Column of the id; `None` = rows are numbered `row0`, `row1`, …
    #[serde(default)]
    pub id: Option<String>,
    /// Column of the split; `None` = no split.
    #[serde(default)]
    pub split: Option<String>,
    /// Columns of the targets.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Whether a target may be missing: an empty cell, NA, NaN or null; such a value is in no loss and
    /// no statistic.
    #[serde(default, skip_serializing_if = "is_false")]
    pub missing: bool,
}

/// What reports call the average over several targets.
const MEAN_TARGET: &str = "mean";

impl TableColumns {
    /// The first target whose rows of scores would be taken for others: its column, expected and found.
    pub(crate) fn confused_target(&self) -> Option<(&str, &'static str, String)> {
        for (index, name) in self.targets.iter().enumerate() {
            if self.targets.iter().take(index).any(|known| known == name) {
                return Some((name, "targets that differ", format!("{name} twice")));
            }
            if self.targets.len() > 1 && name == MEAN_TARGET {
                let expected = "another name beside other targets, whose average is called so";
                return Some((name, expected, format!("target {name}")));
            }
        }
        None
    }
}

/// Says to serde that a field stands as it did before it was there, so that content ids stay.
fn is_false(value: &bool) -> bool {
    !value
}

/// HDF5 layouts of the paper's archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hdf5Layout {
    /// `x_S` (N, 4 or 9, L) or (N, L, 4), `y_S` (N, 1) binary. Tasks 2 and 6.
    Binary,
    /// `1_x` … `10_x` (n, L, 4), `1_y` … `10_y` (n,): folds 1-8 train, 9 valid, 10 test. Task 1 raw.
    Folds,
    /// `onehot_S` (N, L, 4) or `x_S`, optional `seq_S`, `y_S` (N, 1) real. Task 1 processed.
    Regression,
    /// `X_S` (N, L, 4), `Y_S` (N, k): target = ln(column 0 + 1). Task 5.
    Insert,
    /// `x_S` (N, 800, 4) = left then right 400, `y_S` (N, 56, 2). Task 4.
    DeltaLogit,
    /// `ref`, `alt` (N, L, 4). Task 3.
    RefAlt,
    /// One data set of sequences under this key, no targets.
    Key(String),
    /// The user's own keys.
    Keys(Hdf5Keys),
}

/// Keys of the user's own HDF5 file; their case is ignored.
///
/// A key with `{split}` in it stands for one data set per split, and then all of them do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hdf5Keys {
    /// Sequences: one-hot (N, L, 4) or (N, 4, L), or strings (N,).
    pub sequence: String,
    /// Targets, (N,) or (N, targets); `None` = there are none.
    #[serde(default)]
    pub targets: Option<String>,
    /// Names of splits, (N,); `None` = no split, or the splits of the keys.
    #[serde(default)]
    pub split: Option<String>,
    /// Ids, (N,); `None` = rows are numbered.
    #[serde(default)]
    pub id: Option<String>,
    /// Whether a target may be NaN, which is in no loss and no statistic.
    #[serde(default)]
    pub missing: bool,
}

/// Where examples come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetSource {
    /// FASTA, plain, gzip or bgzip.
    Fasta {
        /// The file.
        path: PathBuf,
    },
    /// BED (3 to 12 columns) cut from a genome.
    Bed {
        /// The intervals.
        path: PathBuf,
        /// The genome, FASTA.
        genome: PathBuf,
        /// Centre a window of this length on each interval; `None` = the interval itself.
        window: Option<u64>,
    },
    /// narrowPeak cut from a genome around the summit.
    NarrowPeak {
        /// The peaks.
        path: PathBuf,
        /// The genome, FASTA.
        genome: PathBuf,
        /// Window length centred on the summit; `None` = the interval itself.
        window: Option<u64>,
    },
    /// Windows over a genome, enumerated lazily.
    Windows {
        /// The genome, FASTA; a `.fai` beside it is used or made in memory.
        genome: PathBuf,
        /// Window length in nucleotides.
        window: u64,
        /// Distance between window starts in nucleotides.
        stride: u64,
        /// Windows with a larger share of undefined letters than this are skipped.
        undefined_share_max: f64,
    },
    /// TSV or CSV with a header line, plain or gzip.
    Table {
        /// The file.
        path: PathBuf,
        /// Which column is what.
        columns: TableColumns,
    },
    /// HDF5 in a layout of the paper's archive.
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// Which layout.
        layout: Hdf5Layout,
        /// Sequence length to insist on in nucleotides.
        length: Option<u64>,
    },
    /// Parquet with named columns.
    Parquet {
        /// The file.
        path: PathBuf,
        /// Which column is what.
        columns: TableColumns,
    },
    /// Variants with their windows, cut from a genome or stored; see
    /// [`VariantExamples`](crate::readers::variants::examples::VariantExamples).
    Variants {
        /// The files, sorted. Their names are part of the data set: they tell formats and elements.
        paths: Vec<PathBuf>,
        /// Tables that stand beside stored windows.
        companions: Vec<PathBuf>,
        /// The genome, FASTA; `None` = windows are stored.
        genome: Option<PathBuf>,
        /// Window length in nucleotides; `None` = that of the stored ones.
        window: Option<u64>,
        /// Elements that are read; empty = all.
        elements: Vec<String>,
        /// Columns of a table that are called otherwise than usual, by our names.
        columns: BTreeMap<String, String>,
        /// What happens to variants that are no exchange of one base.
        indels: Indels,
    },
    /// Another source, its examples divided into splits by a rule.
    Divided {
        /// The source, which stores no splits.
        source: Box<DatasetSource>,
        /// The rule.
        rule: SplitRule,
    },
    /// Exons with their percent spliced in, cut from a genome. Task 4 from public inputs.
    Splicing(PsiSet),
    /// Peaks and drawn negatives, cut from a genome. Tasks 2 and 6 from public inputs.
    Peaks(PeakSet),
    /// TFRecord as the preprint of the study stored its embeddings, with one-hot sequences.
    Tfrecord {
        /// `statistics.json`, then every `{split}-{i}.tfr` beside it. Their names count, their folder
        /// does not.
        files: Vec<PathBuf>,
    },
    /// A data set of the study's archive, known by task and name; stands between the check of a job
    /// and its plan, which has what it is read from in its place.
    Archive {
        /// Folder the archive was unpacked to.
        root: PathBuf,
        /// The set's name within its task.
        set: String,
        /// Where it lies below `root`, if not where the archive has it.
        file: Option<PathBuf>,
        /// A genome, FASTA, for sets that are cut from one.
        genome: Option<PathBuf>,
    },
}

impl DatasetSource {
    /// Every file that is read; the first names the source.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Fasta { path }
            | Self::Table { path, .. }
            | Self::Hdf5 { path, .. }
            | Self::Parquet { path, .. } => vec![path],
            Self::Bed { path, genome, .. } | Self::NarrowPeak { path, genome, .. } => {
                vec![path, genome]
            }
            Self::Windows { genome, .. } => vec![genome],
            Self::Variants { paths, companions, genome, .. } => {
                paths.iter().chain(companions).chain(genome).map(PathBuf::as_path).collect()
            }
            Self::Divided { source, .. } => source.paths(),
            Self::Splicing(set) => set.paths(),
            Self::Peaks(set) => set.paths(),
            Self::Tfrecord { files } => files.iter().map(PathBuf::as_path).collect(),
            Self::Archive { root, .. } => vec![root],
        }
    }

    /// Whether examples are cut from the source on demand rather than prepared in the store.
    pub fn is_lazy(&self) -> bool {
        matches!(self, Self::Windows { .. })
    }
}
