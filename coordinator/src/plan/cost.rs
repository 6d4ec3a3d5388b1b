//! Estimates of what units cost, and the shard size that follows from them.
//!
//! Leaves out: measured rates (state). Invariant: plain arithmetic on facts, so plans repeat.

use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::model::ModelFacts;
use glmeval_common::network::{Extent, ResolvedNetwork, TrainingSpec};
use glmeval_common::plan::DatasetFacts;
use glmeval_common::representation::{
    FeatureSource, FullRows, Pooling, SequenceFeature, StoredDtype, Strands,
};
use glmeval_common::unit::{ProbeSpec, SetSpec};

/// Rate of the slowest device meant to take part; a plan cannot know the real ones.
pub(super) const DEVICE_FLOPS_PER_SECOND: f64 = 100e9;
/// Seconds of one shard on that device: short enough to lose, long enough to be worth a lease.
const SHARD_SECONDS: f64 = 75.0;
/// Special tokens around a sequence.
const SPECIAL_TOKENS_MAX: u64 = 2;
const SHARD_ROWS_MIN: u64 = 64;
const SHARD_ROWS_MAX: u64 = 8_192;
/// Tensors of one shard; full-token embeddings reach it long before the seconds. A worker holds
/// them twice while it writes them.
pub(super) const SHARD_BYTES_MAX: u64 = 128 << 20;

/// Mean nucleotides of one sequence, rounded up.
fn length_mean(facts: &DatasetFacts) -> u64 {
    let sequences = facts.rows.saturating_mul(facts.schema.sequences.len().max(1) as u64);
    facts.nucleotides.div_ceil(sequences.max(1))
}

/// FLOPs to embed one example up to the deepest layer of the set.
pub(super) fn flops_per_row(dataset: &DatasetFacts, model: &ModelFacts, set: &SetSpec) -> f64 {
    let sides = dataset.schema.sequences.len().max(1) as u64;
    let sides = set.effects.as_ref().map_or(sides, |effects| effects.windows());
    let sides = sides.saturating_mul(strands(set)) as f64;
    let layer = set.layers.last().copied().unwrap_or(0);
    sides * model.flops(model.tokens(length_mean(dataset)), layer)
}

/// Strands that are embedded.
pub(super) fn strands(set: &SetSpec) -> u64 {
    match set.options.strands {
        Strands::Forward => 1,
        Strands::Averaged => 2,
    }
}

/// Tokens of one example of mean length, all its sequences together.
pub(super) fn tokens_per_row(dataset: &DatasetFacts, model: &ModelFacts) -> u64 {
    let sides = dataset.schema.sequences.len().max(1) as u64;
    model.tokens(length_mean(dataset)).saturating_mul(sides)
}

/// Bytes one example of mean length takes in a shard.
pub(super) fn bytes_per_row(dataset: &DatasetFacts, model: &ModelFacts, set: &SetSpec) -> u64 {
    row_bytes(dataset, model, set, length_mean(dataset))
}

/// Bytes the longest example takes in a shard if all its letters are defined.
pub(super) fn bytes_per_row_max(dataset: &DatasetFacts, model: &ModelFacts, set: &SetSpec) -> u64 {
    row_bytes(dataset, model, set, dataset.length_max)
}

fn row_bytes(dataset: &DatasetFacts, model: &ModelFacts, set: &SetSpec, length: u64) -> u64 {
    if !set.columns().is_empty() {
        return (set.columns().len() as u64).saturating_mul(set.dtype.bytes());
    }
    let rows = match set.options.full_rows {
        FullRows::Tokens => model.states(model.tokens(length)),
        FullRows::Nucleotides => length,
    };
    let vectors = set.poolings.iter().fold(0_u64, |vectors, pooling| {
        vectors.saturating_add(if *pooling == Pooling::Full { rows } else { 1 })
    });
    vectors
        .saturating_mul(dataset.schema.sequences.len().max(1) as u64)
        .saturating_mul(set.layers.len() as u64)
        .saturating_mul(u64::from(model.width))
        .saturating_mul(set.dtype.bytes())
}

/// Examples per shard: as many as `asked`, or as fit the seconds, and never more than fit the bytes.
pub(super) fn shard_rows(asked: Option<u64>, flops_per_row: f64, bytes_per_row_max: u64) -> u64 {
    let by_time = (SHARD_SECONDS * DEVICE_FLOPS_PER_SECOND / flops_per_row.max(1.0)) as u64;
    let by_time = by_time.clamp(SHARD_ROWS_MIN, SHARD_ROWS_MAX);
    let whole = by_time - by_time % SHARD_ROWS_MIN;
    asked.unwrap_or(whole).min(SHARD_BYTES_MAX / bytes_per_row_max.max(1)).max(1)
}

