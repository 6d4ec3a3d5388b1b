//! Both forms in the emulator against their published code, and against themselves.

use crate::device::Device;
use crate::model::{LayerRequest, Model, ModelOptions, Precision, TokenBatch};
use crate::models;
use crate::tokenizer::UnknownLetters;
use glmeval_kernels::cuda::Gpu;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// Four times what the CPU is held to.
const TOLERANCE: f32 = 4e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name)
}

fn open(name: &str, precision: Precision) -> Model {
    let unknown_letters = UnknownLetters::Replace;
    let options = ModelOptions { unknown_letters, precision, ..ModelOptions::default() };
    let device = Device::Cuda(Gpu::for_tests().unwrap());
    models::open_on(&folder(name), &options, &device).unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn layers(model: &Model, batch: &TokenBatch) -> Vec<Vec<f32>> {
    let count = model.facts().layer_count;
    let request = LayerRequest::new(&(0..=count).collect::<Vec<_>>(), count).unwrap();
    let mut found = Vec::new();
    model.forward(batch, &request, &mut |_, states| found.push(states.to_vec())).unwrap();
    found
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let tensor = file.tensor(name).ok()?;
    Some(tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn batch(file: &SafeTensors<'_>, case: &str) -> TokenBatch {
    let tensor = file.tensor(&format!("{case}.input_ids")).unwrap();
    let ids: Vec<u32> = tensor
        .data()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| i64::from_le_bytes(*bytes) as u32)
        .collect();
    TokenBatch::pack(ids.chunks(tensor.shape()[1]))
}

/// Runs `check(what, found, expected, width of a row)` for states and logits of small cases.
fn each(name: &str, precision: Precision, check: impl Fn(&str, &[f32], &[f32], usize)) {
    let bytes = std::fs::read(folder(name).join("io.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let model = open(name, precision);
    let width = model.facts().width as usize;
    let mut compared = 0;
    for case in ["one_base", "five_bases", "n_and_lower", "with_mask_token"] {
        let batch = batch(&file, case);
        for (layer, found) in layers(&model, &batch).iter().enumerate() {
            let what = format!("{case}.hidden_states.{layer}");
            if let Some(expected) = floats(&file, &what) {
                check(&what, found, &expected, width);
                compared += 1;
            }
        }
        let what = format!("{case}.logits");
        if let Some(expected) = floats(&file, &what) {
            check(&what, &model.logits(&batch).unwrap(), &expected, 7);
        }
    }
    assert!(compared > 8, "{compared} layers compared");
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], _: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(difference <= TOLERANCE, "{what} differs by {difference:e}");
}

fn assert_aligned(what: &str, found: &[f32], expected: &[f32], width: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.chunks(width).zip(expected.chunks(width)) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
        // A few logits that nearly cancel turn farther than states do.
        let least = if what.ends_with("logits") { 0.998 } else { 0.999 };
        assert!(cosine >= least, "{what}: cosine {cosine}");
    }
}

#[test]
fn states_and_logits_of_the_first_form_are_those_of_upstream() {
    each("gpn-convnet-tiny", Precision::F32, assert_near);
}

#[test]
fn states_and_logits_of_the_later_form_are_those_of_upstream() {
    each("gpn-bytenet-tiny", Precision::F32, assert_near);
}

#[test]
fn bf16_products_point_the_same_way() {
    each("gpn-convnet-tiny", Precision::Bf16, assert_aligned);
    each("gpn-bytenet-tiny", Precision::Bf16, assert_aligned);
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let sequences: [&[u32]; 4] = [&[3, 4, 5, 6], &[2; 130], &[6], &[5, 5, 4, 3, 1, 0]];
    for name in ["gpn-convnet-tiny", "gpn-bytenet-tiny"] {
        for precision in [Precision::F32, Precision::Bf16] {
            let model = open(name, precision);
            let bits = |sequences: &[&[u32]]| -> Vec<u32> {
                let batch = TokenBatch::pack(sequences.iter().copied());
                model.last_states(&batch).unwrap().iter().map(|x| x.to_bits()).collect()
            };
            let (together, width) = (bits(&sequences), model.facts().width as usize);
            let mut start = 0;
            for sequence in sequences {
                let end = start + sequence.len() * width;
                assert_eq!(bits(&[sequence]), together[start..end], "{name} {precision:?}");
                start = end;
            }
        }
    }
}
