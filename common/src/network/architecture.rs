//! Which networks there are by name, and how a user's own stands beside them.
//!
//! Leaves out: training (protocol). Invariant: the same architecture, inputs and number of targets
//! give the same layers; names, order and numbers of layers are those of the published study.

use super::named::{self, NamedNetwork};
use super::{Extent, NetworkSpec};
use crate::error::{InputError, Result};
use serde::{Deserialize, Serialize};

mod embedding;
pub(super) mod residual;
mod splicing;
#[cfg(test)]
mod tests;

/// What stands before the first wide convolution of a chip-cnn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChipFront {
    /// Nothing: the convolution reads the input (what the published generic script computes).
    #[default]
    Raw,
    /// Batch normalisation and 512 filters of one tap (the published script of the Nucleotide
    /// Transformer, and what the generic script means to do).
    Normalised,
    /// 512 filters of one tap.
    Reduced,
}

impl ChipFront {
    /// `raw`, `normalised` or `reduced`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Normalised => "normalised",
            Self::Reduced => "reduced",
        }
    }
}

/// The layers of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Two convolutions and two dense layers on a reduced embedding.
    RepCnn {
        /// All widths but `reduce` are multiplied by it.
        factor: f64,
        /// Channels the input is reduced to.
        reduce: usize,
    },
    /// Two dense layers.
    RepMlp {
        /// Widths are multiplied by it.
        factor: f64,
    },
    /// One dense layer.
    Linear,
    /// Three convolutions for binding; ends in a sigmoid.
    ChipCnn {
        /// Before the first of them.
        front: ChipFront,
    },
    /// Residual convolutions and a mean over positions, for elongation.
    InsertCnn,
    /// Two heads joined along positions, for splicing.
    SplicingCnn {
        /// Whether each head begins with batch normalisation and 512 filters of one tap.
        is_reduced: bool,
    },
    /// Residual convolutions for binding of RNA by many proteins; ends in a sigmoid.
    RbpCnn,
    /// Layers as written in the job file.
    Layers(NetworkSpec),
    /// A network that needs nothing but its name.
    #[serde(untagged, serialize_with = "named::serialize", deserialize_with = "named::deserialize")]
    Named(&'static NamedNetwork),
}

impl Architecture {
    /// `network`, `rep-cnn`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::RepCnn { .. } => "rep-cnn",
            Self::RepMlp { .. } => "rep-mlp",
            Self::Linear => "linear",
            Self::ChipCnn { .. } => "chip-cnn",
            Self::InsertCnn => "insert-cnn",
            Self::SplicingCnn { .. } => "splicing-cnn",
            Self::RbpCnn => "rbp-cnn",
            Self::Layers(_) => "network",
            Self::Named(network) => network.name,
        }
    }

    /// The width factor; 1 where there is none.
    pub fn factor(&self) -> f64 {
        match self {
            Self::RepCnn { factor, .. } | Self::RepMlp { factor } => *factor,
            _ => 1.0,
        }
    }

    /// The layers for examples of these extents and `targets` predicted values.
    ///
    /// rep-mlp and linear read any number of inputs as one vector; the others read what they read.
    ///
    /// # Errors
    /// `Invalid` where the inputs are too few or too many, where a layer cannot be built on them, or
    /// where a user's own layers do not end in `targets` values.
    pub fn network(&self, inputs: &[Extent], targets: usize) -> Result<NetworkSpec> {
        let network = match self {
            Self::RepCnn { factor, reduce } => embedding::rep_cnn(*factor, *reduce, targets),
            Self::RepMlp { factor } => embedding::rep_mlp(inputs, *factor, targets),
            Self::Linear => embedding::linear(inputs, targets),
            Self::ChipCnn { front } => embedding::chip_cnn(*front, targets),
            Self::InsertCnn => residual::insert_cnn(targets),
            Self::SplicingCnn { is_reduced } => splicing::splicing_cnn(*is_reduced, targets),
            Self::RbpCnn => residual::rbp_cnn(targets),
            Self::Layers(network) => network.clone(),
            Self::Named(network) => (network.layers)(inputs, targets),
        };
        let output = network.resolve(inputs)?.output();
        if output != (Extent::Vector { channels: targets }) {
            let layer = network.layers.last().map_or("", |layer| layer.name.as_str());
            let place = format!("layer {layer}");
            let expected = format!("a vector of {targets} values, one for each target, at the end");
            return Err(InputError::new(self.name(), place, expected, output.to_string()).into());
        }
        Ok(network)
    }
}
