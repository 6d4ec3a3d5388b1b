//! The config of a BERT-style encoder (DNABERT, DNABERT-2) and the tensors it implies.
//!
//! Leaves out: computing with them. Invariant: a config that was read is consistent in itself; one
//! that passed `check_weights` agrees with its weights in every shape.
//!
//! Source: transformers 4.46.3 `models/bert`; DNABERT-2's `configuration_bert.py` and `bert_layers.py`.

use super::Config;
use super::agreement::{Size, check_layers, check_sizes};
use crate::layers::{linear_tensors, norm_tensors};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::Result;
use serde_json::{Map, Value};
use std::path::Path;

/// Largest accepted width, heads, layers; and rows of embeddings.
const WIDTH_MAX: u32 = 65_536;
const HEADS_MAX: u32 = 1_024;
const LAYERS_MAX: u32 = 1_024;
const ROWS_MAX: u32 = 1 << 20;

/// First letters of the names of the parts that may be left out as a whole.
const PARTS: [&str; 2] = ["cls.predictions.", "bert.pooler."];
const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const LAYERS: &str = "bert.encoder.layer.";
/// The head's bias, which some publications name twice.
pub(crate) const BIASES: [&str; 2] = ["cls.predictions.bias", "cls.predictions.decoder.bias"];

/// Which BERT it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BertForm {
    /// Learned positions and a GELU feed-forward part.
    Original,
    /// MosaicBERT: distance as a penalty, a gated feed-forward part, one map for queries, keys, values.
    Alibi,
}

/// A checked BERT config.
#[derive(Clone, Debug)]
pub struct BertConfig {
    config: Config,
    /// Which BERT it is.
    pub form: BertForm,
    /// D.
    pub hidden_size: usize,
    /// n.
    pub num_hidden_layers: usize,
    /// H; divides D.
    pub num_attention_heads: usize,
    /// F, of one half if gated.
    pub intermediate_size: usize,
    /// V.
    pub vocab_size: usize,
    /// Rows of the position table; `None` without one.
    pub positions: Option<usize>,
    /// Rows of the table of token types.
    pub type_vocab_size: usize,
    /// Added to the variance of every layer norm.
    pub layer_norm_eps: f64,
    /// Whether the head's decoder is the word embedding.
    pub tie_word_embeddings: bool,
}

