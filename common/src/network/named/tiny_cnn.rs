//! An example of a network of one's own, for tests: all that adding one takes.
//!
//! Leaves out: use. Invariant: it can be built on every sequence.

use super::{NamedNetwork, Reads};
use crate::network::chain::{Chain, Conv};
use crate::network::{Activation, Extent, Initializer, LayerKind, NetworkSpec};

/// One convolution and the mean of what it finds.
pub(super) static NETWORK: NamedNetwork =
    NamedNetwork { name: "tiny-cnn", reads: Reads::Sequences, layers };

fn layers(_: &[Extent], targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["sequence"], Initializer::HeUniform);
    chain
        .conv("motifs", Conv::same(8, 11))
        .activation("found", Activation::Relu)
        .then("mean", LayerKind::GlobalAveragePool)
        .flatten()
        .dense("output", targets, Activation::Linear);
    chain.finish()
}
