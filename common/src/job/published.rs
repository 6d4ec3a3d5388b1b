//! How the study trained each of its probes, and what this system does where the study says nothing.
//!
//! Leaves out: the layers themselves (network). Invariant: one table; the first row that matches
//! decides, and the corrections of [`Protocol::Corrected`] are made in one place after it.

use super::Protocol;
use crate::dataset::TaskName;
use crate::model::Precision;
use crate::network::{
    Activation, Adam, Architecture, ChipFront, Draws, ExampleOrder, LayerKind, Loss, Monitor,
    NetworkSpec, Plateau, Restore, TrainingSpec,
};

/// What a probe reads, as far as the study treats it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeInput {
    /// One-hot sequences.
    OneHot,
    /// Every token of a Nucleotide Transformer.
    NucleotideTransformer,
    /// Every token of any other gLM.
    Tokens,
    /// One vector of a gLM.
    Pooled,
    /// Counts or shares of nucleotides.
    Composition,
}

impl ProbeInput {
    /// Whether it has positions.
    pub fn is_sequence(self) -> bool {
        matches!(self, Self::OneHot | Self::NucleotideTransformer | Self::Tokens)
    }
}

/// Examples of the sliding buffer that the study's input pipeline shuffles with.
pub const BUFFER_ROWS: u32 = 1_024;
const BUFFERED: ExampleOrder = ExampleOrder::Buffered { rows: BUFFER_ROWS };
const SHUFFLED: ExampleOrder = ExampleOrder::Shuffled;
/// Batch of every rep-cnn where one setting is meant to serve all representations: that of one-hot.
const BATCH_ROWS_CORRECTED: u32 = 128;

/// One line of the table; an empty list matches everything.
struct Row {
    probes: &'static [&'static str],
    tasks: &'static [TaskName],
    inputs: &'static [ProbeInput],
    batch_rows: u32,
    learning_rate: f64,
    learning_rate_min: f64,
    epochs: u32,
    order: ExampleOrder,
}

const fn row(
    probes: &'static [&'static str],
    tasks: &'static [TaskName],
    inputs: &'static [ProbeInput],
    (batch_rows, epochs): (u32, u32),
    (learning_rate, learning_rate_min): (f64, f64),
    order: ExampleOrder,
) -> Row {
    Row { probes, tasks, inputs, batch_rows, learning_rate, learning_rate_min, epochs, order }
}

const BINARY: &[TaskName] = &[TaskName::ChipSeq, TaskName::Eclip, TaskName::Classification];
const DENSE: &[&str] = &["rep-mlp", "linear"];

#[rustfmt::skip]
const ROWS: [Row; 14] = {
    use ProbeInput::{Composition, NucleotideTransformer, OneHot};
    use TaskName::Splicing;
    const ALL: (u32, u32) = (256, 100);
    const FAST: (f64, f64) = (1e-3, 1e-6);
    [
        // Task 1, lentiMPRA, convolutions on one-hot: the script of the one-hot baselines.
        row(&["rep-cnn"], &[], &[OneHot], (128, 100), FAST, SHUFFLED),
        // Task 1, convolutions on every layer of the Nucleotide Transformer: the layer scan.
        row(&["rep-cnn"], &[], &[NucleotideTransformer], ALL, (1e-4, 1e-8), BUFFERED),
        // Task 1, convolutions on the other gLMs: the notebook, which does not shuffle.
        row(&["rep-cnn"], &[], &[], (64, 100), (1e-4, 1e-8), ExampleOrder::Stored),
        // Task 4, splicing, dense networks on left and right vectors side by side.
        row(DENSE, &[Splicing], &[], ALL, FAST, SHUFFLED),
        // Tasks 2 and 6, binding, dense networks on the composition controls.
        row(DENSE, BINARY, &[Composition], ALL, FAST, SHUFFLED),
        // Tasks 2 and 6, binding, dense networks on vectors of the Nucleotide Transformer.
        row(DENSE, BINARY, &[], ALL, FAST, BUFFERED),
        // Task 1, dense networks on vectors; also for real targets the study has no dense network for.
        row(DENSE, &[], &[], (512, 100), (1e-4, 1e-8), SHUFFLED),
        // Task 1, the one-hot baselines: the study's own recipe, not that of their authors.
        row(&["resnet", "mprann"], &[], &[], (128, 100), FAST, SHUFFLED),
        // Tasks 2 and 6, binding, convolutions.
        row(&["chip-cnn"], &[], &[], ALL, FAST, BUFFERED),
        // Task 4, splicing, convolutions.
        row(&["splicing-cnn"], &[], &[], ALL, FAST, BUFFERED),
        // Task 5, elongation, one-hot.
        row(&["insert-cnn"], &[], &[OneHot], (128, 200), (1e-3, 1e-7), SHUFFLED),
        // Task 5, elongation, embeddings.
        row(&["insert-cnn"], &[], &[], (128, 200), (1e-4, 1e-7), SHUFFLED),
        // The supervised network of RNA binding; its order is not said, Keras' own is to shuffle.
        row(&["rbp-cnn"], &[], &[], (100, 100), (1e-3, 1e-7), SHUFFLED),
        // A user's own: as the one-hot baselines.
        row(&[], &[], &[], (128, 100), FAST, SHUFFLED),
    ]
};

