//! Sei: a supervised convolutional network over one-hot DNA; its spline layer is the embedding.
//!
//! Leaves out: sequence classes, which are a projection of the predictions.
//! Source: Chen et al. 2022; FunctionLab/sei-framework (1e16bff) `model/sei.py`.

mod classifier;
mod cuda;
mod spline;
mod tower;

use crate::config::SeiConfig;
use crate::config::sei::CLASSIFIER;
use crate::layers::{NUCLEOTIDES, centred};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network, Sink,
    States, TensorShape, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::NucleotideTokenizer;
use crate::weights::ExpectedTensor;
use classifier::Classifier;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::{InputQuirk, MemoryFacts};
use glmeval_kernels::cuda::Gpu;
use spline::Spline;
use std::borrow::Cow;
use std::path::Path;
use tower::Tower;

/// The architecture, for the list of models.
pub(super) static MODEL: Sei = Sei;

/// What stands before each name in the published file.
const PREFIX: &str = "module.model.";

/// See [`MODEL`].
pub(super) struct Sei;

impl Architecture for Sei {
    fn name(&self) -> &'static str {
        "sei"
    }

    fn looks_like(&self) -> &'static str {
        "n_genomic_features with spline_df, or the tensors of Sei"
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let by_config =
            checkpoint.config_has("n_genomic_features") && checkpoint.config_has("spline_df");
        let named = |name| checkpoint.any_name_ends(name);
        by_config || named("lconv1.0.weight") && named("dconv5.1.weight")
    }

    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(stored.strip_prefix(PREFIX).unwrap_or(stored))
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = match checkpoint.config() {
            Some(_) => SeiConfig::read(&checkpoint.config_path())?,
            None => SeiConfig::of_weights(&checkpoint.weights(self)?)?,
        };
        if let Some(InputQuirk::Length(length)) = options.quirk {
            config.clone().with_length(length)?;
        }
        Ok(Box::new(Plan { config, options: *options }))
    }
}

/// Checked sizes and the choices the network is opened with.
struct Plan {
    config: SeiConfig,
    options: ModelOptions,
}

impl Plan {
    /// The sizes it runs with, which its identity does not tell.
    fn sizes(&self) -> SeiConfig {
        let config = self.config.clone();
        match self.options.quirk {
            Some(InputQuirk::Length(length)) => {
                config.clone().with_length(length).unwrap_or(config)
            }
            _ => config,
        }
    }
}

impl Blueprint for Plan {
    /// The cost of a token is its share of a full input, which any sequence is padded to.
    fn shape(&self) -> ModelShape {
        let config = &self.sizes();
        let flops = |(_, shape, length): (_, [usize; 3], usize)| {
            2.0 * length as f64 * shape.map(|extent| extent as f64).iter().product::<f64>()
        };
        let flops: f64 = config.convolutions().into_iter().map(flops).sum();
        let weights = self.expected_tensors().into_iter().map(|tensor| tensor.count());
        let weights = weights.fold(0_u64, u64::saturating_add);
        let states = config.states() as u64;
        ModelShape {
            layer_count: 1,
            // The config bounds all of them far below u32.
            width: config.spline_df as u32,
            tokens_max: config.sequence_length as u64,
            states_fixed: Some(config.channels[2] as u32),
            flops_per_token: flops / config.sequence_length as f64,
            flops_per_token_pair: 0.0,
            memory: MemoryFacts {
                weights: weights.saturating_add(tower::activations(config)).saturating_mul(4),
                // A sequence may be one token.
                per_token: states.saturating_mul(4),
                per_longest_token: 0,
                per_longest_token_and_thread: 0,
            },
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let SeiConfig { sequence_length, channels: [first, second, third], spline_df, outputs } =
            self.config;
        vec![
            ("sequence_length", sequence_length as u64),
            ("channels_1", first as u64),
            ("channels_2", second as u64),
            ("channels_3", third as u64),
            ("spline_df", spline_df as u64),
            ("n_genomic_features", outputs.unwrap_or_default() as u64),
        ]
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    /// The published form: with the classifier.
    fn initial_tensors(&self) -> Vec<TensorShape> {
        let expected = self.config.expected_tensors().into_iter();
        expected.map(|tensor| TensorShape { name: tensor.name, shape: tensor.shape }).collect()
    }

    fn tokenizer(&self, _folder: &Path) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(NucleotideTokenizer::new(self.options.unknown_letters)))
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, precision) = (&self.sizes(), self.options.precision);
        let has_classifier = tensors.contains(&format!("{}.weight", CLASSIFIER[0]));
        let classifier = match config.outputs.filter(|_| has_classifier) {
            None => None,
            Some(outputs) => {
                Some(Classifier::load((outputs, config.states()), precision, tensors)?)
            }
        };
        Ok(Box::new(Loaded {
            tower: Tower::load(config, precision, tensors)?,
            spline: Spline::new(config.pooled_length(), config.spline_df)?,
            classifier,
            length: config.sequence_length,
        }))
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        cuda::load(&self.sizes(), self.options.precision, gpu, tensors)
    }
}

/// A loaded network.
struct Loaded {
    tower: Tower,
    spline: Spline,
    classifier: Option<Classifier>,
    length: usize,
}

impl Network for Loaded {
    /// One sequence after the other, so that memory does not grow with the batch; the convolutions
    /// of one occupy all threads.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = Vec::new();
        for sequence in batch.sequences() {
            let maps = self.tower.maps(&centred(sequence, self.length)?)?;
            states.extend(self.spline.apply(&maps)?);
        }
        if request.wants(1) {
            sink(1, States::Host(&states))?;
        }
        Ok(())
    }

    fn vocabulary_size(&self) -> usize {
        NUCLEOTIDES
    }

    fn head(&self, states: &[f32]) -> Result<Vec<f32>> {
        match &self.classifier {
            Some(classifier) => classifier.predictions(states),
            None => Err(Error::invalid("these weights have no classifier")),
        }
    }
}

#[cfg(test)]
mod tests;
