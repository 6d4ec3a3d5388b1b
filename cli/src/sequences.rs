//! Arguments that name sequences for motifs: FASTA, or a column of a table.
//!
//! Leaves out: intervals of genomes. Invariant: sequences and ids come in the order of the file.

use crate::source_arguments::file_and_name;
use clap::{ArgGroup, Args};
use glmeval_common::dataset::{DatasetSource, TableColumns, TaskName};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::{Error, Result};
use glmeval_common::readers;
use std::path::{Path, PathBuf};

/// Examples of one read.
const ROWS_PER_READ: usize = 1_024;

/// Where sequences come from.
#[derive(Args)]
#[command(group(ArgGroup::new("sequences").required(true).args(["fasta", "tsv"])))]
pub(crate) struct SequenceArguments {
    /// FASTA, plain, gzip or bgzip.
    #[arg(long)]
    fasta: Option<PathBuf>,
    /// TSV or CSV file and column of the sequence.
    #[arg(long, value_name = "FILE:COLUMN", value_parser = file_and_name)]
    tsv: Option<(PathBuf, String)>,
    /// Column of the ids of --tsv [default: rows are numbered].
    #[arg(long, value_name = "COLUMN", requires = "tsv")]
    id_column: Option<String>,
}

/// Sequences with their ids.
pub(crate) struct Sequences {
    /// File, for messages.
    pub(crate) path: PathBuf,
    /// One for each sequence.
    pub(crate) ids: Vec<String>,
    /// In the order of the file.
    pub(crate) sequences: Vec<DnaSequence>,
}

impl SequenceArguments {
    /// The file and its argument.
    pub(crate) fn file(&self) -> Option<(&'static str, &Path)> {
        match (&self.fasta, &self.tsv) {
            (Some(path), _) => Some(("--fasta", path)),
            (None, Some((path, _))) => Some(("--tsv", path)),
            (None, None) => None,
        }
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` with file, place, expected and found.
    pub(crate) fn read(&self) -> Result<Sequences> {
        let (path, source) = match (&self.fasta, &self.tsv) {
            (Some(path), _) => (path, DatasetSource::Fasta { path: path.clone() }),
            (None, Some((path, sequence))) => {
                let (sequence, id) = (sequence.clone(), self.id_column.clone());
                let columns = TableColumns { sequence, id, ..TableColumns::default() };
                (path, DatasetSource::Table { path: path.clone(), columns })
            }
            (None, None) => return Err(Error::bug("neither --fasta nor --tsv")),
        };
        let mut reader = readers::open(&source, TaskName::None)?;
        let (mut ids, mut sequences) = (Vec::new(), Vec::new());
        loop {
            let examples = reader.read(ROWS_PER_READ)?;
            if examples.is_empty() {
                return Ok(Sequences { path: path.clone(), ids, sequences });
            }
            for example in examples {
                ids.push(example.id);
                sequences.extend(example.sequences.into_iter().take(1));
            }
        }
    }
}

impl Sequences {
    /// The sequence called `record`, or the first; and its place.
    ///
    /// # Errors
    /// `Invalid` if there is none of that name.
    pub(crate) fn pick(&self, record: Option<&str>) -> Result<(usize, &DnaSequence)> {
        let place = match record {
            Some(record) => self.ids.iter().position(|id| id == record),
            None => Some(0),
        };
        let found = place.and_then(|place| Some((place, self.sequences.get(place)?)));
        found.ok_or_else(|| {
            let record = record.unwrap_or("any");
            let file = self.path.display();
            Error::invalid(format!("{file}: expected a sequence called {record}, found none"))
        })
    }
}
