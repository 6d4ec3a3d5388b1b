//! Models against the outputs of their published code, for every fixture whose config is recognised.
//!
//! Fixtures are padded matrices; models take packed sequences, so each row is cut to where its mask
//! is 1. Leaves out: weight containers (checkpoints) and facts that hold for any weights (worker).

#[path = "golden_models/device.rs"]
mod device;
#[path = "golden_models/hyena.rs"]
mod hyena;
#[path = "golden_models/padding.rs"]
mod padding;

use glmeval_common::representation::Pooling;
use glmeval_tests::golden::{self, Tensor};
use glmeval_tests::hostile;
use glmeval_worker::batching;
use glmeval_worker::model::{LayerRequest, Model, ModelOptions, TokenBatch};
use glmeval_worker::models;
use glmeval_worker::representation::pool;
use glmeval_worker::tokenizer::UnknownLetters;
use glmeval_worker::tokenizers::Vocabulary;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bounds that the fixtures' README suggests, above upstream's own float32 error.
fn tolerance(model: &Model) -> f64 {
    match model.facts().architecture.as_str() {
        "nucleotide-transformer-v2" => 2e-4,
        "hyenadna" => 2e-4,
        "gpn" => 1e-4,
        _ => 5e-5,
    }
}

/// What InstaDeep's JAX code runs with, whatever the config says.
const JAX_LAYER_NORM_EPS: f64 = 1e-5;

/// Folders of recognised models; the others are listed, so a gap is seen.
fn folders() -> Vec<PathBuf> {
    let (covered, others): (Vec<_>, Vec<_>) =
        golden::folders("models").into_iter().partition(|path| {
            // Supervised networks are described by other keys: golden_supervised.
            models::recognise(path).is_ok_and(|kind| !["sei", "rbp-cnn"].contains(&kind.name()))
        });
    for path in others {
        golden::note(&format!("not covered: {}", path.display()));
    }
    assert!(!covered.is_empty() || golden::is_elsewhere(), "no fixture of a known model");
    covered
}

fn open(folder: &Path, options: ModelOptions) -> Model {
    models::open_with(folder, &options)
        .unwrap_or_else(|e| panic!("{}: {}", folder.display(), e.chain()))
}

/// The model as Hugging Face's tokenizer feeds it.
fn open_lenient(folder: &Path) -> Model {
    let unknown_letters = UnknownLetters::Replace;
    open(folder, ModelOptions { unknown_letters, ..ModelOptions::default() })
}

/// One case of a fixture: a padded batch and what is expected of it.
struct Case {
    name: String,
    /// Ids of each row where its mask is 1; the whole row for gLMs that know no mask.
    rows: Vec<Vec<u32>>,
    /// Columns whose mask is 1.
    columns: Vec<Vec<usize>>,
    /// Places of those columns in the row that is run.
    places: Vec<Vec<usize>>,
    /// Rows that logits are stored for.
    logits_rows: Vec<usize>,
}

impl Case {
    fn batch(&self) -> TokenBatch {
        TokenBatch::pack(self.rows.iter().map(Vec::as_slice))
    }

    /// Rows of `found` `[N, width]`, of the sequences `rows`, that are to be compared.
    fn compared(&self, found: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
        let mut compared = Vec::new();
        let mut start = 0;
        for &row in rows {
            for place in &self.places[row] {
                compared.extend_from_slice(&found[(start + place) * width..][..width]);
            }
            start += self.rows[row].len();
        }
        compared
    }
}

fn ids(list: &Value) -> Vec<u32> {
    serde_json::from_value(list.clone()).expect("a list of token ids")
}

/// Whether padding is read like any other token, whatever the mask.
fn reads_padding(model: &Model) -> bool {
    ["hyenadna", "gpn"].contains(&model.facts().architecture.as_str())
}

