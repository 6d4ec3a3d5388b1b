//! HyenaDNA: a causal gLM of single bases whose mixers convolve whole sequences.
//!
//! Leaves out: the mixer's arithmetic (kernels). Invariant: no buffer holds more than three rows of
//! width D for each token; residual sums are f32.
//! Source: Nguyen et al. 2023; HazyResearch/hyena-dna, and the Hub's `modeling_hyena.py`.

mod block;
mod buffers;
mod cuda;

use crate::config::HyenaDnaConfig;
use crate::config::hyenadna::{FINAL_NORM, HEAD, HyenaDnaLayout, WORDS, is_original};
use crate::layers::{Kept, LayerNorm, defect, pack, table_row, zeros};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network, Sink,
    SpecialTokens, States, TensorShape, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::{CharacterTokenizer, SpecialStyle};
use crate::weights::{ExpectedTensor, Weights};
use block::{Block, Scratch};
use glmeval_common::error::{Error, Result};
use glmeval_common::model::MemoryFacts;
use glmeval_kernels::cuda::Gpu;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use std::borrow::Cow;
use std::path::Path;

/// The architecture, for the list of models.
pub(super) static MODEL: HyenaDna = HyenaDna;

const NAME: &str = "hyenadna";
/// Bytes of filter spectra that all blocks together keep between batches.
const SPECTRA_BYTES_MAX: usize = 512 << 20;

/// See [`MODEL`].
pub(super) struct HyenaDna;

impl Architecture for HyenaDna {
    fn name(&self) -> &'static str {
        NAME
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"hyenadna\", or d_model with a layer that has l_max"
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        match checkpoint.config() {
            Some(config) => {
                checkpoint.config_text("model_type") == Some(NAME) || is_original(config)
            }
            None => checkpoint.any_name_ends(".filter_fn.implicit_filter.0.weight"),
        }
    }

    /// The Hub's names; the authors' begin with `model.` and, where mixers were trained with
    /// recomputation, hold one more `layer.`.
    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        let plain = stored.strip_prefix("model.").unwrap_or(stored);
        let is_backbone = plain.starts_with("backbone.");
        if !is_backbone && !plain.contains(".layer.") {
            return Cow::Borrowed(plain);
        }
        let plain = plain.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.");
        Cow::Owned(if is_backbone { format!("hyena.{plain}") } else { plain })
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let mut config = if checkpoint.config().is_some() {
            HyenaDnaConfig::read(&checkpoint.config_path())?
        } else {
            let layout = if checkpoint.any_name_ends(WORDS) {
                HyenaDnaLayout::HuggingFace
            } else {
                HyenaDnaLayout::Original
            };
            HyenaDnaConfig::from_weights(&checkpoint.weights(self)?, layout)?
        };
        if let Some(eps) = options.layer_norm_eps {
            if !(eps > 0.0 && eps.is_finite()) {
                return Err(Error::invalid(format!("expected layer_norm_eps > 0, found {eps}")));
            }
            (config.layer_norm_eps, config.block_norm_eps) = (eps, eps);
        }
        if config.embedding_rows < CharacterTokenizer::EMBEDDING_ROWS_MIN {
            let (least, found) = (CharacterTokenizer::EMBEDDING_ROWS_MIN, config.embedding_rows);
            return Err(config.rows_error(least, found, checkpoint.path()));
        }
        Ok(Box::new(Plan { config, options: *options }))
    }
}

/// A checked config and the choices it is opened with.
struct Plan {
    config: HyenaDnaConfig,
    options: ModelOptions,
}

impl Blueprint for Plan {
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (layers, width) = (config.layer_count as f64, config.width as f64);
        let wide = config.feed_forward_width as f64;
        // Two transforms of twice the length and one back, of 2.5 log2 operations per value; at the
        // longest sequence.
        let transforms = 15.0 * (2.0 * config.length_max as f64).log2() * width;
        let dense = 8.0 * width * width + 4.0 * width * wide + 18.0 * width;
        ModelShape {
            // The config bounds both far below u32.
            layer_count: config.layer_count as u32 + 1,
            width: config.width as u32,
            tokens_max: config.length_max as u64,
            states_fixed: None,
            flops_per_token: layers * (dense + transforms),
            flops_per_token_pair: 0.0,
            memory: self.memory(),
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let config = &self.config;
        let mut facts = vec![
            ("d_model", config.width as u64),
            ("d_inner", config.feed_forward_width as u64),
            ("n_layer", config.layer_count as u64),
            ("embedding_rows", config.embedding_rows as u64),
            ("emb_dim", config.feature_count as u64),
            ("filter_order", config.filter_width as u64),
            ("num_inner_mlps", config.inner_count as u64),
            ("l_max", config.length_max as u64),
            ("layer_norm_eps", config.layer_norm_eps.to_bits()),
            // Whatever `bias` or `use_bias` of a config says: the published code reads neither.
            ("skip", 1),
            ("tied", u64::from(config.is_tied)),
        ];
        if config.block_norm_eps != config.layer_norm_eps {
            facts.push(("block_norm_eps", config.block_norm_eps.to_bits()));
        }
        facts
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    /// The published form: a head of its own where it is not tied.
    fn initial_tensors(&self) -> Vec<TensorShape> {
        let expected = self.config.expected_tensors().into_iter();
        expected
            .filter(|tensor| tensor.required || (tensor.name == HEAD && !self.config.is_tied))
            .map(|tensor| TensorShape { name: tensor.name, shape: tensor.shape })
            .collect()
    }

    fn initial_values(&self, name: &str) -> Option<Vec<f32>> {
        buffers::initial_values(&self.config, name)
    }

    fn check_weights(&self, weights: &Weights) -> Result<()> {
        self.config.check_weights(weights)
    }

    fn tokenizer(&self, _folder: &Path) -> Result<Box<dyn Tokenizer>> {
        let style = match (self.options.special_tokens, self.config.layout) {
            (SpecialTokens::Original, _)
            | (SpecialTokens::Checkpoint, HyenaDnaLayout::Original) => SpecialStyle::Both,
            (SpecialTokens::HuggingFace, _)
            | (SpecialTokens::Checkpoint, HyenaDnaLayout::HuggingFace) => SpecialStyle::LastOnly,
        };
        Ok(Box::new(CharacterTokenizer::new(style, self.options.unknown_letters)))
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, precision) = (&self.config, self.options.precision);
        let extents = (config.embedding_rows, config.width);
        let words = tensors.take_f32(WORDS, &[extents.0, extents.1])?;
        let spectra_bytes_max = SPECTRA_BYTES_MAX / config.layer_count.max(1);
        let blocks = (0..config.layer_count)
            .map(|index| Block::load(config, index, (precision, spectra_bytes_max), tensors))
            .collect::<Result<_>>()?;
        let head = if config.is_tied {
            Some(pack(&words, None, extents, precision)?)
        } else if tensors.contains(HEAD) {
            let weight = tensors.take_f32(HEAD, &[extents.0, extents.1])?;
            Some(pack(&weight, None, extents, precision)?)
        } else {
            None
        };
        Ok(Box::new(Backbone {
            words,
            blocks,
            final_norm: LayerNorm::load(
                FINAL_NORM,
                config.width,
                config.layer_norm_eps as f32,
                tensors,
            )?,
            head,
            width: config.width,
            feed_forward_width: config.feed_forward_width,
            embedding_rows: config.embedding_rows,
            scratch: Kept::default(),
        }))
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        cuda::load(gpu, &self.config, self.options.precision, tensors)
    }
}

