//! Maps of a set from a file: one value for each nucleotide of each sequence.
//!
//! Leaves out: making maps. Invariant: a map has no value behind the end of its sequence, where files
//! have NaN.

use crate::weights::Weights;
use glmeval_common::error::{InputError, Result};
use std::path::Path;

/// Names of tensors that an error lists.
const NAMES_SHOWN_MAX: usize = 12;

/// Reads the maps of the tensor `name`, `[sequences, length]` floats; without a name, of the only such
/// tensor.
///
/// # Errors
/// `NotFound` or `Invalid` with file, tensor, expected and found.
pub fn read_maps(path: &Path, name: Option<&str>) -> Result<Vec<Vec<f64>>> {
    let file = Weights::open(path)?;
    let defect = |place: String, expected: &str, found: String| {
        InputError::new(path.display(), place, expected, found)
    };
    let are_maps = file.tensors().filter(|(_, tensor)| tensor.shape().len() == 2);
    let names: Vec<&str> = are_maps.map(|(name, _)| name).take(NAMES_SHOWN_MAX).collect();
    let listed = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name,
        (None, &[only]) => only,
        (None, _) => {
            let expected = "one tensor of maps, [sequences, length], or its name";
            return Err(defect(String::new(), expected, listed).into());
        }
    };
    let Some(tensor) = file.tensor(name) else {
        return Err(defect(format!("tensor {name}"), "maps of that name", listed).into());
    };
    let &[_, length] = tensor.shape() else {
        let (place, found) = (format!("tensor {name}"), format!("{:?}", tensor.shape()));
        return Err(defect(place, "the shape [sequences, length]", found).into());
    };
    let values = tensor.read_f32()?;
    let map = |row: &[f32]| {
        let end = row.iter().rposition(|value| !value.is_nan()).map_or(0, |last| last + 1);
        row.iter().take(end).map(|value| f64::from(*value)).collect()
    };
    Ok(values.chunks(length.max(1)).map(map).collect())
}

/// Checks that there is a map for each sequence, as long as the sequence is.
///
/// # Errors
/// `Invalid` with the first that differs.
pub fn check_maps(path: &Path, maps: &[Vec<f64>], lengths: &[usize]) -> Result<()> {
    if maps.len() != lengths.len() {
        let expected = format!("{} maps, one for each sequence", lengths.len());
        return Err(InputError::new(path.display(), "", expected, maps.len()).into());
    }
    for (row, (map, length)) in maps.iter().zip(lengths).enumerate() {
        if map.len() != *length {
            let expected = format!("{length} values, one for each nucleotide");
            return Err(
                InputError::new(path.display(), format!("map {row}"), expected, map.len()).into()
            );
        }
    }
    Ok(())
}
