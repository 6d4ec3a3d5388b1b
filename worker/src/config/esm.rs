//! The config of an ESM-style encoder (Nucleotide Transformer v1 and v2) and the tensors it implies.
//!
//! Leaves out: computing with them. Invariant: a config that was read is consistent in itself; one
//! that passed `check_weights` agrees with its weights in every shape.
//!
//! Source: transformers 4.46.3 `models/esm`; InstaDeep's remote `esm_config.py` and `modeling_esm.py`.

use super::Config;
use super::agreement::{Size, check_layers, check_sizes};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::Result;
use serde_json::{Map, Value};
use std::path::Path;

/// Largest accepted width, heads, layers; and rows of embeddings.
const WIDTH_MAX: u32 = 65_536;
const HEADS_MAX: u32 = 1_024;
const LAYERS_MAX: u32 = 1_024;
const ROWS_MAX: u32 = 1 << 20;

/// First letters of the names of the language-model head.
const HEAD: &str = "lm_head.";

/// How a token's position enters the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionEmbedding {
    /// A learned row is added to the token's embedding.
    Absolute,
    /// Queries and keys are rotated.
    Rotary,
}

/// A checked ESM config.
#[derive(Clone, Debug)]
pub struct EsmConfig {
    config: Config,
    /// D.
    pub hidden_size: usize,
    /// n.
    pub num_hidden_layers: usize,
    /// H; divides D.
    pub num_attention_heads: usize,
    /// F; the first feed-forward matrix has twice as many rows if gated.
    pub intermediate_size: usize,
    /// V.
    pub vocab_size: usize,
    /// Rows of the position table, those of padding included.
    pub max_position_embeddings: usize,
    /// Added to the variance of every layer norm.
    pub layer_norm_eps: f64,
    /// Whether embeddings are rescaled by the share of mask tokens.
    pub token_dropout: bool,
    /// Whether a layer norm stands before the first block.
    pub emb_layer_norm_before: bool,
    /// Id of `<pad>`; below V.
    pub pad_token_id: u32,
    /// Id of `<mask>`; below V.
    pub mask_token_id: u32,
    /// Learned or rotary positions.
    pub position_embedding: PositionEmbedding,
    /// SwiGLU feed-forward (v2) instead of GELU.
    pub gated: bool,
    /// Whether the feed-forward matrices have biases.
    pub feed_forward_bias: bool,
    /// Whether the head's decoder is the word embedding.
    pub tie_word_embeddings: bool,
}

