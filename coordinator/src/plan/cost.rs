//! Estimates of what units cost, and the shard size that follows from them.
//!
//! Leaves out: measured rates (state). Invariant: plain arithmetic on facts, so plans repeat.

use glmeval_common::model::ModelFacts;
use glmeval_common::plan::DatasetFacts;
use glmeval_common::representation::{FullRows, Pooling, SequenceFeature, Strands};
use glmeval_common::unit::{ProbeSpec, SetSpec};

/// Rate of the slowest device meant to take part; a plan cannot know the real ones.
const DEVICE_FLOPS_PER_SECOND: f64 = 100e9;
/// Seconds of one shard on that device: short enough to lose, long enough to be worth a lease.
const SHARD_SECONDS: f64 = 75.0;
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
    let sides = dataset.schema.sequences.len().max(1) as f64 * strands(set) as f64;
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

/// Features of a sequence feature.
pub(super) fn feature_width(facts: &DatasetFacts, feature: SequenceFeature) -> u64 {
    let width = match feature {
        SequenceFeature::OneHot => facts.length_max.saturating_mul(4),
        SequenceFeature::Kmer { k, .. } => 4_u64.saturating_pow(k),
        SequenceFeature::Nucleotides => 4,
    };
    width.saturating_mul(facts.schema.sequences.len().max(1) as u64)
}

/// FLOPs of fitting a probe on `width` features: a Gram matrix of the shorter side and its
/// factorisation, or passes over the data.
pub(super) fn fit_flops(facts: &DatasetFacts, width: u64, probe: &ProbeSpec) -> f64 {
    let (rows, width) = (facts.rows as f64, width as f64);
    match probe {
        ProbeSpec::Ridge { .. } | ProbeSpec::LeastSquares => {
            let side = rows.min(width);
            rows * width * side + side * side * side / 3.0
        }
        ProbeSpec::Logistic { iterations_max, .. } => {
            4.0 * rows * width * f64::from(*iterations_max)
        }
        // What the layers cost is known once their extents are.
        ProbeSpec::Network { training, .. } => 6.0 * rows * width * f64::from(training.epochs_max),
    }
}

/// Bytes a fit writes: weights per target, and a prediction per row and target.
pub(super) fn fit_bytes(facts: &DatasetFacts, width: u64) -> u64 {
    let targets = facts.schema.targets.len().max(1) as u64;
    width.saturating_add(facts.rows).saturating_mul(8).saturating_mul(targets)
}
