//! Probes of a job: the `[[probe]]` table as written, and the checked form.
//!
//! Leaves out: the checks (check) and what the protocol fills in (published). Invariant: a key that
//! is left out is `None` here, so a default is never confused with a choice.

use crate::dataset::TaskName;
use crate::model::Precision;
use crate::network::named::{self, NamedNetwork};
use crate::network::{
    Activation, Architecture, ChipFront, Draws, ExampleOrder, JoinAxis, Loss, Monitor, NetworkSpec,
    Padding, Restore, TrainingSpec,
};
use crate::unit::ProbeSpec;
use serde::{Deserialize, Serialize};

use super::published::{self, BUFFER_ROWS, ProbeInput};
use super::{ProbeLayers, Protocol};

/// One `[[probe]]` table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTable {
    /// `ridge`, `least-squares`, `logistic`, a network's name, `network` or `published`.
    pub kind: String,
    /// Names of data sets to fit on; left out = every one the probe suits.
    pub datasets: Option<Vec<String>>,
    /// What to read: `one-hot`, `kmer`, `nucleotides`, `cls`, `mean`, `full`; left out = what suits.
    pub representations: Option<Vec<String>>,
    /// Ridge penalty; left out = the paper's 1e-3.
    pub alpha: Option<f64>,
    /// Logistic inverse penalty; left out = 1.
    pub c: Option<f64>,
    /// Logistic iterations at most; left out = the paper's 100.
    pub iterations_max: Option<u32>,
    /// Name of a user's own network in reports; left out = `network`.
    pub name: Option<String>,
    /// What a user's own network reads; left out = `["sequence"]`.
    pub inputs: Option<Vec<String>>,
    /// Layers of gLMs to read, left out = all; or the layers of a user's own network.
    pub layers: Option<ProbeLayers>,
    /// Width factors; left out = 1.
    pub factors: Option<Vec<f64>>,
    /// Fractions of the training examples; left out = 1, or the study's for `published`.
    pub fractions: Option<Vec<f64>>,
    /// Repeats; left out = the study's for the task.
    pub repeats: Option<u32>,
    /// Channels a rep-cnn reduces its input to; left out = the study's.
    pub reduce: Option<usize>,
    /// What stands before a chip-cnn or a head of splicing-cnn; left out = the study's.
    pub front: Option<ChipFront>,
    /// What is made small; left out = what suits the targets.
    pub loss: Option<Loss>,
    /// First learning rate.
    pub learning_rate: Option<f64>,
    /// Lowest learning rate.
    pub learning_rate_min: Option<f64>,
    /// Examples of a step.
    pub batch: Option<u32>,
    /// Epochs at most.
    pub epochs: Option<u32>,
    /// Order of examples.
    pub order: Option<OrderName>,
    /// Examples of the buffer of order `buffered`.
    pub buffer: Option<u32>,
    /// What is watched.
    pub monitor: Option<Monitor>,
    /// Epochs without improvement after which training stops.
    pub patience: Option<u32>,
    /// `false` = never stop early.
    pub early_stopping: Option<bool>,
    /// `false` = never lower the learning rate.
    pub plateau: Option<bool>,
    /// Epochs without improvement after which the learning rate falls.
    pub plateau_patience: Option<u32>,
    /// What the learning rate is then multiplied by.
    pub plateau_factor: Option<f64>,
    /// Which weights are kept.
    pub restore: Option<Restore>,
    /// How kernels are drawn.
    pub draws: Option<Draws>,
    /// Precision of matrix products.
    pub precision: Option<Precision>,
    /// Data set whose fits `variant-effect` applies to variants.
    pub trained_on: Option<String>,
    /// Probes of those fits by name; left out = all.
    pub probes: Option<Vec<String>>,
    /// Elements whose effects they are compared with; left out = all.
    pub targets: Option<Vec<String>>,
    /// Tasks to fit on; left out = every one the probe suits.
    pub tasks: Option<Vec<TaskName>>,
    /// Names of gLMs to read; left out = all, and sequence features.
    pub models: Option<Vec<String>>,
}

