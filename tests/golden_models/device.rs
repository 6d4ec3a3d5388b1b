//! gLMs on a CUDA device, or the emulator, against the same fixtures.
//!
//! Leaves out: kernels alone (kernels), GPN (worker), supervised networks. Invariant: f32 keeps four times the bound of CPUs, bf16 the direction of
//! every state, and neither depends on the rest of a batch.

use super::{Case, cases, folders, layers, packed, tolerance};
use glmeval_kernels::cuda::Gpu;
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::device::Device;
use glmeval_worker::model::{Model, ModelOptions, Precision, TokenBatch};
use glmeval_worker::models;
use glmeval_worker::tokenizer::UnknownLetters;
use std::collections::BTreeMap;
use std::path::Path;

/// Cosine of a bf16 state with upstream's, at least.
const COSINE_MIN: f64 = 0.999;
/// Tokens of the longest sequence that the emulator is given: attention costs their square.
const TOKENS_MAX: usize = 200;

/// Which fixtures are run.
struct Kind {
    /// How the names of their architectures begin.
    name: &'static str,
    /// Tokens of the longest sequence that the emulator is given.
    tokens_max: usize,
}

const NUCLEOTIDE_TRANSFORMER: Kind =
    Kind { name: "nucleotide-transformer", tokens_max: TOKENS_MAX };
const DNABERT: Kind = Kind { name: "dnabert", tokens_max: TOKENS_MAX };
const HYENADNA: Kind = Kind { name: "hyenadna", tokens_max: usize::MAX };

fn each(
    kind: &Kind,
    precision: Precision,
    check: impl Fn(&Path, &Model, &BTreeMap<String, Tensor>, &Case),
) {
    let device = Device::Cuda(Gpu::for_tests().expect("a device or a C++ compiler"));
    let mut checked = 0;
    for folder in folders() {
        if !models::recognise(&folder).is_ok_and(|found| found.name().starts_with(kind.name)) {
            continue;
        }
        let unknown_letters = UnknownLetters::Replace;
        let options = ModelOptions { unknown_letters, precision, ..ModelOptions::default() };
        let model = models::open_on(&folder, &options, &device)
            .unwrap_or_else(|e| panic!("{}: {}", folder.display(), e.chain()));
        let description = golden::json(&folder.join("sequences.json"));
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        for case in cases(&description, &tensors, &model) {
            if case.rows.iter().all(|row| row.len() <= kind.tokens_max) {
                check(&folder, &model, &tensors, &case);
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no short case of a {}", kind.name);
}

/// A tensor of a fixture: its name, the width of its rows, what was found and what is expected.
struct Compared {
    name: String,
    width: usize,
    found: Vec<f32>,
    expected: Vec<f64>,
}

/// States, logits and pooled outputs that the fixture has of a case.
fn compared(model: &Model, tensors: &BTreeMap<String, Tensor>, case: &Case) -> Vec<Compared> {
    let width = model.facts().width as usize;
    let all: Vec<usize> = (0..case.rows.len()).collect();
    let mut results = Vec::new();
    for (layer, found) in layers(model, &case.batch()).iter().enumerate() {
        let name = format!("{}.hidden_states.{layer}", case.name);
        if let Some(expected) = tensors.get(&name) {
            let found = case.compared(found, &all, width);
            let expected = packed(expected, &case.columns);
            results.push(Compared { name, width, found, expected });
        }
    }
    let name = format!("{}.logits", case.name);
    if let Some(expected) = tensors.get(&name) {
        let rows = &case.logits_rows;
        let batch = TokenBatch::pack(rows.iter().map(|&row| case.rows[row].as_slice()));
        let columns: Vec<_> = rows.iter().map(|&row| case.columns[row].clone()).collect();
        let width = expected.shape[2];
        let found = case.compared(&model.logits(&batch).expect("a head"), rows, width);
        results.push(Compared { name, width, found, expected: packed(expected, &columns) });
    }
    let name = format!("{}.pooler_output", case.name);
    if let Some(expected) = tensors.get(&name) {
        let found = model.pooled(&case.batch()).expect("states").expect("a pooler");
        results.push(Compared { name, width, found, expected: expected.values.clone() });
    }
    assert!(!results.is_empty(), "{}: nothing to compare", case.name);
    results
}

fn check_f32(kind: &Kind) {
    each(kind, Precision::F32, |folder, model, tensors, case| {
        for Compared { name, found, expected, .. } in compared(model, tensors, case) {
            let (difference, index) = golden::max_difference(&found, &expected);
            let place = folder.display();
            let bound = 4.0 * tolerance(model);
            assert!(difference <= bound, "{place} {name}: value {index} differs by {difference:e}");
        }
    });
}

fn check_bf16(kind: &Kind) {
    each(kind, Precision::Bf16, |folder, model, tensors, case| {
        for Compared { name, width, found, expected } in compared(model, tensors, case) {
            let rows = found.chunks(width).zip(expected.chunks(width));
            for (row, (found, expected)) in rows.enumerate() {
                let product = |x: &dyn Fn(usize) -> f64, y: &dyn Fn(usize) -> f64| -> f64 {
                    (0..width).map(|i| x(i) * y(i)).sum()
                };
                let (x, y) = (|i: usize| f64::from(found[i]), |i: usize| expected[i]);
                let cosine = product(&x, &y) / (product(&x, &x) * product(&y, &y)).sqrt();
                let place = folder.display();
                assert!(cosine >= COSINE_MIN, "{place} {name}: row {row} has cosine {cosine}");
            }
        }
    });
}

fn check_batches(kind: &Kind, precision: Precision) {
    each(kind, precision, |folder, model, _, case| {
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

#[test]
fn nucleotide_transformers_on_a_device_are_those_of_upstream() {
    check_f32(&NUCLEOTIDE_TRANSFORMER);
}

#[test]
fn nucleotide_transformers_of_bf16_products_point_as_those_of_upstream() {
    check_bf16(&NUCLEOTIDE_TRANSFORMER);
}

#[test]
fn dnaberts_on_a_device_are_those_of_upstream() {
    check_f32(&DNABERT);
}

#[test]
fn dnaberts_of_bf16_products_point_as_those_of_upstream() {
    check_bf16(&DNABERT);
}

#[test]
fn hyenadnas_on_a_device_are_those_of_upstream() {
    check_f32(&HYENADNA);
}

#[test]
fn hyenadnas_of_bf16_products_point_as_those_of_upstream() {
    check_bf16(&HYENADNA);
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch_of_encoders_on_a_device() {
    for kind in [NUCLEOTIDE_TRANSFORMER, DNABERT] {
        check_batches(&kind, Precision::F32);
        check_batches(&kind, Precision::Bf16);
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch_of_hyenadna_on_a_device() {
    check_batches(&HYENADNA, Precision::F32);
    check_batches(&HYENADNA, Precision::Bf16);
}