impl BertConfig {
    /// Reads the config of a folder, or the file itself. What is missing is what BERT takes then.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found if a value is missing, out of
    /// range or contradicts another.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        config.optional_one_of("model_type", &["bert"])?;
        config.optional_one_of("hidden_act", &["gelu"])?;
        config.optional_one_of("position_embedding_type", &["absolute"])?;
        if config.optional_bool("is_decoder")? == Some(true) {
            return Err(config.error("is_decoder", "false", true));
        }
        let form = if is_alibi(&config.values) { BertForm::Alibi } else { BertForm::Original };
        let size = |key: &str, max: u32| config.u32(key, 1..=max).map(|n| n as usize);
        let positions = match form {
            BertForm::Original => Some(size("max_position_embeddings", ROWS_MAX)?),
            BertForm::Alibi => None,
        };
        let types = config.optional_u32("type_vocab_size", 1..=ROWS_MAX)?;
        let checked = Self {
            form,
            hidden_size: size("hidden_size", WIDTH_MAX)?,
            num_hidden_layers: size("num_hidden_layers", LAYERS_MAX)?,
            num_attention_heads: size("num_attention_heads", HEADS_MAX)?,
            intermediate_size: size("intermediate_size", ROWS_MAX)?,
            vocab_size: size("vocab_size", ROWS_MAX)?,
            positions,
            type_vocab_size: types.unwrap_or(2) as usize,
            layer_norm_eps: config.optional_f64("layer_norm_eps")?.unwrap_or(1e-12),
            tie_word_embeddings: config.optional_bool("tie_word_embeddings")?.unwrap_or(true),
            config,
        };
        let (width, heads) = (checked.hidden_size, checked.num_attention_heads);
        if !width.is_multiple_of(heads) {
            let expected = format!("a divisor of hidden_size {width}");
            return Err(checked.config.error("num_attention_heads", expected, heads));
        }
        Ok(checked)
    }

    /// Every tensor the model knows, with its shape; the head is not counted among the weights, as
    /// in the numbers published.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let width = self.hidden_size;
        let embeddings = "bert.embeddings";
        let mut list = vec![
            ExpectedTensor::required(WORDS, &[self.vocab_size, width]),
            ExpectedTensor::required(
                format!("{embeddings}.token_type_embeddings.weight"),
                &[self.type_vocab_size, width],
            ),
        ];
        if let Some(rows) = self.positions {
            let name = format!("{embeddings}.position_embeddings.weight");
            list.push(ExpectedTensor::required(name, &[rows, width]));
            let name = format!("{embeddings}.position_ids");
            list.push(ExpectedTensor::optional(name, &[1, rows]).as_buffer());
        }
        list.extend(norm_tensors(&format!("{embeddings}.LayerNorm"), width));
        for index in 0..self.num_hidden_layers {
            self.add_layer(&mut list, &format!("{LAYERS}{index}"));
        }
        list.extend(linear_tensors("bert.pooler.dense", width, width));
        let mut head = Vec::new();
        head.extend(linear_tensors("cls.predictions.transform.dense", width, width));
        head.extend(norm_tensors("cls.predictions.transform.LayerNorm", width));
        let decoder = ExpectedTensor {
            required: !self.tie_word_embeddings,
            ..ExpectedTensor::required("cls.predictions.decoder.weight", &[self.vocab_size, width])
        };
        head.push(decoder);
        head.push(ExpectedTensor::required(BIASES[0], &[self.vocab_size]));
        head.push(ExpectedTensor::optional(BIASES[1], &[self.vocab_size]));
        list.extend(head.into_iter().map(ExpectedTensor::as_buffer));
        list
    }

    fn add_layer(&self, list: &mut Vec<ExpectedTensor>, layer: &str) {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let output = format!("{layer}.attention.output");
        list.extend(linear_tensors(&format!("{output}.dense"), width, width));
        list.extend(norm_tensors(&format!("{output}.LayerNorm"), width));
        match self.form {
            BertForm::Original => {
                for part in ["query", "key", "value"] {
                    list.extend(linear_tensors(
                        &format!("{layer}.attention.self.{part}"),
                        width,
                        width,
                    ));
                }
                list.extend(linear_tensors(&format!("{layer}.intermediate.dense"), inner, width));
                list.extend(linear_tensors(&format!("{layer}.output.dense"), width, inner));
                list.extend(norm_tensors(&format!("{layer}.output.LayerNorm"), width));
            }
            BertForm::Alibi => {
                let wide = width.saturating_mul(3);
                list.extend(linear_tensors(&format!("{layer}.attention.self.Wqkv"), wide, width));
                let gated = format!("{layer}.mlp.gated_layers.weight");
                list.push(ExpectedTensor::required(gated, &[inner.saturating_mul(2), width]));
                list.extend(linear_tensors(&format!("{layer}.mlp.wo"), width, inner));
                list.extend(norm_tensors(&format!("{layer}.mlp.layernorm"), width));
            }
        }
    }

    /// Checks that the weights hold every tensor of the model in the shape this config says. Head
    /// and pooler are each whole or absent.
    ///
    /// # Errors
    /// `Invalid` with the config's key and both numbers where a size differs; with the tensor where
    /// one is missing or has another shape.
    pub fn check_weights(&self, weights: &Weights) -> Result<()> {
        let (first, factor) = match self.form {
            BertForm::Original => ("bert.encoder.layer.0.intermediate.dense.weight", 1),
            BertForm::Alibi => ("bert.encoder.layer.0.mlp.gated_layers.weight", 2),
        };
        let positions = "bert.embeddings.position_embeddings.weight";
        let types = "bert.embeddings.token_type_embeddings.weight";
        let mut sizes = Vec::new();
        for (key, value, tensor, axis, factor) in [
            ("vocab_size", Some(self.vocab_size), WORDS, 0, 1),
            ("hidden_size", Some(self.hidden_size), WORDS, 1, 1),
            ("max_position_embeddings", self.positions, positions, 0, 1),
            ("type_vocab_size", Some(self.type_vocab_size), types, 0, 1),
            ("intermediate_size", Some(self.intermediate_size), first, 0, factor),
        ] {
            sizes.extend(value.map(|value| Size { key, value, tensor, axis, factor }));
        }
        check_sizes(&self.config, weights, &sizes)?;
        let layers = ("num_hidden_layers", self.num_hidden_layers);
        check_layers(&self.config, weights, layers, LAYERS)?;
        weights.check(&self.expected_in(weights))
    }

    /// What the head's layer norm adds to the variance where the others add `eps`: MosaicBERT's code has a number of its own.
    pub fn head_eps(&self, eps: f32) -> f32 {
        match self.form {
            BertForm::Original => eps,
            BertForm::Alibi => 1e-12,
        }
    }

    /// The tensors that `weights` should hold: a head or pooler is whole or absent, and its bias
    /// stands under one name at least.
    pub fn expected_in(&self, weights: &Weights) -> Vec<ExpectedTensor> {
        let mut expected = weights.without_absent(self.expected_tensors(), &PARTS);
        for tensor in &mut expected {
            tensor.required &= tensor.name != BIASES[0] || !weights.contains(BIASES[1]);
        }
        expected
    }
}

/// Whether a config is one of MosaicBERT, whose code DNABERT-2 was published with.
pub(crate) fn is_alibi(config: &Map<String, Value>) -> bool {
    let map = config.get("auto_map").and_then(Value::as_object);
    let mut classes = map.into_iter().flat_map(Map::values).filter_map(Value::as_str);
    config.get("alibi_starting_size").is_some_and(|value| !value.is_null())
        || classes.any(|class| class.contains("bert_layers."))
}
