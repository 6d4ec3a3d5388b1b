//! The config of GPN, in its first form and in the later one, and the tensors it implies.
//!
//! Leaves out: computing with them; auxiliary features, depthwise convolutions and the later form's
//! own convolutional and RoFormer encoders, which are refused. Invariant: a config that was read is
//! consistent in itself; one that passed `check_weights` agrees with its weights in every shape.
//!
//! Source: songlab-cal/gpn, `ConvNetConfig` and `GPNConfig`.

use super::{Config, StoredSize};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::Result;
use std::path::Path;

/// Largest accepted width; layers; taps; tokens of the vocabulary.
const WIDTH_MAX: u32 = 65_536;
const LAYERS_MAX: u32 = 1_024;
const TAPS_MAX: u32 = 1_023;
const VOCABULARY_MAX: u32 = 1 << 20;

/// First letters of the names of the language-model head.
pub(crate) const HEAD: &str = "cls.";
/// The learned embedding of the later form.
pub(crate) const WORDS: &str = "model.embeddings.word_embeddings.weight";
/// The layer norm after the last block of the later form.
pub(crate) const FINAL_NORM: &str = "model.ln_f";

/// What only the later form has: blocks of the ByteNet kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteNetForm {
    /// Width of a block's convolution.
    pub inner_size: usize,
    /// A table of embeddings instead of a one-hot.
    pub is_learned: bool,
    /// Whether linear maps, convolutions and layer norms have biases.
    pub has_bias: bool,
    /// Whether the head transforms states before its decoder.
    pub head_transform: bool,
    /// Whether the decoder is the embedding where it is not stored.
    pub is_tied: bool,
}

/// A checked config.
#[derive(Clone, Debug)]
pub struct GpnConfig {
    config: Config,
    /// D.
    pub hidden_size: usize,
    /// n.
    pub layer_count: usize,
    /// V; at most D where tokens are one-hot.
    pub vocab_size: usize,
    /// Taps of the first block's convolution; odd.
    pub first_kernel_size: usize,
    /// Taps of the others; odd.
    pub rest_kernel_size: usize,
    /// Distances between taps, one for each block.
    pub dilations: Vec<usize>,
    /// `None` for the first form, `ConvNet`.
    pub byte_net: Option<ByteNetForm>,
}

