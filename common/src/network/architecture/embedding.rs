//! Networks that read embeddings: rep-cnn, rep-mlp, linear, chip-cnn.
//!
//! Leaves out: training. Invariant: layers as in the published lentiMPRA and ChIP-seq code.

use super::ChipFront;
use crate::network::chain::{BATCH_NORM, Chain, Conv};
use crate::network::{Activation, Extent, Initializer, JoinAxis, LayerKind, NetworkSpec};

/// How every kernel of the rep networks is drawn.
const NARROW: Initializer = Initializer::Normal { deviation: 0.005 };
/// Channels that a chip-cnn or a head of splicing-cnn reduces its input to.
pub(super) const REDUCED: usize = 512;

/// A width times the factor, cut to a whole number as the published code does.
fn scaled(width: usize, factor: f64) -> usize {
    ((width as f64 * factor) as usize).max(1)
}

/// The reduction has neither activation nor factor; the exponential belongs to the first filters.
pub(super) fn rep_cnn(factor: f64, reduce: usize, targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["sequence"], NARROW);
    chain
        .then("input_bn", BATCH_NORM)
        .conv("reduce", Conv::valid(reduce, 1))
        .conv("conv1", Conv::same(scaled(196, factor), 7))
        .norm()
        .activation("filter_activation", Activation::Exponential)
        .dropout("conv1_drop", 0.2)
        .max_pool("pool1", 5)
        .pooled_block(("conv2", Conv::same(scaled(256, factor), 7)), ("pool2", 4), "conv2_drop")
        .flatten();
    rep_head(&mut chain, factor, targets);
    chain.finish()
}

/// With 56 targets the published `embed_MLP`.
pub(super) fn rep_mlp(inputs: &[Extent], factor: f64, targets: usize) -> NetworkSpec {
    let mut chain = as_vector(inputs);
    rep_head(&mut chain, factor, targets);
    chain.finish()
}

/// The published `linear_model`; other than ridge regression it is trained by steps.
pub(super) fn linear(inputs: &[Extent], targets: usize) -> NetworkSpec {
    let mut chain = as_vector(inputs);
    chain.dense("output", targets, Activation::Linear);
    chain.finish()
}

/// The dense layers that rep-cnn and rep-mlp share.
fn rep_head(chain: &mut Chain, factor: f64, targets: usize) {
    chain
        .dense_block("dense1", scaled(512, factor), Activation::Relu)
        .dense_block("dense2", scaled(256, factor), Activation::Relu)
        .dense("output", targets, Activation::Linear);
}

/// All inputs as one vector, first to last; the published code joins left and right so.
fn as_vector(inputs: &[Extent]) -> Chain {
    let names: Vec<String> = match inputs.len() {
        0 | 1 => vec!["sequence".to_owned()],
        2 => vec!["left".to_owned(), "right".to_owned()],
        count => (0..count).map(|i| format!("input{i}")).collect(),
    };
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut chain = Chain::new(&borrowed, NARROW);
    let is_sequence = |extent: &Extent| matches!(extent, Extent::Sequence { .. });
    if names.len() == 1 {
        if inputs.iter().any(is_sequence) {
            chain.flatten();
        }
        return chain;
    }
    let mut parts = Vec::new();
    for (name, extent) in names.iter().zip(inputs) {
        chain.read(name);
        if is_sequence(extent) {
            chain.then(&format!("{name}_flatten"), LayerKind::Flatten);
        }
        parts.push(chain.last());
    }
    chain.join("concat", parts, JoinAxis::Channels);
    chain
}

/// Convolutions are drawn as He, dense layers as Glorot proposed.
pub(super) fn chip_cnn(front: ChipFront, targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["input"], Initializer::HeUniform);
    if front == ChipFront::Normalised {
        chain.then("input_bn", BATCH_NORM);
    }
    if front != ChipFront::Raw {
        chain.conv("reduce", Conv::valid(REDUCED, 1));
    }
    chain
        .pooled_block(("conv1", Conv::same(64, 7)), ("pool1", 4), "conv1_drop")
        .pooled_block(("conv2", Conv::same(96, 5)), ("pool2", 4), "conv2_drop")
        .pooled_block(("conv3", Conv::same(128, 5)), ("pool3", 2), "conv3_drop")
        .flatten();
    chain.initializer = Initializer::GlorotUniform;
    chain
        .dense_block("dense1", 256, Activation::Relu)
        .dense("logits", targets, Activation::Linear)
        .activation("output", Activation::Sigmoid);
    chain.finish()
}
