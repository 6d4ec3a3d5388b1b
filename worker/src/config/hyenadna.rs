//! The config of HyenaDNA as the authors and as Hugging Face publish it, or as tensors alone show
//! it, and the tensors it implies.
//!
//! Leaves out: computing with them. Invariant: a config that was read is consistent in itself; one
//! that passed `check_weights` agrees with its weights in every shape.
//!
//! Source: HazyResearch/hyena-dna, `standalone_hyenadna.py`; the Hub's `configuration_hyena.py`.

use super::{Config, StoredSize, layers_stored};
use crate::layers::{linear_tensors, norm_tensors};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::{Error, InputError, Result};
use serde_json::Value;
use std::path::Path;

/// Largest accepted width; layers; positions; rows of the embedding.
const WIDTH_MAX: u32 = 65_536;
const LAYERS_MAX: u32 = 1_024;
const POSITIONS_MAX: u32 = 1 << 24;
const ROWS_MAX: u32 = 1 << 20;
const INNER_MAX: u32 = 64;

/// What every published checkpoint was trained with, and the code's default.
const LAYER_NORM_EPS: f64 = 1e-5;
/// What the filter's window falls to.
const SHIFT: f64 = 0.05;
/// Frequency that the filter's sines start with in the published configs.
const FREQUENCY: f64 = 10.0;

/// The embedding, which the head shares where it is tied.
pub(crate) const WORDS: &str = "hyena.backbone.embeddings.word_embeddings.weight";
/// The head's matrix.
pub(crate) const HEAD: &str = "lm_head.weight";
/// The layer norm after the last block.
pub(crate) const FINAL_NORM: &str = "hyena.backbone.ln_f";
const LAYERS: &str = "hyena.backbone.layers.";

/// Which publication a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HyenaDnaLayout {
    /// The authors' Lightning checkpoint and its nested config.
    Original,
    /// The Hub's `*-hf` repositories.
    HuggingFace,
}

/// A checked config.
#[derive(Clone, Debug)]
pub struct HyenaDnaConfig {
    /// `None` where sizes were read from tensors.
    config: Option<Config>,
    /// Which publication.
    pub layout: HyenaDnaLayout,
    /// D.
    pub width: usize,
    /// F.
    pub feed_forward_width: usize,
    /// n.
    pub layer_count: usize,
    /// Rows of the embedding, those that only pad it included.
    pub embedding_rows: usize,
    /// E: features of a position; odd.
    pub feature_count: usize,
    /// O: hidden values of the filter's network.
    pub filter_width: usize,
    /// Layers of the filter's network between the first and the last.
    pub inner_count: usize,
    /// Positions, and most tokens of a sequence.
    pub length_max: usize,
    /// Added to the variance by the layer norm after the last block.
    pub layer_norm_eps: f64,
    /// Added to the variance by the layer norms of blocks.
    pub block_norm_eps: f64,
    /// What the filter's sines start with before training.
    pub frequency: f64,
    /// Whether the head is the embedding.
    pub is_tied: bool,
}

