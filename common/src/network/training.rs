//! How a network is trained, as data.
//!
//! Leaves out: the loop itself (worker). Invariant: no choice that decides the result is made elsewhere.

use crate::model::Precision;
use serde::{Deserialize, Serialize};

/// What training makes small, without the penalties of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Mean of (y - p)^2.
    MeanSquaredError,
    /// Keras' binary cross-entropy: of the logits where the network ends in a sigmoid, of clipped
    /// "probabilities" elsewhere (as published for the MLPs, whose outputs are linear).
    BinaryCrossEntropy,
    /// Binary cross-entropy of logits, whatever the last layer is; predictions are their sigmoid.
    BinaryCrossEntropyOfLogits,
    /// Masked Bernoulli divergence of splicing; targets are pairs of delta logit and mean logit.
    SplicingDivergence,
}

impl Loss {
    /// `mean-squared-error`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanSquaredError => "mean-squared-error",
            Self::BinaryCrossEntropy => "binary-cross-entropy",
            Self::BinaryCrossEntropyOfLogits => "binary-cross-entropy-of-logits",
            Self::SplicingDivergence => "splicing-divergence",
        }
    }
}

/// Order of training examples in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExampleOrder {
    /// As stored, in every epoch.
    Stored,
    /// A new permutation in every epoch.
    Shuffled,
    /// Drawn from a buffer that slides over the stored order.
    Buffered {
        /// Examples of the buffer.
        rows: u32,
    },
}

/// What early stopping and the plateau watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Loss on `valid`, penalties included; smaller is better.
    Loss,
    /// Area under the precision-recall curve on `valid`; larger is better.
    Aupr,
}

/// Which weights a fit ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restore {
    /// The best if it stopped early, the last if its epochs ran out.
    WhenStopped,
    /// The best.
    Always,
}

/// Whether kernels are drawn from streams of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draws {
    /// One stream per kernel.
    Independent,
    /// Every kernel starts the same stream, as one unseeded Keras initialiser object does.
    Shared,
}

/// Where epsilon stands in Adam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdamForm {
    /// Beside the root of the uncorrected second moment.
    Keras,
    /// Beside the root of the corrected second moment.
    Torch,
}

/// The optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Where epsilon stands.
    pub form: AdamForm,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Keeps the denominator from zero.
    pub epsilon: f64,
}

impl Adam {
    /// Keras' defaults.
    pub const KERAS: Self =
        Self { form: AdamForm::Keras, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 };
}

/// Lowers the learning rate when the monitor stands still.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The learning rate is multiplied by it.
    pub factor: f64,
    /// Epochs without improvement.
    pub patience: u32,
    /// Lowest learning rate.
    pub learning_rate_min: f64,
    /// What counts as improvement.
    pub improvement_min: f64,
    /// Epochs after a change in which none is counted.
    pub cooldown: u32,
}

/// One training run but for its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSpec {
    /// What is made small.
    pub loss: Loss,
    /// First learning rate.
    pub learning_rate: f64,
    /// The optimiser.
    pub adam: Adam,
    /// Examples of a step; the last of an epoch may have fewer.
    pub batch_rows: u32,
    /// Epochs at most.
    pub epochs_max: u32,
    /// Order of examples.
    pub order: ExampleOrder,
    /// What is watched.
    pub monitor: Monitor,
    /// Epochs without improvement after which training stops; none = never.
    pub stop_patience: Option<u32>,
    /// Which weights are kept.
    pub restore: Restore,
    /// How the learning rate falls; none = never.
    pub plateau: Option<Plateau>,
    /// How kernels are drawn.
    pub draws: Draws,
    /// Precision of matrix products.
    pub precision: Precision,
}

impl TrainingSpec {
    /// What differs from `other`, for people: `, learning rate 0.01, batch 32`; empty if nothing does.
    pub fn difference(&self, other: &Self) -> String {
        let mut parts = Vec::new();
        let mut say = |differs: bool, text: String| {
            if differs {
                parts.push(text);
            }
        };
        say(self.loss != other.loss, format!("loss {}", self.loss.name()));
        let rate = self.learning_rate;
        say(rate != other.learning_rate, format!("learning rate {rate}"));
        say(self.adam != other.adam, "other Adam".to_owned());
        say(self.batch_rows != other.batch_rows, format!("batch {}", self.batch_rows));
        say(self.epochs_max != other.epochs_max, format!("{} epochs", self.epochs_max));
        let order = match self.order {
            ExampleOrder::Stored => "stored order".to_owned(),
            ExampleOrder::Shuffled => "shuffled".to_owned(),
            ExampleOrder::Buffered { rows } => format!("buffer of {rows}"),
        };
        say(self.order != other.order, order);
        let monitor = match self.monitor {
            Monitor::Loss => "watches loss",
            Monitor::Aupr => "watches AUPR",
        };
        say(self.monitor != other.monitor, monitor.to_owned());
        let patience = match self.stop_patience {
            Some(epochs) => format!("patience {epochs}"),
            None => "no early stopping".to_owned(),
        };
        say(self.stop_patience != other.stop_patience, patience);
        let restore = match self.restore {
            Restore::WhenStopped => "last weights unless stopped",
            Restore::Always => "best weights",
        };
        say(self.restore != other.restore, restore.to_owned());
        let plateau = match self.plateau {
            Some(Plateau { factor, patience, learning_rate_min, .. }) => {
                format!("plateau {factor} after {patience} to {learning_rate_min}")
            }
            None => "no plateau".to_owned(),
        };
        say(self.plateau != other.plateau, plateau);
        let draws = match self.draws {
            Draws::Independent => "independent draws",
            Draws::Shared => "shared draws",
        };
        say(self.draws != other.draws, draws.to_owned());
        say(self.precision != other.precision, self.precision.name().to_owned());
        parts.iter().map(|part| format!(", {part}")).collect()
    }
}
