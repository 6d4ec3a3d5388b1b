//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_models.rs`.

use super::MODEL;
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, Model, ModelOptions, SpecialTokens,
    TokenBatch,
};
use crate::models;
use glmeval_common::dna::DnaSequence;
use serde_json::{Value, json};

/// The authors' config of these sizes.
fn original(width: u32, layers: u32, positions: u32) -> Value {
    json!({
        "d_model": width, "n_layer": layers, "d_inner": 4 * width, "vocab_size": 12,
        "pad_vocab_size_multiple": 8, "checkpoint_mixer": false, "residual_in_fp32": true,
        "layer": {
            "_name_": "hyena", "emb_dim": 5, "filter_order": 64, "short_filter_order": 3,
            "l_max": positions, "modulate": true, "w": 10,
        },
    })
}

/// The Hub's config of these sizes.
fn hugging_face(width: u32, layers: u32, positions: u32) -> Value {
    json!({
        "model_type": "hyenadna", "d_model": width, "n_layer": layers, "d_inner": 4 * width,
        "vocab_size": 12, "pad_vocab_size_multiple": 8, "emb_dim": 5, "filter_order": 64,
        "num_inner_mlps": 2, "hyena_order": 2, "short_filter_order": 3, "activation_freq": 10,
        "max_seq_len": positions, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": false,
    })
}

fn folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn read(config: &Value) -> glmeval_common::error::Result<Box<dyn Blueprint>> {
    let folder = folder(config);
    MODEL.read(&Checkpoint::find(folder.path())?, &ModelOptions::default())
}

fn random(config: &Value, options: &ModelOptions) -> Model {
    models::open_random(folder(config).path(), options, 5).unwrap()
}

fn states(model: &Model, ids: &[u32], layer: u32) -> Vec<f32> {
    let request = LayerRequest::new(&[layer], model.facts().layer_count).unwrap();
    let mut found = Vec::new();
    model
        .forward(&TokenBatch::pack([ids]), &request, &mut |_, states| found.extend(states))
        .unwrap();
    found
}

#[test]
fn published_sizes_have_the_published_numbers_of_parameters() {
    let count = |config: &Value| -> u64 {
        let tensors = read(config).unwrap().expected_tensors();
        tensors.iter().filter(|tensor| tensor.is_parameter).map(|tensor| tensor.count()).sum()
    };
    for (width, layers, positions, expected) in [
        (128, 2, 1026, 436_096),
        (256, 2, 1026, 1_641_088),
        (256, 4, 32_770, 3_277_568),
        (256, 8, 160_002, 6_550_528),
    ] {
        assert_eq!(count(&original(width, layers, positions)), expected);
        // The Hub's file has a head of its own.
        let head = u64::from(16 * width);
        assert_eq!(count(&hugging_face(width, layers, positions)), expected + head);
    }
    // medium-160k is published as 56 971 992 bytes of F32 tensors and their description.
    let tensors = read(&hugging_face(256, 8, 160_002)).unwrap().initial_tensors();
    let bytes: u64 = tensors.iter().map(|tensor| tensor.count() * 4).sum();
    assert!((56_940_000..56_971_992).contains(&bytes), "{bytes}");
}

#[test]
fn the_authors_names_become_the_hubs() {
    for (stored, name) in [
        ("model.backbone.ln_f.bias", "hyena.backbone.ln_f.bias"),
        ("hyena.backbone.ln_f.bias", "hyena.backbone.ln_f.bias"),
        ("backbone.ln_f.bias", "hyena.backbone.ln_f.bias"),
        ("model.lm_head.weight", "lm_head.weight"),
        (
            "model.backbone.layers.0.mixer.layer.in_proj.bias",
            "hyena.backbone.layers.0.mixer.in_proj.bias",
        ),
        ("model.backbone.layers.11.mlp.layer.fc1.bias", "hyena.backbone.layers.11.mlp.fc1.bias"),
    ] {
        assert_eq!(MODEL.canonical_name(stored), name);
    }
}

