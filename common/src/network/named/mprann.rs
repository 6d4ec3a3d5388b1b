//! The network of the lentiMPRA authors that reads one-hot sequences.
//!
//! Leaves out: training, which is the study's and not that of its authors. Invariant: layers as
//! published.

use super::{NamedNetwork, Reads};
use crate::network::chain::{BATCH_NORM, Chain, Conv};
use crate::network::{Activation, Extent, Initializer, NetworkSpec};

/// Four convolutions, three of them with softmax.
pub static NETWORK: NamedNetwork = NamedNetwork { name: "mprann", reads: Reads::OneHot, layers };

fn layers(_: &[Extent], targets: usize) -> NetworkSpec {
    let conv = |filters, kernel, activation| Conv { activation, ..Conv::valid(filters, kernel) };
    let (softmax, sigmoid) = (Activation::Softmax, Activation::Sigmoid);
    let mut chain = Chain::new(&["input"], Initializer::GlorotUniform);
    chain
        .conv("conv1", conv(250, 7, Activation::Relu))
        .then("bn1", BATCH_NORM)
        .conv("conv2", conv(250, 8, softmax))
        .then("bn2", BATCH_NORM)
        .max_pool("maxpool1", 2)
        .dropout("drop1", 0.1)
        .conv("conv3", conv(250, 3, softmax))
        .then("bn3", BATCH_NORM)
        .conv("conv4", conv(100, 2, softmax))
        .then("bn4", BATCH_NORM)
        .max_pool("maxpool2", 1)
        .dropout("drop2", 0.1)
        .flatten()
        .dense("dense1", 300, sigmoid)
        .dropout("drop3", 0.3)
        .dense("dense2", 200, sigmoid)
        .dense("output", targets, Activation::Linear);
    chain.finish()
}
