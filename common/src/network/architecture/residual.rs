//! Networks around a dilated residual block: insert-cnn, rbp-cnn; and the block.
//!
//! Leaves out: training. Invariant: layers as in the published INSERT-seq and eCLIP code.

use crate::network::chain::{Chain, Conv};
use crate::network::{Activation, Initializer, LayerKind, NetworkSpec};

/// Penalty of the published INSERT-seq and eCLIP networks, on the kernels that have one.
const L2: f64 = 1e-8;

/// A convolution without a bias.
fn unbiased(filters: usize, kernel: usize) -> Conv {
    Conv { bias: false, ..Conv::same(filters, kernel) }
}

/// h = norm(conv(x)); for each dilation h = norm(conv(dropout(f(h)))); f(x + h).
pub(in crate::network) fn residual(
    chain: &mut Chain,
    filters: usize,
    dilations: &[usize],
    function: Activation,
) {
    let input = chain.last();
    chain
        .conv("res_conv0", unbiased(filters, 3))
        .then("res_bn0", crate::network::chain::BATCH_NORM);
    for (i, &dilation) in (1..).zip(dilations) {
        chain
            .activation(&format!("res_act{i}"), function)
            .dropout(&format!("res_drop{i}"), 0.1)
            .conv(&format!("res_conv{i}"), Conv { dilation, ..unbiased(filters, 3) })
            .then(&format!("res_bn{i}"), crate::network::chain::BATCH_NORM);
    }
    chain.sum("res_add", &input).activation("res_out", function);
}

/// The wide convolution and the residual block that insert-cnn and rbp-cnn share.
fn body(chain: &mut Chain) {
    chain
        .conv("conv1", Conv { l2: L2, ..unbiased(96, 19) })
        .norm()
        .activation("conv1_act", Activation::Exponential)
        .dropout("conv1_drop", 0.1);
    residual(chain, 96, &[2, 4], Activation::Relu);
}

/// Pool, second convolution and mean over positions that insert-cnn and rbp-cnn share.
fn tail(chain: &mut Chain, filters: usize) {
    chain
        .max_pool("pool1", 10)
        .dropout("pool1_drop", 0.1)
        .conv("conv2", Conv { l2: L2, ..unbiased(filters, 7) })
        .norm()
        .activation("conv2_act", Activation::Relu)
        .then("gap", LayerKind::GlobalAveragePool)
        .dropout("gap_drop", 0.1)
        .flatten();
}

/// No normalisation stands before the reduction: the published option for one is off.
pub(super) fn insert_cnn(targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["input"], Initializer::GlorotUniform);
    chain.conv("reduce", Conv::valid(48, 1));
    body(&mut chain);
    tail(&mut chain, 128);
    chain.dense("dense1", 128, Activation::Relu).dropout("dense1_drop", 0.5).dense(
        "output",
        targets,
        Activation::Linear,
    );
    chain.finish()
}

/// The second relu after the residual block changes nothing and is published so.
pub(super) fn rbp_cnn(targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["input"], Initializer::GlorotUniform);
    body(&mut chain);
    chain.activation("res_relu_again", Activation::Relu);
    tail(&mut chain, 192);
    let dense = LayerKind::Dense {
        units: 512,
        bias: false,
        activation: Activation::Linear,
        initializer: Initializer::GlorotUniform,
        l2: L2,
    };
    chain
        .then("dense1", dense)
        .norm()
        .activation("dense1_act", Activation::Relu)
        .dropout("dense1_drop", 0.5)
        .dense("logits", targets, Activation::Linear)
        .activation("output", Activation::Sigmoid);
    chain.finish()
}
