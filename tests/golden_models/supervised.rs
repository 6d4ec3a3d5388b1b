//! Supervised networks against the outputs of their published code, for every fixture of one.
//!
//! Inputs are one-hot columns of padded sequences there, sequences here. Leaves out: facts that hold
//! for any weights (worker).

use glmeval_common::dna::DnaSequence;
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::model::{Model, ModelOptions, TokenBatch};
use glmeval_worker::models;
use glmeval_worker::tokenizer::UnknownLetters;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Upstream's own float32 error is 2e-4 where the spline layer is 360; relative to the largest.
const SEI_TOLERANCE: f64 = 1e-5;
/// Upstream ran in float32, with an error of 3e-6 at most; absolute.
const RBP_TOLERANCE: f64 = 5e-5;
/// Endings of files of weights.
const WEIGHTS: [&str; 3] = ["safetensors", "pth", "h5"];

fn folders(architecture: &str) -> Vec<PathBuf> {
    let mut folders = golden::folders("models");
    folders.retain(|path| models::recognise(path).is_ok_and(|kind| kind.name() == architecture));
    assert!(!folders.is_empty() || golden::is_elsewhere(), "no fixture of {architecture}");
    folders
}

fn both() -> Vec<PathBuf> {
    [folders("sei"), folders("rbp-cnn")].concat()
}

/// The model as its own code reads letters: what is no base is a column of zeros.
fn open(path: &Path) -> Model {
    let unknown_letters = UnknownLetters::Replace;
    models::open_with(path, &ModelOptions { unknown_letters, ..ModelOptions::default() })
        .unwrap_or_else(|e| panic!("{}: {}", path.display(), e.chain()))
}

/// Every file of weights of a folder.
fn twins(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        WEIGHTS.contains(&ending) && file.file_stem().is_some_and(|stem| stem != "io")
    });
    files.sort();
    let least = if golden::is_elsewhere() { 1 } else { 2 };
    assert!(files.len() >= least, "{}: {} files of weights", folder.display(), files.len());
    files
}

/// Names of the cases of a folder, and the ids of their sequences.
fn cases(folder: &Path, model: &Model) -> Vec<(String, Vec<Vec<u32>>)> {
    let description = golden::json(&folder.join("sequences.json"));
    let cases = description["cases"].as_array().expect("cases is a list");
    let ids = |text: &Value| {
        let text = text.as_str().expect("a sequence is a text");
        let sequence = DnaSequence::new(text).expect("letters");
        model.tokenize(&sequence).expect("letters that are replaced")
    };
    cases
        .iter()
        .map(|case| {
            let name = case["name"].as_str().expect("a case has a name").to_owned();
            let sequences = case["sequences"].as_array().expect("sequences is a list");
            (name, sequences.iter().map(ids).collect())
        })
        .collect()
}

fn batch(sequences: &[Vec<u32>]) -> TokenBatch {
    TokenBatch::pack(sequences.iter().map(Vec::as_slice))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Compares states and predictions of every case; `tolerance` tells the bound for a tensor.
fn check(architecture: &str, states: &str, tolerance: impl Fn(&Tensor) -> f64) {
    for folder in folders(architecture) {
        let model = open(&folder);
        let expected = golden::tensors(&folder.join("io.safetensors"));
        let cases = cases(&folder, &model);
        assert!(!cases.is_empty(), "{}: no case", folder.display());
        for (case, sequences) in cases {
            let batch = batch(&sequences);
            let found = model.last_states(&batch).expect("states");
            let predictions = model.logits(&batch).expect("predictions");
            for (part, found) in [(states, &found), ("predict", &predictions)] {
                let name = format!("{case}.{part}");
                let expected = &expected[&name];
                let (difference, index) = golden::max_difference(found, &expected.values);
                let (place, bound) = (folder.display(), tolerance(expected));
                assert!(difference <= bound, "{place} {name}: {index} differs by {difference:e}");
            }
            let rows = model.facts().states_fixed.expect("as many rows for every sequence");
            let shape = [sequences.len(), rows as usize, model.facts().width as usize];
            assert_eq!(expected[&format!("{case}.{states}")].shape, shape);
        }
    }
}

#[test]
fn the_spline_layer_and_predictions_of_sei_are_those_of_upstream() {
    check("sei", "spline", |expected| {
        SEI_TOLERANCE * expected.values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()))
    });
}

#[test]
fn the_embedding_and_predictions_of_the_rbp_network_are_those_of_upstream() {
    check("rbp-cnn", "embedding", |_| RBP_TOLERANCE);
}

#[test]
fn every_file_of_the_same_weights_gives_the_same_model() {
    for folder in both() {
        let model = open(&folder);
        let (_, sequences) = cases(&folder, &model).swap_remove(0);
        let batch = batch(&sequences[..1]);
        let expected = bits(&model.logits(&batch).unwrap());
        for file in twins(&folder) {
            let twin = open(&file);
            assert_eq!(twin.facts(), model.facts(), "{}", file.display());
            assert_eq!(bits(&twin.logits(&batch).unwrap()), expected, "{}", file.display());
        }
    }
}

#[test]
fn weights_alone_tell_the_sizes() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for folder in both() {
        let facts = open(&folder).facts().clone();
        for file in twins(&folder) {
            let alone = home.path().join(file.file_name().expect("a name"));
            std::fs::copy(&file, &alone).expect("a copy");
            assert_eq!(open(&alone).facts(), &facts, "{}", file.display());
            std::fs::remove_file(&alone).expect("a copy");
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch() {
    for folder in both() {
        let model = open(&folder);
        let cases = cases(&folder, &model);
        let sequences: Vec<Vec<u32>> = cases.into_iter().flat_map(|(_, ids)| ids).collect();
        let together = model.last_states(&batch(&sequences)).unwrap();
        let each = together.len() / sequences.len();
        for (sequence, shared) in sequences.iter().zip(together.chunks(each)) {
            let alone = model.last_states(&batch(std::slice::from_ref(sequence))).unwrap();
            assert_eq!(bits(&alone), bits(shared), "{}", folder.display());
        }
    }
}

#[test]
fn a_truncated_or_altered_keras_file_is_refused_with_its_name() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = home.path().join("damaged.h5");
    for folder in folders("rbp-cnn") {
        let bytes = std::fs::read(folder.join("model.h5")).expect("a Keras file");
        let refusal = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("a file");
            let error = models::open(&path).err().expect("refused").chain();
            assert!(error.contains("damaged.h5") && error.contains("expected"), "{error}");
        };
        for length in [8, 100, bytes.len() / 2, bytes.len() - 1] {
            refusal(&bytes[..length]);
        }
        // No flipped byte may end the process, whatever it does to the file.
        for index in (0..bytes.len()).step_by(5_003) {
            let mut altered = bytes.clone();
            altered[index] ^= 0xff;
            std::fs::write(&path, &altered).expect("a file");
            drop(models::describe(&path, &ModelOptions::default()).map(drop));
        }
    }
}
