//! First values of weights.
//!
//! Leaves out: which weights there are (common). Invariant: a weight depends on the seed and its own
//! name and shape; shared draws depend on the seed and the shape alone.

use glmeval_common::network::{
    Draws, Initializer, LayerKind, ResolvedLayer, WeightRole, WeightShape,
};
use glmeval_common::rng::Rng;

/// The values that `weight` of `layer` starts with.
///
/// ```text
/// kernels: by their initialiser; gamma and moving variance: 1; biases, beta, moving mean: 0
/// ```
pub(super) fn draw(
    layer: &ResolvedLayer,
    weight: &WeightShape,
    draws: Draws,
    seed: u64,
) -> Vec<f32> {
    let count = weight.values();
    match weight.role {
        WeightRole::Gamma | WeightRole::MovingVariance => return vec![1.0; count],
        WeightRole::Bias | WeightRole::Beta | WeightRole::MovingMean => return vec![0.0; count],
        WeightRole::Kernel => {}
    }
    let mut rng = match draws {
        Draws::Independent => Rng::derive(seed, &format!("weight {}", weight.name)),
        Draws::Shared => Rng::derive(seed, "all weights"),
    };
    let (fan_in, fan_out) = fans(&layer.spec.kind, &weight.shape);
    let mut uniform = |limit: f64| {
        let draw = |_| (limit * (2.0 * rng.uniform() - 1.0)) as f32;
        (0..count).map(draw).collect()
    };
    match weight.initializer {
        Initializer::GlorotUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
        Initializer::HeUniform => uniform((6.0 / fan_in).sqrt()),
        Initializer::Normal { deviation } => {
            (0..count).map(|_| (deviation * rng.normal()) as f32).collect()
        }
        Initializer::Zeros => vec![0.0; count],
    }
}

/// Inputs of one output and outputs of one input, as Keras counts them.
///
/// A depthwise kernel counts as `[taps, channels, 1]`, so its inputs are all channels.
fn fans(kind: &LayerKind, shape: &[usize]) -> (f64, f64) {
    let extent = |index: usize| shape.get(index).copied().unwrap_or(1) as f64;
    match (kind, shape.len()) {
        (LayerKind::DepthwiseConv1d { .. }, _) => (extent(0) * extent(1), extent(0)),
        (_, 3) => (extent(0) * extent(1), extent(0) * extent(2)),
        _ => (extent(0), extent(1)),
    }
}
