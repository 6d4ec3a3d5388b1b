//! Nucleotide Transformer v1 and v2: ESM encoders over k-mers, and ESM models of the same form.
//!
//! Each part follows the config, not the version: learned or rotary positions, GELU or a gated
//! feed-forward part, token dropout. Leaves out: contact heads, pooled outputs.
//! Source: Dalla-Torre et al. 2024; Hugging Face `EsmForMaskedLM`, which the v1 weights are published
//! for, and InstaDeep's `modeling_esm.py`, published with v2.

mod block;
mod cuda;
mod embedding;
mod head;
mod rotation;

use crate::config::EsmConfig;
use crate::config::esm::{self, PositionEmbedding};
use crate::json;
use crate::layers::{Kept, LayerNorm, MaskedHead, Scratch};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network, Sink,
    States, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::KmerTokenizer;
use crate::weights::{ExpectedTensor, Weights};
use block::{Block, widths};
use embedding::Embedding;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_kernels::cuda::Gpu;
use rotation::Rotation;
use std::borrow::Cow;
use std::path::Path;

/// The first version, for the list of models.
pub(super) static FIRST: NucleotideTransformer = NucleotideTransformer::First;
/// The second version, for the list of models.
pub(super) static SECOND: NucleotideTransformer = NucleotideTransformer::Second;

const FINAL_NORM: &str = "esm.encoder.emb_layer_norm_after";

/// One version: how its config is recognised.
pub(super) enum NucleotideTransformer {
    /// Hugging Face's ESM.
    First,
    /// InstaDeep's own ESM.
    Second,
}

impl Architecture for NucleotideTransformer {
    fn name(&self) -> &'static str {
        match self {
            Self::First => "nucleotide-transformer-v1",
            Self::Second => "nucleotide-transformer-v2",
        }
    }

    fn looks_like(&self) -> &'static str {
        match self {
            Self::First => "model_type \"esm\"",
            Self::Second => "add_bias_fnn (Nucleotide Transformer v2)",
        }
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let config = checkpoint.config().and_then(serde_json::Value::as_object);
        let is_second = config.is_some_and(esm::is_gated);
        let kind = checkpoint.config_text("model_type");
        match self {
            Self::First => kind == Some("esm") && !is_second,
            Self::Second => is_second && kind.is_none_or(|kind| kind == "esm"),
        }
    }

    /// Weights saved without their head lack the first part of every name.
    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        let is_bare = ["embeddings.", "encoder."].iter().any(|start| stored.starts_with(start));
        if is_bare { Cow::Owned(format!("esm.{stored}")) } else { Cow::Borrowed(stored) }
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = EsmConfig::read(&checkpoint.config_path())?;
        let eps = options.layer_norm_eps.unwrap_or(config.layer_norm_eps);
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
        }
        let tokens_max = tokens_max(&config, checkpoint.folder())?;
        Ok(Box::new(Plan { config, eps, options: *options, tokens_max }))
    }
}

/// Most tokens of a sequence: what the learned positions reach. Rotary positions end nowhere, so that
/// what was published for the tokenizer counts, or without that what the config says.
fn tokens_max(config: &EsmConfig, folder: &Path) -> Result<u64> {
    let rows = config.max_position_embeddings as u64;
    if config.position_embedding == PositionEmbedding::Absolute {
        // Positions up to the padding index are not given to tokens.
        return Ok(rows.saturating_sub(u64::from(config.pad_token_id).saturating_add(1)));
    }
    const KEY: &str = "model_max_length";
    /// A larger number means that nobody set one.
    const TOKENS_PUBLISHED_MAX: f64 = 1e6;
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(rows);
    }
    let published = json::read(&path)?;
    match published.get(KEY).filter(|length| !length.is_null()) {
        None => Ok(rows),
        Some(length) => match length.as_f64().filter(|length| *length >= 1.0) {
            Some(length) if length > TOKENS_PUBLISHED_MAX => Ok(rows),
            Some(length) => Ok(length as u64),
            None => {
                let found = json::describe(length);
                Err(InputError::new(path.display(), KEY, "a positive number", found).into())
            }
        },
    }
}