/// One layer of `layers`; which keys it may have depends on `kind`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerTable {
    /// `conv1d`, `dense`, ….
    pub kind: String,
    /// Left out = the kind and a number: `conv1d1`.
    pub name: Option<String>,
    /// Names of earlier layers or inputs; left out = the layer before.
    pub inputs: Option<Vec<String>>,
    /// Channels of a convolution.
    pub filters: Option<usize>,
    /// Channels of a dense layer.
    pub units: Option<usize>,
    /// Taps.
    pub kernel: Option<usize>,
    /// Positions from one tap to the next; left out = 1.
    pub dilation: Option<usize>,
    /// Left out = `same`.
    pub padding: Option<Padding>,
    /// Left out = true.
    pub bias: Option<bool>,
    /// After the bias, or of an activation layer.
    pub activation: Option<Activation>,
    /// `glorot-uniform`, `he-uniform`, `normal` or `zeros`; left out = glorot-uniform.
    pub initializer: Option<String>,
    /// Standard deviation of initializer `normal`; left out = 0.005.
    pub deviation: Option<f64>,
    /// c of the penalty c sum(kernel^2); left out = 0.
    pub l2: Option<f64>,
    /// Share of the old value in moving statistics; left out = 0.99.
    pub momentum: Option<f64>,
    /// Added to the variance; left out = 1e-3.
    pub epsilon: Option<f64>,
    /// Probability of a zero.
    pub rate: Option<f64>,
    /// Positions of a pool.
    pub size: Option<usize>,
    /// Along what inputs are joined.
    pub axis: Option<JoinAxis>,
    /// Zero positions before.
    pub before: Option<usize>,
    /// Zero positions after.
    pub after: Option<usize>,
    /// Basis functions of spline weights; left out = 10.
    pub bases: Option<usize>,
    /// Degree of spline weights; left out = 3.
    pub degree: Option<usize>,
}

/// Order of examples by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderName {
    /// As stored.
    Stored,
    /// A new permutation in every epoch.
    Shuffled,
    /// Through a sliding buffer.
    Buffered,
}

/// A checked probe.
#[derive(Clone, Debug)]
pub struct JobProbe {
    /// Key of the table in the job file, for error messages.
    pub key: String,
    /// What is fitted.
    pub choice: ProbeChoice,
    /// Indices into [`super::Job::datasets`].
    pub dataset_indices: Vec<usize>,
    /// Names of representations; `None` = those the probe suits.
    pub representations: Option<Vec<String>>,
    /// Width factors, at least one.
    pub factors: Vec<f64>,
    /// Fractions of the training examples; `None` = the protocol's.
    pub fractions: Option<Vec<f64>>,
    /// Repeats; `None` = the protocol's.
    pub repeats: Option<u32>,
    /// What differs from the protocol's training.
    pub training: TrainingChanges,
    /// Names of gLMs that are read; `None` = all, and sequence features.
    pub models: Option<Vec<String>>,
    /// Layers of gLMs that are read; `None` = all, and sequence features.
    pub layers: Option<Vec<u32>>,
}

impl JobProbe {
    /// A linear probe on data sets by index.
    pub fn linear(probe: ProbeSpec, dataset_indices: Vec<usize>) -> Self {
        Self {
            key: "probe".to_owned(),
            choice: ProbeChoice::Linear(probe),
            dataset_indices,
            representations: None,
            factors: vec![1.0],
            fractions: None,
            repeats: None,
            training: TrainingChanges::default(),
            models: None,
            layers: None,
        }
    }
}

/// What a `[[probe]]` table fits.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeChoice {
    /// A probe that is no network.
    Linear(ProbeSpec),
    /// A network; its numbers follow from what it reads.
    Network(NetworkChoice),
    /// The study's probes of each task.
    Published,
    /// Other probes' fits, applied to variants.
    Effects(EffectsChoice),
}

/// Which fits are applied to variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectsChoice {
    /// Index into [`super::Job::datasets`] of what they were trained on.
    pub trained_on: usize,
    /// Their probes by name; `None` = all.
    pub probes: Option<Vec<String>>,
    /// Elements; `None` = all.
    pub targets: Option<Vec<String>>,
}

/// A network as a job names it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkChoice {
    /// Which.
    pub kind: NetworkKind,
    /// Channels a rep-cnn reduces its input to; `None` = the protocol's.
    pub reduce: Option<usize>,
    /// What stands in front; `None` = the protocol's.
    pub front: Option<ChipFront>,
}

/// Networks by name.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkKind {
    /// See [`Architecture::RepCnn`].
    RepCnn,
    /// See [`Architecture::RepMlp`].
    RepMlp,
    /// See [`Architecture::Linear`].
    Linear,
    /// See [`Architecture::ChipCnn`].
    ChipCnn,
    /// See [`Architecture::InsertCnn`].
    InsertCnn,
    /// See [`Architecture::SplicingCnn`].
    SplicingCnn,
    /// See [`Architecture::RbpCnn`].
    RbpCnn,
    /// See [`Architecture::Named`].
    Named(&'static NamedNetwork),
    /// The user's own.
    Own {
        /// Name in reports.
        name: String,
        /// Its layers.
        network: NetworkSpec,
    },
}

