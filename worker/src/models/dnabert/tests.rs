//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_models.rs`.

use super::{DnaBert, FIRST, SECOND};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, Model, ModelOptions, RandomTensors,
    TokenBatch, write_safetensors,
};
use crate::models;
use glmeval_common::dna::DnaSequence;
use glmeval_common::model::InputQuirk;
use serde_json::{Value, json};
use std::path::Path;

const LAYER_COUNT: u32 = 2;

/// Neither config has a model type or what BERT takes for granted.
fn config(version: &DnaBert) -> Value {
    let mut config = json!({
        "architectures": ["BertForMaskedLM"], "hidden_size": 12, "num_hidden_layers": LAYER_COUNT,
        "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 40,
        "vocab_size": 21,
    });
    if version.name() == SECOND.name() {
        config["alibi_starting_size"] = json!(8);
    }
    config
}

/// A folder with `config` and vocabularies of 2-mers and of single letters.
fn folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut tokens = special.map(str::to_owned).to_vec();
    for first in "ATCG".chars() {
        tokens.extend("ATCG".chars().map(|second| format!("{first}{second}")));
    }
    let pieces = json!({
        "added_tokens": [{"id": 0, "content": "[UNK]", "special": true}],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "BPE", "unk_token": "[UNK]", "merges": ["A C"],
            "vocab": {"[UNK]": 0, "A": 1, "C": 2, "G": 3, "T": 4, "AC": 5},
        },
    });
    std::fs::write(folder.path().join("vocab.txt"), tokens.join("\n")).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), pieces.to_string()).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn plan(version: &DnaBert, folder: &Path) -> Box<dyn Blueprint> {
    version.read(&Checkpoint::find(folder).unwrap(), &ModelOptions::default()).unwrap()
}