impl HyenaDnaConfig {
    /// Reads the config of a folder, or the file itself.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found if a value is missing, out of
    /// range, of a variant that is not supported, or contradicts another.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let nested = config.nested("layer")?;
        let layout =
            if nested.is_some() { HyenaDnaLayout::Original } else { HyenaDnaLayout::HuggingFace };
        let is_original = nested.is_some();
        if !is_original {
            config.one_of("model_type", &["hyenadna"])?;
        }
        // The authors' config keeps what concerns the mixer one level deeper.
        let mixer = nested.as_ref().unwrap_or(&config);
        check_variant(mixer, is_original)?;
        let size = |config: &Config, key: &str, max: u32| -> Result<usize> {
            config.u32(key, 1..=max).map(|n| n as usize)
        };
        let width = size(&config, "d_model", WIDTH_MAX)?;
        let wide = config.optional_u32("d_inner", 1..=ROWS_MAX)?.map(|n| n as usize);
        let multiple = config.optional_u32("pad_vocab_size_multiple", 1..=ROWS_MAX)?;
        let multiple = multiple.unwrap_or(if is_original { 1 } else { 8 }) as usize;
        let feature_count = size(mixer, "emb_dim", WIDTH_MAX)?;
        if feature_count < 3 || feature_count.is_multiple_of(2) {
            return Err(mixer.error("emb_dim", "an odd number of at least 3", feature_count));
        }
        let positions = mixer.u32(positions_key(layout), 2..=POSITIONS_MAX)?;
        let frequency = mixer.optional_f64(key_of(is_original, "w", "activation_freq"))?;
        let layer_norm_eps = config.optional_f64("layer_norm_epsilon")?.unwrap_or(LAYER_NORM_EPS);
        Ok(Self {
            layout,
            width,
            feed_forward_width: wide.unwrap_or(width.saturating_mul(4)),
            layer_count: size(&config, "n_layer", LAYERS_MAX)?,
            embedding_rows: size(&config, "vocab_size", ROWS_MAX)?.next_multiple_of(multiple),
            feature_count,
            filter_width: size(mixer, "filter_order", WIDTH_MAX)?,
            inner_count: mixer.optional_u32("num_inner_mlps", 0..=INNER_MAX)?.unwrap_or(2) as usize,
            length_max: positions as usize,
            layer_norm_eps,
            // The Hub's code tells its number to the last norm alone.
            block_norm_eps: if is_original { layer_norm_eps } else { LAYER_NORM_EPS },
            frequency: frequency.unwrap_or(FREQUENCY),
            // Configs are written without what is the Hub's default, to share.
            is_tied: is_original || config.optional_bool("tie_word_embeddings")?.unwrap_or(true),
            config: Some(config),
        })
    }

    /// Reads the sizes that the tensors show; `weights` under this program's names.
    ///
    /// # Errors
    /// `Invalid` with the tensor if one that tells a size is missing or has another rank.
    pub fn from_weights(weights: &Weights, layout: HyenaDnaLayout) -> Result<Self> {
        let filter = "hyena.backbone.layers.0.mixer.filter_fn";
        let of = |name: &str, rank, axis| extent(weights, name, rank, axis);
        let first = format!("{filter}.implicit_filter.0.weight");
        let features = format!("{filter}.pos_emb.z");
        let prefix = format!("{filter}.implicit_filter.");
        let last = weights.names().filter_map(|name| {
            let number = name.strip_prefix(&prefix)?.strip_suffix(".weight")?;
            number.parse::<usize>().ok()
        });
        let inner_count = (last.max().unwrap_or(0) / 2).saturating_sub(1);
        Ok(Self {
            config: None,
            layout,
            width: of(WORDS, 2, 1)?,
            feed_forward_width: of("hyena.backbone.layers.0.mlp.fc1.weight", 2, 0)?,
            layer_count: layers_stored(weights, LAYERS),
            embedding_rows: of(WORDS, 2, 0)?,
            feature_count: of(&first, 2, 1)?,
            filter_width: of(&first, 2, 0)?,
            inner_count,
            length_max: of(&features, 3, 1)?,
            layer_norm_eps: LAYER_NORM_EPS,
            block_norm_eps: LAYER_NORM_EPS,
            frequency: FREQUENCY,
            is_tied: layout == HyenaDnaLayout::Original,
        })
    }

    /// Every tensor the model knows, with its shape.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let (width, wide) = (self.width, self.feed_forward_width);
        let mut list = vec![ExpectedTensor::required(WORDS, &[self.embedding_rows, width])];
        for index in 0..self.layer_count {
            let block = block_name(index);
            let three = width.saturating_mul(3);
            for norm in ["norm1", "norm2"] {
                list.extend(norm_tensors(&format!("{block}.{norm}"), width));
            }
            for (name, outputs, inputs) in [
                ("mixer.in_proj", three, width),
                ("mixer.out_proj", width, width),
                ("mlp.fc1", wide, width),
                ("mlp.fc2", width, wide),
            ] {
                list.extend(linear_tensors(&format!("{block}.{name}"), outputs, inputs));
            }
            let short = format!("{block}.mixer.short_filter");
            list.push(ExpectedTensor::required(format!("{short}.weight"), &[three, 1, 3]));
            list.push(ExpectedTensor::required(format!("{short}.bias"), &[three]));
            self.add_filter(&format!("{block}.mixer.filter_fn"), &mut list);
        }
        list.extend(norm_tensors(FINAL_NORM, width));
        let head = ExpectedTensor::optional(HEAD, &[self.embedding_rows, width]);
        list.push(if self.is_tied { head.as_buffer() } else { head });
        list
    }

    /// The error for an embedding without a row for each token.
    pub(crate) fn rows_error(&self, least: usize, found: usize, path: &Path) -> Error {
        match &self.config {
            Some(config) => config.error("vocab_size", format!("at least {least}"), found),
            None => {
                let expected = format!("at least {least} rows");
                InputError::new(path.display(), format!("tensor {WORDS}"), expected, found).into()
            }
        }
    }

    fn add_filter(&self, filter: &str, list: &mut Vec<ExpectedTensor>) {
        let (width, hidden) = (self.width, self.filter_width);
        let mut add = |name: String, shape: &[usize]| {
            list.push(ExpectedTensor::required(format!("{filter}.{name}"), shape));
        };
        add("bias".to_owned(), &[width]);
        let network = "implicit_filter";
        for layer in 0..=self.inner_count {
            let inputs = if layer == 0 { self.feature_count } else { hidden };
            add(format!("{network}.{}.weight", 2 * layer), &[hidden, inputs]);
            add(format!("{network}.{}.bias", 2 * layer), &[hidden]);
        }
        add(format!("{network}.{}.weight", 2 * self.inner_count + 2), &[width, hidden]);
        add(format!("{network}.1.freq"), &[1, hidden]);
        let buffer = |name: String, shape: &[usize]| {
            ExpectedTensor::required(format!("{filter}.{name}"), shape).as_buffer()
        };
        list.extend((1..=self.inner_count).map(|layer| {
            // Copies of the one frequency, which the authors' files hold.
            let copy = buffer(format!("{network}.{}.freq", 2 * layer + 1), &[1, hidden]);
            ExpectedTensor { required: false, ..copy }
        }));
        list.push(buffer("pos_emb.z".to_owned(), &[1, self.length_max, self.feature_count]));
        list.push(buffer("pos_emb.t".to_owned(), &[1, self.length_max, 1]));
        list.push(buffer("modulation.deltas".to_owned(), &[1, 1, width]));
    }

    /// Checks that the weights hold every tensor of the model in the shape this config says.
    ///
    /// # Errors
    /// `Invalid` with the config's key and both numbers where a size differs; with the tensor where
    /// one is missing or has another shape.
    pub fn check_weights(&self, weights: &Weights) -> Result<()> {
        if let Some(config) = &self.config {
            let of = |key, value, tensor: &str, axis| StoredSize {
                key,
                value,
                tensor: tensor.to_owned(),
                axis,
            };
            let block = block_name(0);
            let wide = format!("{block}.mlp.fc1.weight");
            config.check_sizes(
                weights,
                &[
                    of("d_model", self.width, WORDS, 1),
                    of("d_inner", self.feed_forward_width, &wide, 0),
                ],
            )?;
            let filter = format!("{block}.mixer.filter_fn");
            let first = format!("{filter}.implicit_filter.0.weight");
            let features = format!("{filter}.pos_emb.z");
            let nested = config.nested("layer")?;
            nested.as_ref().unwrap_or(config).check_sizes(
                weights,
                &[
                    of("filter_order", self.filter_width, &first, 0),
                    of("emb_dim", self.feature_count, &first, 1),
                    of(positions_key(self.layout), self.length_max, &features, 1),
                ],
            )?;
            config.check_layers(weights, LAYERS, ("n_layer", self.layer_count))?;
        }
        weights.check(&self.expected_tensors())
    }
}

