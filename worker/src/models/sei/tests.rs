//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_supervised.rs`.

use super::*;
use crate::model::{Model, Precision, RandomTensors, write_safetensors};
use crate::models;
use glmeval_common::model::{InputQuirk, TokenRule};
use serde_json::{Value, json};

fn config() -> Value {
    json!({ "sequence_length": 70, "n_genomic_features": 5, "channels": [3, 4, 6], "spline_df": 5 })
}

fn folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn random(config: &Value) -> Model {
    models::open_random(folder(config).path(), &ModelOptions::default(), 3).unwrap()
}

fn states(model: &Model, sequences: &[&[u32]]) -> Vec<u32> {
    let batch = TokenBatch::pack(sequences.iter().copied());
    model.last_states(&batch).unwrap().iter().map(|value| value.to_bits()).collect()
}

fn refusal(config: &Value) -> String {
    models::open_random(folder(config).path(), &ModelOptions::default(), 3).err().unwrap().chain()
}

fn published() -> Plan {
    let folder = folder(&json!({ "n_genomic_features": 21_907, "spline_df": 16 }));
    let config = SeiConfig::read(folder.path()).unwrap();
    Plan { config, options: ModelOptions::default() }
}

#[test]
fn the_published_network_has_its_published_size_and_cost() {
    let plan = published();
    let count = |of_classifier| -> u64 {
        let tensors = plan.expected_tensors().into_iter();
        let chosen = tensors.filter(|t| t.name.starts_with("classifier") == of_classifier);
        chosen.map(|tensor| tensor.count()).sum()
    };
    assert_eq!(count(true), 21_907 * (960 * 16 + 21_907 + 2));
    assert!((73.4e6..73.6e6).contains(&(count(false) as f64)), "{}", count(false));
    let shape = plan.shape();
    assert_eq!((shape.states_fixed, shape.width, shape.tokens_max), (Some(960), 16, 4_096));
    let flops = shape.flops_per_token * 4_096.0;
    assert!((106e9..108e9).contains(&flops), "{flops}");
}

#[test]
fn facts_follow_from_the_config() {
    let facts = random(&config()).facts().clone();
    assert_eq!(facts.architecture, "sei");
    assert_eq!((facts.layer_count, facts.width, facts.states(9)), (1, 5, 6));
    assert_eq!(facts.token_rule, TokenRule::Blocks { length: 1, special: 0 });
    assert_eq!(facts.flops(1, 1), facts.flops(70, 1), "every input is padded");
    let stages = 9 * (4 * 3 + 3 * 9) + 12 + 9 * (3 * 4 + 3 * 16) + 16 + 9 * (4 * 6 + 3 * 36) + 24;
    assert_eq!(facts.parameters, stages + 5 * (5 * 36 + 6) + 5 * (30 + 1) + 5 * (5 + 1));
}

#[test]
fn padding_stands_on_both_sides_and_is_no_nucleotide() {
    let model = random(&config());
    let alone = states(&model, &[&[0, 1, 2]]);
    let mut padded = vec![4; 33];
    padded.extend([0, 1, 2]);
    padded.extend([4; 34]);
    assert_eq!(states(&model, &[&padded]), alone);
    padded.rotate_left(1);
    assert_ne!(states(&model, &[&padded]), alone);
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let model = random(&config());
    let sequences: [&[u32]; 3] = [&[0, 1, 2, 3, 4], &[3; 70], &[2, 2, 1]];
    let together = states(&model, &sequences);
    for (sequence, shared) in sequences.into_iter().zip(together.chunks(30)) {
        assert_eq!(states(&model, &[sequence]), shared);
    }
}

#[test]
fn inputs_that_cannot_be_run_are_refused() {
    let model = random(&config());
    let error = |ids: &[u32]| model.last_states(&TokenBatch::pack([ids])).unwrap_err().to_string();
    assert!(error(&[0; 71]).contains("at most 70 tokens, found 71"));
    assert!(error(&[5]).contains("below 5, found 5"));
    let request = LayerRequest::new(&[0], 1).unwrap();
    let batch = TokenBatch::pack([[0].as_slice()]);
    let error = model.forward(&batch, &request, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("no layer 0"), "{error}");
    let error = model.logits_at(&batch, &[0]).unwrap_err().to_string();
    assert!(error.contains("expected 30 numbers for each whole sequence, found 5"), "{error}");
}

#[test]
fn sizes_out_of_range_are_refused_with_their_key() {
    for (key, value) in [
        ("sequence_length", json!(31)),
        ("channels", json!([3, 4])),
        ("channels", json!([3, 0, 4])),
        ("channels", json!([3, 4, 1e9])),
        ("channels", json!(3)),
        ("spline_df", json!(3)),
        ("n_genomic_features", json!(0)),
    ] {
        let mut config = config();
        config[key] = value;
        let error = refusal(&config);
        assert!(error.contains(&format!("config.json: {key}: expected")), "{error}");
    }
}

#[test]
fn weights_without_a_classifier_give_states_but_no_predictions() {
    let folder = folder(&config());
    let plan =
        Plan { config: SeiConfig::read(folder.path()).unwrap(), options: ModelOptions::default() };
    let mut tensors = plan.initial_tensors();
    tensors.retain(|tensor| !tensor.name.starts_with("classifier"));
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, &tensors, &mut RandomTensors::new(3, &plan)).unwrap();
    let model = models::open(folder.path()).unwrap();
    assert_eq!(states(&model, &[&[0, 1]]), states(&random(&config()), &[&[0, 1]]));
    let error = model.logits(&TokenBatch::pack([[0].as_slice()])).unwrap_err();
    assert!(error.to_string().contains("no classifier"), "{error}");
}

#[test]
fn a_written_random_model_is_the_random_model() {
    let folder = folder(&config());
    models::write_random(folder.path(), 3).unwrap();
    let read = models::open(folder.path()).unwrap();
    assert_eq!(states(&read, &[&[0, 1]]), states(&random(&config()), &[&[0, 1]]));
    assert_eq!(read.facts().parameters, random(&config()).facts().parameters);
}

#[test]
fn another_length_is_that_of_its_config_under_the_same_id() {
    let quirk = Some(InputQuirk::Length(86));
    let options = ModelOptions { quirk, ..ModelOptions::default() };
    let longer = models::open_random(folder(&config()).path(), &options, 3).unwrap();
    assert_eq!(longer.facts().id, random(&config()).facts().id);
    assert_eq!(longer.facts().tokens_max, 86);
    let mut written = config();
    written["sequence_length"] = json!(86);
    let sequences: &[&[u32]] = &[&[0, 1, 2, 3, 3, 1]];
    assert_eq!(states(&longer, sequences), states(&random(&written), sequences));
    assert_ne!(states(&longer, sequences), states(&random(&config()), sequences));
    let quirk = Some(InputQuirk::Length(1));
    let options = ModelOptions { quirk, ..ModelOptions::default() };
    assert!(models::open_random(folder(&config()).path(), &options, 3).is_err());
}

#[test]
fn bf16_products_give_nearly_the_same_states() {
    let options = ModelOptions { precision: Precision::Bf16, ..ModelOptions::default() };
    let rounded = models::open_random(folder(&config()).path(), &options, 3).unwrap();
    let batch = TokenBatch::pack([[0, 1, 2, 3, 3, 1].as_slice()]);
    let [found, expected] = [rounded, random(&config())].map(|m| m.last_states(&batch).unwrap());
    assert_ne!(found, expected);
    let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 0.05 * largest, "{found} {expected}");
    }
}