/// Bytes of a prepared data set, before compression.
pub(super) fn prepare_bytes(facts: &DatasetFacts) -> u64 {
    let targets = facts.rows.saturating_mul(4).saturating_mul(facts.schema.targets.len() as u64);
    facts.nucleotides.saturating_add(targets)
}

/// FLOPs of the maps of `sequences` sequences: a pass for each token that is masked, and one for states.
pub(super) fn masking_cost(
    dataset: &DatasetFacts,
    model: &ModelFacts,
    (sequences, has_states): (u64, bool),
) -> f64 {
    let length = length_mean(dataset);
    let tokens = model.tokens(length);
    // Padding is never masked; learned pieces and blocks are no more than there are nucleotides.
    let masked = tokens.min(length.saturating_add(SPECIAL_TOKENS_MAX));
    let passes = masked.saturating_add(u64::from(has_states)) as f64;
    sequences as f64 * passes * model.flops(tokens, model.layer_count)
}

/// FLOPs of ranking `candidates` sequences with a network and of its gradients for `sequences`.
pub(super) fn saliency_cost(network: &ResolvedNetwork, candidates: u64, sequences: u64) -> f64 {
    network.products() as f64 * (2.0 * candidates as f64 + 6.0 * sequences as f64)
}

/// FLOPs and written bytes of fitting a linear probe on `width` features: a Gram matrix of the shorter
/// side and its factorisation, or passes over the data.
pub(super) fn linear_cost(facts: &DatasetFacts, width: u64, probe: &ProbeSpec) -> (f64, u64) {
    let (rows, columns) = (facts.rows as f64, width as f64);
    let flops = match probe {
        ProbeSpec::Logistic { iterations_max, .. } => {
            4.0 * rows * columns * f64::from(*iterations_max)
        }
        _ => {
            let side = rows.min(columns);
            rows * columns * side + side * side * side / 3.0
        }
    };
    let targets = facts.schema.targets.len().max(1) as u64;
    (flops, width.saturating_add(facts.rows).saturating_mul(8).saturating_mul(targets))
}

/// Epochs until early stopping, as far as one can guess: 40 for splicing, 60 for elongation, else 30.
fn epochs_expected(task: TaskName, training: &TrainingSpec) -> f64 {
    let usual = match task {
        TaskName::Splicing => 40,
        TaskName::InsertSeq => 60,
        _ => 30,
    };
    let epochs = training.epochs_max;
    f64::from(if training.stop_patience.is_some() { epochs.min(usual) } else { epochs })
}

/// FLOPs and written bytes of training a network: three products of each multiply-add for an example
/// of `train`, one for an example of `valid`, over the epochs it may take.
pub(super) fn training_cost(
    facts: &DatasetFacts,
    network: &ResolvedNetwork,
    probe: &ProbeSpec,
    (task, fraction): (TaskName, f64),
) -> (f64, u64) {
    let ProbeSpec::Network { training, .. } = probe else { return (0.0, 0) };
    let rows = |split: Split| facts.split_rows.get(split.name()).copied();
    let train = rows(Split::Train).unwrap_or(facts.rows) as f64 * fraction;
    let valid = rows(Split::Valid).unwrap_or(0) as f64;
    let test = rows(Split::Test).unwrap_or(facts.rows);
    let products = network.products() as f64;
    let flops = products * (6.0 * train + 2.0 * valid) * epochs_expected(task, training);
    let targets = network.output().values() as u64;
    let predicted = test.saturating_mul(targets).saturating_mul(8);
    (flops, network.parameters().saturating_mul(4).saturating_add(predicted))
}

/// Bytes of training a network: values and gradients of a batch in every layer, two batches of inputs,
/// weights with their gradient and two moments.
pub(super) fn training_memory(network: &ResolvedNetwork, training: &TrainingSpec) -> u64 {
    let values = |extent: &Extent| extent.values() as u64;
    let layers: u64 = network.layers.iter().map(|layer| values(&layer.output)).sum();
    let inputs: u64 = network.inputs.iter().map(values).sum();
    let of_example = layers.saturating_mul(2).saturating_add(inputs.saturating_mul(2));
    of_example
        .saturating_mul(u64::from(training.batch_rows))
        .saturating_add(network.parameters().saturating_mul(4))
        .saturating_mul(4)
}

/// Bytes of the features of a data set while probes are fitted: as stored, a letter per nucleotide for
/// one-hot.
pub(super) fn features_memory(
    facts: &DatasetFacts,
    source: &FeatureSource,
    (width, dtype): (u64, StoredDtype),
) -> u64 {
    let row = match source {
        FeatureSource::Sequence(SequenceFeature::OneHot) => width / 4,
        _ => width.saturating_mul(dtype.bytes()),
    };
    facts.rows.saturating_mul(row)
}
