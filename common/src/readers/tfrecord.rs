//! TFRecord as the preprint of the study stored embeddings: `{split}-{i}.tfr` and `statistics.json`.
//!
//! Leaves out: writing, other schemas of records. Invariant: one record is in memory; the number of
//! records is compared with the statistics before a split counts as read.
//!
//! Source: the preprint's writer; its features are little-endian f16: `sequence` (the embedding),
//! `target` and, optionally, `onehot`.

use crate::dna::{BASES, DnaSequence};
use crate::error::{Error, InputError, Result, io_error};
use crate::example::{Example, ExampleSchema, Split};
use crate::limits::PARSER_ALLOCATION_BYTES_MAX;
use crate::readers::ExampleReader;
use crate::readers::text::batch;
use framing::FramedReader;
use half::f16;
use statistics::Statistics;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

mod framing;
mod payload;
pub mod statistics;
mod zlib;

/// Name of the file that describes the records beside it.
pub const STATISTICS_FILE: &str = "statistics.json";

/// One stored example.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Embedding, embed_length rows of embed_dim values.
    pub embedding: Vec<f32>,
    /// One per target.
    pub targets: Vec<f32>,
    /// The sequence, where it is stored as one-hot.
    pub sequence: Option<DnaSequence>,
}

/// Records of one split, in the order of its files.
pub struct RecordReader {
    statistics: Statistics,
    split: Split,
    first: PathBuf,
    rest: VecDeque<PathBuf>,
    current: Option<FramedReader>,
    records: u64,
}

/// `statistics.json` and every `{split}-{i}.tfr` of `folder`: splits in their order, then by number.
///
/// # Errors
/// `Invalid` for a folder without such files or with a gap in their numbers; as reading a folder.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: BTreeMap<(Split, u64), PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|e| io_error(folder, e))? {
        let path = entry.map_err(|e| io_error(folder, e))?.path();
        if let Some(key) = split_and_number(&path) {
            found.insert(key, path);
        }
    }
    let mut next: BTreeMap<Split, u64> = BTreeMap::new();
    for &(split, number) in found.keys() {
        let expected = next.entry(split).or_default();
        if number != *expected {
            let file = format!("{split}-{expected}.tfr");
            let found = format!("{split}-{number}.tfr without it");
            return Err(InputError::new(folder.display(), "", file, found).into());
        }
        *expected += 1;
    }
    if found.is_empty() {
        let expected = "files called train-0.tfr, valid-0.tfr, test-0.tfr";
        return Err(InputError::new(folder.display(), "", expected, "none").into());
    }
    Ok([folder.join(STATISTICS_FILE)].into_iter().chain(found.into_values()).collect())
}

/// Split and number of `{split}-{i}.tfr`.
fn split_and_number(path: &Path) -> Option<(Split, u64)> {
    let (split, number) = path.file_name()?.to_str()?.strip_suffix(".tfr")?.split_once('-')?;
    let split = Split::ALL.into_iter().find(|known| known.name() == split)?;
    Some((split, number.parse().ok()?))
}

impl RecordReader {
    /// Opens the records of `split` in `folder`.
    ///
    /// # Errors
    /// As [`list`]; `Invalid` for statistics that are absent or incomplete, and for a split without
    /// a file.
    pub fn open(folder: &Path, split: Split) -> Result<Self> {
        Self::new(&list(folder)?, split)
    }

    /// As [`RecordReader::open`], with files that [`list`] gave.
    fn new(files: &[PathBuf], split: Split) -> Result<Self> {
        let of_split = |path: &&PathBuf| split_and_number(path).is_some_and(|(s, _)| s == split);
        let rest: VecDeque<PathBuf> = files.iter().filter(of_split).cloned().collect();
        let Some(first) = rest.front().cloned() else {
            let folder = files.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
            let expected = format!("a file {split}-0.tfr");
            return Err(InputError::new(folder.display(), "", expected, "none").into());
        };
        let statistics = Statistics::read(&first)?;
        Ok(Self { statistics, split, first, rest, current: None, records: 0 })
    }

    /// What is known of the records.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The next record; `None` after the last.
    ///
    /// One record fewer than announced is taken: the preprint's writer lost its last.
    ///
    /// # Errors
    /// `Invalid` with file and number of the record; at the end with both numbers of records.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        loop {
            let Some(file) = &mut self.current else {
                let Some(path) = self.rest.pop_front() else {
                    return self.check_count().map(|()| None);
                };
                self.current = Some(FramedReader::open(&path)?);
                continue;
            };
            let decoded = file.next_payload()?.map(|payload| decode(payload, &self.statistics));
            match decoded {
                None => self.current = None,
                Some(Ok(record)) => {
                    self.records += 1;
                    return Ok(Some(record));
                }
                Some(Err(Misfit { detail, expected, found })) => {
                    return Err(file.defect_in_last(&detail, expected, found));
                }
            }
        }
    }

    fn check_count(&self) -> Result<()> {
        let announced = self.statistics.records(self.split);
        if announced == self.records || announced == self.records + 1 {
            return Ok(());
        }
        let place = format!("{STATISTICS_FILE}, {}_seqs", self.split);
        let expected = format!("{announced} records in all files of the split");
        let found = format!("{} records", self.records);
        Err(InputError::new(self.first.display(), place, expected, found).into())
    }
}

