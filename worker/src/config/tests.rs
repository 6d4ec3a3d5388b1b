//! Typed reading of configs, and the relations of an ESM config.

use super::bert::BertConfig;
use super::esm::{EsmConfig, PositionEmbedding};
use super::*;

fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn config(text: &str) -> Config {
    let (_folder, path) = write(text);
    Config::read(&path).unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// Good v2 values with `change` put in place of theirs; null removes a key.
fn esm(change: &[(&str, Value)]) -> Result<EsmConfig> {
    let mut values = serde_json::json!({
        "add_bias_fnn": false, "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 112, "vocab_size": 4107,
        "max_position_embeddings": 402, "pad_token_id": 1, "mask_token_id": 2,
        "position_embedding_type": "rotary", "tie_word_embeddings": false,
    });
    for (key, value) in change {
        values[key] = value.clone();
    }
    let (folder, _path) = write(&values.to_string());
    EsmConfig::read(folder.path())
}

#[test]
fn getters_return_values_in_range() {
    let config = config(r#"{"n": 7, "eps": 1e-12, "on": true, "kind": "b", "none": null}"#);
    assert_eq!(config.u32("n", 1..=7).unwrap(), 7);
    assert_eq!(config.f64("eps").unwrap(), 1e-12);
    assert!(config.bool("on").unwrap());
    assert_eq!(config.one_of("kind", &["a", "b"]).unwrap(), "b");
    assert_eq!(config.optional_u32("none", 0..=1).unwrap(), None);
    assert!(!config.contains("none"));
}

#[test]
fn errors_name_key_allowed_and_found() {
    let config = config(r#"{"n": 8, "half": 0.5, "eps": 0, "on": 1, "kind": "c", "none": null}"#);
    let ends = |error: Error, end: &str| {
        let message = error.chain();
        assert!(message.ends_with(end), "{message} does not end with {end}");
    };
    let integer = "an integer from 1 to 7 (limit)";
    ends(config.u32("n", 1..=7).unwrap_err(), &format!("n: expected {integer}, found 8"));
    ends(config.u32("half", 1..=7).unwrap_err(), &format!("expected {integer}, found 0.5"));
    ends(config.u32("none", 1..=7).unwrap_err(), &format!("expected {integer}, found null"));
    ends(config.u32("gone", 1..=7).unwrap_err(), &format!("expected {integer}, found missing"));
    ends(config.f64("eps").unwrap_err(), "eps: expected a positive number, found 0");
    ends(config.bool("on").unwrap_err(), "on: expected true or false, found 1");
    let error = config.one_of("kind", &["a", "b"]).unwrap_err();
    ends(error, "kind: expected one of the supported a, b, found \"c\"");
}

#[test]
fn v2_is_told_by_its_own_keys_and_needs_no_model_type() {
    let config = esm(&[]).unwrap();
    assert!(config.gated && !config.feed_forward_bias && !config.tie_word_embeddings);
    assert_eq!(config.position_embedding, PositionEmbedding::Rotary);
    let message = esm(&[("add_bias_fnn", Value::Null)]).unwrap_err().chain();
    assert!(message.contains("model_type: expected"), "{message}");
}

#[test]
fn v2_expects_gated_matrices_without_bias_and_optional_positions() {
    let list = esm(&[]).unwrap().expected_tensors();
    let find = |name: &str| list.iter().find(|tensor| tensor.name == name);
    let first = find("esm.encoder.layer.1.intermediate.dense.weight").unwrap();
    assert_eq!(first.shape, [224, 48]);
    assert!(find("esm.encoder.layer.1.intermediate.dense.bias").is_none());
    assert!(!find("esm.embeddings.position_embeddings.weight").unwrap().required);
    let rotary = "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq";
    assert_eq!(find(rotary).unwrap().shape, [8]);
}

#[test]
fn contradictions_between_keys_are_refused() {
    for (key, value, part) in [
        ("num_attention_heads", 5, "a divisor of hidden_size 48, found 5"),
        ("num_attention_heads", 16, "even for rotary, found 16"),
        ("mask_token_id", 4107, "an id below vocab_size 4107, found 4107"),
        ("pad_token_id", 9999, "an id below vocab_size 4107, found 9999"),
    ] {
        let message = esm(&[(key, Value::from(value))]).unwrap_err().chain();
        assert!(message.contains(&format!("{key}: ")) && message.contains(part), "{message}");
    }
    let change = [
        ("position_embedding_type", Value::from("absolute")),
        ("max_position_embeddings", 2.into()),
    ];
    assert!(esm(&change).unwrap_err().chain().contains("at least 3"));
}

#[test]
fn the_head_of_mosaic_bert_has_an_eps_of_its_own() {
    let mut values = serde_json::json!({
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
        "max_position_embeddings": 40, "vocab_size": 21, "layer_norm_eps": 1e-3,
    });
    let eps = |values: &Value| {
        let (folder, _path) = write(&values.to_string());
        let config = BertConfig::read(folder.path()).unwrap_or_else(|e| panic!("{}", e.chain()));
        config.head_eps(1e-3)
    };
    assert_eq!(eps(&values), 1e-3);
    values["alibi_starting_size"] = 8.into();
    assert_eq!(eps(&values), 1e-12);
}
