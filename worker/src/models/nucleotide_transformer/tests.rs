//! Facts that hold for any weights; numbers are compared with upstream's in `tests/golden_models.rs`.

use crate::batching;
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, Model, ModelOptions, RandomTensors,
    TensorSource, TokenBatch,
};
use crate::models;
use crate::tokenizer::{TokenRule, UnknownLetters};
use glmeval_common::dna::DnaSequence;
use glmeval_common::error::Result;
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;
use std::slice;

const LAYER_COUNT: u32 = 2;
const BLOCKS: TokenRule = TokenRule::Blocks { length: 2, special: 1 };

fn config() -> serde_json::Value {
    json!({
        "architectures": ["EsmForMaskedLM"], "model_type": "esm", "vocab_size": 25,
        "hidden_size": 12, "num_hidden_layers": LAYER_COUNT, "num_attention_heads": 2,
        "intermediate_size": 20, "max_position_embeddings": 42, "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute", "token_dropout": true,
        "emb_layer_norm_before": false, "pad_token_id": 1, "mask_token_id": 2,
    })
}

/// A folder with `config` and a vocabulary of 2-mers.
fn folder(config: &serde_json::Value) -> tempfile::TempDir {
    let mut tokens = ["<unk>", "<pad>", "<mask>", "<cls>"].map(str::to_owned).to_vec();
    for first in "ATCG".chars() {
        tokens.extend("ATCG".chars().map(|second| format!("{first}{second}")));
    }
    tokens.extend("ATCGN".chars().map(String::from));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.txt"), tokens.join("\n")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn random(config: &serde_json::Value) -> Model {
    models::open_random(folder(config).path(), &ModelOptions::default(), 5).unwrap()
}

fn states(model: &Model, sequences: &[Vec<u32>], layers: &[u32]) -> Vec<(u32, Vec<f32>)> {
    let batch = TokenBatch::pack(sequences.iter().map(Vec::as_slice));
    let request = LayerRequest::new(layers, LAYER_COUNT).unwrap();
    let mut found = Vec::new();
    let mut keep = |layer, states: &[f32]| found.push((layer, states.to_vec()));
    model.forward(&batch, &request, &mut keep).unwrap();
    found
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn only_the_asked_layers_are_handed_out_and_none_depends_on_the_others() {
    let model = random(&config());
    let sequences = [vec![3, 7, 9, 24], vec![3, 21]];
    let all = states(&model, &sequences, &[2, 0, 1]);
    assert_eq!(all.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), [0, 1, 2]);
    for (layer, expected) in &all {
        assert_eq!(states(&model, &sequences, &[*layer]), [(*layer, expected.clone())]);
        assert_eq!(expected.len(), 6 * 12);
    }
}

#[test]
fn padding_inside_a_sequence_has_the_padding_position_and_moves_no_other() {
    let mut config = config();
    config["token_dropout"] = json!(false);
    let model = random(&config);
    let with = &states(&model, &[vec![3, 7, 1, 1, 9]], &[0])[0].1;
    let without = &states(&model, &[vec![3, 7, 9]], &[0])[0].1;
    assert_eq!(bits(&with[..24]), bits(&without[..24]));
    assert_eq!(bits(&with[24..36]), bits(&with[36..48]), "both paddings are alike");
    assert_eq!(bits(&with[48..]), bits(&without[24..]));
}

#[test]
fn token_dropout_zeroes_masks_and_scales_the_other_tokens() {
    let model = random(&config());
    let found = &states(&model, &[vec![3, 2, 7, 9]], &[0])[0].1;
    let plain = &states(&model, &[vec![3, 7, 7, 9]], &[0])[0].1;
    let mut without = config();
    without["token_dropout"] = json!(false);
    let bare = &states(&random(&without), &[vec![3, 7, 7, 9]], &[0])[0].1;
    for (column, ((&masked, &plain), &bare)) in found.iter().zip(plain).zip(bare).enumerate() {
        // x = scale * word + position: scale 0.88 without masks, 0.88 / 0.75 with one in four
        let word = (bare - plain) / (1.0 - 0.88);
        let position = bare - word;
        let scale = if (12..24).contains(&column) { 0.0 } else { 0.88 / 0.75 };
        assert!((masked - (scale * word + position)).abs() < 1e-6, "column {column}");
    }
}

