//! Dilated residual convolutions on one-hot sequences.
//!
//! Leaves out: training. Invariant: layers as in the published lentiMPRA code.

use super::{NamedNetwork, Reads};
use crate::network::architecture::residual::residual;
use crate::network::chain::{Chain, Conv};
use crate::network::{Activation, Extent, Initializer, LayerKind, NetworkSpec};

/// Five dilations in one residual block.
pub static NETWORK: NamedNetwork = NamedNetwork { name: "resnet", reads: Reads::OneHot, layers };

/// The dense layer before the mean acts at each position.
fn layers(_: &[Extent], targets: usize) -> NetworkSpec {
    let silu = Activation::Silu;
    let mut chain = Chain::new(&["sequence"], Initializer::GlorotUniform);
    chain
        .conv("conv1", Conv::same(196, 19))
        .norm()
        .activation("conv1_act", silu)
        .dropout("conv1_drop", 0.2);
    residual(&mut chain, 196, &[1, 2, 4, 8, 16], silu);
    chain
        .dropout("res_drop", 0.2)
        .max_pool("pool1", 5)
        .conv("conv2", Conv::same(256, 7))
        .norm()
        .activation("conv2_act", silu)
        .dropout("conv2_drop", 0.2)
        .max_pool("pool2", 5)
        .dense_block("pos_dense", 256, silu)
        .then("avgpool", LayerKind::AveragePool { size: 2 })
        .flatten()
        .dense_block("dense1", 256, silu)
        .dense("output", targets, Activation::Linear);
    chain.finish()
}