impl GpnConfig {
    /// Reads the config of a folder, or the file itself.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found if a value is missing, out of
    /// range, of a variant that is not supported, or contradicts another.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let is_later = config.one_of("model_type", &["ConvNet", "GPN"])? == "GPN";
        let size = |key: &str, max: u32| config.u32(key, 1..=max).map(|n| n as usize);
        let taps = |key: &str| {
            let taps = size(key, TAPS_MAX)?;
            let is_odd = !taps.is_multiple_of(2);
            if is_odd { Ok(taps) } else { Err(config.error(key, "an odd number of taps", taps)) }
        };
        config.optional_u32("n_aux_features", 0..=0)?;
        let hidden_size = size("hidden_size", WIDTH_MAX)?;
        let byte_net = if is_later { Some(ByteNetForm::read(&config, hidden_size)?) } else { None };
        let layer_count = size(layers_key(is_later), LAYERS_MAX)?;
        let (first_kernel_size, rest_kernel_size) = if is_later {
            (taps("first_kernel_size")?, taps("rest_kernel_size")?)
        } else {
            (taps("kernel_size")?, taps("kernel_size")?)
        };
        let checked = Self {
            hidden_size,
            layer_count,
            vocab_size: size("vocab_size", VOCABULARY_MAX)?,
            first_kernel_size,
            rest_kernel_size,
            dilations: dilations(&config, (layer_count, is_later))?,
            byte_net,
            config,
        };
        let is_one_hot = byte_net.is_none_or(|form| !form.is_learned);
        if is_one_hot && checked.vocab_size > hidden_size {
            let expected = format!("at most hidden_size {hidden_size}, the width of the one-hot");
            return Err(checked.config.error("vocab_size", expected, checked.vocab_size));
        }
        Ok(checked)
    }

    /// Taps of the convolution of block `index`.
    pub fn kernel_size(&self, index: usize) -> usize {
        if index == 0 { self.first_kernel_size } else { self.rest_kernel_size }
    }

    /// Every tensor the model knows, with its shape.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let mut list = List { tensors: Vec::new(), has_bias: true };
        let (width, size) = (self.hidden_size, self.vocab_size);
        let Some(form) = self.byte_net else {
            for index in 0..self.layer_count {
                let block = block_name(index, false);
                list.add(&format!("{block}.conv.1"), &[width, width, self.kernel_size(index)]);
                list.add(&format!("{block}.conv.4"), &[width]);
                list.add(&format!("{block}.ffn.0"), &[width, width]);
                list.add(&format!("{block}.ffn.2"), &[width]);
            }
            list.add("cls.decoder.0", &[width, width]);
            list.add("cls.decoder.2", &[width]);
            list.add("cls.decoder.3", &[size, width]);
            return list.tensors;
        };
        list.has_bias = form.has_bias;
        if form.is_learned {
            list.tensors.push(ExpectedTensor::required(WORDS, &[size, width]));
        }
        let inner = form.inner_size;
        for index in 0..self.layer_count {
            let block = block_name(index, true);
            list.add(&format!("{block}.0"), &[width]);
            list.add(&format!("{block}.2"), &[inner, width]);
            list.add(&format!("{block}.3"), &[inner]);
            list.add(&format!("{block}.6"), &[inner, inner, self.kernel_size(index)]);
            list.add(&format!("{block}.8"), &[inner]);
            list.add(&format!("{block}.10"), &[width, inner]);
        }
        list.add(FINAL_NORM, &[width]);
        if form.head_transform {
            list.add("cls.transform.0", &[width, width]);
            list.add("cls.transform.2", &[width]);
        }
        list.add("cls.decoder", &[size, width]);
        let decoder = list.tensors.iter_mut().find(|tensor| tensor.name == "cls.decoder.weight");
        if let Some(decoder) = decoder.filter(|_| form.is_tied) {
            (decoder.required, decoder.is_parameter) = (false, false);
        }
        list.tensors
    }

    /// Checks that the weights hold every tensor of the model in the shape this config says; a head
    /// may be left out as a whole.
    ///
    /// # Errors
    /// `Invalid` with the config's key and both numbers where a size differs; with the tensor where
    /// one is missing or has another shape.
    pub fn check_weights(&self, weights: &Weights) -> Result<()> {
        let is_later = self.byte_net.is_some();
        self.config.check_sizes(weights, &self.stored_sizes(is_later))?;
        let start = if is_later { "model.encoder.layer." } else { "model.encoder." };
        let layers = (layers_key(is_later), self.layer_count);
        self.config.check_layers(weights, start, layers)?;
        let contract = format!("{}.2.weight", block_name(0, true));
        let stored = weights.shape(&contract).and_then(|shape| shape.first());
        if let (Some(form), Some(&stored)) = (self.byte_net, stored)
            && stored != form.inner_size
        {
            let file = weights.path().display();
            let expected = format!("blocks of width {stored}, as {contract} in {file} has");
            return Err(self.config.error("slim", expected, form.inner_size));
        }
        let bias = format!("{}.2.bias", block_name(0, true));
        if self.byte_net.is_some_and(|form| !form.has_bias) && weights.contains(&bias) {
            let expected = format!("true, as {} holds {bias}", weights.path().display());
            return Err(self.config.error("bias", expected, false));
        }
        weights.check(&self.expected_in(weights))
    }

    /// The tensors that `weights` should hold: a head is either whole or, where only embeddings were published, absent.
    pub fn expected_in(&self, weights: &Weights) -> Vec<ExpectedTensor> {
        weights.without_absent(self.expected_tensors(), &[HEAD])
    }

    fn stored_sizes(&self, is_later: bool) -> Vec<StoredSize<'_>> {
        let of = |key, value, tensor: &str, axis| StoredSize {
            key,
            value,
            tensor: tensor.to_owned(),
            axis,
        };
        let (width, size) = (self.hidden_size, self.vocab_size);
        if !is_later {
            return vec![
                of("hidden_size", width, "model.encoder.0.ffn.0.weight", 0),
                of("kernel_size", self.first_kernel_size, "model.encoder.0.conv.1.weight", 2),
                of("vocab_size", size, "cls.decoder.3.weight", 0),
            ];
        }
        let convolution = |index| format!("{}.6.weight", block_name(index, true));
        vec![
            of("hidden_size", width, "model.ln_f.weight", 0),
            of("vocab_size", size, WORDS, 0),
            of("vocab_size", size, "cls.decoder.weight", 0),
            of("first_kernel_size", self.first_kernel_size, &convolution(0), 2),
            of("rest_kernel_size", self.rest_kernel_size, &convolution(1), 2),
        ]
    }
}