/// What does not fit in a record, and where.
struct Misfit {
    detail: String,
    expected: String,
    found: String,
}

fn decode(payload: &[u8], statistics: &Statistics) -> Result<Record, Misfit> {
    let feature = |name: &str, count: usize, meaning: &str| -> Result<Vec<f32>, Misfit> {
        let misfit = |expected: String, found: String| {
            let detail = format!("feature {name}");
            Misfit { detail, expected, found }
        };
        let bytes = payload::bytes_feature(payload, name).map_err(|found| {
            misfit("a serialised tf.train.Example".to_owned(), found.to_owned())
        })?;
        let bytes =
            bytes.ok_or_else(|| misfit("a feature of bytes".to_owned(), "none".to_owned()))?;
        let (values, rest) = bytes.as_chunks();
        if values.len() != count || !rest.is_empty() {
            let expected = format!("{} bytes: {meaning} of 2 bytes", count.saturating_mul(2));
            return Err(misfit(expected, format!("{} bytes", bytes.len())));
        }
        Ok(values.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect())
    };
    let Statistics { embed_length, embed_dim, num_targets, onehot_length, .. } = *statistics;
    let meaning = format!("embed_length {embed_length} x embed_dim {embed_dim} values");
    let embedding = feature("sequence", embed_length * embed_dim, &meaning)?;
    let targets = feature("target", num_targets, &format!("num_targets {num_targets} values"))?;
    if let Some(index) = targets.iter().position(|target| !target.is_finite()) {
        let (expected, found) =
            ("finite numbers".to_owned(), format!("NaN or infinity at {index}"));
        return Err(Misfit { detail: "feature target".to_owned(), expected, found });
    }
    let sequence = match onehot_length {
        0 => None,
        length => {
            let meaning = format!("onehot_length {length} x 4 values");
            Some(letters(&feature("onehot", length * BASES.len(), &meaning)?)?)
        }
    };
    Ok(Record { embedding, targets, sequence })
}

/// Letters of one-hot rows; a row of zeros is `N`.
fn letters(onehot: &[f32]) -> Result<DnaSequence, Misfit> {
    let (rows, _) = onehot.as_chunks::<4>();
    let letter = |(position, row): (usize, &[f32; 4])| {
        let mut set = row.iter().zip(BASES).filter(|(value, _)| **value == 1.0);
        let is_onehot = row.iter().all(|&value| value == 0.0 || value == 1.0);
        match (is_onehot, set.clone().count()) {
            (true, 0) => Ok(b'N'),
            (true, 1) => Ok(set.next().map_or(b'N', |(_, base)| base)),
            _ => Err(Misfit {
                detail: format!("feature onehot, position {position}"),
                expected: "0 and at most one 1".to_owned(),
                found: format!("{row:?}"),
            }),
        }
    };
    let letters = rows.iter().enumerate().map(letter).collect::<Result<Vec<u8>, Misfit>>()?;
    Ok(DnaSequence::new(letters).expect("A, C, G, T and N are IUPAC letters"))
}

/// Stored sequences with their targets: train, then valid, then test. Ids are `train-0` and so on.
pub struct TfrecordReader {
    splits: VecDeque<RecordReader>,
    row: u64,
    schema: ExampleSchema,
}

impl TfrecordReader {
    /// Opens files that [`list`] gave.
    ///
    /// # Errors
    /// `Invalid` for statistics that are absent, incomplete or tell of no one-hot sequences.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        let splits: std::collections::BTreeSet<Split> =
            files.iter().filter_map(|path| split_and_number(path)).map(|(s, _)| s).collect();
        let splits = splits
            .into_iter()
            .map(|split| RecordReader::new(files, split))
            .collect::<Result<VecDeque<_>>>()?;
        let Some(reader) = splits.front() else {
            return Err(Error::invalid("a TFRecord data set: expected files, found none"));
        };
        if reader.statistics.onehot_length == 0 {
            let place = format!("{STATISTICS_FILE}, onehot_length");
            let expected = "at least 1: a data set needs the sequences, stored as one-hot";
            return Err(InputError::new(reader.first.display(), place, expected, 0).into());
        }
        let targets = match reader.statistics.num_targets {
            1 => vec!["target".to_owned()],
            count => (0..count).map(|index| format!("target_{index}")).collect(),
        };
        let schema = ExampleSchema { targets, has_splits: true, ..ExampleSchema::sequences_only() };
        Ok(Self { splits, row: 0, schema })
    }

    fn next_example(&mut self) -> Result<Option<Example>> {
        while let Some(reader) = self.splits.front_mut() {
            if let Some(record) = reader.next_record()? {
                let split = reader.split;
                let id = format!("{split}-{}", self.row);
                self.row += 1;
                let sequences = record.sequence.into_iter().collect();
                let (split, targets) = (Some(split), record.targets);
                return Ok(Some(Example { id, sequences, interval: None, split, targets }));
            }
            self.splits.pop_front();
            self.row = 0;
        }
        Ok(None)
    }
}

impl ExampleReader for TfrecordReader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        batch::collect(rows, || self.next_example())
    }
}
