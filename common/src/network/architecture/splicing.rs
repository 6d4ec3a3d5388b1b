//! The network that reads both sides of an exon: splicing-cnn.
//!
//! Leaves out: training. Invariant: the heads share no weight; layers as in the published code, whose
//! `mtsplice` has no spline.

use super::embedding::REDUCED;
use crate::network::chain::{BATCH_NORM, Chain, Conv};
use crate::network::{Activation, Initializer, JoinAxis, NetworkSpec};

pub(super) fn splicing_cnn(is_reduced: bool, targets: usize) -> NetworkSpec {
    let mut chain = Chain::new(&["left", "right"], Initializer::HeUniform);
    let heads = [("left", "l"), ("right", "r")].map(|(input, side)| {
        chain.read(input);
        if is_reduced {
            chain.then(&format!("{side}_input_bn"), BATCH_NORM);
            chain.conv(&format!("{side}_reduce"), Conv::valid(REDUCED, 1));
        }
        let names = [format!("{side}_conv"), format!("{side}_pool"), format!("{side}_drop")];
        chain.pooled_block((&names[0], Conv::same(128, 7)), (&names[1], 4), &names[2]).last()
    });
    chain
        .join("concat", heads.to_vec(), JoinAxis::Length)
        .pooled_block(("conv2", Conv::same(164, 5)), ("pool2", 4), "conv2_drop")
        .pooled_block(("conv3", Conv::same(256, 5)), ("pool3", 2), "conv3_drop")
        .flatten();
    chain.initializer = Initializer::GlorotUniform;
    chain
        .dense_block("dense1", 256, Activation::Relu)
        .dense_block("dense2", 256, Activation::Relu)
        .dense("logits", targets, Activation::Linear)
        .activation("output", Activation::Linear);
    chain.finish()
}
