//! Nucleotide Transformer v1: an ESM-1b encoder over 6-mers, and ESM models of the same form.
//!
//! Leaves out: v2 (rotary positions, gated feed-forward), contact heads.
//! Source: Dalla-Torre et al. 2024; Hugging Face `EsmForMaskedLM`, which the v1 weights are published for.

mod block;
mod embedding;
mod head;

use crate::config::EsmConfig;
use crate::model::{
    Architecture, LayerRequest, Model, ModelOptions, RandomTensors, TensorShape, TensorSource,
    TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::KmerTokenizer;
use crate::weights::{ExpectedTensor, Weights};
use block::{Block, LayerNorm, Scratch};
use embedding::Embedding;
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::ids::ModelId;
use glmeval_common::plan::ModelFacts;
use glmeval_kernels::error::KernelError;
use head::Head;
use std::path::Path;

/// The architecture, for the list of models.
pub(super) static MODEL: NucleotideTransformerV1 = NucleotideTransformerV1;

const NAME: &str = "nucleotide-transformer-v1";
const FINAL_NORM: &str = "esm.encoder.emb_layer_norm_after";
const CONTACT_HEAD: &str = "esm.contact_head.regression.weight";

/// See [`MODEL`].
pub(super) struct NucleotideTransformerV1;

impl Architecture for NucleotideTransformerV1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"esm\" with position_embedding_type \"absolute\""
    }

    fn recognises(&self, config: &serde_json::Value) -> bool {
        let is_rotary = config.get("position_embedding_type").is_some_and(|kind| kind == "rotary");
        config.get("model_type").is_some_and(|kind| kind == "esm") && !is_rotary
    }

    fn describe(&self, folder: &Path, options: &ModelOptions) -> Result<ModelFacts> {
        let (parts, weights) = Parts::of_folder(folder, options)?;
        parts.facts(&weights)
    }

    fn open(&self, folder: &Path, options: &ModelOptions) -> Result<Box<dyn Model>> {
        let (parts, mut weights) = Parts::of_folder(folder, options)?;
        Ok(Box::new(parts.load(&mut weights)?))
    }

    fn open_random(
        &self,
        folder: &Path,
        options: &ModelOptions,
        seed: u64,
    ) -> Result<Box<dyn Model>> {
        let parts = Parts::read(folder, options)?;
        Ok(Box::new(parts.load(&mut RandomTensors::new(seed))?))
    }

    fn expected_tensors(&self, config: &Path) -> Result<Vec<ExpectedTensor>> {
        Ok(EsmConfig::read(config)?.expected_tensors())
    }

    fn tensors(&self, config: &Path) -> Result<Vec<TensorShape>> {
        let config = EsmConfig::read(config)?;
        let mut tensors = encoder_tensors(&config);
        tensors.extend(head::tensors(&config));
        Ok(tensors)
    }
}

/// Everything but the tensors.
struct Parts {
    config: EsmConfig,
    eps: f64,
    tokenizer: KmerTokenizer,
}

impl Parts {
    fn read(folder: &Path, options: &ModelOptions) -> Result<Self> {
        let config = EsmConfig::read(&folder.join("config.json"))?;
        Self::with_vocabulary(folder, config, options)
    }

