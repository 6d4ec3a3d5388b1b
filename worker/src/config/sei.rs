//! The sizes of a Sei network and the tensors they imply.
//!
//! Leaves out: computing with them. Invariant: sizes that were read are consistent among themselves;
//! shapes of tensors are compared with them by the blueprint.
//!
//! Source: FunctionLab/sei-framework `model/sei.py`, which was published without a config.

use super::{Config, extent};
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::error::{Error, InputError, Result};
use std::path::Path;

/// Largest accepted channels and outputs; nucleotides of an input.
const WIDTH_MAX: u32 = 65_536;
const OUTPUTS_MAX: u32 = 1 << 20;
const LENGTH_MAX: u32 = 1 << 20;
/// Two pools of four leave at least two positions, the least a spline has.
const LENGTH_MIN: u32 = 2 * POOLED as u32;
/// Four functions make a cubic spline without inner knots.
const SPLINES_MIN: u32 = 4;
const SPLINES_MAX: u32 = 1_024;

/// Input positions of one position after both pools.
pub const POOLED: usize = 16;
/// Taps of the convolutions of the three stages, and of the dilated ones.
pub const KERNEL: usize = 9;
/// See [`KERNEL`].
pub const DILATED_KERNEL: usize = 5;
/// Distances between taps of the dilated convolutions `dconv1` to `dconv5`.
pub const DILATIONS: [usize; 5] = [2, 4, 8, 16, 25];

/// Sizes as published.
const LENGTH: usize = 4_096;
const CHANNELS: [usize; 3] = [480, 640, 960];
const SPLINES: usize = 16;

/// Names of the convolutions of a stage: two linear ones, two with an activation.
pub const STAGES: [[&str; 4]; 3] = [
    ["lconv1.0", "lconv1.1", "conv1.0", "conv1.2"],
    ["lconv2.2", "lconv2.3", "conv2.1", "conv2.3"],
    ["lconv3.2", "lconv3.3", "conv3.1", "conv3.3"],
];
/// Names of both maps of the classifier.
pub const CLASSIFIER: [&str; 2] = ["classifier.0", "classifier.2"];

/// Checked sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeiConfig {
    /// Nucleotides of an input.
    pub sequence_length: usize,
    /// Channels of the three stages.
    pub channels: [usize; 3],
    /// Functions of the spline basis.
    pub spline_df: usize,
    /// Outputs of the classifier; `None` for weights without one.
    pub outputs: Option<usize>,
}

impl SeiConfig {
    /// Reads `config.json` of a folder, or that file itself; sizes left out are the published ones.
    ///
    /// # Errors
    /// As [`Config::read`]; `Invalid` with key, allowed and found for a value out of range.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let length = config.optional_u32("sequence_length", LENGTH_MIN..=LENGTH_MAX)?;
        Ok(Self {
            sequence_length: length.map_or(LENGTH, |length| length as usize),
            channels: config.optional_list("channels", 1..=WIDTH_MAX)?.unwrap_or(CHANNELS),
            spline_df: config.u32("spline_df", SPLINES_MIN..=SPLINES_MAX)? as usize,
            outputs: Some(config.u32("n_genomic_features", 1..=OUTPUTS_MAX)? as usize),
        })
    }

    /// Sizes that shapes of tensors tell; the input is taken to have the published length.
    ///
    /// # Errors
    /// `Invalid` with the tensor that is missing or has no such shape.
    pub fn of_weights(weights: &Weights) -> Result<Self> {
        let mut channels = CHANNELS;
        for (channels, [first, ..]) in channels.iter_mut().zip(STAGES) {
            *channels = extent(weights, &format!("{first}.weight"), (0, 3), &(1..=WIDTH_MAX))?;
        }
        let mut config =
            Self { sequence_length: LENGTH, channels, spline_df: SPLINES, outputs: None };
        let name = format!("{}.weight", CLASSIFIER[0]);
        if weights.contains(&name) {
            config.outputs = Some(extent(weights, &name, (0, 2), &(1..=OUTPUTS_MAX))?);
            let inputs = extent(weights, &name, (1, 2), &(1..=u32::MAX))?;
            let range = SPLINES_MIN as usize..=SPLINES_MAX as usize;
            config.spline_df = Some(inputs / channels[2])
                .filter(|df| range.contains(df) && inputs.is_multiple_of(channels[2]))
                .ok_or_else(|| {
                    let expected = format!("inputs that are 4 to 1024 times {}", channels[2]);
                    let place = format!("tensor {name}");
                    let path = weights.path().display();
                    Error::from(InputError::new(path, place, expected, inputs))
                })?;
        }
        Ok(config)
    }

    /// Positions after both pools.
    pub fn pooled_length(&self) -> usize {
        self.sequence_length / POOLED
    }

    /// Weights and biases of all convolutions: outputs, inputs, taps, and positions they run over.
    pub fn convolutions(&self) -> Vec<(String, [usize; 3], usize)> {
        let mut convolutions = Vec::new();
        let (mut inputs, mut length) = (4, self.sequence_length);
        for (names, width) in STAGES.into_iter().zip(self.channels) {
            for name in names {
                convolutions.push((name.to_owned(), [width, inputs, KERNEL], length));
                inputs = width;
            }
            length /= 4;
        }
        let length = self.pooled_length();
        for number in 1..=DILATIONS.len() {
            let shape = [inputs, inputs, DILATED_KERNEL];
            convolutions.push((format!("dconv{number}.1"), shape, length));
        }
        convolutions
    }

    /// The same network over inputs of `length` nucleotides.
    ///
    /// # Errors
    /// `Invalid` for a length that leaves the splines too little, or too much.
    pub fn with_length(self, length: u32) -> Result<Self> {
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            let expected = format!("{LENGTH_MIN} to {LENGTH_MAX} nucleotides");
            return Err(InputError::new("Sei", "input", expected, length).into());
        }
        Ok(Self { sequence_length: length as usize, ..self })
    }

    /// Every tensor a checkpoint may hold; those of the classifier may be left out.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let mut tensors = Vec::new();
        for (name, shape, _) in self.convolutions() {
            tensors.push(ExpectedTensor::required(format!("{name}.weight"), &shape));
            tensors.push(ExpectedTensor::required(format!("{name}.bias"), &shape[..1]));
        }
        let Some(outputs) = self.outputs else { return tensors };
        for (name, inputs) in CLASSIFIER.into_iter().zip([self.states(), outputs]) {
            tensors.push(ExpectedTensor::optional(format!("{name}.weight"), &[outputs, inputs]));
            tensors.push(ExpectedTensor::optional(format!("{name}.bias"), &[outputs]));
        }
        tensors
    }

    /// Numbers that the spline layer gives for a sequence.
    pub fn states(&self) -> usize {
        self.channels[2].saturating_mul(self.spline_df)
    }
}
