//! Maps of a set from a file, each beside the sequence it belongs to.
//!
//! Leaves out: making maps. Invariants: a map has no value behind the end of its sequence, where files
//! have NaN; where a file says whose its maps are, order means nothing.

use crate::json::{self, JSON_BYTES_MAX};
use crate::weights::{Tensor, Weights};
use glmeval_common::error::{InputError, Result, io_error};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of tensors that an error lists.
const NAMES_SHOWN_MAX: usize = 12;
/// How the formats of this program's maps begin, which say whose the maps are.
const OWN_FORMATS: &str = "glmeval/maps/";

/// Maps of a file, found for the records of a file of sequences.
#[derive(Debug)]
pub struct MatchedMaps {
    path: PathBuf,
    maps: Vec<Vec<f64>>,
    /// Of each record, which map is its.
    matches: Vec<Match>,
}

/// Which map is a record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    At(usize),
    /// No map has its id.
    Missing,
    /// Several maps or several records have its id.
    Repeated,
}

/// Reads the maps of the tensor `name`, `[sequences, length]` floats, of the records called `ids`; without
/// a name, of the only such tensor.
///
/// A list `ids` in the header of the file says whose its maps are. Maps of other programs may have none:
/// then they must be as many as there are records, in their order.
///
/// # Errors
/// `NotFound` or `Invalid` with file, tensor, expected and found.
pub fn read_maps(path: &Path, name: Option<&str>, ids: &[String]) -> Result<MatchedMaps> {
    let file = Weights::open(path)?;
    let (name, tensor) = tensor(&file, path, name)?;
    let defect = |place: String, expected: &str, found: String| {
        InputError::new(path.display(), place, expected, found)
    };
    let &[count, length] = tensor.shape() else {
        let (place, found) = (format!("tensor {name}"), format!("{:?}", tensor.shape()));
        return Err(defect(place, "the shape [sequences, length]", found).into());
    };
    let matches = match stored_ids(file.path())? {
        Some(stored) if stored.len() != count => {
            let expected = format!("{count} ids, one for each map");
            return Err(defect("header".to_owned(), &expected, stored.len().to_string()).into());
        }
        Some(stored) => matched(&stored, ids),
        None if count != ids.len() => {
            let expected =
                format!("{} maps, one for each sequence, as it has no ids of them", ids.len());
            return Err(defect(String::new(), &expected, count.to_string()).into());
        }
        None => (0..count).map(Match::At).collect(),
    };
    let values = tensor.read_f32()?;
    let map = |row: &[f32]| {
        let end = row.iter().rposition(|value| !value.is_nan()).map_or(0, |last| last + 1);
        row.iter().take(end).map(|value| f64::from(*value)).collect()
    };
    let maps = values.chunks(length.max(1)).map(map).collect();
    Ok(MatchedMaps { path: path.to_owned(), maps, matches })
}

impl MatchedMaps {
    /// The map of the record at `place`, called `id`, which has `length` nucleotides.
    ///
    /// # Errors
    /// `Invalid` for a record without a map, or with several; for a map of another length.
    pub fn of(&self, (place, id): (usize, &str), length: usize) -> Result<&[f64]> {
        let defect = |expected: String, found: String| {
            InputError::new(self.path.display(), format!("sequence {id}"), expected, found)
        };
        let found = match self.matches.get(place).copied().unwrap_or(Match::Missing) {
            Match::At(row) => self.maps.get(row),
            Match::Missing => None,
            Match::Repeated => {
                let expected = "one map and one sequence of that id".to_owned();
                return Err(defect(expected, "several".to_owned()).into());
            }
        };
        let Some(map) = found else {
            let found = format!("none among {}", self.maps.len());
            return Err(defect("a map of that id".to_owned(), found).into());
        };
        if map.len() != length {
            let expected = format!("{length} values, one for each nucleotide");
            return Err(defect(expected, map.len().to_string()).into());
        }
        Ok(map)
    }
}

/// The tensor of maps and its name.
fn tensor<'w>(file: &'w Weights, path: &Path, name: Option<&str>) -> Result<(String, &'w Tensor)> {
    let are_maps = file.tensors().filter(|(_, tensor)| tensor.shape().len() == 2);
    let names: Vec<&str> = are_maps.map(|(name, _)| name).take(NAMES_SHOWN_MAX).collect();
    let listed = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name,
        (None, &[only]) => only,
        (None, _) => {
            let expected = "one tensor of maps, [sequences, length], or its name";
            return Err(InputError::new(path.display(), "", expected, listed).into());
        }
    };
    let place = format!("tensor {name}");
    let tensor = file
        .tensor(name)
        .ok_or_else(|| InputError::new(path.display(), place, "maps of that name", listed))?;
    Ok((name.to_owned(), tensor))
}