/// The cases of a fixture as `model` runs them; without a mask, every token is a real one.
fn cases(description: &Value, tensors: &BTreeMap<String, Tensor>, model: &Model) -> Vec<Case> {
    let cases = description["cases"].as_array().expect("cases is a list");
    cases
        .iter()
        .map(|case| {
            let name = case["name"].as_str().expect("a case has a name").to_owned();
            let ids = &tensors[&format!("{name}.input_ids")];
            let mask = tensors.get(&format!("{name}.attention_mask")).map(Tensor::i64);
            let mask = mask.filter(|_| case["attention_mask_passed"] != false);
            let width = ids.shape[1];
            let is_real = |row: usize, column: &usize| {
                mask.as_ref().is_none_or(|mask| mask[row * width + column] == 1)
            };
            let columns: Vec<Vec<usize>> = (0..ids.shape[0])
                .map(|row| (0..width).filter(|column| is_real(row, column)).collect())
                .collect();
            let id = |row: usize, column: &usize| ids.values[row * width + column] as u32;
            let whole: Vec<usize> = (0..width).collect();
            let run = |columns| if reads_padding(model) { &whole } else { columns };
            let rows = columns.iter().map(run).enumerate();
            let rows: Vec<Vec<u32>> =
                rows.map(|(row, columns)| columns.iter().map(|c| id(row, c)).collect()).collect();
            let places = |columns: &Vec<usize>| {
                if reads_padding(model) { columns.clone() } else { (0..columns.len()).collect() }
            };
            let places = columns.iter().map(places).collect();
            let logits_rows = match &case["logits_rows"] {
                Value::Null => (0..rows.len()).collect(),
                list => serde_json::from_value(list.clone()).expect("rows are numbers"),
            };
            Case { name, rows, columns, places, logits_rows }
        })
        .collect()
}

/// Every layer's states `[N, D]` of `batch`.
fn layers(model: &Model, batch: &TokenBatch) -> Vec<Vec<f32>> {
    let count = model.facts().layer_count;
    let request = LayerRequest::new(&(0..=count).collect::<Vec<_>>(), count).expect("layers exist");
    let mut layers = Vec::new();
    model
        .forward(batch, &request, &mut |_, states| layers.push(states.to_vec()))
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    layers
}

/// Rows of `expected` `[B, T, W]` where the mask is 1, as the packed `[N, W]`.
fn packed(expected: &Tensor, columns: &[Vec<usize>]) -> Vec<f64> {
    let (width, inner) = (expected.shape[1], expected.shape[2]);
    let mut values = Vec::new();
    for (row, columns) in columns.iter().enumerate() {
        for column in columns {
            let start = (row * width + column) * inner;
            values.extend_from_slice(&expected.values[start..start + inner]);
        }
    }
    values
}

fn assert_close(model: &Model, what: &str, found: &[f32], expected: &[f64]) {
    let (difference, index) = golden::max_difference(found, expected);
    assert!(difference <= tolerance(model), "{what}: value {index} differs by {difference:e}");
}

/// Reads fixture, model and cases of every covered folder.
fn each(check: impl Fn(&Path, &Model, &BTreeMap<String, Tensor>, &Case)) {
    for folder in folders() {
        let description = golden::json(&folder.join("sequences.json"));
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        let model = open_lenient(&folder);
        for case in cases(&description, &tensors, &model) {
            check(&folder, &model, &tensors, &case);
        }
    }
}

#[test]
fn token_ids_are_those_of_upstream() {
    for folder in folders() {
        let (strict, lenient) = (open(&folder, ModelOptions::default()), open_lenient(&folder));
        let description = golden::json(&folder.join("sequences.json"));
        for case in description["cases"].as_array().expect("cases is a list") {
            let sequences = case["sequences"].as_array().into_iter().flatten();
            for (text, expected) in
                sequences.zip(case["token_ids"].as_array().into_iter().flatten())
            {
                let text = text.as_str().expect("a sequence is a text");
                let found = lenient.tokenizer().encode(text).unwrap();
                assert_eq!(found, ids(expected), "{} {}", folder.display(), case["name"]);
            }
        }
        for case in description["tokenizer_cases"].as_array().into_iter().flatten() {
            let text = case["sequence"].as_str().expect("a sequence is a text");
            let found = lenient.tokenizer().encode(text).unwrap();
            if !case["ids"].is_null() {
                assert_eq!(found, ids(&case["ids"]), "{} {text:?}", folder.display());
                continue;
            }
            assert_eq!(found, ids(&case["hf_ids"]), "{} {text:?}", folder.display());
            match &case["jax_ids"] {
                Value::Null => {
                    let refusal = strict.tokenizer().encode(text).unwrap_err().chain();
                    assert!(refusal.contains("column"), "{text:?}: {refusal}");
                }
                expected => assert_eq!(strict.tokenizer().encode(text).unwrap(), ids(expected)),
            }
        }
    }
}

