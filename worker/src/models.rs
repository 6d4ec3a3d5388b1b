//! Which gLMs there are, and which one a folder holds.
//!
//! A model is one file below `models/` and two lines here. Leaves out: what a model is ([`crate::model`]).

use crate::model::{
    Architecture, Model, ModelOptions, RandomTensors, TensorShape, write_safetensors,
};
use crate::weights::ExpectedTensor;
use glmeval_common::error::{InputError, Result, io_error};
use glmeval_common::limits::PARSER_ALLOCATION_BYTES_MAX;
use glmeval_common::plan::ModelFacts;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

mod nucleotide_transformer;

/// Every architecture, in the order they are asked whether a config is theirs.
pub static ALL: &[&dyn Architecture] = &[&nucleotide_transformer::MODEL];

/// Opens the gLM in `folder` as its published code runs it.
///
/// # Errors
/// As [`recognise`]; the first defect of config, weights or vocabulary, with file and place.
pub fn open(folder: &Path) -> Result<Box<dyn Model>> {
    open_with(folder, &ModelOptions::default())
}

/// Opens the gLM in `folder` with other choices than the published ones.
///
/// # Errors
/// As [`open`].
pub fn open_with(folder: &Path, options: &ModelOptions) -> Result<Box<dyn Model>> {
    recognise(folder)?.open(folder, options)
}

/// Opens the config and vocabulary of `folder` with random weights of `seed`.
///
/// # Errors
/// As [`open`]; weight files are not read.
pub fn open_random(folder: &Path, options: &ModelOptions, seed: u64) -> Result<Box<dyn Model>> {
    recognise(folder)?.open_random(folder, options, seed)
}

/// Reads everything but the numbers of the gLM in `folder`.
///
/// # Errors
/// As [`open`].
pub fn describe(folder: &Path) -> Result<ModelFacts> {
    recognise(folder)?.describe(folder, &ModelOptions::default())
}

/// Writes `model.safetensors` with random weights of `seed` beside the `config.json` of `folder`.
///
/// Returns the tensors written.
///
/// # Errors
/// As [`recognise`]; I/O errors with the path.
pub fn write_random(folder: &Path, seed: u64) -> Result<Vec<TensorShape>> {
    let tensors = recognise(folder)?.tensors(&folder.join("config.json"))?;
    let path = folder.join("model.safetensors");
    write_safetensors(&path, &tensors, &mut RandomTensors::new(seed))?;
    Ok(tensors)
}

/// Every tensor that the config of `folder` lets expect.
///
/// # Errors
/// As [`recognise`]; the first defect of the config.
pub fn expected_tensors(folder: &Path) -> Result<Vec<ExpectedTensor>> {
    recognise(folder)?.expected_tensors(&folder.join("config.json"))
}

/// The architecture of the gLM in `folder`.
///
/// # Errors
/// A `config.json` that cannot be read, is no JSON object or is of no known kind.
pub fn recognise(folder: &Path) -> Result<&'static dyn Architecture> {
    let path = folder.join("config.json");
    let config = read_config(&path)?;
    if let Some(architecture) = ALL.iter().find(|a| a.recognises(&config)) {
        return Ok(*architecture);
    }
    let known: Vec<&str> = ALL.iter().map(|a| a.looks_like()).collect();
    let (place, found) = match config.get("model_type") {
        None => ("model_type", "missing".to_owned()),
        Some(kind) if kind != "esm" => ("model_type", kind.to_string()),
        Some(_) => {
            let positions = config.get("position_embedding_type");
            let found = positions.map_or("missing".to_owned(), Value::to_string);
            ("position_embedding_type", found)
        }
    };
    let expected = format!("a known gLM: {}", known.join(" or "));
    Err(InputError::new(path.display(), place, expected, found).into())
}

fn read_config(path: &Path) -> Result<Value> {
    let file = std::fs::File::open(path).map_err(|e| io_error(path, e))?;
    let limit = PARSER_ALLOCATION_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io_error(path, e))?;
    if bytes.len() as u64 > limit {
        let expected = format!("a config of at most {limit} bytes");
        return Err(InputError::new(path.display(), "", expected, "a longer file").into());
    }
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        InputError::new(path.display(), place, "a JSON object", e)
    })?;
    if config.is_object() {
        return Ok(config);
    }
    let found = if config.is_array() { "a list".to_owned() } else { config.to_string() };
    Err(InputError::new(path.display(), "", "a JSON object", found).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        recognise(folder.path()).err().expect("refused").chain()
    }

    #[test]
    fn an_unknown_config_is_refused_with_its_place() {
        assert!(refusal("{}").contains("model_type: expected a known gLM: model_type \"esm\""));
        assert!(refusal("{}").ends_with("found missing"));
        assert!(refusal(r#"{"model_type":"esm-9000"}"#).ends_with("found \"esm-9000\""));
        let rotary = refusal(r#"{"model_type":"esm","position_embedding_type":"rotary"}"#);
        assert!(rotary.contains("position_embedding_type: expected"), "{rotary}");
        assert!(refusal("[1]").ends_with("expected a JSON object, found a list"));
        assert!(refusal("{\"a\":").contains("line 1 column 5: expected a JSON object, found EOF"));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = recognise(Path::new("/no/such/folder")).err().expect("refused");
        assert!(error.chain().contains("/no/such/folder/config.json"));
    }
}