/// Which of the maps called `stored` each record has.
fn matched(stored: &[String], ids: &[String]) -> Vec<Match> {
    let mut places: BTreeMap<&str, Match> = BTreeMap::new();
    for (row, id) in stored.iter().enumerate() {
        places.entry(id).and_modify(|found| *found = Match::Repeated).or_insert(Match::At(row));
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    ids.iter().for_each(|id| *counts.entry(id).or_default() += 1);
    let of = |id: &String| match places.get(id.as_str()).copied() {
        Some(Match::At(_)) if counts.get(id.as_str()).is_some_and(|count| *count > 1) => {
            Match::Repeated
        }
        found => found.unwrap_or(Match::Missing),
    };
    ids.iter().map(of).collect()
}

/// The ids of maps in the header of a safetensors file; `None` for maps in the order of their sequences.
fn stored_ids(path: &Path) -> Result<Option<Vec<String>>> {
    let Some(header) = header(path)? else { return Ok(None) };
    let header = json::parse(path.display(), "header", &header)?;
    let text = |key: &str| header.get("__metadata__")?.get(key)?.as_str();
    let defect = |expected: &str, found: &str| {
        InputError::new(path.display(), "header: __metadata__", expected, found)
    };
    let is_own = text("format").is_some_and(|format| format.starts_with(OWN_FORMATS));
    match (text("ids"), text("order")) {
        (Some(ids), _) => match serde_json::from_str(ids) {
            Ok(ids) => Ok(Some(ids)),
            Err(_) => Err(defect("ids as a JSON list of texts", "another text").into()),
        },
        // Maps without either may be in the order of their ranks.
        (None, None) if is_own => {
            Err(defect("ids of the maps (`glmeval attribute` writes them)", "none").into())
        }
        (None, _) => Ok(None),
    }
}

/// The JSON header of a safetensors file; `None` for files of another kind.
fn header(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |e| io_error(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    // Where other kinds begin, eight bytes are a larger number.
    if length > JSON_BYTES_MAX as u64 {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(failed)?;
    Ok(Some(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{MapFile, MapKind};

    /// Maps of two values, the first of which is the row.
    fn written(folder: &Path, rows: u64, texts: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("maps.safetensors");
        let texts = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        let kinds = [MapKind::Saliency];
        let mut file = MapFile::new(&path, &kinds, (rows, 2), &texts.collect()).unwrap();
        (0..rows).for_each(|row| file.push(&[vec![vec![row as f32, 7.0]]]).unwrap());
        file.finish().unwrap();
        path
    }

    fn read(texts: &[(&str, &str)], rows: u64, ids: &str) -> Result<MatchedMaps> {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<String> = ids.chars().map(String::from).collect();
        read_maps(&written(folder.path(), rows, texts), None, &ids)
    }

    fn refusal(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().chain()
    }

    #[test]
    fn maps_are_found_by_id_whatever_their_order() {
        let maps = read(&[("ids", r#"["c","a"]"#)], 2, "abc").unwrap();
        assert_eq!(maps.of((0, "a"), 2).unwrap(), [1.0, 7.0]);
        assert_eq!(maps.of((2, "c"), 2).unwrap(), [0.0, 7.0]);
        let missing = refusal(maps.of((1, "b"), 2));
        assert!(missing.contains("sequence b: expected a map of that id, found none among 2"));
        let long = refusal(maps.of((0, "a"), 3));
        assert!(long.contains("sequence a: expected 3 values"), "{long}");
    }

    #[test]
    fn an_id_that_stands_twice_says_nothing() {
        let maps = read(&[("ids", r#"["a","a","b","c"]"#)], 4, "abbc").unwrap();
        for (place, id) in [(0, "a"), (1, "b"), (2, "b")] {
            let found = refusal(maps.of((place, id), 2));
            assert!(found.contains("expected one map and one sequence of that id"), "{found}");
        }
        assert_eq!(maps.of((3, "c"), 2).unwrap(), [3.0, 7.0]);
    }

    #[test]
    fn maps_without_ids_are_as_many_as_the_sequences() {
        assert_eq!(read(&[], 2, "ab").unwrap().of((1, "b"), 2).unwrap(), [1.0, 7.0]);
        let few = refusal(read(&[("format", "theirs")], 3, "abcd"));
        assert!(few.contains("expected 4 maps, one for each sequence"), "{few}");
        assert!(few.ends_with("found 3"), "{few}");
        let own = ("format", "glmeval/maps/1");
        let unknown = refusal(read(&[own], 2, "ab"));
        assert!(unknown.contains("expected ids of the maps"), "{unknown}");
        read(&[own, ("order", "source")], 2, "ab").unwrap();
        let other = refusal(read(&[own, ("ids", r#"["a"]"#)], 2, "ab"));
        assert!(other.contains("expected 2 ids, one for each map, found 1"), "{other}");
        assert!(refusal(read(&[("ids", "a,b")], 2, "ab")).contains("a JSON list of texts"));
    }
}