/// How the study trains `architecture` on what it reads for a task; with the corrected protocol,
/// how its text means to.
pub fn published_training(
    task: TaskName,
    input: ProbeInput,
    architecture: &Architecture,
    protocol: Protocol,
) -> TrainingSpec {
    let probe = architecture.name();
    let matches = |row: &&Row| {
        (row.probes.is_empty() || row.probes.contains(&probe))
            && (row.tasks.is_empty() || row.tasks.contains(&task))
            && (row.inputs.is_empty() || row.inputs.contains(&input))
    };
    let row = ROWS.iter().find(matches).unwrap_or(&ROWS[ROWS.len() - 1]);
    // The network of RNA binding is watched by its precision and waits longer, but lowers sooner.
    let (monitor, stop, lower) = match architecture {
        Architecture::RbpCnn => (Monitor::Aupr, 12, 4),
        _ => (Monitor::Loss, 10, 5),
    };
    let mut training = TrainingSpec {
        loss: loss(task, architecture, protocol),
        learning_rate: row.learning_rate,
        adam: Adam::KERAS,
        batch_rows: row.batch_rows,
        epochs_max: row.epochs,
        order: row.order,
        monitor,
        stop_patience: Some(stop),
        // Keras 2 keeps the last weights when the epochs run out.
        restore: Restore::WhenStopped,
        plateau: Some(Plateau {
            factor: 0.2,
            patience: lower,
            learning_rate_min: row.learning_rate_min,
            improvement_min: 1e-4,
            cooldown: 0,
        }),
        // The study shares one stream by accident; what that does to results is not known.
        draws: Draws::Independent,
        precision: Precision::F32,
    };
    if protocol == Protocol::Corrected {
        training.order = SHUFFLED;
        training.restore = Restore::Always;
        if probe == "rep-cnn" {
            training.batch_rows = BATCH_ROWS_CORRECTED;
        }
    }
    training
}

/// What training makes small for the targets of a task.
fn loss(task: TaskName, architecture: &Architecture, protocol: Protocol) -> Loss {
    match task {
        TaskName::Splicing => Loss::SplicingDivergence,
        TaskName::ChipSeq | TaskName::Eclip | TaskName::Classification => {
            // The published dense networks end in a linear layer whose values are taken for
            // probabilities.
            let is_quirk = matches!(architecture, Architecture::RepMlp { .. })
                && protocol == Protocol::Published;
            if is_quirk || ends_in_sigmoid(architecture) {
                Loss::BinaryCrossEntropy
            } else {
                Loss::BinaryCrossEntropyOfLogits
            }
        }
        _ => Loss::MeanSquaredError,
    }
}

/// Whether the last layer gives probabilities.
pub fn ends_in_sigmoid(architecture: &Architecture) -> bool {
    match architecture {
        Architecture::ChipCnn { .. } | Architecture::RbpCnn => true,
        Architecture::Layers(NetworkSpec { layers, .. }) => {
            layers.last().is_some_and(|layer| match &layer.kind {
                LayerKind::Activation { function } => *function == Activation::Sigmoid,
                LayerKind::Dense { activation, .. } => *activation == Activation::Sigmoid,
                _ => false,
            })
        }
        _ => false,
    }
}

/// Channels a rep-cnn reduces its input to.
///
/// The study takes 196 for one-hot and the Nucleotide Transformer and 128 for the others; corrected,
/// one number serves all.
pub fn published_reduce(input: ProbeInput, protocol: Protocol) -> usize {
    match (input, protocol) {
        (ProbeInput::Tokens, Protocol::Published) => 128,
        _ => 196,
    }
}

