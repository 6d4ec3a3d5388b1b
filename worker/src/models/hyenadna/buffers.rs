//! What a filter starts with before training: features of positions, its window and frequency.
//!
//! Leaves out: stored values, which are read as they are. Source: HazyResearch/hyena-dna,
//! `PositionalEmbedding`, `ExponentialModulation` and `Sin`.

use crate::config::HyenaDnaConfig;
use std::f64::consts::TAU;

/// The window of the slowest and of the fastest channel falls to this share …
const TARGET: f64 = 1e-2;
/// … after so many lengths of the longest sequence.
const SLOWEST: f64 = 1.5;
const FASTEST: f64 = 0.3;
/// The lowest frequency of the features.
const LOWEST: f64 = 1e-4;

/// Values of `name` that are not drawn; `None` for any other tensor.
pub(super) fn initial_values(config: &HyenaDnaConfig, name: &str) -> Option<Vec<f32>> {
    if name.ends_with(".pos_emb.z") {
        return Some(features(config.length_max, config.feature_count));
    }
    if name.ends_with(".pos_emb.t") {
        return Some((0..config.length_max).map(|i| time(i, config.length_max) as f32).collect());
    }
    if name.ends_with(".modulation.deltas") {
        let (slow, fast) = (TARGET.ln() / SLOWEST, TARGET.ln() / FASTEST);
        return Some(spaced(slow, fast, config.width).map(|delta| delta as f32).collect());
    }
    let is_frequency = name.ends_with(".freq");
    is_frequency.then(|| vec![config.frequency as f32; config.filter_width])
}

/// Features `[L, E]` of each position.
///
/// ```text
/// z[i] = (t[i], cos(f w[i]), -sin(f w[i])),  w[i] = 2 pi i / L
/// ```
fn features(length: usize, count: usize) -> Vec<f32> {
    let bands = (count - 1) / 2;
    let frequencies: Vec<f64> = spaced(LOWEST, bands as f64 - 1.0, bands).collect();
    let mut features = Vec::with_capacity(length.saturating_mul(count));
    for i in 0..length {
        let angle = TAU * i as f64 / length as f64;
        features.push(time(i, length) as f32);
        features.extend(frequencies.iter().map(|f| (f * angle).cos() as f32));
        features.extend(frequencies.iter().map(|f| -(f * angle).sin() as f32));
    }
    features
}

/// Position `i` of `length`, from 0 to 1.
fn time(i: usize, length: usize) -> f64 {
    i as f64 / (length.max(2) - 1) as f64
}

/// `count` evenly spaced numbers, both ends included.
fn spaced(first: f64, last: f64, count: usize) -> impl Iterator<Item = f64> {
    let step = if count > 1 { (last - first) / (count - 1) as f64 } else { 0.0 };
    (0..count).map(move |i| first + step * i as f64)
}
