//! Surveys: one streaming pass over a source that counts and checks every example before anything runs.
//!
//! Leaves out: keeping examples. Invariant: the id of a data set is a digest of the bytes of its files
//! and of every reader option, never of a path.

use crate::dataset::{DatasetSource, TaskName};
use crate::digest::{ContentDigest, sha256_file};
use crate::error::{Error, Result};
use crate::ids::DatasetId;
use crate::leakage::{Found, Leakage, LeakageSearch};
use crate::plan::DatasetFacts;
use crate::readers::windows::{WindowOptions, WindowReader};
use crate::readers::{self, ExampleReader};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Examples read at a time.
const ROWS_PER_READ: usize = 1_024;

/// Counts and checks the examples of `source`; lazy windows are counted from the genome's index.
///
/// # Errors
/// `Invalid` with file, place, expected and found at the first defect; `NotFound` for a missing file.
pub fn survey(source: &DatasetSource, task: TaskName) -> Result<DatasetFacts> {
    let id = dataset_id(source, task)?;
    if let DatasetSource::Windows { genome, window, .. } = source {
        let options = WindowOptions::of(source).expect("the variant was matched");
        let reader = WindowReader::open(genome, options, None)?;
        let rows = reader.index().count();
        return Ok(DatasetFacts {
            id,
            schema: reader.schema().clone(),
            rows,
            nucleotides: rows.saturating_mul(*window),
            length_min: *window,
            length_max: *window,
            split_rows: BTreeMap::new(),
            notes: Vec::new(),
            leakage: Vec::new(),
            target_titles: Vec::new(),
        });
    }
    let mut reader = readers::open(source, task)?;
    let (mut facts, found) = count(id, reader.as_mut(), source)?;
    facts.leakage = found
        .into_iter()
        .map(|found| named(readers::open(source, task)?.as_mut(), found))
        .collect::<Result<_>>()?;
    Ok(facts)
}

fn count(
    id: DatasetId,
    reader: &mut dyn ExampleReader,
    source: &DatasetSource,
) -> Result<(DatasetFacts, Vec<Found>)> {
    let mut search = LeakageSearch::default();
    let mut facts = DatasetFacts {
        id,
        schema: reader.schema().clone(),
        rows: 0,
        nucleotides: 0,
        length_min: u64::MAX,
        length_max: 0,
        split_rows: BTreeMap::new(),
        notes: Vec::new(),
        leakage: Vec::new(),
        target_titles: Vec::new(),
    };
    loop {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            break;
        }
        for example in &examples {
            search.add(facts.rows, example);
            facts.rows += 1;
            for sequence in &example.sequences {
                let length = sequence.len() as u64;
                facts.nucleotides += length;
                facts.length_min = facts.length_min.min(length);
                facts.length_max = facts.length_max.max(length);
            }
            if let Some(split) = example.split {
                *facts.split_rows.entry(split.name().to_owned()).or_default() += 1;
            }
        }
    }
    facts.notes = reader.notes();
    facts.target_titles = reader.target_titles();
    if facts.rows == 0 {
        let path = source.paths().first().map_or(String::new(), |path| path.display().to_string());
        return Err(Error::invalid(format!("{path}: expected at least one example, found 0 rows")));
    }
    Ok((facts, search.finish()))
}

/// What was found, with the ids of its pair, which a second reading gives.
fn named(reader: &mut dyn ExampleReader, found: Found) -> Result<Leakage> {
    let Found { mut leakage, rows } = found;
    let (mut row, last) = (0_u64, rows[0].max(rows[1]));
    while row <= last {
        let examples = reader.read(ROWS_PER_READ)?;
        if examples.is_empty() {
            break;
        }
        for (id, wanted) in leakage.example.iter_mut().zip(rows) {
            let place = wanted.checked_sub(row).and_then(|place| usize::try_from(place).ok());
            if let Some(example) = place.and_then(|place| examples.get(place)) {
                id.clone_from(&example.id);
            }
        }
        row += examples.len() as u64;
    }
    Ok(leakage)
}

/// The content id of a source: bytes of its files, reader options, task rules, format version.
///
/// # Errors
/// As [`sha256_file`].
pub fn dataset_id(source: &DatasetSource, task: TaskName) -> Result<DatasetId> {
    let mut digest = ContentDigest::new("dataset/1").field("task", task.name());
    for path in source.paths() {
        digest = digest.field("file", sha256_file(path)?);
    }
    let options = serde_json::to_string(&without_paths(source))
        .map_err(|e| Error::bug("encode a data set source").with_source(e))?;
    Ok(DatasetId::new(digest.field("options", options).finish()))
}

/// Refuses a source whose files or options are no longer those of the planned data set.
///
/// # Errors
/// `Invalid` naming the first file when they differ; as [`dataset_id`].
pub fn check_unchanged(source: &DatasetSource, task: TaskName, planned: &DatasetId) -> Result<()> {
    let found = dataset_id(source, task)?;
    if found == *planned {
        return Ok(());
    }
    let path = source.paths().first().map_or(String::new(), |path| path.display().to_string());
    let defect = Error::invalid(format!(
        "{path}: expected the data set {planned} that was planned, found {found}: the file has changed"
    ));
    Err(defect.of_place())
}

/// The source with every path emptied: moving a file does not make another data set.
fn without_paths(source: &DatasetSource) -> DatasetSource {
    let mut source = source.clone();
    match &mut source {
        DatasetSource::Fasta { path }
        | DatasetSource::Table { path, .. }
        | DatasetSource::Hdf5 { path, .. }
        | DatasetSource::Parquet { path, .. } => *path = PathBuf::new(),
        DatasetSource::Bed { path, genome, .. }
        | DatasetSource::NarrowPeak { path, genome, .. } => {
            (*path, *genome) = (PathBuf::new(), PathBuf::new());
        }
        DatasetSource::Windows { genome, .. } => *genome = PathBuf::new(),
        DatasetSource::Variants { paths, companions, genome, .. } => {
            for path in paths {
                // Names of files tell formats and elements.
                *path = path.file_name().map(PathBuf::from).unwrap_or_default();
            }
            companions.iter_mut().chain(genome).for_each(|path| *path = PathBuf::new());
        }
        DatasetSource::Divided { source, .. } => **source = without_paths(source),
        DatasetSource::Splicing(set) => set.clear_paths(),
        DatasetSource::Peaks(set) => set.clear_paths(),
        // Names of TFRecord files tell split and order.
        DatasetSource::Tfrecord { files } => {
            for file in files {
                *file = file.file_name().map_or_else(PathBuf::new, PathBuf::from);
            }
        }
        DatasetSource::Archive { root, .. } => *root = PathBuf::new(),
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_file_is_the_same_data_set_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            dataset_id(&DatasetSource::Fasta { path }, TaskName::None).unwrap()
        };
        let first = write("a.fa", ">s\nACGT\n");
        assert_eq!(first, write("b.fa", ">s\nACGT\n"));
        assert_ne!(first, write("c.fa", ">s\nACGA\n"));
    }

    #[test]
    fn a_file_that_changed_since_it_was_planned_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.fa");
        std::fs::write(&path, ">s\nACGT\n").unwrap();
        let source = DatasetSource::Fasta { path: path.clone() };
        let planned = dataset_id(&source, TaskName::None).unwrap();
        check_unchanged(&source, TaskName::None, &planned).unwrap();
        std::fs::write(&path, ">s\nACGA\n").unwrap();
        let error = check_unchanged(&source, TaskName::None, &planned).unwrap_err().chain();
        assert!(error.contains("a.fa") && error.contains("has changed"), "{error}");
    }
}