#[test]
fn inputs_that_cannot_be_run_are_refused() {
    let model = random(&config());
    let request = LayerRequest::new(&[1], LAYER_COUNT).unwrap();
    let refusal = |ids: Vec<u32>| {
        let batch = TokenBatch::pack([ids.as_slice()]);
        model.forward(&batch, &request, &mut |_, _| panic!("handed out")).unwrap_err().to_string()
    };
    assert_eq!(model.facts().tokens_max, 40);
    assert!(refusal(vec![3; 41]).contains("at most 40 tokens, found 41"));
    assert!(refusal(vec![3, 25]).contains("below 25, found 25"));
    assert!(refusal(vec![2, 2]).contains("all mask tokens"));
    let deeper = LayerRequest::new(&[3], 3).unwrap();
    let batch = TokenBatch::pack([[3].as_slice()]);
    model.forward(&batch, &deeper, &mut |_, _| ()).unwrap_err();
}

#[test]
fn facts_follow_from_config_and_vocabulary() {
    let facts = random(&config()).facts().clone();
    assert_eq!(facts.architecture, "nucleotide-transformer-v1");
    assert_eq!((facts.layer_count, facts.width, facts.token_rule), (2, 12, BLOCKS));
    assert_eq!(facts.tokens(9), 1 + 4 + 1);
    // 2VD + PD + V + D² + 3D + 2D + nH + 1 + n(4D² + 8D + 2DF + F + D)
    let blocks = 2 * (4 * 144 + 8 * 12 + 2 * 12 * 20 + 20 + 12);
    assert_eq!(facts.parameters, 2 * 25 * 12 + 42 * 12 + 25 + 144 + 5 * 12 + 4 + 1 + blocks);
    assert_eq!(facts.flops_per_token, 2.0 * f64::from(8 * 144 + 4 * 12 * 20));
}

#[test]
fn an_id_changes_with_anything_that_changes_a_state() {
    let id = |config: &serde_json::Value, options: &ModelOptions, seed| {
        let folder = folder(config);
        let model = models::open_random(folder.path(), options, seed).unwrap();
        model.facts().id.clone()
    };
    let plain = ModelOptions::default();
    let first = id(&config(), &plain, 1);
    assert_eq!(id(&config(), &plain, 1), first);
    assert_ne!(id(&config(), &plain, 2), first);
    let mut heads = config();
    heads["num_attention_heads"] = json!(3);
    assert_ne!(id(&heads, &plain, 1), first);
    let eps = ModelOptions { layer_norm_eps: Some(1e-5), ..plain };
    assert_ne!(id(&config(), &eps, 1), first);
    let replace = ModelOptions { unknown_letters: UnknownLetters::Replace, ..plain };
    assert_ne!(id(&config(), &replace, 1), first);
    let mut comment = config();
    comment["transformers_version"] = json!("4.46.3");
    assert_eq!(id(&comment, &plain, 1), first, "a key that decides nothing");
}

#[test]
fn a_written_random_model_is_the_random_model() {
    let folder = folder(&config());
    let written = models::write_random(folder.path(), 5).unwrap();
    // The decoder is tied, so there is none.
    assert_eq!(written.len(), 2 + 2 * 16 + 2 + 5);
    let read = models::open(folder.path()).unwrap();
    let drawn = random(&config());
    let sequences = [vec![3, 7, 9, 24, 8]];
    assert_eq!(states(&read, &sequences, &[0, 1, 2]), states(&drawn, &sequences, &[0, 1, 2]));
    let batch = TokenBatch::pack([[3, 7].as_slice()]);
    assert_eq!(read.logits(&batch).unwrap(), drawn.logits(&batch).unwrap());
    assert_eq!(&models::describe(folder.path(), &ModelOptions::default()).unwrap(), read.facts());
}

