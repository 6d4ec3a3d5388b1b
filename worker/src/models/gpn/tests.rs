//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_models.rs`.

use super::MODEL;
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, Model, ModelOptions, RandomTensors,
    TensorShape, TokenBatch, write_safetensors,
};
use crate::models;
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::Result;
use serde_json::{Value, json};

/// The config of `songlab/gpn-brassicales`, with other sizes.
fn conv_net(width: u32, layers: u32) -> Value {
    json!({
        "model_type": "ConvNet", "vocab_size": 7, "hidden_size": width, "n_layers": layers,
        "kernel_size": 9, "dilation_double_every": 1, "dilation_max": 32, "dilation_cycle": 6,
        "initializer_range": 0.02,
    })
}

fn byte_net() -> Value {
    json!({
        "model_type": "GPN", "vocab_size": 7, "hidden_size": 16, "num_hidden_layers": 3,
        "encoder": "bytenet", "embedding": "embedding", "first_kernel_size": 9,
        "rest_kernel_size": 5, "dilation_base": 2, "dilation_double_every": 1,
        "dilation_max": 9999, "dilation_cycle": 8, "bias": false, "slim": true,
        "mlm_head_transform": false, "depthwise": false, "n_aux_features": 0,
        "tie_word_embeddings": false, "layer_norm_eps": 1e-12,
    })
}

/// A folder with `config` and the published vocabulary.
fn folder(config: &Value) -> tempfile::TempDir {
    let tokens = ["[PAD]", "[MASK]", "[UNK]", "a", "c", "g", "t"];
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
    let added: Vec<Value> = tokens[..3]
        .iter()
        .zip(0..)
        .map(|(token, id)| json!({"id": id, "content": token, "special": true}))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": added, "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": vocabulary, "merges": []},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn read(config: &Value) -> Result<Box<dyn Blueprint>> {
    let folder = folder(config);
    MODEL.read(&Checkpoint::find(folder.path())?, &ModelOptions::default())
}

fn random(config: &Value) -> Model {
    models::open_random(folder(config).path(), &ModelOptions::default(), 5).unwrap()
}

fn layers(model: &Model, ids: &[u32]) -> Vec<Vec<f32>> {
    let count = model.facts().layer_count;
    let request = LayerRequest::new(&(0..=count).collect::<Vec<_>>(), count).unwrap();
    let mut found = Vec::new();
    let mut keep = |_, states: &[f32]| found.push(states.to_vec());
    model.forward(&TokenBatch::pack([ids]), &request, &mut keep).unwrap();
    found
}

fn parameters(config: &Value) -> u64 {
    let tensors = read(config).unwrap().expected_tensors();
    tensors.iter().filter(|tensor| tensor.is_parameter).map(|tensor| tensor.count()).sum()
}

#[test]
fn the_published_gpn_has_the_published_number_of_parameters() {
    let config = conv_net(512, 25);
    assert_eq!(parameters(&config), 65_880_071);
    let shape = read(&config).unwrap().shape();
    assert_eq!((shape.layer_count, shape.width), (25, 512));
    assert_eq!(shape.flops_per_token, 25.0 * 20.0 * 512.0 * 512.0);
}