/// A checked config and the choices it is opened with.
struct Plan {
    config: EsmConfig,
    eps: f64,
    options: ModelOptions,
    tokens_max: u64,
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (layers, width) = (config.num_hidden_layers as f64, config.hidden_size as f64);
        let feed_forward = config.intermediate_size as f64;
        let products = if config.gated { 6.0 } else { 4.0 };
        ModelShape {
            // The config bounds both far below u32.
            layer_count: config.num_hidden_layers as u32,
            width: config.hidden_size as u32,
            tokens_max: self.tokens_max,
            states_fixed: None,
            flops_per_token: layers * (8.0 * width * width + products * width * feed_forward),
            flops_per_token_pair: layers * 4.0 * width,
            memory: widths(config).memory(&config.expected_tensors(), self.options.precision),
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let config = &self.config;
        let mut identity = vec![
            ("hidden_size", config.hidden_size as u64),
            ("num_hidden_layers", config.num_hidden_layers as u64),
            ("num_attention_heads", config.num_attention_heads as u64),
            ("intermediate_size", config.intermediate_size as u64),
            ("vocab_size", config.vocab_size as u64),
            ("max_position_embeddings", config.max_position_embeddings as u64),
            ("layer_norm_eps", self.eps.to_bits()),
            ("token_dropout", u64::from(config.token_dropout)),
            ("emb_layer_norm_before", u64::from(config.emb_layer_norm_before)),
            ("pad_token_id", u64::from(config.pad_token_id)),
            ("mask_token_id", u64::from(config.mask_token_id)),
        ];
        // What v1 does not have is left out there, so that the ids of v1 stay.
        if config.position_embedding == PositionEmbedding::Rotary {
            identity.push(("rotary", 1));
        }
        if config.gated {
            identity.push(("gated_with_bias", u64::from(config.feed_forward_bias)));
        }
        identity
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    /// Frequencies of rotary positions are not drawn.
    fn initial_values(&self, name: &str) -> Option<Vec<f32>> {
        rotation::is_frequencies(name).then(|| rotation::frequencies(&self.config))
    }

    fn expected_in(&self, weights: &Weights) -> Vec<ExpectedTensor> {
        self.config.expected_in(weights)
    }

    fn check_weights(&self, weights: &Weights) -> Result<()> {
        self.config.check_weights(weights)
    }

    fn tokenizer(&self, folder: &Path) -> Result<Box<dyn Tokenizer>> {
        let config = &self.config;
        let path = folder.join("config.json");
        let vocabulary = folder.join("vocab.txt");
        let unknown_letters = self.options.unknown_letters;
        let tokenizer = KmerTokenizer::read(&vocabulary, config.vocab_size, unknown_letters)?;
        for (token, key, id) in [
            ("<pad>", "pad_token_id", config.pad_token_id),
            ("<mask>", "mask_token_id", config.mask_token_id),
        ] {
            if tokenizer.id(token) != Some(id) {
                let expected = tokenizer.id(token).map_or("no such token".to_owned(), |found| {
                    format!("{found}, the id of {token} in {}", tokenizer.file())
                });
                return Err(InputError::new(path.display(), key, expected, id).into());
            }
        }
        Ok(Box::new(tokenizer))
    }

    fn masks_padding(&self) -> bool {
        true
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        cuda::load(gpu, &self.config, (self.eps as f32, self.options.precision), tensors)
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, eps) = (&self.config, self.eps as f32);
        let precision = self.options.precision;
        let embedding = Embedding::load(config, eps, tensors)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(config, (eps, precision), index, tensors))
            .collect::<Result<_>>()?;
        let final_norm = LayerNorm::load(FINAL_NORM, config.hidden_size, eps, tensors)?;
        let rotation = Rotation::load(config, tensors)?;
        let head = head::load(config, (eps, precision), tensors)?;
        let config = config.clone();
        let scratch = Kept::default();
        Ok(Box::new(Encoder { config, embedding, rotation, blocks, final_norm, head, scratch }))
    }
}

/// A loaded model.
struct Encoder {
    config: EsmConfig,
    embedding: Embedding,
    rotation: Rotation,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    head: Option<MaskedHead>,
    scratch: Kept<Scratch>,
}

impl Encoder {
    /// [`Network::forward`] in `scratch`.
    fn run(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        scratch: &mut Scratch,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = self.embedding.states(batch)?;
        if request.wants(0) {
            sink(0, States::Host(&states))?;
        }
        scratch.fit(widths(&self.config), batch.token_count())?;
        let longest = batch.sequences().map(<[u32]>::len).max().unwrap_or(0);
        let angles = self.rotation.angles(longest);
        for (layer, (index, block)) in (1..=request.deepest()).zip(self.blocks.iter().enumerate()) {
            let positions = angles.of_block(index);
            block.apply(&mut states, &batch.offsets, positions, scratch)?;
            if layer as usize == self.blocks.len() {
                self.final_norm.apply(&states, &mut scratch.narrow)?;
                sink(layer, States::Host(&scratch.narrow))?;
            } else if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        Ok(())
    }
}

impl Network for Encoder {
    /// The last layer is handed out after the final layer norm, as both published ports do.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.scratch.lend(batch.token_count(), |scratch| self.run(batch, request, scratch, sink))
    }

    fn vocabulary_size(&self) -> usize {
        self.config.vocab_size
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        match &self.head {
            Some(head) => head.logits(states),
            None => Err(Error::invalid("these weights have no language-model head (lm_head)")),
        }
    }

    fn mean_skips_first(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
