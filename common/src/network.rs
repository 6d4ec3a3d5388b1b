//! Networks of layers that probes are made of, as data: what a plan or a job file can say.
//!
//! Leaves out: numbers and training (worker). Invariant: a spec names every choice that decides what
//! is computed; nothing is filled in later.

use serde::{Deserialize, Serialize};

mod architecture;
mod chain;
pub mod named;
mod resolve;
mod training;

pub use architecture::{Architecture, ChipFront};
pub use resolve::{ResolvedLayer, ResolvedNetwork, WeightRole, WeightShape};
pub use training::{
    Adam, AdamForm, Draws, ExampleOrder, Loss, Monitor, Plateau, Restore, TrainingSpec,
};

/// Layers in the order they are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Names of what is read, in the order examples hold them.
    pub inputs: Vec<String>,
    /// Layers; the output of the last one is the prediction.
    pub layers: Vec<LayerSpec>,
}

/// One layer: where it stands and what it computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// Name, used once; weights are named after it.
    pub name: String,
    /// Names of earlier layers or inputs.
    pub inputs: Vec<String>,
    /// What it computes.
    pub kind: LayerKind,
}

/// Extents of one example's values: a sequence of positions or one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// `[length, channels]`.
    Sequence {
        /// Positions.
        length: usize,
        /// Values of a position.
        channels: usize,
    },
    /// `[channels]`.
    Vector {
        /// Values.
        channels: usize,
    },
}

impl Extent {
    /// Positions; one for a vector.
    pub fn length(self) -> usize {
        match self {
            Self::Sequence { length, .. } => length,
            Self::Vector { .. } => 1,
        }
    }

    /// Values of a position.
    pub fn channels(self) -> usize {
        match self {
            Self::Sequence { channels, .. } | Self::Vector { channels } => channels,
        }
    }

    /// Values of one example.
    pub fn values(self) -> usize {
        self.length().saturating_mul(self.channels())
    }

    /// The same positions with other channels.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Self {
        match self {
            Self::Sequence { length, .. } => Self::Sequence { length, channels },
            Self::Vector { .. } => Self::Vector { channels },
        }
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sequence { length, channels } => {
                write!(f, "a sequence of {length} x {channels}")
            }
            Self::Vector { channels } => write!(f, "a vector of {channels}"),
        }
    }
}

/// How positions beyond the ends of a sequence are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Zeros; the output is as long as the input. Of an odd number of zeros, one more is right.
    #[default]
    Same,
    /// None; only positions all of whose taps are inside.
    Valid,
}

/// A function of each value, or for softmax of each position's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x.
    #[default]
    Linear,
    /// max(x, 0).
    Relu,
    /// x sigmoid(x).
    Silu,
    /// e^x.
    Exponential,
    /// e^x over the sum of a position's channels.
    Softmax,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// x Phi(x).
    Gelu,
}

/// How weights are drawn before the first step; biases start at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initializer {
    /// Uniform within sqrt(6 / (fan_in + fan_out)).
    #[default]
    GlorotUniform,
    /// Uniform within sqrt(6 / fan_in).
    HeUniform,
    /// Normal around zero, not truncated.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
    /// All zero.
    Zeros,
}

/// Along which axis inputs are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinAxis {
    /// One sequence after the other.
    Length,
    /// Channels side by side.
    Channels,
}

/// What a layer computes; formulas stand with the kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerKind {
    /// Cross-correlation along positions.
    Conv1d {
        /// Channels of the output.
        filters: usize,
        /// Taps.
        kernel: usize,
        /// Positions from one tap to the next.
        dilation: usize,
        /// Beyond the ends.
        padding: Padding,
        /// Whether a bias is added.
        bias: bool,
        /// Applied after the bias.
        activation: Activation,
        /// How the kernel is drawn.
        initializer: Initializer,
        /// c of the penalty c sum(kernel^2).
        l2: f64,
    },
    /// Cross-correlation of every channel with its own taps.
    DepthwiseConv1d {
        /// Taps.
        kernel: usize,
        /// Positions from one tap to the next.
        dilation: usize,
        /// Beyond the ends.
        padding: Padding,
        /// Whether a bias is added.
        bias: bool,
        /// How the kernel is drawn.
        initializer: Initializer,
    },
    /// A matrix product at every position.
    Dense {
        /// Channels of the output.
        units: usize,
        /// Whether a bias is added.
        bias: bool,
        /// Applied after the bias.
        activation: Activation,
        /// How the kernel is drawn.
        initializer: Initializer,
        /// c of the penalty c sum(kernel^2).
        l2: f64,
    },
    /// Normalisation of each channel over batch and positions.
    BatchNorm {
        /// Share of the old value when moving statistics are updated.
        momentum: f64,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalisation of each position over its channels.
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// A function of each value.
    Activation {
        /// Which.
        function: Activation,
    },
    /// Zeroes values at random in training.
    Dropout {
        /// Probability of a zero, below 1.
        rate: f64,
    },
    /// Largest of `size` positions; what is left at the end is ignored.
    MaxPool {
        /// Positions of a pool, and from one to the next.
        size: usize,
    },
    /// Mean of `size` positions; what is left at the end is ignored.
    AveragePool {
        /// Positions of a pool, and from one to the next.
        size: usize,
    },
    /// Mean over all positions.
    GlobalAveragePool,
    /// All positions as one vector, position-major.
    Flatten,
    /// Sum of inputs of one extent.
    Add,
    /// Inputs joined, first to last.
    Concatenate {
        /// Along what.
        axis: JoinAxis,
    },
    /// Zeros before and after.
    ZeroPad {
        /// Positions before.
        before: usize,
        /// Positions after.
        after: usize,
    },
    /// x (1 + spline), a weight of each position that a B-spline gives (MTSplice's SplineWeight1D).
    SplineWeights {
        /// Basis functions.
        bases: usize,
        /// Degree of the spline.
        degree: usize,
    },
}
