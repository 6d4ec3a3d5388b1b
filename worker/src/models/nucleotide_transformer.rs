//! Nucleotide Transformer v1: an ESM-1b encoder over 6-mers, and ESM models of the same form.
//!
//! Leaves out: v2 (rotary positions, gated feed-forward), contact heads.
//! Source: Dalla-Torre et al. 2024; Hugging Face `EsmForMaskedLM`, which the v1 weights are published for.

mod block;
mod embedding;
mod head;

use crate::config::EsmConfig;
use crate::layers::LayerNorm;
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network,
    TensorShape, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::KmerTokenizer;
use crate::weights::{ExpectedTensor, Weights};
use block::{Block, Scratch};
use embedding::Embedding;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::model::MemoryFacts;
use head::Head;
use std::path::Path;

/// The architecture, for the list of models.
pub(super) static MODEL: NucleotideTransformerV1 = NucleotideTransformerV1;

const NAME: &str = "nucleotide-transformer-v1";
const FINAL_NORM: &str = "esm.encoder.emb_layer_norm_after";

/// See [`MODEL`].
pub(super) struct NucleotideTransformerV1;

impl Architecture for NucleotideTransformerV1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"esm\" with position_embedding_type \"absolute\""
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let is_rotary = checkpoint.config_text("position_embedding_type") == Some("rotary");
        checkpoint.config_text("model_type") == Some("esm") && !is_rotary
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = EsmConfig::read(&checkpoint.config_path())?;
        let eps = options.layer_norm_eps.unwrap_or(config.layer_norm_eps);
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
        }
        Ok(Box::new(Plan { config, eps, options: *options }))
    }
}

/// A checked config and the choices it is opened with.
struct Plan {
    config: EsmConfig,
    eps: f64,
    options: ModelOptions,
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (layers, width) = (config.num_hidden_layers as f64, config.hidden_size as f64);
        let feed_forward = config.intermediate_size as f64;
        // Positions up to the padding index are not given to tokens.
        let first_position = u64::from(config.pad_token_id).saturating_add(1);
        ModelShape {
            // The config bounds both far below u32.
            layer_count: config.num_hidden_layers as u32,
            width: config.hidden_size as u32,
            tokens_max: (config.max_position_embeddings as u64).saturating_sub(first_position),
            states_fixed: None,
            flops_per_token: layers * (8.0 * width * width + 4.0 * width * feed_forward),
            flops_per_token_pair: layers * 4.0 * width,
            memory: MemoryFacts::default(),
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let config = &self.config;
        vec![
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
        ]
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    /// The published form: a head with a decoder of its own, no contact head.
    fn initial_tensors(&self) -> Vec<TensorShape> {
        let expected = self.config.expected_tensors().into_iter();
        expected
            .filter(|tensor| tensor.required || tensor.name == head::DECODER)
            .map(|tensor| TensorShape { name: tensor.name, shape: tensor.shape })
            .collect()
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

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, eps) = (&self.config, self.eps as f32);
        let precision = self.options.precision;
        let embedding = Embedding::load(config, eps, tensors)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(config, (eps, precision), index, tensors))
            .collect::<Result<_>>()?;
        let final_norm = LayerNorm::load(FINAL_NORM, config.hidden_size, eps, tensors)?;
        let head = Head::load(config, (eps, precision), tensors)?;
        let config = config.clone();
        Ok(Box::new(Encoder { config, embedding, blocks, final_norm, head }))
    }
}

/// A loaded model.
struct Encoder {
    config: EsmConfig,
    embedding: Embedding,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    head: Option<Head>,
}

impl Network for Encoder {
    /// The last layer is handed out after the final layer norm, as both published ports do.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<()> {
        let mut states = self.embedding.states(batch)?;
        if request.wants(0) {
            sink(0, &states);
        }
        let mut scratch = Scratch::new(&self.config, batch.token_count())?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(&mut states, &batch.offsets, &mut scratch)?;
            if layer as usize == self.blocks.len() {
                self.final_norm.apply(&states, &mut scratch.narrow)?;
                sink(layer, &scratch.narrow);
            } else if request.wants(layer) {
                sink(layer, &states);
            }
        }
        Ok(())
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
