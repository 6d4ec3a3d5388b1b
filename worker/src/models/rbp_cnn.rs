//! A supervised convolutional network over one-hot DNA, trained on binding of RNA-binding proteins.
//!
//! Leaves out: training. Its layer 1 is the last convolution's output, which the paper embeds with.
//! Source: the supervised baseline of Tang et al. 2024, published as a Keras file.

mod cuda;
mod head;
mod norm;

use crate::config::RbpCnnConfig;
use crate::config::rbp_cnn::{DILATIONS, KERNELS, MODEL_TYPE, POOL, conv};
use crate::layers::{NUCLEOTIDES, centred, defect, kernel_precision, pack_nucleotide_conv, zeros};
use crate::model::{
    Architecture, Blueprint, Checkpoint, LayerRequest, ModelOptions, ModelShape, Network,
    Precision, Sink, States, TensorShape, TensorSource, TokenBatch,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::NucleotideTokenizer;
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::model::MemoryFacts;
use glmeval_kernels::cuda::Gpu;
use glmeval_kernels::ops::conv1d::{
    Conv1dShape, PackedConv1d, PackedTokenConv1d, conv1d, conv1d_tokens,
};
use glmeval_kernels::ops::exp::exp;
use glmeval_kernels::ops::linear::Epilogue;
use glmeval_kernels::ops::max_pool::max_pool;
use glmeval_kernels::ops::relu::relu;
use head::Head;
use norm::BatchNorm;
use std::path::Path;

/// The architecture, for the list of models.
pub(super) static MODEL: RbpCnn = RbpCnn;

/// See [`MODEL`].
pub(super) struct RbpCnn;

impl Architecture for RbpCnn {
    fn name(&self) -> &'static str {
        MODEL_TYPE
    }

    fn looks_like(&self) -> &'static str {
        "model_type \"rbp-cnn\", or the tensors of the RBP network"
    }

    fn recognises(&self, checkpoint: &Checkpoint) -> bool {
        let named = |name| checkpoint.any_name_ends(name);
        checkpoint.config_text("model_type") == Some(MODEL_TYPE)
            || named("conv1d_4/kernel") && named("batch_normalization_4/moving_mean")
    }

    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>> {
        let config = match checkpoint.config() {
            Some(_) => RbpCnnConfig::read(&checkpoint.config_path())?,
            None => RbpCnnConfig::of_weights(&checkpoint.weights(self)?)?,
        };
        Ok(Box::new(Plan { config, options: *options }))
    }
}

/// Checked sizes and the choices the network is opened with.
struct Plan {
    config: RbpCnnConfig,
    options: ModelOptions,
}

impl Plan {
    /// Positions of the embedding.
    fn pooled_length(&self) -> usize {
        self.config.sequence_length / POOL
    }
}

impl Blueprint for Plan {
    /// The cost of a token is its share of a full input, which any sequence is padded to.
    fn shape(&self) -> ModelShape {
        let config = &self.config;
        let (length, [narrow, wide]) = (config.sequence_length as u64, config.filters);
        let pooled_length = self.pooled_length() as u64;
        let lengths = [length, length, length, length, pooled_length];
        let flops = config.kernels().into_iter().zip(lengths).map(|(kernel, length)| {
            2.0 * length as f64 * kernel.map(|extent| extent as f64).iter().product::<f64>()
        });
        let flops: f64 = flops.sum();
        let weights = self.expected_tensors().into_iter().map(|tensor| tensor.count());
        let weights = weights.fold(0_u64, u64::saturating_add);
        let states = pooled_length.saturating_mul(wide as u64);
        let activations = length.saturating_mul(3 * narrow as u64).saturating_add(states);
        ModelShape {
            layer_count: 1,
            // The config bounds all of them far below u32.
            width: wide as u32,
            tokens_max: length,
            states_fixed: Some(self.pooled_length() as u32),
            flops_per_token: flops / length as f64,
            flops_per_token_pair: 0.0,
            memory: MemoryFacts {
                weights: weights.saturating_add(activations).saturating_mul(4),
                // A sequence may be one token.
                per_token: states.saturating_mul(4),
                per_longest_token: 0,
                per_longest_token_and_thread: 0,
            },
        }
    }

    fn identity(&self) -> Vec<(&'static str, u64)> {
        let RbpCnnConfig { sequence_length, filters: [narrow, wide], head, batch_norm_eps } =
            self.config;
        vec![
            ("sequence_length", sequence_length as u64),
            ("filters_1", narrow as u64),
            ("filters_2", wide as u64),
            ("dense", head.map_or(0, |head| head.dense as u64)),
            ("outputs", head.map_or(0, |head| head.outputs as u64)),
            ("batch_norm_eps", batch_norm_eps.to_bits()),
        ]
    }

    fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        self.config.expected_tensors()
    }

    /// The published form: with the layers behind the embedding.
    fn initial_tensors(&self) -> Vec<TensorShape> {
        let expected = self.config.expected_tensors().into_iter();
        expected.map(|tensor| TensorShape { name: tensor.name, shape: tensor.shape }).collect()
    }

    /// Biases would be added by Keras, but are no part of this network.
    fn check_weights(&self, weights: &Weights) -> Result<()> {
        let layers = (0..KERNELS.len()).map(conv).chain(["dense".to_owned()]);
        let mut biases = layers.map(|layer| format!("{layer}/bias"));
        if let Some(bias) = biases.find(|bias| weights.contains(bias)) {
            let place = format!("tensor {bias}");
            let path = weights.path().display();
            return Err(InputError::new(path, place, "a layer without bias", "a bias").into());
        }
        weights.check(&self.expected_tensors())
    }

    fn tokenizer(&self, _folder: &Path) -> Result<Box<dyn Tokenizer>> {
        Ok(Box::new(NucleotideTokenizer::new(self.options.unknown_letters)))
    }

    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let (config, precision) = (&self.config, self.options.precision);
        let [narrow, wide] = config.filters;
        let weight = tensors.take_f32(&format!("{}/kernel", conv(0)), &config.kernels()[0])?;
        let first = pack_nucleotide_conv((narrow, KERNELS[0]), None, |output, base, tap| {
            weight.get((tap * 4 + base) * narrow + output).copied().unwrap_or_default()
        })?;
        let mut block = |index: usize| Conv::load(config, (index, precision), tensors);
        let (residual, last) = ([block(1)?, block(2)?, block(3)?], block(4)?);
        Ok(Box::new(Loaded {
            first,
            first_norm: BatchNorm::load(0, narrow, config.batch_norm_eps, tensors)?,
            residual,
            last,
            head: Head::load(config, (self.pooled_length(), precision), tensors)?,
            length: config.sequence_length,
            widths: (narrow, wide),
        }))
    }

    fn has_cuda_form(&self) -> bool {
        true
    }

    fn load_on(&self, gpu: &Gpu, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        cuda::load(&self.config, self.options.precision, gpu, tensors)
    }
}

/// A convolution and the batch norm behind it.
struct Conv {
    conv: PackedConv1d,
    norm: BatchNorm,
}

impl Conv {
    fn load(
        config: &RbpCnnConfig,
        (index, precision): (usize, Precision),
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let [kernel, input_width, output_width] = config.kernels()[index];
        let name = format!("{}/kernel", conv(index));
        let weight = tensors.take_f32(&name, &[kernel, input_width, output_width])?;
        let shape = Conv1dShape { output_width, input_width, kernel, dilation: DILATIONS[index] };
        let precision = kernel_precision(precision);
        let conv = PackedConv1d::pack_channels_last_as(precision, &weight, None, shape);
        Ok(Self {
            conv: conv.map_err(defect)?,
            norm: BatchNorm::load(index, output_width, config.batch_norm_eps, tensors)?,
        })
    }

    fn apply(&self, x: &[f32], length: usize, out: &mut [f32]) -> Result<()> {
        conv1d(x, &[0, length], &self.conv, Epilogue::None, out).map_err(defect)?;
        self.norm.apply(out);
        Ok(())
    }
}

/// A loaded network.
struct Loaded {
    /// Reads one-hot DNA: sums of its weights, in f32 at any precision.
    first: PackedTokenConv1d,
    first_norm: BatchNorm,
    residual: [Conv; 3],
    last: Conv,
    head: Option<Head>,
    length: usize,
    /// Channels before and behind the pool.
    widths: (usize, usize),
}

impl Loaded {
    /// The embedding `[T / 10, D]` of one padded sequence `[T]`.
    ///
    /// ```text
    /// x = exp(norm(conv(ids)));  r = norm(conv(relu(norm(conv(relu(norm(conv(x))))))))
    /// relu(norm(conv(pool(relu(x + r)))))
    /// ```
    fn embedding(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let (length, (narrow, wide)) = (self.length, self.widths);
        let mut skip = zeros(length, narrow)?;
        conv1d_tokens(ids, &[0, length], &self.first, Epilogue::None, &mut skip).map_err(defect)?;
        self.first_norm.apply(&mut skip);
        exp(&mut skip);
        let [first, second, third] = &self.residual;
        let (mut x, mut y) = (vec![0.0; skip.len()], vec![0.0; skip.len()]);
        first.apply(&skip, length, &mut x)?;
        relu(&mut x);
        second.apply(&x, length, &mut y)?;
        relu(&mut y);
        third.apply(&y, length, &mut x)?;
        x.iter_mut().zip(&skip).for_each(|(x, skip)| *x += skip);
        relu(&mut x);
        let pooled_length = length / POOL;
        let mut pooled = zeros(pooled_length, narrow)?;
        max_pool(&x, length, narrow, POOL, &mut pooled).map_err(defect)?;
        let mut out = zeros(pooled_length, wide)?;
        self.last.apply(&pooled, pooled_length, &mut out)?;
        relu(&mut out);
        Ok(out)
    }
}

impl Network for Loaded {
    /// One sequence after the other, so that memory does not grow with the batch.
    fn forward(
        &self,
        batch: &TokenBatch,
        request: &LayerRequest,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut states = Vec::new();
        for sequence in batch.sequences() {
            states.extend(self.embedding(&centred(sequence, self.length)?)?);
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
        match &self.head {
            Some(head) => head.predictions(states),
            None => Err(Error::invalid("these weights end at the embedding")),
        }
    }
}

#[cfg(test)]
mod tests;
