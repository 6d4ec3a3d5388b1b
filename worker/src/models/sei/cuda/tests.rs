//! The network in the emulator against its published code, and against itself.

use crate::device::Device;
use crate::model::{Model, ModelOptions, Precision, TokenBatch};
use crate::models;
use crate::tokenizer::UnknownLetters;
use glmeval_common::dna::DnaSequence;
use glmeval_kernels::cuda::Gpu;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// Four times what the CPU is held to; of the largest value.
const TOLERANCE: f32 = 4e-5;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/sei-tiny")
}

fn open(folder: &Path, precision: Precision) -> Model {
    let unknown_letters = UnknownLetters::Replace;
    let options = ModelOptions { unknown_letters, precision, ..ModelOptions::default() };
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    models::open_on(folder, &options, &device).unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// The named values and the batch of the case that has one sequence.
fn case(model: &Model) -> (TokenBatch, [Vec<f32>; 2]) {
    let bytes = std::fs::read(golden().join("io.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |part: &str| -> Vec<f32> {
        let tensor = file.tensor(&format!("centered_173_odd.{part}")).unwrap();
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let text = std::fs::read_to_string(golden().join("sequences.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = description["cases"].as_array().unwrap();
    let chosen = cases.iter().find(|case| case["name"] == "centered_173_odd").unwrap();
    let text = chosen["sequences"][0].as_str().unwrap();
    let ids = model.tokenize(&DnaSequence::new(text).unwrap()).unwrap();
    (TokenBatch::pack([ids.as_slice()]), [floats("spline"), floats("predict")])
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let difference = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(difference <= tolerance * largest, "{difference:e} of {largest}");
}

#[test]
fn the_spline_layer_and_predictions_are_those_of_upstream() {
    let model = open(&golden(), Precision::F32);
    let (batch, [spline, predictions]) = case(&model);
    assert_near(&model.last_states(&batch).unwrap(), &spline, TOLERANCE);
    assert_near(&model.logits(&batch).unwrap(), &predictions, TOLERANCE);
}

/// A small network of random weights.
fn small() -> tempfile::TempDir {
    let config = serde_json::json!({
        "sequence_length": 70, "n_genomic_features": 5, "channels": [3, 4, 6], "spline_df": 5,
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    models::write_random(folder.path(), 3).unwrap();
    folder
}

#[test]
fn a_device_gives_nearly_the_states_of_the_cpu() {
    let folder = small();
    let batch = TokenBatch::pack([[0, 1, 2, 3, 4].as_slice(), &[3; 70], &[2, 2, 1]]);
    let unknown_letters = UnknownLetters::Replace;
    let options = ModelOptions { unknown_letters, ..ModelOptions::default() };
    let cpu = models::open_with(folder.path(), &options).unwrap();
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.05)] {
        let device = open(folder.path(), precision);
        assert_eq!(device.facts(), cpu.facts());
        let [found, expected] = [&device, &cpu].map(|model| model.last_states(&batch).unwrap());
        assert_near(&found, &expected, tolerance);
        let [found, expected] = [&device, &cpu].map(|model| model.logits(&batch).unwrap());
        assert_near(&found, &expected, tolerance);
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let folder = small();
    let model = open(folder.path(), Precision::Bf16);
    let sequences: [&[u32]; 3] = [&[0, 1, 2, 3, 4], &[3; 70], &[2, 2, 1]];
    let bits = |sequences: &[&[u32]]| -> Vec<u32> {
        let batch = TokenBatch::pack(sequences.iter().copied());
        model.last_states(&batch).unwrap().iter().map(|x| x.to_bits()).collect()
    };
    let together = bits(&sequences);
    for (sequence, shared) in sequences.into_iter().zip(together.chunks(30)) {
        assert_eq!(bits(&[sequence]), shared);
    }
}
