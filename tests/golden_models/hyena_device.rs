//! HyenaDNA on a CUDA device, or the emulator, against the same fixtures.
//!
//! Leaves out: kernels alone (kernels). Invariant: f32 keeps four times the bound of CPUs, bf16 the direction of every state.

use super::hyena::hyena_folders;
use super::{Case, cases, layers, packed, tolerance};
use glmeval_kernels::cuda::{Gpu, GpuOptions};
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::device::Device;
use glmeval_worker::model::{Model, ModelOptions, Precision, TokenBatch};
use glmeval_worker::models;
use glmeval_worker::tokenizer::UnknownLetters;
use std::collections::BTreeMap;
use std::path::Path;

/// A real device where there is one.
fn device() -> Device {
    let gpu = Gpu::open(0, &GpuOptions::default());
    Device::Cuda(gpu.or_else(|_| Gpu::emulated()).expect("a device or a C++ compiler"))
}

fn each(precision: Precision, check: impl Fn(&Path, &Model, &BTreeMap<String, Tensor>, &Case)) {
    let device = device();
    for folder in hyena_folders() {
        let unknown_letters = UnknownLetters::Replace;
        let options = ModelOptions { unknown_letters, precision, ..ModelOptions::default() };
        let model = models::open_on(&folder, &options, &device)
            .unwrap_or_else(|e| panic!("{}: {}", folder.display(), e.chain()));
        let description = golden::json(&folder.join("sequences.json"));
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        for case in cases(&description, &tensors, &model) {
            check(&folder, &model, &tensors, &case);
        }
    }
}

/// States and logits that the fixture has of a case: name, width, found, expected.
fn compared(
    model: &Model,
    tensors: &BTreeMap<String, Tensor>,
    case: &Case,
) -> Vec<(String, usize, Vec<f32>, Vec<f64>)> {
    let width = model.facts().width as usize;
    let all: Vec<usize> = (0..case.rows.len()).collect();
    let mut results = Vec::new();
    for (layer, found) in layers(model, &case.batch()).iter().enumerate() {
        let name = format!("{}.hidden_states.{layer}", case.name);
        if let Some(expected) = tensors.get(&name) {
            let found = case.compared(found, &all, width);
            results.push((name, width, found, packed(expected, &case.columns)));
        }
    }
    let name = format!("{}.logits", case.name);
    if let Some(expected) = tensors.get(&name) {
        let rows = &case.logits_rows;
        let batch = TokenBatch::pack(rows.iter().map(|&row| case.rows[row].as_slice()));
        let columns: Vec<_> = rows.iter().map(|&row| case.columns[row].clone()).collect();
        let outputs = expected.shape[2];
        let found = case.compared(&model.logits(&batch).expect("a head"), rows, outputs);
        results.push((name, outputs, found, packed(expected, &columns)));
    }
    assert!(!results.is_empty(), "{}: nothing to compare", case.name);
    results
}

#[test]
fn states_and_logits_on_a_device_are_those_of_upstream() {
    each(Precision::F32, |folder, model, tensors, case| {
        for (name, _, found, expected) in compared(model, tensors, case) {
            let (difference, index) = golden::max_difference(&found, &expected);
            let bound = 4.0 * tolerance(model);
            let place = folder.display();
            assert!(difference <= bound, "{place} {name}: value {index} differs by {difference:e}");
        }
    });
}

#[test]
fn states_and_logits_of_bf16_products_point_as_those_of_upstream() {
    each(Precision::Bf16, |folder, model, tensors, case| {
        for (name, width, found, expected) in compared(model, tensors, case) {
            for (token, (found, expected)) in
                found.chunks(width).zip(expected.chunks(width)).enumerate()
            {
                let dot = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| -> f64 {
                    (0..width).map(|i| a(i) * b(i)).sum()
                };
                let (x, y) = (|i: usize| f64::from(found[i]), |i: usize| expected[i]);
                let cosine = dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt();
                let place = folder.display();
                assert!(cosine >= 0.999, "{place} {name}: token {token} has cosine {cosine}");
            }
        }
    });
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch_on_a_device() {
    for precision in [Precision::F32, Precision::Bf16] {
        each(precision, |folder, model, _, case| {
            if case.rows.len() == 1 {
                return;
            }
            let width = model.facts().width as usize;
            let batch = case.batch();
            let together = layers(model, &batch);
            for (row, span) in case.rows.iter().zip(batch.offsets.windows(2)) {
                let alone = layers(model, &TokenBatch::pack([row.as_slice()]));
                for (layer, (alone, together)) in alone.iter().zip(&together).enumerate() {
                    let same = alone[..] == together[span[0] * width..span[1] * width];
                    assert!(same, "{} {} layer {layer}", folder.display(), case.name);
                }
            }
        });
    }
}
