//! Writes random weights: the control without pre-training.
//!
//! FOLDER may hold the `config.json` and vocabulary of any gLM; an empty one gets those of a small
//! Nucleotide Transformer v1.
//!
//! ```text
//! cargo run -p glmeval-worker --example make_random_model -- FOLDER SEED [KEY=VALUE]...
//! ```
//!
//! A KEY is one of `config.json`, such as `hidden_size`; a VALUE is JSON.

use glmeval_common::error::{Error, Result, io_error};
use glmeval_worker::model::ModelOptions;
use glmeval_worker::models;
use serde_json::{Value, json};
use std::path::Path;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(seed)) = (arguments.next(), arguments.next()) else {
        return Err(Error::invalid("expected FOLDER SEED [KEY=VALUE]..."));
    };
    let seed: u64 =
        seed.parse().map_err(|_| Error::invalid(format!("expected SEED, found {seed}")))?;
    let folder = Path::new(&folder);
    if folder.join("config.json").exists() {
        models::write_random(folder, seed)?;
        models::describe(folder, &ModelOptions::default())?;
        return Ok(());
    }
    let mut config = config();
    for pair in arguments {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("expected KEY=VALUE, found {pair}")))?;
        config[key] = serde_json::from_str(value)
            .map_err(|e| Error::invalid(format!("value of {key}")).with_source(e))?;
    }
    std::fs::create_dir_all(folder).map_err(|e| io_error(folder, e))?;
    write(&folder.join("config.json"), &format!("{config:#}\n"))?;
    write(&folder.join("vocab.txt"), &vocabulary().join("\n"))?;
    models::write_random(folder, seed)?;
    models::describe(folder, &ModelOptions::default())?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| io_error(path, e))
}

/// The published keys with small sizes.
fn config() -> Value {
    json!({
        "architectures": ["EsmForMaskedLM"],
        "model_type": "esm",
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "vocab_size": 4105,
        "max_position_embeddings": 1002,
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,
        "emb_layer_norm_before": false,
        "token_dropout": true,
        "tie_word_embeddings": false,
        "pad_token_id": 1,
        "mask_token_id": 2,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "torch_dtype": "float16"
    })
}

/// The published vocabulary: 6-mers in the order A, T, C, G, then single letters.
fn vocabulary() -> Vec<String> {
    let mut tokens = ["<unk>", "<pad>", "<mask>", "<cls>"].map(str::to_owned).to_vec();
    for code in 0..4096_usize {
        let letter = |place: usize| char::from(b"ATCG"[code >> (2 * (5 - place)) & 3]);
        tokens.push((0..6).map(letter).collect());
    }
    tokens.extend(["A", "T", "C", "G", "N", "<eos>", "<bos>"].map(str::to_owned));
    tokens
}