#[test]
fn token_counts_are_known_from_the_length_alone() {
    for folder in folders() {
        let model = open(&folder, ModelOptions::default());
        let description = golden::json(&folder.join("sequences.json"));
        for (length, count) in
            description["token_counts_for_length"].as_object().into_iter().flatten()
        {
            let length: usize = length.parse().expect("a length");
            let count = count.as_u64().expect("a count");
            assert_eq!(model.facts().tokens(length as u64), count, "{length} nt");
            let text = "ACGTTGCA".repeat(length / 8 + 1);
            let found = model.tokenizer().encode(&text[..length]).unwrap();
            assert_eq!(found.len() as u64, count, "{length} nt");
        }
    }
}

#[test]
fn states_of_every_layer_are_those_of_upstream() {
    each(|folder, model, tensors, case| {
        let mut compared = 0;
        for (layer, found) in layers(model, &case.batch()).iter().enumerate() {
            let name = format!("{}.hidden_states.{layer}", case.name);
            if let Some(expected) = tensors.get(&name) {
                let what = format!("{} {name}", folder.display());
                let all: Vec<usize> = (0..case.rows.len()).collect();
                let found = case.compared(found, &all, model.facts().width as usize);
                assert_close(model, &what, &found, &packed(expected, &case.columns));
                compared += 1;
            }
        }
        let start = format!("{}.hidden_states.", case.name);
        let stored = tensors.keys().filter(|name| name.starts_with(&start)).count();
        assert_eq!(compared, stored, "{} {start}: layers compared", folder.display());
    });
}

#[test]
fn logits_are_those_of_upstream() {
    each(|folder, model, tensors, case| {
        let name = format!("{}.logits", case.name);
        let Some(expected) = tensors.get(&name) else { return };
        let rows = &case.logits_rows;
        let batch = TokenBatch::pack(rows.iter().map(|&row| case.rows[row].as_slice()));
        let columns: Vec<_> = rows.iter().map(|&row| case.columns[row].clone()).collect();
        let found = model.logits(&batch).unwrap();
        let what = format!("{} {name}", folder.display());
        let found = case.compared(&found, rows, expected.shape[2]);
        assert_close(model, &what, &found, &packed(expected, &columns));
    });
}

#[test]
fn pooled_states_are_those_of_upstream() {
    each(|folder, model, tensors, case| {
        let width = model.facts().width as usize;
        let all: Vec<usize> = (0..case.rows.len()).collect();
        let states = layers(model, &case.batch()).pop().expect("a last layer");
        let states = case.compared(&states, &all, width);
        let mut start = 0;
        for (row, columns) in case.columns.iter().enumerate() {
            let end = start + columns.len() * width;
            let alone = [0, columns.len()];
            let starts_real = columns.first() == Some(&0);
            for (kind, pooling, skips_first) in [
                ("first", Pooling::Cls, false),
                ("mean_masked", Pooling::Mean, false),
                ("mean_skip_first", Pooling::Mean, starts_real),
            ] {
                let name = format!("{}.pool.{kind}", case.name);
                // Column 0 of a row padded on the left holds no token.
                let is_defined = pooling == Pooling::Mean || starts_real;
                let is_empty = skips_first && columns.len() == 1;
                if let Some(expected) = tensors.get(&name).filter(|_| is_defined && !is_empty) {
                    let found = pool(pooling, &states[start..end], &alone, skips_first).unwrap();
                    let expected = &expected.values[row * width..(row + 1) * width];
                    assert_close(
                        model,
                        &format!("{} {name} row {row}", folder.display()),
                        &found,
                        expected,
                    );
                }
            }
            start = end;
        }
    });
}