impl Plan {
    /// Bytes beside what is handed out; scratch as [`Block::apply`] and the Hyena operator take it.
    fn memory(&self) -> MemoryFacts {
        /// Points of a transform for one token on average over lengths; each holds sixteen channels.
        const POINTS_PER_TOKEN: f64 = 1.15;
        const POINT_BYTES: u64 = 128;
        /// Rows of the projection that a thread holds.
        const PROJECTED_ROWS: u64 = 768;

        let config = &self.config;
        let (width, layers) = (config.width as u64, config.layer_count as u64);
        let of_points = |bytes: u64| (bytes as f64 * POINTS_PER_TOKEN) as u64;
        let values = self.config.expected_tensors();
        let values = values.iter().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.count()));
        let rows = block::ROWS as u64 * config.feed_forward_width as u64;
        let constant = values.saturating_add(PROJECTED_ROWS * 2 * width).saturating_add(rows);
        // Spectra of the longest sequence are kept if they fit, else made for a block at a time.
        let spectrum = (config.length_max as u64).saturating_mul(of_points(8 * width));
        let is_kept = spectrum.saturating_mul(layers) <= SPECTRA_BYTES_MAX as u64;
        let made = 2 * of_points(POINT_BYTES) + 4 * config.filter_width as u64;
        MemoryFacts {
            weights: constant.saturating_mul(4),
            per_token: 12 * width + if is_kept { 0 } else { made },
            per_longest_token_and_thread: if is_kept { of_points(POINT_BYTES) } else { 0 },
            per_longest_token: if is_kept { of_points(8 * width) * layers } else { 0 },
        }
    }
}

/// A loaded gLM.
struct Backbone {
    words: Vec<f32>,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    head: Option<PackedLinear>,
    width: usize,
    feed_forward_width: usize,
    embedding_rows: usize,
    scratch: Kept<Scratch>,
}

impl Backbone {
    /// [`Network::forward`] in `scratch`.
    fn run(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        scratch: &mut Scratch,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = zeros(batch.token_count(), self.width)?;
        for (&id, row) in batch.ids.iter().zip(states.chunks_exact_mut(self.width)) {
            row.copy_from_slice(table_row(&self.words, self.width, id)?);
        }
        if request.wants(0) {
            sink(0, States::Host(&states))?;
        }
        scratch.fit(batch.token_count(), (self.width, self.feed_forward_width))?;
        for (layer, block) in (1..=request.deepest()).zip(&self.blocks) {
            block.apply(&mut states, &batch.offsets, scratch)?;
            if request.wants(layer) {
                sink(layer, States::Host(&states))?;
            }
        }
        if request.deepest() as usize > self.blocks.len() {
            self.final_norm.apply_in_place(&mut states)?;
            sink(request.deepest(), States::Host(&states))?;
        }
        Ok(())
    }
}

impl Network for Backbone {
    /// Layers 1 to n are the blocks' residual sums; n + 1 is the final layer norm's output, which
    /// the published code returns.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.scratch.lend(batch.token_count(), |scratch| self.run(batch, request, scratch, sink))
    }

    fn vocabulary_size(&self) -> usize {
        self.embedding_rows
    }

    /// The last columns are those of rows that only pad the embedding.
    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        let head = self.head.as_ref().ok_or_else(|| {
            Error::invalid(format!("these weights have no language-model head ({HEAD})"))
        })?;
        let mut logits = zeros(states.len() / self.width, self.embedding_rows)?;
        linear(states, head, Epilogue::None, &mut logits).map_err(defect)?;
        Ok(logits)
    }

    fn is_causal(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
