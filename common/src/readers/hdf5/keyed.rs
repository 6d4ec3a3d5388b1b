//! The user's own keys: which data sets of a file make which examples.
//!
//! Leaves out: values (`onehot`, `targets`, `labels`). Invariant: splits come from the keys, from a data
//! set of names or from a rule, never from two of them.

use super::file::Hdf5File;
use super::labels::Hdf5Labels;
use super::layouts::{Part, Splits, part, rows_differ};
use super::targets::Rule;
use crate::dataset::{Hdf5Keys, TaskName};
use crate::error::{InputError, Result};
use crate::example::Split;

/// Stands for the name of a split in a key.
pub(super) const SPLIT_IN_KEY: &str = "{split}";

/// The parts of `file` in the order of their rows, with every shape checked.
///
/// # Errors
/// `Invalid` for a key that is missing and a shape that does not fit.
pub(super) fn parts(file: &Hdf5File, keys: &Hdf5Keys, task: TaskName) -> Result<Vec<Part>> {
    if !keys.sequence.contains(SPLIT_IN_KEY) {
        return Ok(vec![one(file, keys, task, None)?]);
    }
    let mut parts = Vec::new();
    for split in Split::ALL {
        let name = names(split).into_iter().find_map(|name| {
            let found = file.find(&keys.sequence.replace(SPLIT_IN_KEY, name));
            match found {
                Ok(None) => None,
                Ok(Some(_)) => Some(Ok(name)),
                Err(error) => Some(Err(error)),
            }
        });
        match name.transpose()? {
            Some(name) => parts.push(one(file, keys, task, Some((split, name)))?),
            None if split == Split::Valid => {}
            None => {
                let key = keys.sequence.replace(SPLIT_IN_KEY, split.name());
                let expected = format!("a dataset {key}");
                return Err(InputError::new(&file.name, key, expected, file.keys()).into());
            }
        }
    }
    Ok(parts)
}

/// Names that files have for a split.
fn names(split: Split) -> Vec<&'static str> {
    match split {
        Split::Train => vec!["train", "training"],
        Split::Valid => vec!["valid", "validation", "val", "dev"],
        Split::Test => vec!["test"],
    }
}

fn one(
    file: &Hdf5File,
    keys: &Hdf5Keys,
    task: TaskName,
    split: Option<(Split, &str)>,
) -> Result<Part> {
    let name = split.map_or("", |(_, name)| name);
    let spelled = |key: &String| key.replace(SPLIT_IN_KEY, name);
    let rule = match (task.is_binary(), keys.missing) {
        (true, true) => Rule::BinaryOrMissing,
        (true, false) => Rule::MultiBinary,
        (false, true) => Rule::RealOrMissing,
        (false, false) => Rule::Real,
    };
    let targets = keys.targets.as_ref().map(spelled);
    let sequence = spelled(&keys.sequence);
    let targets = targets.as_deref().map(|key| (key, rule));
    let mut part = part(file, split.map(|(split, _)| split), &[&sequence], targets)?;
    let beside = |key: &String| -> Result<Hdf5Labels> {
        let labels = Hdf5Labels::of(file, &file.require(&spelled(key))?)?;
        if labels.rows() != part.rows {
            let first = (sequence.as_str(), part.rows);
            return Err(rows_differ(file, first, (labels.key(), labels.rows())));
        }
        Ok(labels)
    };
    let ids = keys.id.as_ref().map(beside).transpose()?;
    if let Some(key) = &keys.split {
        let mut labels = beside(key)?;
        let rows = usize::try_from(part.rows).unwrap_or(usize::MAX);
        let mut splits = Vec::new();
        for (row, value) in labels.read(rows)?.iter().enumerate() {
            splits.push(Split::parse(value).ok_or_else(|| {
                let place = format!("{} row {row}", labels.key());
                let expected = "train, valid or test; other values need a split rule";
                InputError::new(&file.name, place, expected, format!("{value:?}"))
            })?);
        }
        part.splits = Splits::Each(splits);
    }
    part.ids = ids;
    Ok(part)
}