fn plan(folder: &Path) -> Box<dyn Blueprint> {
    let checkpoint = Checkpoint::find(folder).unwrap();
    super::FIRST.read(&checkpoint, &ModelOptions::default()).unwrap()
}

/// Weights that were published for embeddings alone.
struct Headless<'a>(RandomTensors<'a>);

impl TensorSource for Headless<'_> {
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        assert!(!name.starts_with("lm_head"), "{name}");
        self.0.take_f32(name, shape)
    }

    fn contains(&self, name: &str) -> bool {
        name.starts_with("esm.")
    }

    fn digest(&self) -> Result<String> {
        self.0.digest()
    }
}

#[test]
fn weights_without_a_head_give_states_but_no_logits() {
    let folder = folder(&config());
    let plan = plan(folder.path());
    let network = plan.load(&mut Headless(RandomTensors::new(5, plan.as_ref()))).unwrap();
    let model = random(&config());
    let (facts, tokenizer) = (model.facts().clone(), plan.tokenizer(folder.path()).unwrap());
    let model = Model::new(facts, tokenizer, network);
    let sequences = [vec![3, 7]];
    assert_eq!(states(&model, &sequences, &[2]), states(&random(&config()), &sequences, &[2]));
    let error = model.logits(&TokenBatch::pack([[3].as_slice()])).unwrap_err();
    assert!(error.to_string().contains("no language-model head"), "{error}");
}

#[test]
fn a_vocabulary_that_disagrees_with_the_config_is_refused() {
    let mut config = config();
    config["pad_token_id"] = json!(3);
    let folder = folder(&config);
    let open = |path: &Path| models::open_random(path, &ModelOptions::default(), 1);
    let message = open(folder.path()).err().expect("refused").chain();
    assert!(message.contains("pad_token_id: expected 1, the id of <pad>"), "{message}");
    assert!(message.ends_with("found 3"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_sequence_has_the_same_bits_alone_and_in_any_batch(
        texts in proptest::collection::vec("[ACGTN]{1,40}", 1..7),
        budget in 1_usize..90,
    ) {
        let model = random(&config());
        let ids: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| model.tokenize(&DnaSequence::new(text.as_str()).unwrap()).unwrap())
            .filter(|ids| ids.len() <= 40)
            .collect();
        let counts: Vec<usize> = ids.iter().map(Vec::len).collect();
        for indices in batching::pack(&counts, budget) {
            let sequences: Vec<Vec<u32>> = indices.iter().map(|&i| ids[i].clone()).collect();
            let together = states(&model, &sequences, &[0, 1, 2]);
            let mut start = 0;
            for sequence in &sequences {
                let end = start + sequence.len() * 12;
                for (layer, alone) in states(&model, slice::from_ref(sequence), &[0, 1, 2]) {
                    let shared = &together[layer as usize].1[start..end];
                    prop_assert_eq!(bits(&alone), bits(shared), "layer {}", layer);
                }
                start = end;
            }
        }
    }
}

#[test]
fn the_shipped_random_model_is_that_of_its_seed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/nt-v1-random");
    let shipped = models::open(&folder).unwrap();
    assert_eq!((shipped.facts().layer_count, shipped.facts().width), (4, 64));
    let drawn = models::open_random(&folder, &ModelOptions::default(), 1).unwrap();
    let ids = shipped.tokenize(&DnaSequence::new("ACGTTGCANACGT").unwrap()).unwrap();
    let last = |model: &Model| states(model, slice::from_ref(&ids), &[2]).remove(0).1;
    for (shipped, drawn) in last(&shipped).iter().zip(last(&drawn)) {
        // The normal draws use logarithms and cosines, whose last bit may differ between systems.
        assert!((shipped - drawn).abs() < 1e-5, "{shipped} {drawn}");
    }
}

/// A folder whose weights lack every tensor that `left_out` names.
fn folder_without(config: &serde_json::Value, left_out: &str) -> tempfile::TempDir {
    let folder = folder(config);
    let plan = plan(folder.path());
    let mut tensors = plan.initial_tensors();
    tensors.retain(|tensor| !tensor.name.starts_with(left_out));
    let path = folder.path().join("model.safetensors");
    crate::model::write_safetensors(&path, &tensors, &mut RandomTensors::new(5, plan.as_ref()))
        .unwrap();
    folder
}

