//! GPN: dilated convolutions over single bases, in the first form and in the later ByteNet form.
//!
//! Leaves out: multiple alignments (GPN-MSA), auxiliary features, classification heads.
//! Source: Benegas et al. 2023; songlab-cal/gpn, `ConvNetForMaskedLM` and `GPNForMaskedLM`.

mod byte_net;
mod conv_net;
mod cuda;
mod head;

use crate::config::GpnConfig;
use crate::config::gpn::HEAD;
use crate::model::{
    Architecture, Blueprint, Checkpoint, ModelOptions, ModelShape, Network, Precision, TensorSource,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::GpnTokenizer;
use crate::weights::{ExpectedTensor, Weights};
use byte_net::ByteNet;
use conv_net::ConvNet;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::MemoryFacts;
use glmeval_kernels::cuda::Gpu;
use std::borrow::Cow;
use std::path::Path;

/// The architecture, for the list of models.
pub(super) static MODEL: Gpn = Gpn;

const NAME: &str = "gpn";
/// Default of PyTorch's layer norm; the configs' own `layer_norm_eps` is never used upstream.
const LAYER_NORM_EPS: f64 = 1e-5;
/// No limit of the gLM: states of so many bases are past the memory of any machine in mind.
const TOKENS_MAX: u64 = 1 << 24;

/// See [`MODEL`].
pub(super) struct Gpn;

impl Architecture for Gpn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"ConvNet\" or \"GPN\""
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        matches!(checkpoint.config_text("model_type"), Some("ConvNet" | "GPN"))
    }

    /// The bare encoder is published without the leading `model.`.
    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        let is_bare = ["encoder.", "embeddings.", "ln_f."].iter().any(|s| stored.starts_with(s));
        if is_bare { Cow::Owned(format!("model.{stored}")) } else { Cow::Borrowed(stored) }
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = GpnConfig::read(&checkpoint.config_path())?;
        let eps = options.layer_norm_eps.unwrap_or(LAYER_NORM_EPS);
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
        }
        Ok(Box::new(Plan { config, eps, options: *options }))
    }
}

/// A checked config and the choices it is opened with.
struct Plan {
    config: GpnConfig,
    eps: f64,
    options: ModelOptions,
}

impl Plan {
    /// Taps of all convolutions together.
    fn taps(&self) -> f64 {
        (0..self.config.layer_count).map(|index| self.config.kernel_size(index) as f64).sum()
    }

    /// Bytes of the weights as they are packed: the first form's first convolution keeps only the
    /// channels that a token can set.
    fn weight_bytes(&self) -> u64 {
        let values = self.expected_tensors().into_iter().map(|tensor| tensor.count());
        let values = values.fold(0_u64, u64::saturating_add);
        let config = &self.config;
        let unused = config.hidden_size.saturating_sub(config.vocab_size);
        let unused = unused * config.hidden_size * config.first_kernel_size;
        let unused = if config.byte_net.is_none() { unused as u64 } else { 0 };
        // Nearly all of them are in matrices.
        let bytes = if self.options.precision == Precision::Bf16 { 2 } else { 4 };
        values.saturating_sub(unused).saturating_mul(bytes)
    }
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (layers, width) = (config.layer_count, config.hidden_size as f64);
        let (flops, held, after) = match config.byte_net {
            None => {
                (2.0 * width * width * (self.taps() + layers as f64), 2 * config.hidden_size, 0)
            }
            Some(form) => {
                let inner = form.inner_size as f64;
                let linear = layers as f64 * 4.0 * width * inner;
                let held = 2 * config.hidden_size + form.inner_size;
                (linear + 2.0 * inner * inner * self.taps(), held, 1)
            }
        };
        ModelShape {
            // The config bounds both far below u32.
            layer_count: layers as u32 + after,
            width: config.hidden_size as u32,
            tokens_max: TOKENS_MAX,
            states_fixed: None,
            flops_per_token: flops,
            flops_per_token_pair: 0.0,
            memory: MemoryFacts {
                weights: self.weight_bytes(),
                per_token: held as u64 * 4,
                per_longest_token: 0,
                per_longest_token_and_thread: 0,
            },
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let config = &self.config;
        let mut identity = vec![
            ("hidden_size", config.hidden_size as u64),
            ("layer_count", config.layer_count as u64),
            ("vocab_size", config.vocab_size as u64),
            ("first_kernel_size", config.first_kernel_size as u64),
            ("rest_kernel_size", config.rest_kernel_size as u64),
            ("layer_norm_eps", self.eps.to_bits()),
        ];
        identity.extend(config.dilations.iter().map(|&dilation| ("dilation", dilation as u64)));
        if let Some(form) = config.byte_net {
            identity.extend([
                ("inner_size", form.inner_size as u64),
                ("learned_embedding", u64::from(form.is_learned)),
                ("bias", u64::from(form.has_bias)),
                ("mlm_head_transform", u64::from(form.head_transform)),
                ("tie_word_embeddings", u64::from(form.is_tied)),
            ]);
        }
        identity
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    fn expected_in(&self, weights: &Weights) -> Vec<ExpectedTensor> {
        self.config.expected_in(weights)
    }

    fn check_weights(&self, weights: &Weights) -> Result<()> {
        self.config.check_weights(weights)
    }

    fn tokenizer(&self, folder: &Path) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(GpnTokenizer::read(
            &folder.join("tokenizer.json"),
            self.config.vocab_size,
            self.options.unknown_letters,
            self.options.undefined_bases,
        )?))
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let form = Form { eps: self.eps as f32, precision: self.options.precision };
        Ok(match self.config.byte_net {
            None => Box::new(ConvNet::load(&self.config, form, tensors)?),
            Some(byte_net) => Box::new(ByteNet::load(&self.config, byte_net, form, tensors)?),
        })
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let form = Form { eps: self.eps as f32, precision: self.options.precision };
        cuda::load(&self.config, form, gpu, tensors)
    }
}

/// What all layers share beside their sizes.
#[derive(Clone, Copy)]
struct Form {
    eps: f32,
    precision: Precision,
}

/// Rows `[N, D]` of zeros with a one at the token's id.
fn one_hot(ids: &[u32], width: usize) -> Result<Vec<f32>> {
    let mut states = crate::layers::zeros(ids.len(), width)?;
    for (&id, row) in ids.iter().zip(states.chunks_exact_mut(width)) {
        let place = row.get_mut(id as usize);
        *place.ok_or_else(|| Error::bug("a token past the one-hot"))? = 1.0;
    }
    Ok(states)
}

/// The error for weights that were published for embeddings alone.
fn headless() -> Error {
    Error::invalid(format!("these weights have no language-model head ({HEAD}*)"))
}

#[cfg(test)]
mod tests;