impl ByteNetForm {
    fn read(config: &Config, hidden_size: usize) -> Result<Self> {
        config.one_of("encoder", &["bytenet"])?;
        if config.optional_bool("depthwise")?.unwrap_or(false) {
            return Err(config.error("depthwise", "false, dense convolutions (limit)", true));
        }
        let embedding = config.optional_one_of("embedding", &["one_hot", "embedding"])?;
        let is_learned = embedding == Some("embedding");
        let is_tied = config.optional_bool("tie_word_embeddings")?.unwrap_or(false);
        if is_tied && !is_learned {
            let expected = "false, as a one-hot has no table to share";
            return Err(config.error("tie_word_embeddings", expected, true));
        }
        let is_slim = config.optional_bool("slim")?.unwrap_or(false);
        let inner_size = if is_slim { hidden_size / 2 } else { hidden_size };
        if inner_size == 0 {
            return Err(config.error("hidden_size", "at least 2 with slim", hidden_size));
        }
        Ok(Self {
            inner_size,
            is_learned,
            has_bias: config.optional_bool("bias")?.unwrap_or(false),
            head_transform: config.optional_bool("mlm_head_transform")?.unwrap_or(true),
            is_tied,
        })
    }
}

/// Tensors gathered so far, and whether layers have biases.
struct List {
    tensors: Vec<ExpectedTensor>,
    has_bias: bool,
}

impl List {
    /// Adds `name.weight`, and `name.bias` of its first extent.
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.tensors.push(ExpectedTensor::required(format!("{name}.weight"), shape));
        if let (true, Some(&outputs)) = (self.has_bias, shape.first()) {
            self.tensors.push(ExpectedTensor::required(format!("{name}.bias"), &[outputs]));
        }
    }
}

/// First letters of the names of a block's tensors.
pub(crate) fn block_name(index: usize, is_later: bool) -> String {
    let list = if is_later { format!("layer.{index}.layer") } else { index.to_string() };
    format!("model.encoder.{list}")
}

fn layers_key(is_later: bool) -> &'static str {
    if is_later { "num_hidden_layers" } else { "n_layers" }
}

/// The distance between taps of each block.
///
/// ```text
/// dilation[i] = min(max, base ^ floor((i mod cycle) / double_every))
/// ```
fn dilations(config: &Config, (layer_count, is_later): (usize, bool)) -> Result<Vec<usize>> {
    // What is absent is the default of the form's own config class.
    let number =
        |key, default| config.optional_u32(key, 1..=u32::MAX).map(|found| found.unwrap_or(default));
    let (max, cycle) = if is_later { (9_999, 8) } else { (32, 6) };
    let (max, cycle) = (number("dilation_max", max)?, number("dilation_cycle", cycle)?);
    let (base, every) = (number("dilation_base", 2)?, number("dilation_double_every", 1)?);
    let layers = 0..u32::try_from(layer_count).unwrap_or(u32::MAX);
    Ok(layers.map(|i| base.saturating_pow(i % cycle / every).min(max) as usize).collect())
}
