//! The sizes of an RBP network and the tensors they imply.
//!
//! Leaves out: computing with them. Invariant: sizes that were read are in range; shapes of tensors
//! are compared with them by the blueprint.
//!
//! The network was published as a Keras file without a config; the keys are this program's own.

use super::{Config, extent};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::Result;
use std::path::Path;

/// `model_type` of a config.
pub const MODEL_TYPE: &str = "rbp-cnn";
/// Largest accepted width; nucleotides of an input.
const WIDTH_MAX: u32 = 65_536;
const LENGTH_MAX: u32 = 1 << 20;

/// Positions that the pool joins.
pub const POOL: usize = 10;
/// Taps of the convolutions `conv1d` to `conv1d_4`.
pub const KERNELS: [usize; 5] = [19, 3, 3, 3, 7];
/// Distances between taps of the same.
pub const DILATIONS: [usize; 5] = [1, 1, 2, 4, 1];

/// Sizes as published; eps is Keras' default.
const LENGTH: usize = 1_000;
const FILTERS: [usize; 2] = [96, 192];
const DENSE: usize = 512;
const EPS: f64 = 1e-3;

/// Checked sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct RbpCnnConfig {
    /// Nucleotides of an input.
    pub sequence_length: usize,
    /// Channels of the first four convolutions, and of the last one.
    pub filters: [usize; 2],
    /// Width of the hidden layer behind the embedding; `None` for weights that end there.
    pub head: Option<Head>,
    /// Added to the variance of every batch norm.
    pub batch_norm_eps: f64,
}

/// Sizes behind the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Width of the hidden layer.
    pub dense: usize,
    /// Predictions.
    pub outputs: usize,
}

impl RbpCnnConfig {
    /// Reads `config.json` of a folder, or that file itself; sizes left out are the published ones.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found for a value out of range.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        config.one_of("model_type", &[MODEL_TYPE])?;
        let size = |key: &str| config.optional_u32(key, 1..=WIDTH_MAX);
        let length = config.optional_u32("sequence_length", POOL as u32..=LENGTH_MAX)?;
        let dense = size("dense")?.map_or(DENSE, |dense| dense as usize);
        let head = |outputs| Head { dense, outputs: outputs as usize };
        Ok(Self {
            sequence_length: length.map_or(LENGTH, |length| length as usize),
            filters: config.optional_list("filters", 1..=WIDTH_MAX)?.unwrap_or(FILTERS),
            head: size("outputs")?.map(head),
            batch_norm_eps: config.optional_f64("batch_norm_eps")?.unwrap_or(EPS),
        })
    }

    /// Sizes that shapes of tensors tell; length and eps are taken to be the published ones.
    ///
    /// # Errors
    /// `Invalid` with the tensor that is missing or has no such shape.
    pub fn of_weights(weights: &Weights) -> Result<Self> {
        let size = |layer: &str, axes: usize| {
            let name = format!("{layer}/kernel");
            extent(weights, &name, (axes - 1, axes), &(1..=WIDTH_MAX))
        };
        let filters = [size(&conv(0), 3)?, size(&conv(4), 3)?];
        let head = if weights.contains("dense_1/kernel") {
            Some(Head { dense: size("dense", 2)?, outputs: size("dense_1", 2)? })
        } else {
            None
        };
        Ok(Self { sequence_length: LENGTH, filters, head, batch_norm_eps: EPS })
    }

    /// Kernels `[taps, inputs, outputs]` of the five convolutions.
    pub fn kernels(&self) -> [[usize; 3]; 5] {
        let [narrow, wide] = self.filters;
        let inputs = [4, narrow, narrow, narrow, narrow];
        let outputs = [narrow, narrow, narrow, narrow, wide];
        std::array::from_fn(|index| [KERNELS[index], inputs[index], outputs[index]])
    }

    /// Every tensor a checkpoint may hold; those behind the embedding may be left out.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let mut tensors = Vec::new();
        for (index, kernel) in self.kernels().into_iter().enumerate() {
            tensors.push(ExpectedTensor::required(format!("{}/kernel", conv(index)), &kernel));
            tensors.extend(norm_tensors(index, kernel[2]));
        }
        let Some(Head { dense, outputs }) = self.head else { return tensors };
        let mut head = norm_tensors(5, dense).to_vec();
        head.push(ExpectedTensor::required("dense/kernel", &[self.filters[1], dense]));
        head.push(ExpectedTensor::required("dense_1/kernel", &[dense, outputs]));
        head.push(ExpectedTensor::required("dense_1/bias", &[outputs]));
        let optional = |tensor| ExpectedTensor { required: false, ..tensor };
        tensors.extend(head.into_iter().map(optional));
        tensors
    }
}

/// Name of a convolution.
pub fn conv(index: usize) -> String {
    numbered("conv1d", index)
}

/// Name of a batch norm.
pub fn norm(index: usize) -> String {
    numbered("batch_normalization", index)
}

fn numbered(kind: &str, index: usize) -> String {
    if index == 0 { kind.to_owned() } else { format!("{kind}_{index}") }
}

/// Tensors of a batch norm; the last two are statistics of the training set, not trained.
fn norm_tensors(index: usize, width: usize) -> [ExpectedTensor; 4] {
    let name = norm(index);
    ["gamma", "beta", "moving_mean", "moving_variance"].map(|part| {
        let tensor = ExpectedTensor::required(format!("{name}/{part}"), &[width]);
        if part.starts_with("moving") { tensor.as_buffer() } else { tensor }
    })
}