/// A folder whose random weights are called as `rename` says; `None` leaves one out.
fn renamed(version: &DnaBert, rename: impl Fn(&str) -> Option<String>) -> tempfile::TempDir {
    let folder = folder(&config(version));
    let plan = plan(version, folder.path());
    let path = folder.path().join("model.safetensors");
    let mut source = RandomTensors::new(5, plan.as_ref());
    write_safetensors(&path, &plan.initial_tensors(), &mut source).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let named = stored.tensors().into_iter();
    let named: Vec<_> = named.filter_map(|(name, view)| Some((rename(&name)?, view))).collect();
    std::fs::write(&path, safetensors::serialize(named, None).unwrap()).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> Model {
    models::open(folder.path()).unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn random(version: &DnaBert) -> Model {
    let folder = folder(&config(version));
    models::open_random(folder.path(), &ModelOptions::default(), 5).unwrap()
}

fn layers(model: &Model, sequences: &[&[u32]]) -> Vec<Vec<u32>> {
    let batch = TokenBatch::pack(sequences.iter().copied());
    let request = LayerRequest::new(&[0, 1, 2], LAYER_COUNT).unwrap();
    let mut found = Vec::new();
    let mut keep = |_, states: &[f32]| found.push(states.iter().map(|x| x.to_bits()).collect());
    model.forward(&batch, &request, &mut keep).unwrap();
    found
}

#[test]
fn each_config_is_recognised_with_and_without_a_model_type() {
    for version in [&FIRST, &SECOND] {
        for kind in [Value::Null, json!("bert")] {
            let mut config = config(version);
            config["model_type"] = kind;
            let folder = folder(&config);
            assert_eq!(models::recognise(folder.path()).unwrap().name(), version.name());
        }
        let mut other = config(version);
        other["model_type"] = json!("roberta");
        models::recognise(folder(&other).path()).err().unwrap();
    }
}

#[test]
fn published_sizes_have_the_published_number_of_weights() {
    for (version, vocabulary, count) in [(&FIRST, 4_101, 89_190_912), (&SECOND, 4_096, 117_068_544)]
    {
        let mut config = config(version);
        for (key, value) in [
            ("hidden_size", 768),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
            ("intermediate_size", 3_072),
            ("max_position_embeddings", 512),
            ("vocab_size", vocabulary),
        ] {
            config[key] = json!(value);
        }
        let plan = plan(version, folder(&config).path());
        let tensors = plan.expected_tensors();
        let weights = tensors.iter().filter(|tensor| tensor.is_parameter);
        assert_eq!(weights.map(|tensor| tensor.count()).sum::<u64>(), count);
        let shape = plan.shape();
        assert!(shape.memory.weights > 4 * count);
        let products = if version.name() == FIRST.name() { 4.0 } else { 6.0 };
        let of_block = 8.0 * 768.0 * 768.0 + products * 768.0 * 3_072.0;
        assert_eq!(shape.flops_per_token, 12.0 * of_block);
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch() {
    let sequences: [&[u32]; 3] = [&[2, 5, 19, 3], &[2, 3], &[2, 0, 1, 9, 9, 20, 3]];
    for version in [&FIRST, &SECOND] {
        let model = random(version);
        let together = layers(&model, &sequences);
        let mut start = 0;
        for sequence in sequences {
            let end = start + sequence.len() * 12;
            for (alone, together) in layers(&model, &[sequence]).iter().zip(&together) {
                assert_eq!(alone, &together[start..end]);
            }
            start = end;
        }
    }
}

#[test]
fn the_order_of_tokens_counts_in_both() {
    for version in [&FIRST, &SECOND] {
        let model = random(version);
        let (there, back) = (layers(&model, &[&[2, 5, 9, 3]]), layers(&model, &[&[2, 9, 5, 3]]));
        assert_ne!(there[2][..12], back[2][..12], "{}", version.name());
    }
}

#[test]
fn a_mask_read_as_segments_changes_states_and_no_id() {
    let folder = folder(&config(&SECOND));
    let open = |quirk| {
        let options = ModelOptions { quirk, ..ModelOptions::default() };
        models::open_random(folder.path(), &options, 3).unwrap()
    };
    let [plain, quirky] = [None, Some(InputQuirk::MaskAsSegments)].map(open);
    assert_eq!(plain.facts(), quirky.facts());
    let [plain, quirky] = [plain, quirky].map(|model| layers(&model, &[&[1, 2, 3]]));
    assert!(plain.iter().zip(&quirky).all(|(plain, quirky)| plain != quirky));
}

#[test]
fn only_learned_positions_bound_the_length() {
    let long = TokenBatch::pack([vec![2; 41].as_slice()]);
    let refusal = random(&FIRST).last_states(&long).unwrap_err().chain();
    assert!(refusal.contains("at most 40 tokens, found 41"), "{refusal}");
    assert_eq!(random(&SECOND).last_states(&long).unwrap().len(), 41 * 12);
}

#[test]
fn a_pooled_output_is_a_tangent_for_each_sequence() {
    for version in [&FIRST, &SECOND] {
        let batch = TokenBatch::pack([[2, 5, 3].as_slice(), &[2, 3]]);
        let pooled = random(version).pooled(&batch).unwrap().expect("a pooler");
        assert_eq!(pooled.len(), 2 * 12);
        assert!(pooled.iter().all(|value| value.abs() < 1.0 && *value != 0.0), "{pooled:?}");
    }
}

#[test]
fn names_of_other_savers_are_known() {
    for version in [&FIRST, &SECOND] {
        let plain = open(&renamed(version, |name| Some(name.to_owned())));
        let expected = layers(&plain, &[&[2, 5, 3]]);
        assert_eq!(expected, layers(&random(version), &[&[2, 5, 3]]), "written as drawn");
        let bare = renamed(version, |name| name.strip_prefix("bert.").map(str::to_owned));
        assert_eq!(layers(&open(&bare), &[&[2, 5, 3]]), expected);
        let old = renamed(version, |name| {
            Some(name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"))
        });
        assert_eq!(layers(&open(&old), &[&[2, 5, 3]]), expected);
        let bias = renamed(version, |name| Some(name.replace("ions.bias", "ions.decoder.bias")));
        let batch = TokenBatch::pack([[2, 5].as_slice()]);
        assert_eq!(open(&bias).logits(&batch).unwrap(), plain.logits(&batch).unwrap());
    }
}

#[test]
fn head_and_pooler_are_whole_or_absent() {
    let batch = TokenBatch::pack([[2, 5].as_slice()]);
    for version in [&FIRST, &SECOND] {
        let without = |part: &'static str| {
            renamed(version, move |name| (!name.starts_with(part)).then(|| name.to_owned()))
        };
        let headless = open(&without("cls."));
        let error = headless.logits(&batch).unwrap_err().chain();
        assert!(error.contains("no language-model head"), "{error}");
        assert_eq!(open(&without("bert.pooler.")).pooled(&batch).unwrap(), None);
        for part in ["bert.pooler.dense.bias", "cls.predictions.transform.dense.weight"] {
            let error = models::open(without(part).path()).err().expect("refused").chain();
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn configs_of_other_berts_are_refused() {
    for (key, value, place) in [
        ("hidden_act", json!("relu"), "hidden_act: expected one of the supported gelu"),
        ("is_decoder", json!(true), "is_decoder: expected false"),
        ("num_attention_heads", json!(5), "num_attention_heads: expected a divisor of hidden_size"),
        ("hidden_size", Value::Null, "hidden_size: expected an integer"),
        ("type_vocab_size", json!(0), "type_vocab_size: expected an integer"),
    ] {
        let mut config = config(&FIRST);
        config[key] = value;
        let folder = folder(&config);
        let checkpoint = Checkpoint::find(folder.path()).unwrap();
        let error = FIRST.read(&checkpoint, &ModelOptions::default()).err().expect("refused");
        assert!(error.chain().contains(place), "{}", error.chain());
    }
}

#[test]
fn sequences_are_cut_by_the_published_tokenizers() {
    let text = DnaSequence::new("ACGT").unwrap();
    assert_eq!(random(&FIRST).tokenize(&text).unwrap(), [2, 7, 16, 18, 3]);
    assert_eq!(random(&SECOND).tokenize(&text).unwrap(), [5, 3, 4]);
}

#[test]
fn weights_drawn_by_choice_are_those_of_the_seed() {
    let folder = folder(&config(&FIRST));
    let options = ModelOptions { random: Some(5), ..ModelOptions::default() };
    let (drawn, facts) =
        (models::open_with(folder.path(), &options), models::describe(folder.path(), &options));
    let id = random(&FIRST).facts().id.clone();
    assert_eq!((drawn.unwrap().facts().id.clone(), facts.unwrap().id), (id.clone(), id));
}
