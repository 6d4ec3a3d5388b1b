//! Which files of a repository make a model.
//!
//! Leaves out: where they are. Invariant: one kind of weights is chosen, and the same one from a
//! server's list as from a folder.

use crate::json;
use glmeval_common::error::{InputError, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// Configuration and tokenizer, in the order of download; a repository may lack any of them.
pub(super) const SMALL: [&str; 5] = [
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];
/// Files that each hold a tokenizer's whole vocabulary.
const VOCABULARIES: [&str; 2] = ["vocab.txt", "tokenizer.json"];
/// Endings of weights with a free name, the preferred one first.
const ENDINGS: [&str; 4] = [".ckpt", ".pth", ".pt", ".h5"];
/// What a trainer leaves beside the weights, and weights of other frameworks.
const NEVER: [&str; 5] = ["optimizer", "scheduler", "rng_state", "training_args", "tf_model"];

/// The weights of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WeightFiles {
    /// One file with all tensors.
    Whole(String),
    /// An index that names the shards beside it.
    Index(String),
}

/// The weights among `names`: safetensors before torch before files with free names.
///
/// # Errors
/// The first two candidates where several files with free names are equally good.
pub(super) fn weights(names: &BTreeSet<String>) -> Result<Option<WeightFiles>, (String, String)> {
    for stem in ["model.safetensors", "pytorch_model.bin"] {
        let index = format!("{stem}.index.json");
        if names.contains(stem) {
            return Ok(Some(WeightFiles::Whole(stem.to_owned())));
        }
        if names.contains(&index) {
            return Ok(Some(WeightFiles::Index(index)));
        }
    }
    for ending in ENDINGS {
        let fits = |name: &&String| {
            let other = NEVER.iter().any(|never| name.starts_with(never));
            name.ends_with(ending) && !name.contains('/') && !other
        };
        let mut found = names.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(one), None) => return Ok(Some(WeightFiles::Whole(one.clone()))),
            (Some(one), Some(two)) => return Err((one.clone(), two.clone())),
            (None, _) => {}
        }
    }
    Ok(None)
}

/// Whether small files in `names` are enough to believe that a model can be loaded from them.
pub(super) fn has_small(names: &BTreeSet<String>) -> bool {
    names.contains("config.json") && VOCABULARIES.iter().any(|name| names.contains(*name))
}

/// The files that an index of weights names.
///
/// # Errors
/// `NotFound` or `Invalid` with file, key, expected and found.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let defect = |place: &str, expected: &str, found: &str| {
        InputError::new(index.display(), place, expected, found)
    };
    let text = json::read(index)?;
    let Some(Value::Object(map)) = text.get("weight_map") else {
        let found = text.get("weight_map").map_or("missing".to_owned(), json::describe);
        return Err(defect("weight_map", "an object (tensor to file)", &found).into());
    };
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let name = shard.as_str().filter(|name| is_safe(name) && !name.contains('/'));
        // Only weights: a hostile index must not name what is loaded in another way.
        let Some(name) = name.filter(|n| n.ends_with(".safetensors") || n.ends_with(".bin")) else {
            let place = format!("weight_map: {tensor}");
            return Err(defect(&place, "a file of weights", &json::describe(shard)).into());
        };
        shards.insert(name.to_owned());
    }
    Ok(shards)
}

/// Whether a name may be joined to a folder: relative, with plain parts, without surprises.
pub(super) fn is_safe(name: &str) -> bool {
    let plain = |part| matches!(part, Component::Normal(_));
    !name.is_empty()
        && !name.contains('\\')
        && !name.contains(char::is_control)
        && name.split('/').all(|part| !part.is_empty() && part != ".")
        && Path::new(name).components().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(list: &[&str]) -> Option<WeightFiles> {
        weights(&names(list)).unwrap()
    }

    #[test]
    fn safetensors_go_before_torch_and_shards_come_by_their_index() {
        let whole = |name: &str| Some(WeightFiles::Whole(name.to_owned()));
        let index = |name: &str| Some(WeightFiles::Index(name.to_owned()));
        assert_eq!(chosen(&["pytorch_model.bin", "model.safetensors"]), whole("model.safetensors"));
        assert_eq!(
            chosen(&["pytorch_model.bin", "model.safetensors.index.json", "model-1.safetensors"]),
            index("model.safetensors.index.json")
        );
        assert_eq!(
            chosen(&["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "x.ckpt"]),
            index("pytorch_model.bin.index.json")
        );
        assert_eq!(chosen(&["sei.pth", "rng_state_0.pth", "optimizer.pt"]), whole("sei.pth"));
        assert_eq!(chosen(&["weights.ckpt", "deep/other.ckpt"]), whole("weights.ckpt"));
        assert_eq!(chosen(&["flax_model.msgpack", "tf_model.h5", "model.onnx", "a.md"]), None);
    }

    #[test]
    fn two_equally_good_files_are_not_guessed_between() {
        let two = weights(&names(&["b.ckpt", "a.ckpt", "c.pth"])).unwrap_err();
        assert_eq!(two, ("a.ckpt".to_owned(), "b.ckpt".to_owned()));
    }

    #[test]
    fn names_outside_the_folder_are_not_safe() {
        for name in ["", "..", "a/../b", "/etc/passwd", "a\\b", "a//b", "./a", "a/", "a\0b", "a/."]
        {
            assert!(!is_safe(name), "{name:?}");
        }
        assert!(is_safe("onnx/model..onnx") && is_safe(".gitattributes"));
    }

    #[test]
    fn an_index_names_weights_beside_it_only() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for shard in ["\"../x.bin\"", "\"/x.bin\"", "\"config.json\"", "3", "\"a/x.safetensors\""] {
            std::fs::write(&index, format!(r#"{{"weight_map": {{"t": {shard}}}}}"#)).unwrap();
            assert!(shards(&index).unwrap_err().to_string().contains("weight_map: t"), "{shard}");
        }
        let text = r#"{"weight_map": {"t": "m-1.safetensors", "u": "m-1.safetensors"}}"#;
        std::fs::write(&index, text).unwrap();
        assert_eq!(shards(&index).unwrap(), names(&["m-1.safetensors"]));
    }
}