/// What stands before the first wide convolution of a chip-cnn.
///
/// The study's generic script builds a normalisation and a reduction and then does not connect them;
/// that of the Nucleotide Transformer does.
pub fn published_front(input: ProbeInput, protocol: Protocol) -> ChipFront {
    match (input, protocol) {
        (ProbeInput::NucleotideTransformer, Protocol::Published) => ChipFront::Normalised,
        (_, Protocol::Published) | (ProbeInput::OneHot, Protocol::Corrected) => ChipFront::Raw,
        (_, Protocol::Corrected) => ChipFront::Normalised,
    }
}

/// Repeats of a network of layers on one representation and fraction.
pub fn published_repeats(task: TaskName) -> u32 {
    match task {
        TaskName::ChipSeq | TaskName::Eclip | TaskName::Splicing => 5,
        TaskName::InsertSeq => 50,
        _ => 1,
    }
}

/// Fractions of the training examples that the study's learning curves have.
pub fn published_fractions(task: TaskName, architecture: &Architecture) -> Vec<f64> {
    match (task, architecture) {
        (TaskName::Splicing, Architecture::SplicingCnn { .. }) => vec![0.25, 0.5, 1.0],
        (TaskName::InsertSeq, Architecture::InsertCnn) => {
            (1..=10).map(|tenth| f64::from(tenth) / 10.0).collect()
        }
        _ => vec![1.0],
    }
}

/// The network of one-hot sequences that the study explains of a task; `None` where it explains none.
///
/// Of lentiMPRA it was an earlier version of this one.
pub fn published_explained(task: TaskName) -> Option<&'static str> {
    match task {
        TaskName::LentiMpra | TaskName::Regression => Some("resnet"),
        other => published_of_states(other),
    }
}

/// The network of all states of a gLM's layer whose gradient the study takes.
pub fn published_of_states(task: TaskName) -> Option<&'static str> {
    match task {
        TaskName::LentiMpra | TaskName::Regression => Some("rep-cnn"),
        TaskName::ChipSeq | TaskName::Eclip | TaskName::Classification => Some("chip-cnn"),
        TaskName::InsertSeq => Some("insert-cnn"),
        _ => None,
    }
}

