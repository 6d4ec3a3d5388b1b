//! HDF5 in the layouts of the paper's archive, as examples; and stored embeddings, as rows.
//!
//! Leaves out: links, virtual data sets and external storage, which are refused; the structure
//! channels of eCLIP files, which are skipped. Invariant: memory is bounded by windows of rows,
//! and a shape is compared with the length of the file before anything is allocated.

mod array;
mod element;
mod file;
mod keyed;
pub(in crate::readers) mod labels;
mod layouts;
mod letters;
mod onehot;
mod preprint_split;
mod targets;
#[cfg(test)]
mod tests;

pub use array::{Array, float_arrays, read_array};

use crate::dataset::{Hdf5Layout, TaskName};
use crate::dna::DnaSequence;
use crate::error::{InputError, Result};
use crate::example::{Example, ExampleSchema};
use crate::readers::ExampleReader;
use crate::readers::splicing::STUDY_TISSUES;
use file::Hdf5File;
use layouts::{Part, Shape, Splits};
use std::collections::VecDeque;
use std::path::Path;

/// Examples of an HDF5 file: train, then valid, then test, each in file order.
///
/// Ids are `train-0`, `fold1-0` or, where the file stores no split, `row0`. The preprint's
/// lentiMPRA file stays in file order; its split is worked out by row.
pub struct Hdf5Reader {
    file: String,
    schema: ExampleSchema,
    shape: Shape,
    parts: VecDeque<Part>,
    /// Row in the first part.
    row: u64,
}

impl Hdf5Reader {
    /// Opens `path` in `layout` and checks every key, type and shape.
    ///
    /// `length` insists on a length of each sequence in nucleotides; for splicing that of one
    /// side. Without it all splits must have one length. `task` decides whether binary data may
    /// have several targets: that of the paper's tasks is one.
    ///
    /// # Errors
    /// `NotFound` without the file, `Invalid` with file, key, expected and found.
    pub fn open(
        path: &Path,
        layout: &Hdf5Layout,
        task: TaskName,
        length: Option<u64>,
    ) -> Result<Self> {
        let file = Hdf5File::open(path)?;
        let mut parts = match layout {
            Hdf5Layout::Keys(keys) => keyed::parts(&file, keys, task)?,
            layout => layouts::parts(&file, layout, task)?,
        };
        let shape = Shape::of(layout);
        layouts::check_lengths(&file, &mut parts, shape, length)?;
        let mut names = None;
        for targets in parts.iter().filter_map(|part| part.targets.as_ref()) {
            let found = targets.names();
            let expected = names.get_or_insert_with(|| found.clone());
            if *expected != found {
                let expected = format!("{} targets as in the first split", expected.len());
                let found = format!("{} targets", found.len());
                return Err(targets.array.shape_defect(expected, found));
            }
        }
        let schema = ExampleSchema {
            sequences: shape.names().iter().map(|&name| name.to_owned()).collect(),
            targets: names.unwrap_or_default(),
            has_intervals: false,
            has_splits: parts.iter().all(|part| !matches!(part.splits, Splits::None)),
        };
        Ok(Self { file: file.name, schema, shape, parts: parts.into(), row: 0 })
    }
}

impl ExampleReader for Hdf5Reader {
    fn schema(&self) -> &ExampleSchema {
        &self.schema
    }

    fn read(&mut self, rows: usize) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        while examples.len() < rows {
            let Some(part) = self.parts.front_mut() else { break };
            if self.row >= part.rows {
                self.parts.pop_front();
                self.row = 0;
                continue;
            }
            examples.push(next_example(&self.file, self.shape, part, self.row)?);
            self.row += 1;
        }
        Ok(examples)
    }

    /// The archive's splicing file has no names; its order is that of the study.
    fn target_titles(&self) -> Vec<String> {
        match self.shape {
            Shape::Halves => STUDY_TISSUES.iter().map(|&name| name.to_owned()).collect(),
            _ => Vec::new(),
        }
    }
}

fn next_example(file: &str, shape: Shape, part: &mut Part, row: u64) -> Result<Example> {
    let mut stored = Vec::with_capacity(part.sequences.len());
    for letters in &mut part.sequences {
        match letters.next(row)? {
            Some(sequence) => stored.push(sequence),
            None => {
                let place = format!("{} row {row}", letters.key());
                return Err(InputError::new(file, place, "a row", "corrupt storage: none").into());
            }
        }
    }
    let targets = match &mut part.targets {
        Some(targets) => targets.next(row)?,
        None => Vec::new(),
    };
    if shape == Shape::Pair {
        check_pair(file, part, &stored, row)?;
    }
    let id = match &mut part.ids {
        Some(ids) => ids.read(1)?.pop().unwrap_or_default(),
        None => format!("{}{row}", part.id_prefix),
    };
    Ok(Example {
        id,
        sequences: if shape == Shape::Halves { halves(&stored) } else { stored },
        interval: None,
        split: part.splits.of(row),
        targets,
    })
}

/// The left and the right window of a stored splicing sequence.
fn halves(stored: &[DnaSequence]) -> Vec<DnaSequence> {
    let letters = stored.first().map_or(&[][..], DnaSequence::as_bytes);
    let (left, right) = letters.split_at(letters.len() / 2);
    [left, right]
        .map(|half| DnaSequence::new(half).expect("part of a sequence is a sequence"))
        .into()
}

/// Reference and alternative differ at the variant, which sits at L/2 - 1, and nowhere else.
fn check_pair(file: &str, part: &Part, pair: &[DnaSequence], row: u64) -> Result<()> {
    let [reference, alternative] = pair else { return Ok(()) };
    let variant = (reference.len() / 2).saturating_sub(1);
    let letters = reference.as_bytes().iter().zip(alternative.as_bytes());
    let differing: Vec<usize> =
        letters.enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index).collect();
    if differing == [variant] && reference.len() == alternative.len() {
        return Ok(());
    }
    let keys: Vec<&str> = part.sequences.iter().map(letters::Letters::key).collect();
    let shown: Vec<String> = differing.iter().take(8).map(usize::to_string).collect();
    let found = match differing.len() {
        0 => "no difference".to_owned(),
        count => format!("{count} differing positions: {}", shown.join(", ")),
    };
    let place = format!("{} row {row}", keys.join(", "));
    let expected = format!("a difference at one position, {variant}");
    Err(InputError::new(file, place, expected, found).into())
}
