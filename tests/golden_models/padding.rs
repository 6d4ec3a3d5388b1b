//! DNABERT-2 on padded rows with a mask: its published code takes padding away and gives zeros back.
//!
//! Leaves out: padding that is attended (the fixtures' cases without a mask).
//! Invariant: padding costs no bit of any other state.

use super::{Case, assert_close, cases, folders, layers, open};
use glmeval_common::model::Padding;
use glmeval_common::representation::Pooling;
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::model::{Model, ModelOptions, TokenBatch};
use glmeval_worker::representation::pool;
use glmeval_worker::tokenizer::UnknownLetters;
use std::collections::BTreeMap;

/// Stored states of a layer of a case, `[B, T, D]`.
fn stored<'a>(tensors: &'a BTreeMap<String, Tensor>, case: &Case, layer: usize) -> &'a Tensor {
    &tensors[&format!("{}.hidden_states.{layer}", case.name)]
}

/// The model of a fixture that pads to the `width` of a case and masks.
fn masked(folder: &std::path::Path, width: usize) -> Model {
    let options = ModelOptions {
        pad_to: u32::try_from(width).ok(),
        padding: Padding::Masked,
        unknown_letters: UnknownLetters::Replace,
        ..ModelOptions::default()
    };
    open(folder, options)
}

/// Means `[B, D]` over all columns but the first of `[B, T, D]`.
fn means(states: &Tensor) -> Vec<f64> {
    let (columns, width) = (states.shape[1], states.shape[2]);
    let rows = states.values.chunks_exact(columns * width);
    rows.flat_map(|row| {
        let of_channel = |channel: usize| row[channel..].iter().step_by(width).skip(1).sum::<f64>();
        (0..width).map(move |channel| of_channel(channel) / (columns - 1) as f64)
    })
    .collect()
}

#[test]
fn masked_padding_comes_back_as_zeros_and_counts_in_the_published_mean() {
    let mut compared = 0;
    for folder in folders() {
        let description = golden::json(&folder.join("sequences.json"));
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        let plain = open(&folder, ModelOptions::default());
        if plain.facts().architecture != "dnabert-2" {
            continue;
        }
        for case in cases(&description, &tensors, &plain) {
            let ids = &tensors[&format!("{}.input_ids", case.name)];
            let width = ids.shape[1];
            if case.rows.iter().all(|row| row.len() == width) {
                continue;
            }
            let model = masked(&folder, width);
            assert_ne!(model.facts().id, plain.facts().id);
            let padded: Vec<u32> = ids.values.iter().map(|&id| id as u32).collect();
            let batch = TokenBatch::pack(padded.chunks_exact(width));
            let texts = description["cases"].as_array().into_iter().flatten();
            let texts = texts.filter(|one| one["name"] == case.name.as_str());
            let texts = texts.flat_map(|one| one["sequences"].as_array().into_iter().flatten());
            for (text, ids) in texts.zip(batch.sequences()) {
                assert_eq!(model.tokenizer().encode(text.as_str().unwrap()).unwrap(), ids);
            }
            let found = layers(&model, &batch);
            let alone = layers(&plain, &TokenBatch::pack(case.rows.iter().map(Vec::as_slice)));
            for (layer, (states, alone)) in found.iter().zip(&alone).enumerate() {
                let seen: Vec<f32> = (case.columns.iter().enumerate())
                    .flat_map(|(row, columns)| columns.iter().map(move |c| row * width + c))
                    .flat_map(|row| states.chunks_exact(plain.facts().width as usize).nth(row))
                    .flatten()
                    .copied()
                    .collect();
                assert_eq!(&seen, alone, "layer {layer} of {}", case.name);
            }
            for (layer, states) in found.iter().enumerate().skip(1) {
                let expected = stored(&tensors, &case, layer);
                let what = format!("layer {layer} of {}", case.name);
                assert_close(&model, &what, states, &expected.values);
                let zeros = expected.values.iter().zip(states).filter(|(value, _)| **value == 0.0);
                assert!(zeros.into_iter().all(|(_, found)| *found == 0.0), "{what}: not zero");
                let mean = pool(Pooling::Mean, states, &batch.offsets, model.mean_skips_first());
                assert_close(&model, &what, &mean.unwrap(), &means(expected));
            }
            compared += 1;
        }
    }
    assert!(compared > 0 || golden::is_elsewhere(), "no padded case");
}
