//! The layouts of the paper's archive: which data sets of a file make which examples.
//!
//! Leaves out: values (`onehot`, `targets`). Invariant: the data sets of one part have the same
//! number of rows, and all sequences of a file the same length.

use super::file::Hdf5File;
use super::labels::Hdf5Labels;
use super::letters::Letters;
use super::preprint_split;
use super::targets::{Rule, Targets};
use crate::dataset::{Hdf5Layout, TaskName};
use crate::error::{Error, InputError, Result};
use crate::example::Split;

/// Data sets that are read side by side: a split, a fold, or the whole file.
pub(super) struct Part {
    /// Where the rows belong.
    pub(super) splits: Splits,
    /// Ids are this, then the row.
    pub(super) id_prefix: String,
    /// Ids, where they are stored.
    pub(super) ids: Option<Hdf5Labels>,
    /// One or two data sets of sequences.
    pub(super) sequences: Vec<Letters>,
    /// Their targets.
    pub(super) targets: Option<Targets>,
    /// Rows of each.
    pub(super) rows: u64,
}

/// Where the rows of a part belong.
pub(super) enum Splits {
    /// Nowhere: the file stores no split.
    None,
    /// All to one split.
    One(Split),
    /// Each to its own.
    Each(Vec<Split>),
}

impl Splits {
    /// The split of one row.
    pub(super) fn of(&self, row: u64) -> Option<Split> {
        match self {
            Self::None => None,
            Self::One(split) => Some(*split),
            Self::Each(splits) => {
                usize::try_from(row).ok().and_then(|row| splits.get(row).copied())
            }
        }
    }
}

/// What a layout makes of the sequences of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One sequence.
    Single,
    /// One stored sequence whose halves are the left and the right window.
    Halves,
    /// Reference and alternative, which differ at one position.
    Pair,
}

impl Shape {
    /// Shape of the examples of `layout`.
    pub(super) fn of(layout: &Hdf5Layout) -> Self {
        match layout {
            Hdf5Layout::DeltaLogit => Self::Halves,
            Hdf5Layout::RefAlt => Self::Pair,
            _ => Self::Single,
        }
    }

    /// Names of the sequences of an example.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Single => &["sequence"],
            Self::Halves => &["left", "right"],
            Self::Pair => &["ref", "alt"],
        }
    }
}

/// The parts of `file` in the order of their rows, with every shape checked.
///
/// # Errors
/// `Invalid` for a key that is missing or ambiguous and a shape that does not fit.
pub(super) fn parts(file: &Hdf5File, layout: &Hdf5Layout, task: TaskName) -> Result<Vec<Part>> {
    match layout {
        Hdf5Layout::Binary => {
            // The user's own data may have many targets; the paper's tasks have one.
            let rule = match task {
                TaskName::Classification | TaskName::None => Rule::MultiBinary,
                _ => Rule::Binary,
            };
            splits(file, &["x"], rule)
        }
        Hdf5Layout::Regression => regression(file),
        Hdf5Layout::Insert => splits(file, &["x"], Rule::LogOfFirst),
        Hdf5Layout::DeltaLogit => splits(file, &["x"], Rule::DeltaLogit),
        Hdf5Layout::Folds => folds(file),
        Hdf5Layout::RefAlt => Ok(vec![part(file, None, &["ref", "alt"], None)?]),
        Hdf5Layout::Key(key) => Ok(vec![part(file, None, &[key], None)?]),
        Hdf5Layout::Keys(_) => Err(Error::bug("keys of the user's own are no layout")),
    }
}

/// `{stem}_train` with `y_train`, and so on for each split; the first stem the file has.
fn splits(file: &Hdf5File, stems: &[&str], rule: Rule) -> Result<Vec<Part>> {
    Split::ALL
        .into_iter()
        .map(|split| {
            let mut wanted = format!("{}_{split}", stems.first().copied().unwrap_or("x"));
            for stem in stems.iter().rev() {
                let key = format!("{stem}_{split}");
                if file.find(&key)?.is_some() {
                    wanted = key;
                }
            }
            part(file, Some(split), &[&wanted], Some((&format!("y_{split}"), rule)))
        })
        .collect()
}

/// The processed file of task 1, or the one of the preprint, which stores no split.
fn regression(file: &Hdf5File) -> Result<Vec<Part>> {
    let has_splits = file.find("onehot_train")?.is_some() || file.find("x_train")?.is_some();
    if !has_splits && file.find("onehot")?.is_some() {
        let mut part = part(file, None, &["onehot"], Some(("target", Rule::Real)))?;
        // Rows are bounded by the length of the file; above 2^32 the generator has no rule.
        let rows = u32::try_from(part.rows).map_err(|_| {
            InputError::new(&file.name, "onehot", "fewer than 2^32 rows", part.rows)
        })?;
        part.splits = Splits::Each(preprint_split::splits(rows as usize));
        return Ok(vec![part]);
    }
    splits(file, &["onehot", "x"], Rule::Real)
}