#[test]
fn pooled_outputs_are_those_of_upstream() {
    each(|folder, model, tensors, case| {
        let name = format!("{}.pooler_output", case.name);
        let Some(expected) = tensors.get(&name) else { return };
        let found = model.pooled(&case.batch()).unwrap().expect("a pooler");
        let what = format!("{} {name}", folder.display());
        assert_close(model, &what, &found, &expected.values);
    });
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch() {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for folder in folders() {
        let description = golden::json(&folder.join("sequences.json"));
        let tensors = golden::tensors(&folder.join("io.safetensors"));
        let model = open_lenient(&folder);
        let width = model.facts().width as usize;
        let cases = cases(&description, &tensors, &model);
        let rows: Vec<&[u32]> = cases.iter().flat_map(|c| &c.rows).map(Vec::as_slice).collect();
        let alone: Vec<Vec<Vec<f32>>> =
            rows.iter().map(|row| layers(&model, &TokenBatch::pack([*row]))).collect();
        let counts: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        for budget in [70, usize::MAX] {
            for indices in batching::pack(&counts, budget) {
                let batch = TokenBatch::pack(indices.iter().map(|&index| rows[index]));
                for (layer, states) in layers(&model, &batch).iter().enumerate() {
                    for (span, &index) in batch.offsets.windows(2).zip(&indices) {
                        let shared = &states[span[0] * width..span[1] * width];
                        let same = bits(shared) == bits(&alone[index][layer]);
                        assert!(same, "{} row {index} layer {layer}", folder.display());
                    }
                }
            }
        }
    }
}

#[test]
fn the_jax_package_agrees_at_its_own_layer_norm_eps() {
    for folder in folders() {
        let path = folder.join("jax_reference.safetensors");
        if !path.exists() {
            continue;
        }
        let description = golden::json(&folder.join("sequences.json"));
        let inputs = golden::tensors(&folder.join("io.safetensors"));
        let layer_norm_eps = Some(JAX_LAYER_NORM_EPS);
        let model = open(&folder, ModelOptions { layer_norm_eps, ..ModelOptions::default() });
        let reference = golden::tensors(&path);
        let mut compared = 0;
        for case in cases(&description, &inputs, &model) {
            let found = layers(&model, &case.batch());
            for (layer, found) in found.iter().enumerate() {
                let name = format!("{}.jax_embeddings.{layer}", case.name);
                if let Some(expected) = reference.get(&name) {
                    assert_close(&model, &name, found, &packed(expected, &case.columns));
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, reference.len(), "{}: tensors compared", path.display());
    }
}

#[test]
fn damaged_vocabularies_are_refused_with_their_line() {
    hostile::check(&["vocab_txt"], |case| {
        Vocabulary::read(&case.path).map(|_| ()).map_err(|error| error.chain())
    });
}

#[test]
fn a_model_with_a_damaged_config_is_refused() {
    let home = tempfile::tempdir().expect("a temporary folder");
    hostile::check(&["config"], |case| {
        let folder = case.put_over(home.path());
        models::describe(&folder, &ModelOptions::default()).map(drop).map_err(|e| e.chain())
    });
}

#[test]
fn nothing_is_reported_missing_from_a_whole_checkpoint() {
    for folder in folders() {
        let (weights, expected) = models::inspect(&folder).unwrap();
        let found = weights.compare(&expected);
        assert_eq!(found.missing, [], "{}", folder.display());
        assert_eq!(found.mis_shaped, [], "{}", folder.display());
        // Others may have left a part in that no gLM has a use for.
        let is_whole = found.unexpected.is_empty() || golden::is_elsewhere();
        assert!(is_whole, "{}: {:?}", folder.display(), found.unexpected);
    }
}
