//! Containers of weights and model configs against golden and hostile files.

use glmeval_common::error::{Error, Result};
use glmeval_tests::{golden, hostile};
use glmeval_worker::config::esm::EsmConfig;
use glmeval_worker::weights::Weights;
use std::path::{Path, PathBuf};

/// Opens weights and takes every tensor, as a model would.
fn take_all(path: &Path) -> Result<Weights> {
    let weights = Weights::open(path)?;
    for (name, tensor) in weights.tensors() {
        weights.take_f32(name, tensor.shape())?;
    }
    Ok(weights)
}

/// Folders of models whose config is an ESM config.
fn esm_folders() -> Vec<PathBuf> {
    let is_esm = |folder: &PathBuf| {
        let config = folder.join("config.json");
        config.exists() && golden::json(&config)["architectures"].to_string().contains("Esm")
    };
    golden::folders("models").into_iter().filter(is_esm).collect()
}

fn esm_config() -> EsmConfig {
    EsmConfig::read(&golden::fixture("models/nt-v1-tiny")).expect("a good config")
}

#[test]
fn hostile_safetensors_are_refused_with_file_place_expected_and_found() {
    let config = esm_config();
    hostile::check(&["safetensors", "safetensors.index"], |case| {
        let weights = take_all(&case.path);
        weights.and_then(|weights| config.check_weights(&weights)).map_err(|e| e.chain())
    });
}

#[test]
fn hostile_torch_files_are_refused_with_file_place_expected_and_found() {
    hostile::check(&["torch", "torch.index"], |case| {
        take_all(&case.path).map(drop).map_err(|e| e.chain())
    });
}

#[test]
fn hostile_configs_are_refused_with_file_key_expected_and_found() {
    let home = tempfile::tempdir().expect("a temporary folder");
    hostile::check(&["config"], |case| {
        let folder = case.put_over(home.path());
        let check = || EsmConfig::read(&folder)?.check_weights(&Weights::open(&folder)?);
        check().map_err(|e: Error| e.chain())
    });
}

#[test]
fn golden_esm_configs_agree_with_their_weights() {
    let folders = esm_folders();
    let is_there = !folders.is_empty() || golden::is_elsewhere();
    assert!(is_there, "no ESM model in {}", golden::root().display());
    for folder in folders {
        let weights = Weights::open(&folder).unwrap_or_else(|e| panic!("{}", e.chain()));
        let config = EsmConfig::read(&folder).unwrap_or_else(|e| panic!("{}", e.chain()));
        config.check_weights(&weights).unwrap_or_else(|e| panic!("{}", e.chain()));
        let comparison = weights.compare(&config.expected_tensors());
        let is_whole = comparison.unexpected.is_empty() || golden::is_elsewhere();
        assert!(is_whole, "{}: {:?}", folder.display(), comparison.unexpected);
        assert_eq!(weights.digest().expect("a digest").len(), 32);
    }
}

/// Every file of weights below `models/`, but not inputs, outputs and shards.
fn weight_files() -> Vec<PathBuf> {
    let endings = [".safetensors", ".bin", ".ckpt", ".pth", ".pt", ".index.json"];
    let mut files = Vec::new();
    for folder in golden::folders("models") {
        for path in std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_weights = endings.iter().any(|ending| name.ends_with(ending));
            let other = ["io.", "jax_", "vectors."].iter().any(|start| name.starts_with(start));
            if is_weights && !other && !name.contains("-of-") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_golden_file_of_weights_opens_and_its_floats_are_finite() {
    let files = weight_files();
    let is_there = !files.is_empty() || golden::is_elsewhere();
    assert!(is_there, "no weights in {}", golden::root().display());
    for file in files {
        let weights = Weights::open(&file).unwrap_or_else(|e| panic!("{}", e.chain()));
        assert!(weights.names().next().is_some(), "{}", file.display());
        for (name, tensor) in weights.tensors().filter(|(_, tensor)| tensor.dtype().is_float()) {
            let values = weights.take_f32(name, tensor.shape());
            let values = values.unwrap_or_else(|e| panic!("{}", e.chain()));
            assert_eq!(values.len(), tensor.count(), "{}: {name}", file.display());
        }
        let integers = weights.tensors().filter(|(_, tensor)| !tensor.dtype().is_float()).count();
        assert_eq!(weights.unused().len(), integers, "{}", file.display());
    }
}

#[test]
fn twins_in_two_containers_hold_the_same_numbers() {
    for file in weight_files() {
        let twin = file.with_file_name("model.safetensors");
        if file == twin || !twin.exists() {
            continue;
        }
        let (weights, twin) = (take_all(&file).expect("weights"), take_all(&twin).expect("twin"));
        let mut compared = 0;
        for (name, tensor) in weights.tensors() {
            let plain = name.strip_prefix("module.model.").unwrap_or(name);
            // A tied tensor stands once in safetensors.
            if !twin.contains(plain) {
                continue;
            }
            let ours = weights.take_f32(name, tensor.shape()).expect("numbers");
            let theirs = twin.take_f32(plain, tensor.shape()).expect("numbers");
            assert_eq!(ours, theirs, "{}: {name}", file.display());
            compared += 1;
        }
        assert_eq!(compared, twin.names().count(), "{}", file.display());
        let same_names = weights.names().eq(twin.names());
        let same_digest = weights.digest().expect("digest") == twin.digest().expect("digest");
        assert_eq!(same_names, same_digest, "{}", file.display());
    }
}