/// The raw folds of task 1: 1 to 8 are trained on, 9 is watched, 10 is scored.
fn folds(file: &Hdf5File) -> Result<Vec<Part>> {
    let mut missing = Vec::new();
    let mut complete = 0;
    for fold in 1..=10 {
        let mut keys = vec![format!("{fold}_x"), format!("{fold}_y")];
        for key in std::mem::take(&mut keys) {
            if file.find(&key)?.is_none() {
                keys.push(key);
            }
        }
        complete += u32::from(keys.is_empty());
        missing.append(&mut keys);
    }
    if !missing.is_empty() {
        let found =
            format!("{complete} complete folds: missing {}; {}", missing.join(", "), file.keys());
        let expected = "10 folds, 1_x and 1_y to 10_x and 10_y";
        return Err(InputError::new(&file.name, missing.join(", "), expected, found).into());
    }
    (1..=10)
        .map(|fold| {
            let split = match fold {
                ..=8 => Split::Train,
                9 => Split::Valid,
                _ => Split::Test,
            };
            let targets = format!("{fold}_y");
            let mut part =
                part(file, Some(split), &[&format!("{fold}_x")], Some((&targets, Rule::Real)))?;
            part.id_prefix = format!("fold{fold}-");
            Ok(part)
        })
        .collect()
}

/// Opens the data sets of one part and compares their rows.
pub(super) fn part(
    file: &Hdf5File,
    split: Option<Split>,
    sequences: &[&str],
    targets: Option<(&str, Rule)>,
) -> Result<Part> {
    let sequences = sequences
        .iter()
        .map(|key| Letters::open(file, &file.require(key)?))
        .collect::<Result<Vec<_>>>()?;
    let targets = match targets {
        Some((key, rule)) => Some(Targets::open(file, &file.require(key)?, rule)?),
        None => None,
    };
    let mut keys_and_rows: Vec<(&str, u64)> =
        sequences.iter().map(|letters| (letters.key(), letters.rows())).collect();
    keys_and_rows.extend(targets.iter().map(|t| (t.array.key(), t.array.rows())));
    let rows = keys_and_rows.first().map_or(0, |(_, rows)| *rows);
    if let Some((first, (other, found))) = keys_and_rows
        .first()
        .map(|(key, _)| *key)
        .zip(keys_and_rows.iter().find(|(_, other)| *other != rows))
    {
        return Err(rows_differ(file, (first, rows), (other, *found)));
    }
    let id_prefix = split.map_or_else(|| "row".to_owned(), |split| format!("{split}-"));
    let splits = split.map_or(Splits::None, Splits::One);
    Ok(Part { splits, id_prefix, ids: None, sequences, targets, rows })
}

pub(super) fn rows_differ(file: &Hdf5File, first: (&str, u64), other: (&str, u64)) -> Error {
    let place = format!("{}, {}", first.0, other.0);
    let expected = format!("{} rows as in {}", first.1, first.0);
    InputError::new(&file.name, place, expected, format!("{} rows in {}", other.1, other.0)).into()
}

/// Checks that every sequence of `parts` has `length` nucleotides, or that of the first; texts are checked as they
/// are read, and only if a length is asked for.
///
/// # Errors
/// `Invalid` with the data set whose sequences have another length.
pub(super) fn check_lengths(
    file: &Hdf5File,
    parts: &mut [Part],
    shape: Shape,
    length: Option<u64>,
) -> Result<()> {
    let mut expected = length;
    let sides = if shape == Shape::Halves { 2 } else { 1 };
    for letters in parts.iter_mut().flat_map(|part| &mut part.sequences) {
        let Some(stored) = letters.length() else {
            letters.insist(length.map(|length| length.saturating_mul(sides)));
            continue;
        };
        let found = stored / sides;
        if stored % sides == 1 {
            let found = format!("length {stored}");
            let expected = "left and right halves of one length";
            return Err(InputError::new(&file.name, letters.key(), expected, found).into());
        }
        let wanted = *expected.get_or_insert(found);
        if found != wanted {
            let wanted = format!("sequences of length {wanted}");
            let found = format!("length {found}");
            return Err(InputError::new(&file.name, letters.key(), wanted, found).into());
        }
    }
    Ok(())
}
