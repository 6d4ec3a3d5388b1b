//! DNABERT and DNABERT-2: BERT encoders over overlapping 6-mers and over learned pieces.
//!
//! Leaves out: cutting long sequences into windows, masks (batches are packed).
//! Source: Ji et al. 2021 with Hugging Face's `BertModel`; Zhou et al. 2023 with its `bert_layers.py`.

mod block;
mod cuda;
mod ends;

use crate::config::bert::{self, BertConfig, BertForm};
use crate::layers::{Kept, MaskedHead, Positions, Scratch};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network, Sink,
    States, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::{BpeTokenizer, OverlappingKmerTokenizer};
use crate::weights::{ExpectedTensor, Weights};
use block::{Block, widths};
use ends::{Embedding, Pooler, load_head};
use glmeval_common::error::{Error, Result};
use glmeval_common::model::InputQuirk;
use glmeval_kernels::cuda::Gpu;
use glmeval_kernels::ops::attention::alibi_slopes;
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// The first version, for the list of models.
pub(super) static FIRST: DnaBert = DnaBert(BertForm::Original);
/// The second version, for the list of models.
pub(super) static SECOND: DnaBert = DnaBert(BertForm::Alibi);

/// The version with one form of BERT.
pub(super) struct DnaBert(BertForm);

impl Architecture for DnaBert {
    fn name(&self) -> &'static str {
        match self.0 {
            BertForm::Original => "dnabert",
            BertForm::Alibi => "dnabert-2",
        }
    }

    fn looks_like(&self) -> &'static str {
        match self.0 {
            BertForm::Original => "model_type \"bert\" or architectures Bert… (DNABERT)",
            BertForm::Alibi => "alibi_starting_size (DNABERT-2)",
        }
    }

    /// Both were published without a model type.
    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let Some(config) = checkpoint.config().and_then(Value::as_object) else { return false };
        let is_alibi = bert::is_alibi(config);
        let kind = config.get("model_type").filter(|kind| !kind.is_null());
        let classes = config.get("architectures").and_then(Value::as_array);
        let mut classes = classes.into_iter().flatten().filter_map(Value::as_str);
        match (self.0, kind) {
            (_, Some(kind)) if kind != "bert" => false,
            (BertForm::Alibi, _) => is_alibi,
            (BertForm::Original, Some(_)) => !is_alibi,
            (BertForm::Original, None) => {
                !is_alibi && classes.any(|class| class.starts_with("Bert"))
            }
        }
    }

    /// Weights saved without their head lack the first part of every name; old ones call a norm's
    /// tensors gamma and beta.
    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        let starts = ["embeddings.", "encoder.", "pooler."];
        let first = if starts.iter().any(|s| stored.starts_with(s)) { "bert." } else { "" };
        let renamed = [(".gamma", ".weight"), (".beta", ".bias")];
        let mut renamed =
            renamed.iter().filter_map(|(old, new)| Some((stored.strip_suffix(old)?, *new)));
        match renamed.next() {
            None if first.is_empty() => Cow::Borrowed(stored),
            None => Cow::Owned(format!("{first}{stored}")),
            Some((stem, last)) => Cow::Owned(format!("{first}{stem}{last}")),
        }
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = BertConfig::read(&checkpoint.config_path())?;
        let eps = options.layer_norm_eps.unwrap_or(config.layer_norm_eps);
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
        }
        let mut plan = Plan { config, eps, options: *options, segments: None };
        if options.quirk == Some(InputQuirk::MaskAsSegments) && plan.config.type_vocab_size > 1 {
            let padding = plan.tokenizer(checkpoint.folder())?.pad_id();
            plan.segments = Some(padding.unwrap_or(u32::MAX));
        }
        Ok(Box::new(plan))
    }
}

/// A checked config and the choices it is opened with.
struct Plan {
    config: BertConfig,
    eps: f64,
    options: ModelOptions,
    /// The padding token, alone of segment 0 where all others are of segment 1; `None` = all are of
    /// segment 0.
    segments: Option<u32>,
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (layers, width) = (config.num_hidden_layers as f64, config.hidden_size as f64);
        let products = match config.form {
            BertForm::Original => 4.0,
            BertForm::Alibi => 6.0,
        };
        let feed_forward = products * width * config.intermediate_size as f64;
        ModelShape {
            // The config bounds both far below u32.
            layer_count: config.num_hidden_layers as u32,
            width: config.hidden_size as u32,
            tokens_max: config.positions.map_or(u64::MAX, |rows| rows as u64),
            states_fixed: None,
            flops_per_token: layers * (8.0 * width * width + feed_forward),
            flops_per_token_pair: layers * 4.0 * width,
            memory: widths(config).memory(&config.expected_tensors(), self.options.precision),
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
            ("positions", config.positions.map_or(0, |rows| rows as u64)),
            ("layer_norm_eps", self.eps.to_bits()),
            ("tie_word_embeddings", u64::from(config.tie_word_embeddings)),
        ]
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
        let (rows, unknown_letters) = (self.config.vocab_size, self.options.unknown_letters);
        Ok(match self.config.form {
            BertForm::Original => {
                let vocabulary = folder.join("vocab.txt");
                Box::new(OverlappingKmerTokenizer::read(&vocabulary, rows, unknown_letters)?)
            }
            BertForm::Alibi => {
                let definition = folder.join("tokenizer.json");
                Box::new(BpeTokenizer::read(&definition, rows, unknown_letters)?)
            }
        })
    }

    fn masks_padding(&self) -> bool {
        true
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let choices = (self.eps as f32, self.options.precision, self.segments);
        cuda::load(gpu, &self.config, choices, tensors)
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, eps) = (self.config.clone(), self.eps as f32);
        let precision = self.options.precision;
        let embedding = Embedding::load(&config, (eps, self.segments), tensors)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(&config, (eps, precision), index, tensors))
            .collect::<Result<_>>()?;
        let pooler = Pooler::load(config.hidden_size, precision, tensors)?;
        let head = load_head(&config, (config.head_eps(eps), precision), tensors)?;
        let slopes = slopes(&config);
        let scratch = Kept::default();
        Ok(Box::new(Encoder { config, embedding, slopes, blocks, pooler, head, scratch }))
    }
}

/// What a token of distance costs in each head; `None` with learned positions.
fn slopes(config: &BertConfig) -> Option<Vec<f32>> {
    match config.form {
        BertForm::Original => None,
        BertForm::Alibi => Some(alibi_slopes(config.num_attention_heads)),
    }
}

/// A loaded model.
struct Encoder {
    config: BertConfig,
    embedding: Embedding,
    /// What a token of distance costs in each head; `None` with learned positions.
    slopes: Option<Vec<f32>>,
    blocks: Vec<Block>,
    pooler: Option<Pooler>,
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
        let positions = self.slopes.as_deref().map_or(Positions::None, Positions::Alibi);
        scratch.fit(widths(&self.config), batch.token_count())?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(&mut states, &batch.offsets, positions, scratch)?;
            if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        Ok(())
    }
}

impl Network for Encoder {
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
            None => Err(Error::invalid("these weights have no language-model head (cls)")),
        }
    }

    fn pooler(&self, first: &[f32]) -> Result<Option<Vec<f32>>> {
        self.pooler.as_ref().map(|pooler| pooler.apply(first)).transpose()
    }

    fn mean_skips_first(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
