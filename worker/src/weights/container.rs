//! Finds the files of a path and opens each as what its content says.
//!
//! Leaves out: the containers themselves. Invariant: a shard is a plain file name beside its index,
//! never a path.

use super::storage::MappedFile;
use super::{Tensor, keras, legacy, safetensors, torch};
use crate::json;
use glmeval_common::error::{ErrorKind, InputError, Result, io_error};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names Hugging Face gives to weights, the preferred one first.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Endings of other files of weights that may stand alone in a folder.
const ENDINGS: [&str; 4] = ["ckpt", "pth", "pt", "h5"];

/// The file of weights that `path` names: itself, or the one in that folder.
pub(super) fn locate(path: &Path) -> Result<PathBuf> {
    let metadata = std::fs::metadata(path).map_err(|e| io_error(path, e))?;
    if !metadata.is_dir() {
        return Ok(path.to_owned());
    }
    if let Some(file) = NAMES.iter().map(|name| path.join(name)).find(|file| file.exists()) {
        return Ok(file);
    }
    let entries = std::fs::read_dir(path).map_err(|e| io_error(path, e))?;
    let ends = |file: &PathBuf| {
        let ending = file.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| ENDINGS.contains(&ending))
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(ends).collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] => {
            let expected = format!("one of {} or a .{}", NAMES.join(", "), ENDINGS.join(", ."));
            Err(InputError::new(path.display(), "", expected, "no weights").into())
        }
        [first, second, ..] => {
            let found = format!("{} and {}", first.display(), second.display());
            Err(InputError::new(path.display(), "", "one file of weights", found).into())
        }
    }
}

/// Lists the tensors of a file or, for an index, of its shards.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    if path.extension().is_some_and(|ending| ending == "json") {
        return open_index(path);
    }
    let file = MappedFile::open(path)?;
    let bytes = file.bytes();
    if bytes.starts_with(b"PK") {
        return torch::open(&file);
    }
    if bytes.starts_with(legacy::MAGIC) {
        return legacy::open(&file);
    }
    if bytes.starts_with(keras::SIGNATURE) {
        return keras::open(&file);
    }
    if bytes.starts_with(b"version https://git-lfs") {
        let expected = "weights (zip, pickle, HDF5 or safetensors)";
        return Err(file.defect("line 1", expected, "a Git LFS pointer"));
    }
    let named = path.extension().is_some_and(|ending| ending == "safetensors");
    if named || bytes.get(8) == Some(&b'{') {
        return safetensors::open(&file);
    }
    let found = match bytes {
        [] => "an empty file (0 bytes)".to_owned(),
        _ => format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(16)])),
    };
    Err(file.defect("byte 0", "weights (zip, pickle, HDF5 or safetensors)", found))
}

fn open_index(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let defect = |place: &str, expected: &str, found: &str| {
        InputError::new(path.display(), place, expected, found)
    };
    let index = json::read(path)?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        let found = index.get("weight_map").map_or("missing".to_owned(), json::describe);
        return Err(defect("weight_map", "an object (tensor to file)", &found).into());
    };
    let mut by_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in map {
        let place = format!("weight_map: {tensor}");
        let Value::String(shard) = shard else {
            return Err(defect(&place, "a string", &json::describe(shard)).into());
        };
        let plain = Path::new(shard).file_name().is_some_and(|name| *name == **shard);
        if !plain || shard.contains(['/', '\\']) || shard.ends_with(".json") {
            return Err(defect(&place, "a file name inside the folder", shard).into());
        }
        by_shard.entry(shard).or_default().push(tensor);
    }
    let mut tensors = BTreeMap::new();
    // Listed after the named ones, so that a comparison with a model shows them.
    let mut unnamed = BTreeMap::new();
    for (shard, names) in by_shard {
        let file = path.with_file_name(shard);
        let mut held = open(&file).map_err(|error| match error.kind() {
            ErrorKind::NotFound => defect(shard, "a file beside the index", "missing").into(),
            _ => error,
        })?;
        for name in names {
            let Some(tensor) = held.remove(name) else {
                let place = format!("weight_map: {name}");
                return Err(defect(&place, &format!("a tensor of {shard}"), "missing").into());
            };
            tensors.insert(name.to_owned(), tensor);
        }
        unnamed.extend(held);
    }
    for (name, tensor) in unnamed {
        tensors.entry(name).or_insert(tensor);
    }
    Ok(tensors)
}