    fn with_vocabulary(folder: &Path, config: EsmConfig, options: &ModelOptions) -> Result<Self> {
        let path = folder.join("config.json");
        let vocabulary = folder.join("vocab.txt");
        let tokenizer =
            KmerTokenizer::read(&vocabulary, config.vocab_size, options.unknown_letters)?;
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
        let eps = options.layer_norm_eps.unwrap_or(config.layer_norm_eps);
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
        }
        Ok(Self { config, eps, tokenizer })
    }

    fn of_folder(folder: &Path, options: &ModelOptions) -> Result<(Self, Weights)> {
        let config = EsmConfig::read(&folder.join("config.json"))?;
        let weights = Weights::open(folder)?;
        // Before the vocabulary: a wrong vocab_size is the config's defect, not the vocabulary's.
        config.check_weights(&weights)?;
        Ok((Self::with_vocabulary(folder, config, options)?, weights))
    }

    fn facts(&self, tensors: &dyn TensorSource) -> Result<ModelFacts> {
        let config = &self.config;
        let (layers, width) = (config.num_hidden_layers as f64, config.hidden_size as f64);
        let feed_forward = config.intermediate_size as f64;
        // Positions up to the padding index are not given to tokens.
        let first_position = u64::from(config.pad_token_id).saturating_add(1);
        Ok(ModelFacts {
            id: self.id(tensors)?,
            architecture: NAME.to_owned(),
            parameters: self.parameters(tensors),
            layer_count: count_u32("num_hidden_layers", config.num_hidden_layers)?,
            width: count_u32("hidden_size", config.hidden_size)?,
            tokens_max: (config.max_position_embeddings as u64).saturating_sub(first_position),
            tokens_special: self.tokenizer.special_count(),
            nucleotides_per_token: self.tokenizer.nucleotides_per_token(),
            flops_per_token: layers * (8.0 * width * width + 4.0 * width * feed_forward),
            flops_per_token_pair: layers * 4.0 * width,
        })
    }

    /// Digest of all that decides a state or a logit.
    fn id(&self, tensors: &dyn TensorSource) -> Result<ModelId> {
        let config = &self.config;
        let numbers = [
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
        let digest = ContentDigest::new("model/1").field("architecture", NAME);
        let digest =
            numbers.iter().fold(digest, |d, (name, value)| d.field(name, value.to_le_bytes()));
        let digest = digest.field("tensors", tensors.digest()?);
        Ok(ModelId::new(digest.field("tokenizer", self.tokenizer.digest()).finish()))
    }

    /// Weights of the encoder and of the heads that are there.
    fn parameters(&self, tensors: &dyn TensorSource) -> u64 {
        let config = &self.config;
        let mut all = encoder_tensors(config);
        if tensors.contains(head::FIRST) {
            all.extend(head::tensors(config));
        }
        let contacts = if tensors.contains(CONTACT_HEAD) {
            let maps = config.num_hidden_layers.saturating_mul(config.num_attention_heads);
            (maps as u64).saturating_add(1)
        } else {
            0
        };
        all.iter().fold(contacts, |sum, tensor| sum.saturating_add(tensor.count()))
    }

    fn load(self, tensors: &mut dyn TensorSource) -> Result<Encoder> {
        let facts = self.facts(tensors)?;
        let Self { config, eps, tokenizer } = self;
        let eps = eps as f32;
        let embedding = Embedding::load(&config, eps, tensors)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(&config, eps, index, tensors))
            .collect::<Result<_>>()?;
        let final_norm = LayerNorm::load(FINAL_NORM, config.hidden_size, eps, tensors)?;
        let head = Head::load(&config, eps, tensors)?;
        Ok(Encoder { facts, tokenizer, embedding, blocks, final_norm, head, config })
    }
}

fn count_u32(key: &str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::invalid(format!("{key}: expected at most {}, found {value}", u32::MAX)))
}

fn encoder_tensors(config: &EsmConfig) -> Vec<TensorShape> {
    let mut tensors = embedding::tensors(config);
    tensors.extend((0..config.num_hidden_layers).flat_map(|index| block::tensors(config, index)));
    tensors.extend(norm_tensors(FINAL_NORM, config.hidden_size));
    tensors
}

fn tensor(name: String, shape: &[usize]) -> TensorShape {
    TensorShape { name, shape: shape.to_vec() }
}

fn norm_tensors(name: &str, width: usize) -> [TensorShape; 2] {
    [tensor(format!("{name}.weight"), &[width]), tensor(format!("{name}.bias"), &[width])]
}

fn linear_tensors(name: &str, output_width: usize, input_width: usize) -> [TensorShape; 2] {
    [
        tensor(format!("{name}.weight"), &[output_width, input_width]),
        tensor(format!("{name}.bias"), &[output_width]),
    ]
}

/// Shapes were checked when the weights were loaded, so a refusal is a defect of ours.
fn defect(error: KernelError) -> Error {
    Error::bug(format!("{NAME} forward pass")).with_source(error)
}

/// A loaded model.
struct Encoder {
    config: EsmConfig,
    facts: ModelFacts,
    tokenizer: KmerTokenizer,
    embedding: Embedding,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    head: Option<Head>,
}

impl Model for Encoder {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn tokenizer(&self) -> &dyn Tokenizer {
        &self.tokenizer
    }

    /// The last layer is handed out after the final layer norm, as both published ports do.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<()> {
        if request.deepest() > self.facts.layer_count {
            let limit = self.facts.layer_count;
            let found = request.deepest();
            return Err(Error::invalid(format!("expected layers to {limit}, found {found}")));
        }
        batch.check(self.facts.tokens_max, self.config.vocab_size)?;
        let mut states = self.embedding.states(batch)?;
        if request.wants(0) {
            sink(0, &states);
        }
        let mut scratch = Scratch::new(&self.config, batch.token_count())?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(&mut states, &batch.offsets, &mut scratch)?;
            if layer == self.facts.layer_count {
                self.final_norm.apply(&states, &mut scratch.narrow)?;
                sink(layer, &scratch.narrow);
            } else if request.wants(layer) {
                sink(layer, &states);
            }
        }
        Ok(())
    }

    fn logits(&self, batch: &TokenBatch) -> Result<Vec<f32>> {
        let Some(head) = &self.head else {
            return Err(Error::invalid("these weights have no language-model head (lm_head)"));
        };
        let last = LayerRequest::new(&[self.facts.layer_count], self.facts.layer_count)?;
        let mut states = Vec::new();
        self.forward(batch, &last, &mut |_, layer| states.extend_from_slice(layer))?;
        head.logits(&states)
    }

    fn mean_skips_first(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