/// Refuses mixers that the published checkpoints do not have.
fn check_variant(mixer: &Config, is_original: bool) -> Result<()> {
    mixer.optional_u32(key_of(is_original, "order", "hyena_order"), 2..=2)?;
    for key in ["short_filter_order", "local_order"] {
        mixer.optional_u32(key, 3..=3)?;
    }
    if is_original {
        mixer.optional_one_of("_name_", &["hyena"])?;
        for (key, published) in [("modulate", true), ("normalized", false)] {
            if mixer.optional_bool(key)?.is_some_and(|found| found != published) {
                return Err(mixer.error(key, format!("{published} (limit)"), !published));
            }
        }
        // Zero is refused too, as no number above it.
        if let Some(shift) = mixer.optional_f64("shift")?.filter(|shift| *shift != SHIFT) {
            return Err(mixer.error("shift", format!("{SHIFT} (limit)"), shift));
        }
    }
    Ok(())
}

fn key_of(is_original: bool, original: &'static str, other: &'static str) -> &'static str {
    if is_original { original } else { other }
}

fn positions_key(layout: HyenaDnaLayout) -> &'static str {
    key_of(layout == HyenaDnaLayout::Original, "l_max", "max_seq_len")
}

/// Whether a config without `model_type` is the authors' own.
pub(crate) fn is_original(config: &Value) -> bool {
    let layer = config.get("layer").and_then(Value::as_object);
    config.get("d_model").is_some() && layer.is_some_and(|layer| layer.contains_key("l_max"))
}

/// First letters of the names of a block's tensors.
pub(crate) fn block_name(index: usize) -> String {
    format!("{LAYERS}{index}")
}

/// An extent of a tensor of `rank`, at least one.
fn extent(weights: &Weights, name: &str, rank: usize, axis: usize) -> Result<usize> {
    let shape = weights.shape(name);
    let extent = shape.filter(|shape| shape.len() == rank).and_then(|shape| shape.get(axis));
    extent.copied().filter(|&extent| extent > 0).ok_or_else(|| {
        let expected = format!("{rank} extents of at least one, as there is no config.json");
        let found = shape.map_or("missing".to_owned(), |shape| format!("shape {shape:?}"));
        InputError::new(weights.path().display(), format!("tensor {name}"), expected, found).into()
    })
}
