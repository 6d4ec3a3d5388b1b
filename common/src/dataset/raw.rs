//! Data sets that are built from public inputs rather than read ready-made: exons, peaks, TFRecord.
//!
//! Leaves out: building (`readers::{splicing, peaks, tfrecord}`). Invariant: every choice that changes
//! an example stands here, so it feeds the data set's id.

use crate::example::Split;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Percent spliced in (PSI) of exons, in one table or one for each split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PsiSet {
    /// The tables, in the order of their examples.
    pub tables: Vec<PsiTable>,
    /// Genome FASTA that the exons' coordinates belong to.
    pub genome: PathBuf,
    /// Columns of the tissues; empty = the 56 of the study, in the order of the first table.
    pub tissues: Vec<String>,
}

/// One table of exons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PsiTable {
    /// TSV or CSV, plain or gzip.
    pub path: PathBuf,
    /// Where its exons belong.
    pub split: PsiSplit,
}

/// Where the exons of a table belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PsiSplit {
    /// Nowhere.
    None,
    /// All to this split.
    All(Split),
    /// To the split that this column names.
    Column(String),
}

/// Called peaks as positive examples, with as many negatives drawn from the genome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakSet {
    /// narrowPeak or BED files; several are read as one, such as those of replicates.
    pub peaks: Vec<PathBuf>,
    /// Genome FASTA that the peaks' coordinates belong to.
    pub genome: PathBuf,
    /// Length of every example in nucleotides.
    pub window: u64,
    /// Where negatives come from.
    pub negatives: Negatives,
    /// Open chromatin that negatives are drawn from, narrowPeak or BED.
    pub accessible: Option<PathBuf>,
    /// Regions that no example may touch, BED.
    pub exclude: Option<PathBuf>,
    /// As many negatives as positives on each chromosome, not only in total.
    pub same_chromosomes: bool,
    /// Seed of the draw of negatives and of the split.
    pub seed: u64,
    /// Whether the study's random split is drawn; `false` leaves the split to another rule.
    pub random_split: bool,
}

impl Default for PeakSet {
    fn default() -> Self {
        Self {
            peaks: Vec::new(),
            genome: PathBuf::new(),
            window: 200,
            negatives: Negatives::default(),
            accessible: None,
            exclude: None,
            same_chromosomes: false,
            seed: 0,
            random_split: true,
        }
    }
}

/// Where the negatives of a [`PeakSet`] come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Windows with the GC contents of the positives: anywhere, or in open chromatin where it is given.
    #[default]
    GcMatched,
    /// Windows of open chromatin, whatever their GC content.
    Accessible,
}

impl PsiSet {
    pub(super) fn paths(&self) -> Vec<&Path> {
        let tables = self.tables.iter().map(|table| table.path.as_path());
        tables.chain([self.genome.as_path()]).collect()
    }

    /// Empties every path: moving a file does not make another data set.
    pub(crate) fn clear_paths(&mut self) {
        for table in &mut self.tables {
            table.path = PathBuf::new();
        }
        self.genome = PathBuf::new();
    }
}

impl PeakSet {
    pub(super) fn paths(&self) -> Vec<&Path> {
        let others = [&self.accessible, &self.exclude].into_iter().flatten();
        let peaks = self.peaks.iter().chain([&self.genome]);
        peaks.chain(others).map(PathBuf::as_path).collect()
    }

    /// Empties every path: moving a file does not make another data set.
    pub(crate) fn clear_paths(&mut self) {
        let others = [&mut self.accessible, &mut self.exclude].into_iter().flatten();
        for path in self.peaks.iter_mut().chain([&mut self.genome]).chain(others) {
            *path = PathBuf::new();
        }
    }
}