impl NetworkChoice {
    /// Kinds with numbers of their own, by name; [`Self::find`] knows the others too.
    pub const NUMBERED: [(&'static str, NetworkKind); 7] = [
        ("rep-cnn", NetworkKind::RepCnn),
        ("rep-mlp", NetworkKind::RepMlp),
        ("linear", NetworkKind::Linear),
        ("chip-cnn", NetworkKind::ChipCnn),
        ("insert-cnn", NetworkKind::InsertCnn),
        ("splicing-cnn", NetworkKind::SplicingCnn),
        ("rbp-cnn", NetworkKind::RbpCnn),
    ];

    /// Names of all kinds but the user's own.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let numbered = Self::NUMBERED.into_iter().map(|(name, _)| name);
        numbered.chain(named::ALL.iter().map(|network| network.name))
    }

    /// The kind of that name.
    pub fn find(name: &str) -> Option<NetworkKind> {
        let numbered = Self::NUMBERED.into_iter().find(|(known, _)| *known == name);
        numbered.map(|(_, kind)| kind).or_else(|| named::find(name).map(NetworkKind::Named))
    }

    /// The study's network of that kind.
    pub fn of(kind: NetworkKind) -> Self {
        Self { kind, reduce: None, front: None }
    }

    /// The architecture for what is read.
    pub fn architecture(&self, input: ProbeInput, factor: f64, protocol: Protocol) -> Architecture {
        let front = self.front;
        match &self.kind {
            NetworkKind::RepCnn => {
                let reduce = published::published_reduce(input, protocol);
                Architecture::RepCnn { factor, reduce: self.reduce.unwrap_or(reduce) }
            }
            NetworkKind::RepMlp => Architecture::RepMlp { factor },
            NetworkKind::Linear => Architecture::Linear,
            NetworkKind::ChipCnn => {
                let published = published::published_front(input, protocol);
                Architecture::ChipCnn { front: front.unwrap_or(published) }
            }
            NetworkKind::Named(network) => Architecture::Named(network),
            NetworkKind::InsertCnn => Architecture::InsertCnn,
            NetworkKind::SplicingCnn => {
                // Only the Nucleotide Transformer's embeddings were reduced.
                let published = input == ProbeInput::NucleotideTransformer;
                let is_reduced = front.map_or(published, |front| front != ChipFront::Raw);
                Architecture::SplicingCnn { is_reduced }
            }
            NetworkKind::RbpCnn => Architecture::RbpCnn,
            NetworkKind::Own { network, .. } => Architecture::Layers(network.clone()),
        }
    }
}

/// What a job changes about the protocol's training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingChanges {
    /// What is made small.
    pub loss: Option<Loss>,
    /// First learning rate.
    pub learning_rate: Option<f64>,
    /// Lowest learning rate.
    pub learning_rate_min: Option<f64>,
    /// Examples of a step.
    pub batch_rows: Option<u32>,
    /// Epochs at most.
    pub epochs_max: Option<u32>,
    /// Order of examples.
    pub order: Option<ExampleOrder>,
    /// What is watched.
    pub monitor: Option<Monitor>,
    /// Epochs without improvement; the inner `None` = never stop early.
    pub stop_patience: Option<Option<u32>>,
    /// Whether the learning rate is never lowered.
    pub is_rate_kept: bool,
    /// Epochs without improvement after which the learning rate falls.
    pub plateau_patience: Option<u32>,
    /// What the learning rate is then multiplied by.
    pub plateau_factor: Option<f64>,
    /// Which weights are kept.
    pub restore: Option<Restore>,
    /// How kernels are drawn.
    pub draws: Option<Draws>,
    /// Precision of matrix products.
    pub precision: Option<Precision>,
}

impl TrainingChanges {
    /// The protocol's training with these changes.
    pub fn apply(&self, mut training: TrainingSpec) -> TrainingSpec {
        fn set<T: Clone>(place: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                place.clone_from(value);
            }
        }
        set(&mut training.loss, &self.loss);
        set(&mut training.learning_rate, &self.learning_rate);
        set(&mut training.batch_rows, &self.batch_rows);
        set(&mut training.epochs_max, &self.epochs_max);
        set(&mut training.order, &self.order);
        set(&mut training.monitor, &self.monitor);
        set(&mut training.stop_patience, &self.stop_patience);
        set(&mut training.restore, &self.restore);
        set(&mut training.draws, &self.draws);
        set(&mut training.precision, &self.precision);
        if self.is_rate_kept {
            training.plateau = None;
        }
        if let Some(plateau) = &mut training.plateau {
            set(&mut plateau.patience, &self.plateau_patience);
            set(&mut plateau.factor, &self.plateau_factor);
            set(&mut plateau.learning_rate_min, &self.learning_rate_min);
        }
        training
    }
}

impl OrderName {
    /// The order, with a buffer of `rows`.
    pub(super) fn with_buffer(self, rows: Option<u32>) -> ExampleOrder {
        match self {
            Self::Stored => ExampleOrder::Stored,
            Self::Shuffled => ExampleOrder::Shuffled,
            Self::Buffered => ExampleOrder::Buffered { rows: rows.unwrap_or(BUFFER_ROWS) },
        }
    }
}