#[test]
fn filters_start_with_the_published_features_window_and_frequency() {
    let plan = read(&original(32, 1, 5)).unwrap();
    let values = |end: &str| {
        let name = format!("hyena.backbone.layers.0.mixer.filter_fn.{end}");
        plan.initial_values(&name).unwrap()
    };
    assert_eq!(values("pos_emb.t"), [0.0, 0.25, 0.5, 0.75, 1.0]);
    let features = values("pos_emb.z");
    assert_eq!(features[..5], [0.0, 1.0, 1.0, 0.0, 0.0]);
    let angle = std::f64::consts::TAU / 5.0;
    let second = [0.25, (1e-4 * angle).cos(), angle.cos(), -(1e-4 * angle).sin(), -angle.sin()];
    assert!(
        features[5..10].iter().zip(second).all(|(found, x)| (f64::from(*found) - x).abs() < 1e-7)
    );
    let deltas = values("modulation.deltas");
    assert_eq!((deltas[0], deltas[31]), (-3.070_113_5, -15.350_567));
    assert_eq!(values("implicit_filter.1.freq"), [10.0; 64]);
    assert!(plan.initial_values("hyena.backbone.ln_f.weight").is_none());
}

#[test]
fn special_tokens_follow_the_layout_or_the_choice() {
    let ids = |config: &Value, special_tokens| {
        let options = ModelOptions { special_tokens, ..ModelOptions::default() };
        random(config, &options).tokenize(&DnaSequence::new("ACN").unwrap()).unwrap()
    };
    let (ours, hubs) = (original(16, 1, 20), hugging_face(16, 1, 20));
    let (both, last) = ([0, 7, 8, 11, 1].as_slice(), [7, 8, 11, 1].as_slice());
    assert_eq!(ids(&ours, SpecialTokens::Checkpoint), both);
    assert_eq!(ids(&hubs, SpecialTokens::Checkpoint), last);
    assert_eq!(ids(&ours, SpecialTokens::HuggingFace), last);
    assert_eq!(ids(&hubs, SpecialTokens::Original), both);
}

#[test]
fn layers_end_with_the_final_norm_and_no_later_token_changes_a_state() {
    let model = random(&hugging_face(16, 2, 20), &ModelOptions::default());
    assert_eq!((model.facts().layer_count, model.facts().tokens_max), (3, 20));
    assert!(model.is_causal() && !model.mean_skips_first());
    let long = states(&model, &[7, 8, 9, 10, 11, 7, 1], 3);
    let short = states(&model, &[7, 8, 9, 10], 3);
    let difference = |(a, b): (&f32, &f32)| (a - b).abs();
    assert!(long.iter().zip(&short).map(difference).all(|difference| difference < 1e-5));
    // A freshly made norm gives rows of mean zero and variance about one, as eps counts for states
    // this small.
    let row = &short[..16];
    assert!(row.iter().sum::<f32>().abs() < 1e-4);
    assert!((row.iter().map(|x| x * x).sum::<f32>() / 16.0 - 1.0).abs() < 0.1);
    let logits = model.logits(&TokenBatch::pack([[7, 8].as_slice()])).unwrap();
    assert_eq!(logits.len(), 2 * 16);
    let batch = TokenBatch::pack([[7; 21].as_slice()]);
    let error = model.last_states(&batch).unwrap_err().to_string();
    assert!(error.contains("at most 20 tokens, found 21"), "{error}");
}

#[test]
fn the_hubs_epsilon_is_that_of_the_last_norm_alone() {
    let with = |config: Value, eps: f64| {
        let mut config = config;
        config["layer_norm_epsilon"] = json!(eps);
        let model = random(&config, &ModelOptions::default());
        [2, 3].map(|layer| states(&model, &[7, 8, 9, 10, 1], layer))
    };
    let hub = [1e-5, 1e-2].map(|eps| with(hugging_face(16, 2, 20), eps));
    assert_eq!(hub[0][0], hub[1][0]);
    assert_ne!(hub[0][1], hub[1][1]);
    let ours = [1e-5, 1e-2].map(|eps| with(original(16, 2, 20), eps));
    assert_ne!(ours[0][0], ours[1][0]);
    assert_ne!(ours[0][1], ours[1][1]);
}

#[test]
fn the_hub_shares_the_embedding_unless_told_otherwise() {
    let mut config = hugging_face(16, 1, 20);
    let has_head = |config: &Value| {
        let tensors = read(config).unwrap().initial_tensors();
        tensors.iter().any(|tensor| tensor.name == super::HEAD)
    };
    assert!(has_head(&config));
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert!(!has_head(&config));
    let model = random(&config, &ModelOptions::default());
    assert_eq!(model.logits(&TokenBatch::pack([[7, 8].as_slice()])).unwrap().len(), 2 * 16);
}