#[test]
fn a_folder_without_a_head_opens_and_has_no_logits() {
    let folder = folder_without(&config(), "lm_head.");
    let model = models::open(folder.path()).unwrap();
    assert_eq!(states(&model, &[vec![3, 7]], &[2])[0].1.len(), 2 * 12);
    let error = model.logits(&TokenBatch::pack([[3, 7].as_slice()])).unwrap_err();
    assert!(error.chain().contains("no language-model head"), "{}", error.chain());
}

#[test]
fn a_tied_decoder_is_the_word_table_and_an_untied_one_must_be_there() {
    let mut tied = config();
    tied["tie_word_embeddings"] = json!(true);
    let folder = folder_without(&tied, "lm_head.decoder");
    let model = models::open(folder.path()).unwrap();
    let logits = model.logits(&TokenBatch::pack([[3, 7].as_slice()])).unwrap();
    assert_eq!(logits.len(), 2 * 25);
    tied["tie_word_embeddings"] = json!(false);
    let folder = folder_without(&tied, "lm_head.decoder");
    let error = models::open(folder.path()).err().unwrap().chain();
    assert!(error.contains("lm_head.decoder.weight"), "{error}");
}

/// Each way that positions and the feed-forward part can be joined, with its version.
fn forms() -> [(serde_json::Value, &'static str); 5] {
    let form = |positions: &str, bias: Option<bool>| {
        let mut config = config();
        config["position_embedding_type"] = json!(positions);
        config["add_bias_fnn"] = json!(bias);
        config
    };
    [
        (form("absolute", None), "nucleotide-transformer-v1"),
        (form("rotary", None), "nucleotide-transformer-v1"),
        (form("rotary", Some(false)), "nucleotide-transformer-v2"),
        (form("rotary", Some(true)), "nucleotide-transformer-v2"),
        (form("absolute", Some(true)), "nucleotide-transformer-v2"),
    ]
}

#[test]
fn every_joining_of_parts_runs_and_is_its_own_model() {
    let mut seen = Vec::new();
    for (config, version) in forms() {
        let folder = folder(&config);
        models::write_random(folder.path(), 5).unwrap();
        let model = models::open(folder.path()).unwrap();
        assert_eq!(model.facts().architecture, version);
        let sequences = [vec![3, 7, 9, 24, 8, 11], vec![3, 9, 7, 24, 8, 11]];
        let together = &states(&model, &sequences, &[2])[0].1;
        let alone = &states(&model, &sequences[1..], &[2])[0].1;
        assert_eq!(bits(alone), bits(&together[6 * 12..]));
        assert_ne!(bits(&together[..12]), bits(&alone[..12]), "order counts");
        assert_eq!(states(&random(&config), &sequences, &[2])[0].1, *together, "as drawn");
        let bare = model.facts().memory;
        assert!(bare.weights > 4 * 2 * 25 * 12 && bare.per_token == 6 * 4 * 12);
        seen.push((model.facts().id.clone(), bits(together)));
    }
    for (i, (id, found)) in seen.iter().enumerate() {
        assert!(seen[..i].iter().all(|(other, _)| other != id), "form {i}");
        // Biases are drawn as zero, so that of two forms only the id differs.
        assert!(i == 3 || seen[..i].iter().all(|(_, other)| other != found), "form {i}");
    }
}

#[test]
fn published_sizes_have_the_published_number_of_weights() {
    let count = |sizes: [u64; 5], rows: [u64; 2], gated: bool| {
        let mut config = config();
        let keys = [
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
        ];
        for (key, size) in keys.iter().zip(sizes) {
            config[*key] = json!(size);
        }
        config["max_position_embeddings"] = json!(rows[0]);
        config["tie_word_embeddings"] = json!(false);
        if gated {
            config["add_bias_fnn"] = json!(false);
            config["position_embedding_type"] = json!("rotary");
        }
        let tensors = plan(folder(&config).path()).expected_tensors();
        let weights = tensors.iter().filter(|tensor| tensor.is_parameter);
        assert_eq!(weights.map(|tensor| tensor.count()).sum::<u64>(), rows[1], "{sizes:?}");
    };
    count([24, 1_280, 20, 5_120, 4_105], [1_002, 485_699_306], false);
    count([32, 2_560, 20, 10_240, 4_105], [1_002, 2_547_801_226], false);
    count([12, 512, 16, 2_048, 4_107], [2_050, 55_904_972], true);
    count([22, 512, 16, 2_048, 4_107], [2_050, 97_889_132], true);
    count([24, 768, 16, 3_072, 4_107], [2_050, 235_120_780], true);
    count([29, 1_024, 16, 4_096, 4_107], [2_050, 498_345_436], true);
}

#[test]
fn a_block_of_rows_changes_no_bit() {
    let sequences = vec![vec![3]; 1_030];
    for (config, _) in forms() {
        let model = random(&config);
        let together = &states(&model, &sequences, &[2])[0].1;
        let alone = &states(&model, &[vec![3]], &[2])[0].1;
        assert!(together.chunks_exact(12).all(|row| bits(row) == bits(alone)));
    }
}

#[test]
fn rotary_sequences_are_bounded_by_the_tokenizer_or_else_by_the_config() {
    let mut config = config();
    config["position_embedding_type"] = json!("rotary");
    let folder = folder(&config);
    let limit = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(folder.path().join("tokenizer_config.json"), text).unwrap();
        }
        models::open_random(folder.path(), &ModelOptions::default(), 1)
            .map(|model| model.facts().tokens_max)
    };
    assert_eq!(limit(None).unwrap(), 42);
    assert_eq!(limit(Some("{}")).unwrap(), 42);
    assert_eq!(limit(Some(r#"{"model_max_length": 30}"#)).unwrap(), 30);
    assert_eq!(limit(Some(r#"{"model_max_length": 50}"#)).unwrap(), 50);
    assert_eq!(
        limit(Some(r#"{"model_max_length": 1000000000000000019884624838656}"#)).unwrap(),
        42
    );
    let error = limit(Some(r#"{"model_max_length": "long"}"#)).unwrap_err().chain();
    assert!(error.contains("model_max_length: expected a positive number"), "{error}");
}

/// Random weights whose second block has frequencies of its own.
struct Slowed<'a>(RandomTensors<'a>);

impl TensorSource for Slowed<'_> {
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let factor =
            if name.contains("layer.1.") && name.ends_with("inv_freq") { 0.5 } else { 1.0 };
        let values = self.0.take_f32(name, shape)?;
        Ok(values.into_iter().map(|value| factor * value).collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn digest(&self) -> Result<String> {
        self.0.digest()
    }
}

#[test]
fn each_block_turns_by_the_frequencies_stored_for_it() {
    let (config, _) = forms()[2].clone();
    let folder = folder(&config);
    let plan = plan(folder.path());
    let network = plan.load(&mut Slowed(RandomTensors::new(5, plan.as_ref()))).unwrap();
    let model = random(&config);
    let slowed = Model::new(model.facts().clone(), plan.tokenizer(folder.path()).unwrap(), network);
    let sequences = [vec![3, 7, 9, 24, 8, 11]];
    let of = |model: &Model, layer| states(model, &sequences, &[layer]).remove(0).1;
    assert_eq!(of(&slowed, 1), of(&model, 1));
    assert_ne!(of(&slowed, 2), of(&model, 2));
}

#[test]
fn frequencies_are_those_that_were_published_for_a_width_of_16() {
    let (mut config, _) = forms()[2].clone();
    config["hidden_size"] = json!(48);
    config["num_attention_heads"] = json!(3);
    let folder = folder(&config);
    let name = "esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq";
    let found = plan(folder.path()).initial_values(name).unwrap();
    let stored = [
        0x3f80_0000,
        0x3ea1_e89b,
        0x3dcc_cccd,
        0x3d01_86e3,
        0x3c23_d70a,
        0x3b4f_3e38,
        0x3a83_126f,
        0x39a5_cb60,
    ];
    assert_eq!(bits(&found), stored);
}