#[test]
fn dilations_double_within_a_cycle_up_to_the_largest() {
    let dilations = |config: &Value| {
        let identity = read(config).unwrap().identity().into_iter();
        identity.filter(|(name, _)| *name == "dilation").map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(dilations(&conv_net(16, 8)), [1, 2, 4, 8, 16, 32, 1, 2]);
    let mut config = conv_net(16, 9);
    (config["dilation_base"], config["dilation_double_every"]) = (json!(3), json!(2));
    assert_eq!(dilations(&config), [1, 1, 3, 3, 9, 9, 1, 1, 3]);
    (config["dilation_cycle"], config["dilation_max"]) = (json!(4000), json!(7));
    (config["dilation_base"], config["n_layers"]) = (json!(2), json!(200));
    let long = dilations(&config);
    assert_eq!((long[5], long[6], long[199]), (4, 7, 7));
}

#[test]
fn what_a_config_leaves_out_is_the_default_of_its_class() {
    let without = |mut config: Value, keys: &[&str]| {
        for key in keys {
            config.as_object_mut().unwrap().remove(*key);
        }
        read(&config).unwrap().identity()
    };
    let keys = ["dilation_max", "dilation_cycle", "dilation_double_every", "dilation_base"];
    assert_eq!(without(conv_net(16, 8), &keys), read(&conv_net(16, 8)).unwrap().identity());
    let identity = read(&byte_net()).unwrap().identity();
    assert_eq!(without(byte_net(), &keys), identity);
    let mut one_hot = byte_net();
    one_hot["embedding"] = json!("one_hot");
    assert_eq!(without(byte_net(), &["embedding"]), read(&one_hot).unwrap().identity());
}

#[test]
fn combinations_that_are_not_supported_are_refused_with_their_key() {
    let refusal = |config: Value, key: &str, value: Value| {
        let mut config = config;
        config[key] = value;
        read(&config).err().expect("refused").chain()
    };
    let message = refusal(byte_net(), "encoder", json!("convnet"));
    assert!(message.contains("encoder: expected one of the supported bytenet, found"), "{message}");
    let message = refusal(byte_net(), "depthwise", json!(true));
    assert!(message.contains("depthwise: expected false"), "{message}");
    assert!(message.ends_with("found true"), "{message}");
    let message = refusal(byte_net(), "n_aux_features", json!(5));
    assert!(message.contains("n_aux_features: expected"), "{message}");
    let message = refusal(byte_net(), "embedding", json!("learned"));
    assert!(message.contains("one_hot, embedding"), "{message}");
    let message = refusal(conv_net(16, 1), "kernel_size", json!(8));
    assert!(message.contains("kernel_size: expected an odd number of taps, found 8"), "{message}");
    let message = refusal(conv_net(6, 1), "vocab_size", json!(7));
    assert!(message.contains("vocab_size: expected at most hidden_size 6"), "{message}");
    let mut tied = byte_net();
    tied["embedding"] = json!("one_hot");
    let message = refusal(tied, "tie_word_embeddings", json!(true));
    assert!(message.contains("tie_word_embeddings: expected false"), "{message}");
}

#[test]
fn tokens_are_bases_and_layer_zero_is_their_one_hot() {
    let model = random(&conv_net(8, 2));
    let ids = model.tokenize(&DnaSequence::new("ACGTN").unwrap()).unwrap();
    assert_eq!(ids, [3, 4, 5, 6, 2]);
    assert_eq!(model.facts().tokens(230), 230);
    assert!(!model.mean_skips_first() && !model.is_causal());
    let found = layers(&model, &ids);
    assert_eq!(found.len(), 3);
    let hot: Vec<usize> =
        found[0].chunks(8).map(|row| row.iter().position(|&x| x == 1.0).unwrap()).collect();
    assert_eq!(hot, [3, 4, 5, 6, 2]);
    assert_eq!(found[0].iter().sum::<f32>(), 5.0);
    assert_eq!(model.logits(&TokenBatch::pack([ids.as_slice()])).unwrap().len(), 5 * 7);
}

#[test]
fn every_form_of_the_later_class_runs_and_ends_with_its_norm() {
    for (embedding, bias, slim, transform) in [
        ("embedding", false, true, false),
        ("one_hot", true, false, true),
        ("embedding", true, true, true),
        ("one_hot", false, true, true),
    ] {
        let mut config = byte_net();
        config["embedding"] = json!(embedding);
        (config["bias"], config["slim"]) = (json!(bias), json!(slim));
        config["mlm_head_transform"] = json!(transform);
        let model = random(&config);
        assert_eq!(model.facts().parameters, parameters(&config));
        let found = layers(&model, &[3, 4, 5, 6, 2, 0, 1]);
        assert_eq!((found.len(), model.facts().layer_count), (5, 4));
        let row = &found[4][..16];
        assert!(row.iter().sum::<f32>().abs() < 1e-4);
        let logits = model.logits(&TokenBatch::pack([[3, 4].as_slice()])).unwrap();
        assert_eq!(logits.len(), 2 * 7);
        let narrower = parameters(&byte_net());
        assert_eq!(parameters(&config) == narrower, !bias && slim && !transform);
    }
}

#[test]
fn a_padding_token_is_read_like_any_other() {
    let model = random(&conv_net(16, 2));
    let alone = layers(&model, &[3, 4, 5]).remove(2);
    let padded = layers(&model, &[3, 4, 5, 0]).remove(2);
    assert_ne!(alone, padded[..alone.len()]);
}

/// A folder whose tensors are those of `random`, renamed; `None` leaves one out.
fn renamed(config: &Value, name: impl Fn(&str) -> Option<String>) -> tempfile::TempDir {
    let folder = folder(config);
    let plan = read(config).unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = plan.initial_tensors();
    write_safetensors(&path, &tensors, &mut RandomTensors::new(5, plan.as_ref())).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let views = tensors.iter().filter_map(|TensorShape { name: stored, .. }| {
        Some((name(stored)?, file.tensor(stored).unwrap()))
    });
    let renamed = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    std::fs::write(&path, renamed).unwrap();
    folder
}

#[test]
fn a_bare_encoder_has_the_states_of_the_whole_model_but_no_logits() {
    for config in [conv_net(16, 2), byte_net()] {
        let bare = renamed(&config, |name| name.strip_prefix("model.").map(str::to_owned));
        let model = models::open(bare.path()).unwrap_or_else(|e| panic!("{}", e.chain()));
        assert_eq!(layers(&model, &[3, 4, 5]), layers(&random(&config), &[3, 4, 5]));
        let error = model.logits(&TokenBatch::pack([[3].as_slice()])).unwrap_err().chain();
        assert!(error.contains("no language-model head"), "{error}");
    }
}

#[test]
fn a_tied_decoder_is_the_embedding() {
    let mut config = byte_net();
    config["tie_word_embeddings"] = json!(true);
    (config["mlm_head_transform"], config["bias"]) = (json!(true), json!(true));
    let folder = renamed(&config, |name| Some(name.to_owned()));
    let model = models::open(folder.path()).unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(model.logits(&TokenBatch::pack([[3].as_slice()])).unwrap().len(), 7);
}

#[test]
fn a_config_that_its_weights_contradict_is_refused_with_its_key() {
    let refusal = |good: Value, key: &str, value: Value| {
        let folder = renamed(&good, |name| Some(name.to_owned()));
        let mut config = good;
        config[key] = value;
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        models::open(folder.path()).err().expect("refused").chain()
    };
    for (config, key, value, expected) in [
        (conv_net(16, 2), "n_layers", json!(3), "n_layers: expected 2, the layers in"),
        (conv_net(16, 2), "kernel_size", json!(7), "kernel_size: expected 9, as"),
        (conv_net(16, 2), "hidden_size", json!(32), "hidden_size: expected 16, as"),
        (byte_net(), "rest_kernel_size", json!(9), "rest_kernel_size: expected 5, as"),
        (byte_net(), "num_hidden_layers", json!(2), "num_hidden_layers: expected 3"),
        (byte_net(), "slim", json!(false), "slim: expected blocks of width 8, as"),
    ] {
        let message = refusal(config, key, value);
        assert!(message.contains(expected), "{message}");
    }
    let mut config = byte_net();
    config["bias"] = json!(true);
    let message = refusal(config, "bias", json!(false));
    assert!(message.contains("bias: expected true, as"), "{message}");
}