#[test]
fn rows_past_one_block_of_the_feed_forward_part_have_the_same_bits() {
    let model = random(&hugging_face(16, 1, 20), &ModelOptions::default());
    let ids: Vec<Vec<u32>> =
        (0..120_u32).map(|i| (0..20).map(|t| 7 + (i * i + t * t) % 5).collect()).collect();
    let batch = TokenBatch::pack(ids.iter().map(Vec::as_slice));
    assert!(batch.token_count() > super::block::ROWS);
    let together = model.last_states(&batch).unwrap();
    for index in [0, 60, 102, 119] {
        let alone = states(&model, &ids[index], 2);
        assert_eq!(together[index * 320..(index + 1) * 320], alone);
    }
}

#[test]
fn a_written_random_model_is_the_random_model() {
    for config in [original(16, 1, 1030), hugging_face(16, 1, 1030)] {
        let folder = folder(&config);
        models::write_random(folder.path(), 5).unwrap();
        let read = models::open(folder.path()).unwrap();
        let drawn = random(&config, &ModelOptions::default());
        let ids = [7, 9, 10, 8, 11, 1];
        assert_eq!(states(&read, &ids, 2), states(&drawn, &ids, 2));
        assert_eq!(
            models::describe(folder.path(), &ModelOptions::default()).unwrap(),
            *read.facts()
        );
        assert!(read.logits(&TokenBatch::pack([ids.as_slice()])).is_ok());
    }
}

#[test]
fn variants_that_were_never_published_are_refused_with_their_key() {
    let refusal = |config: &Value| read(config).err().expect("refused").chain();
    let mut config = original(16, 1, 20);
    config["layer"]["modulate"] = json!(false);
    assert!(refusal(&config).contains("layer.modulate: expected true (limit), found false"));
    config = original(16, 1, 20);
    config["layer"]["shift"] = json!(0.1);
    assert!(refusal(&config).contains("layer.shift: expected 0.05 (limit), found 0.1"));
    config["layer"]["shift"] = json!(0.0);
    assert!(refusal(&config).contains("layer.shift: expected "));
    config["layer"]["shift"] = json!(0.05);
    assert!(read(&config).is_ok());
    config = original(16, 1, 20);
    config["layer"]["order"] = json!(3);
    assert!(refusal(&config).contains("layer.order: expected an integer from 2 to 2"));
    config = original(16, 1, 20);
    config["layer"]["emb_dim"] = json!(4);
    assert!(
        refusal(&config).contains("layer.emb_dim: expected an odd number of at least 3, found 4")
    );
    config = hugging_face(16, 1, 20);
    config["short_filter_order"] = json!(5);
    assert!(refusal(&config).contains("short_filter_order: expected an integer from 3 to 3"));
    config = hugging_face(16, 1, 20);
    config["pad_vocab_size_multiple"] = json!(1);
    config["vocab_size"] = json!(11);
    assert!(refusal(&config).contains("vocab_size: expected at least 12, found 11"));
}

#[test]
fn a_config_that_its_weights_contradict_is_refused_with_its_key() {
    for (config, key) in [
        (original(16, 2, 20), "layer.l_max: expected 20, as"),
        (hugging_face(16, 2, 20), "max_seq_len: expected 20, as"),
    ] {
        let folder = folder(&config);
        models::write_random(folder.path(), 5).unwrap();
        let message = |change: &dyn Fn(&mut Value)| {
            let mut changed = config.clone();
            change(&mut changed);
            std::fs::write(folder.path().join("config.json"), changed.to_string()).unwrap();
            models::open(folder.path()).err().expect("refused").chain()
        };
        let longer = message(&|config| {
            config["max_seq_len"] = json!(40);
            if let Some(layer) = config.get_mut("layer") {
                layer["l_max"] = json!(40);
            }
        });
        assert!(longer.contains(key), "{longer}");
        let deeper = message(&|config| config["n_layer"] = json!(3));
        assert!(deeper.contains("n_layer: expected 2, the layers in"), "{deeper}");
    }
}