impl EsmConfig {
    /// Reads the config of a folder, or the file itself.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found if a value is missing, out of
    /// range or contradicts another.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        // v2 has no model_type: its own keys tell it.
        let gated = is_gated(&config.values);
        match config.optional_one_of("model_type", &["esm"])? {
            None if !gated => {
                config.one_of("model_type", &["esm"])?;
            }
            _ => {}
        }
        let size = |key: &str, max: u32| config.u32(key, 1..=max).map(|n| n as usize);
        let kind = config.optional_one_of("position_embedding_type", &["absolute", "rotary"])?;
        let checked = Self {
            hidden_size: size("hidden_size", WIDTH_MAX)?,
            num_hidden_layers: size("num_hidden_layers", LAYERS_MAX)?,
            num_attention_heads: size("num_attention_heads", HEADS_MAX)?,
            intermediate_size: size("intermediate_size", ROWS_MAX)?,
            vocab_size: size("vocab_size", ROWS_MAX)?,
            max_position_embeddings: size("max_position_embeddings", ROWS_MAX)?,
            layer_norm_eps: config.optional_f64("layer_norm_eps")?.unwrap_or(1e-12),
            token_dropout: config.optional_bool("token_dropout")?.unwrap_or(false),
            emb_layer_norm_before: config.optional_bool("emb_layer_norm_before")?.unwrap_or(false),
            pad_token_id: config.u32("pad_token_id", 0..=u32::MAX)?,
            mask_token_id: config.u32("mask_token_id", 0..=u32::MAX)?,
            position_embedding: match kind {
                Some("rotary") => PositionEmbedding::Rotary,
                _ => PositionEmbedding::Absolute,
            },
            gated,
            feed_forward_bias: config.optional_bool("add_bias_fnn")?.unwrap_or(true),
            tie_word_embeddings: config.optional_bool("tie_word_embeddings")?.unwrap_or(true),
            config,
        };
        checked.check_relations()?;
        Ok(checked)
    }

    /// The keys as read, for messages.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn check_relations(&self) -> Result<()> {
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        let error = |key: &str, expected: String, found: &dyn std::fmt::Display| {
            Err(self.config.error(key, expected, found))
        };
        if !width.is_multiple_of(heads) {
            let expected = format!("a divisor of hidden_size {width}");
            return error("num_attention_heads", expected, &heads);
        }
        let rotary = self.position_embedding == PositionEmbedding::Rotary;
        if rotary && !(width / heads).is_multiple_of(2) {
            let expected = format!("hidden_size {width} / num_attention_heads even for rotary");
            return error("num_attention_heads", expected, &heads);
        }
        for (key, id) in
            [("pad_token_id", self.pad_token_id), ("mask_token_id", self.mask_token_id)]
        {
            if id as usize >= self.vocab_size {
                let expected = format!("an id below vocab_size {}", self.vocab_size);
                return error(key, expected, &id);
            }
        }
        let positions_min = self.pad_token_id as usize + 2;
        if !rotary && self.max_position_embeddings < positions_min {
            let expected = format!("at least {positions_min}, a row behind that of padding");
            return error("max_position_embeddings", expected, &self.max_position_embeddings);
        }
        Ok(())
    }

    /// Every tensor the model knows, with its shape.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let (width, rows) = (self.hidden_size, self.max_position_embeddings);
        let mut list = Vec::new();
        let mut add = |name: String, shape: &[usize], required: bool| {
            let is_parameter = !name.ends_with("position_ids") && !name.ends_with("inv_freq");
            list.push(ExpectedTensor { name, shape: shape.to_vec(), required, is_parameter });
        };
        let absolute = self.position_embedding == PositionEmbedding::Absolute;
        let embeddings = "esm.embeddings";
        add(format!("{embeddings}.word_embeddings.weight"), &[self.vocab_size, width], true);
        add(format!("{embeddings}.position_embeddings.weight"), &[rows, width], absolute);
        add(format!("{embeddings}.position_ids"), &[1, rows], false);
        let mut norms = vec![
            ("esm.encoder.emb_layer_norm_after".to_owned(), true),
            ("lm_head.layer_norm".to_owned(), true),
        ];
        if self.emb_layer_norm_before {
            norms.push((format!("{embeddings}.layer_norm"), true));
        }
        for i in 0..self.num_hidden_layers {
            let layer = format!("esm.encoder.layer.{i}");
            norms.push((format!("{layer}.attention.LayerNorm"), true));
            norms.push((format!("{layer}.LayerNorm"), true));
        }
        for (name, required) in norms {
            add(format!("{name}.weight"), &[width], required);
            add(format!("{name}.bias"), &[width], required);
        }
        for i in 0..self.num_hidden_layers {
            for (name, shape, required) in self.layer_tensors() {
                add(format!("esm.encoder.layer.{i}.{name}"), &shape, required);
            }
        }
        let pairs = self.num_hidden_layers * self.num_attention_heads;
        add("esm.contact_head.regression.weight".to_owned(), &[1, pairs], false);
        add("esm.contact_head.regression.bias".to_owned(), &[1], false);
        add("lm_head.dense.weight".to_owned(), &[width, width], true);
        add("lm_head.dense.bias".to_owned(), &[width], true);
        let untied = !self.tie_word_embeddings;
        add("lm_head.decoder.weight".to_owned(), &[self.vocab_size, width], untied);
        add("lm_head.bias".to_owned(), &[self.vocab_size], true);
        list
    }

    /// Matrices and biases of one block.
    fn layer_tensors(&self) -> Vec<(String, Vec<usize>, bool)> {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let mut tensors = Vec::new();
        let mut linear = |name: &str, rows: usize, columns: usize, bias: bool| {
            tensors.push((format!("{name}.weight"), vec![rows, columns], true));
            if bias {
                tensors.push((format!("{name}.bias"), vec![rows], true));
            }
        };
        for name in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&format!("attention.{name}"), width, width, true);
        }
        linear("intermediate.dense", self.first_rows(inner), width, self.feed_forward_bias);
        linear("output.dense", width, inner, self.feed_forward_bias);
        if self.position_embedding == PositionEmbedding::Rotary {
            let pairs = width / self.num_attention_heads / 2;
            let name = "attention.self.rotary_embeddings.inv_freq";
            tensors.push((name.to_owned(), vec![pairs], false));
        }
        tensors
    }

    fn first_rows(&self, inner: usize) -> usize {
        if self.gated { 2 * inner } else { inner }
    }

    /// Checks that the weights hold every tensor of the model in the shape this config says.
    ///
    /// # Errors
    /// `Invalid` with the config's key and both numbers where a size differs; with the tensor where
    /// one is missing or has another shape.
    pub fn check_weights(&self, weights: &Weights) -> Result<()> {
        let words = "esm.embeddings.word_embeddings.weight";
        let first = "esm.encoder.layer.0.intermediate.dense.weight";
        let positions = "esm.embeddings.position_embeddings.weight";
        let factor = self.first_rows(1);
        let sizes = [
            ("vocab_size", self.vocab_size, words, 0, 1),
            ("hidden_size", self.hidden_size, words, 1, 1),
            ("max_position_embeddings", self.max_position_embeddings, positions, 0, 1),
            ("intermediate_size", self.intermediate_size, first, 0, factor),
        ];
        let sizes = sizes.map(|(key, value, tensor, axis, factor)| Size {
            key,
            value,
            tensor,
            axis,
            factor,
        });
        check_sizes(&self.config, weights, &sizes)?;
        let layers = ("num_hidden_layers", self.num_hidden_layers);
        check_layers(&self.config, weights, layers, "esm.encoder.layer.")?;
        weights.check(&self.expected_in(weights))
    }

    /// The tensors that `weights` should hold: a head is either whole or, where only embeddings were published, absent.
    pub fn expected_in(&self, weights: &Weights) -> Vec<ExpectedTensor> {
        weights.without_absent(self.expected_tensors(), &[HEAD])
    }
}

/// Whether a config is one for InstaDeep's own code, which v2 uses: all its models are gated.
pub(crate) fn is_gated(config: &Map<String, Value>) -> bool {
    let map = config.get("auto_map").and_then(Value::as_object);
    let mut classes = map.into_iter().flat_map(Map::values).filter_map(Value::as_str);
    config.get("add_bias_fnn").is_some_and(|value| !value.is_null())
        || classes.any(|class| class.contains("modeling_esm"))
}