/// Values a network predicts of an example with `targets` targets.
///
/// The second half of the targets of splicing are mean logits, which the loss reads and no network
/// predicts.
pub fn predictions(task: TaskName, targets: usize) -> usize {
    if task == TaskName::Splicing { targets / 2 } else { targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REP_CNN: Architecture = Architecture::RepCnn { factor: 1.0, reduce: 196 };
    const REP_MLP: Architecture = Architecture::RepMlp { factor: 1.0 };
    const CHIP_CNN: Architecture = Architecture::ChipCnn { front: ChipFront::Raw };

    /// Task, input, probe; batch, epochs, rate, least rate, order, loss.
    type Expected = (u32, u32, f64, f64, ExampleOrder, Loss);

    #[test]
    fn settings_are_those_of_the_study() {
        use ExampleOrder::{Shuffled, Stored};
        use Loss::{BinaryCrossEntropy, MeanSquaredError, SplicingDivergence};
        use ProbeInput::*;
        use TaskName::*;
        let splicing = Architecture::SplicingCnn { is_reduced: false };
        let insert = Architecture::InsertCnn;
        let named = |name| Architecture::Named(crate::network::named::find(name).unwrap());
        let mse = MeanSquaredError;
        let cases: [(TaskName, ProbeInput, Architecture, Expected); 14] = [
            (LentiMpra, OneHot, REP_CNN, (128, 100, 1e-3, 1e-6, Shuffled, mse)),
            (LentiMpra, NucleotideTransformer, REP_CNN, (256, 100, 1e-4, 1e-8, BUFFERED, mse)),
            (LentiMpra, Tokens, REP_CNN, (64, 100, 1e-4, 1e-8, Stored, mse)),
            (LentiMpra, Pooled, REP_MLP, (512, 100, 1e-4, 1e-8, Shuffled, mse)),
            (LentiMpra, OneHot, named("resnet"), (128, 100, 1e-3, 1e-6, Shuffled, mse)),
            (LentiMpra, OneHot, named("mprann"), (128, 100, 1e-3, 1e-6, Shuffled, mse)),
            (ChipSeq, OneHot, CHIP_CNN, (256, 100, 1e-3, 1e-6, BUFFERED, BinaryCrossEntropy)),
            (ChipSeq, Pooled, REP_MLP, (256, 100, 1e-3, 1e-6, BUFFERED, BinaryCrossEntropy)),
            (Eclip, Composition, REP_MLP, (256, 100, 1e-3, 1e-6, Shuffled, BinaryCrossEntropy)),
            (Splicing, Tokens, splicing, (256, 100, 1e-3, 1e-6, BUFFERED, SplicingDivergence)),
            (
                Splicing,
                Pooled,
                Architecture::Linear,
                (256, 100, 1e-3, 1e-6, Shuffled, SplicingDivergence),
            ),
            (InsertSeq, OneHot, insert.clone(), (128, 200, 1e-3, 1e-7, Shuffled, mse)),
            (InsertSeq, Tokens, insert, (128, 200, 1e-4, 1e-7, Shuffled, mse)),
            (
                Classification,
                OneHot,
                Architecture::RbpCnn,
                (100, 100, 1e-3, 1e-7, Shuffled, BinaryCrossEntropy),
            ),
        ];
        for (task, input, architecture, expected) in cases {
            let found = published_training(task, input, &architecture, Protocol::Published);
            let plateau = found.plateau.unwrap();
            let settings = (
                found.batch_rows,
                found.epochs_max,
                found.learning_rate,
                plateau.learning_rate_min,
                found.order,
                found.loss,
            );
            assert_eq!(settings, expected, "{task:?} {input:?} {architecture:?}");
            assert_eq!(found.restore, Restore::WhenStopped);
            let patience = (found.stop_patience, plateau.patience, found.monitor);
            if architecture == Architecture::RbpCnn {
                assert_eq!(patience, (Some(12), 4, Monitor::Aupr));
            } else {
                assert_eq!(patience, (Some(10), 5, Monitor::Loss));
            }
        }
    }

    #[test]
    fn corrections_shuffle_keep_the_best_and_read_logits() {
        let corrected = |task, input, architecture: &Architecture| {
            published_training(task, input, architecture, Protocol::Corrected)
        };
        let binding = corrected(TaskName::ChipSeq, ProbeInput::Pooled, &REP_MLP);
        assert_eq!(binding.loss, Loss::BinaryCrossEntropyOfLogits);
        assert_eq!((binding.order, binding.restore), (SHUFFLED, Restore::Always));
        let convolutions = corrected(TaskName::ChipSeq, ProbeInput::Tokens, &CHIP_CNN);
        assert_eq!(convolutions.loss, Loss::BinaryCrossEntropy, "it ends in a sigmoid");
        for input in [ProbeInput::OneHot, ProbeInput::NucleotideTransformer, ProbeInput::Tokens] {
            assert_eq!(corrected(TaskName::LentiMpra, input, &REP_CNN).batch_rows, 128);
            assert_eq!(published_reduce(input, Protocol::Corrected), 196);
        }
        assert_eq!(published_reduce(ProbeInput::Tokens, Protocol::Published), 128);
        use ProbeInput::{NucleotideTransformer, OneHot, Tokens};
        let fronts = |protocol| {
            [OneHot, NucleotideTransformer, Tokens].map(|input| published_front(input, protocol))
        };
        use ChipFront::{Normalised, Raw};
        assert_eq!(fronts(Protocol::Published), [Raw, Normalised, Raw]);
        assert_eq!(fronts(Protocol::Corrected), [Raw, Normalised, Normalised]);
    }

    #[test]
    fn learning_curves_and_repeats_are_those_of_the_study() {
        let splicing = Architecture::SplicingCnn { is_reduced: true };
        assert_eq!(published_fractions(TaskName::Splicing, &splicing), [0.25, 0.5, 1.0]);
        assert_eq!(published_fractions(TaskName::Splicing, &REP_MLP), [1.0]);
        let tenths = published_fractions(TaskName::InsertSeq, &Architecture::InsertCnn);
        assert_eq!((tenths.len(), tenths[0], tenths[2], tenths[9]), (10, 0.1, 0.3, 1.0));
        let repeats = [TaskName::LentiMpra, TaskName::ChipSeq, TaskName::InsertSeq];
        assert_eq!(repeats.map(published_repeats), [1, 5, 50]);
        assert_eq!(predictions(TaskName::Splicing, 112), 56);
    }
}
