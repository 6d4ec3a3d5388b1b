//! Extents, weights and numbers of parameters at the published sizes, and limits of first weights.
//!
//! Leaves out: numbers. Invariant: every description of the folder is resolved.

use crate::keras;
use glmeval_common::model::Precision;
use glmeval_common::network::{
    Activation, Draws, Extent, Initializer, LayerKind, LayerSpec, Loss, NetworkSpec, Padding,
};
use glmeval_tests::golden;
use glmeval_worker::network::{Network, NetworkState};
use serde_json::Value;

#[test]
fn published_models_have_the_published_extents_and_parameters() {
    for path in golden::descriptions("probes/paper_scale") {
        let description = golden::json(&path);
        if description["layers"].is_array() {
            // Extents, names and counts are compared where they are found.
            keras::resolved(&description);
        }
    }
}

/// A network of one layer whose kernel has `shape`.
fn one_layer(shape: &[usize], initializer: Initializer) -> Network {
    let (activation, bias, l2) = (Activation::Linear, true, 0.0);
    let (extent, kind) = match *shape {
        [kernel, channels, filters] => {
            let padding = Padding::Same;
            let extent = Extent::Sequence { length: 3, channels };
            let dilation = 1;
            (
                extent,
                LayerKind::Conv1d {
                    filters,
                    kernel,
                    dilation,
                    padding,
                    bias,
                    activation,
                    initializer,
                    l2,
                },
            )
        }
        [channels, units] => {
            let extent = Extent::Vector { channels };
            (extent, LayerKind::Dense { units, bias, activation, initializer, l2 })
        }
        _ => panic!("a kernel of two or three extents"),
    };
    let layer = LayerSpec { name: "layer".to_owned(), inputs: vec!["x".to_owned()], kind };
    let spec = NetworkSpec { inputs: vec!["x".to_owned()], layers: vec![layer] };
    let resolved = spec.resolve(&[extent]).unwrap();
    Network::new(resolved, Loss::MeanSquaredError, Precision::F32).unwrap()
}

fn kernel(network: &Network) -> Vec<f64> {
    let state = NetworkState::draw(network, Draws::Independent, 3);
    let (_, values) = state.weights().next().unwrap();
    values.iter().map(|&value| f64::from(value)).collect()
}

fn check_limit(row: &Value, key: &str, initializer: Initializer) {
    let shape: Vec<usize> = keras::list(&row["shape"]).iter().map(keras::count).collect();
    let values = kernel(&one_layer(&shape, initializer));
    let limit = keras::number(&row[key]);
    let largest = values.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    // The largest of n uniform values is within a few n-ths of the limit.
    let nearest = limit * (1.0 - 20.0 / values.len() as f64);
    assert!(largest <= limit * (1.0 + 1e-7) && largest >= nearest, "{shape:?} {key}: {largest}");
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    assert!(mean.abs() < 3.0 * limit / (values.len() as f64).sqrt(), "{shape:?} {key}: {mean}");
}

#[test]
fn first_weights_fill_the_limits_of_keras() {
    let path = golden::fixture("probes/ops/initializers.json");
    for row in keras::list(&golden::json(&path)["rows"]) {
        check_limit(row, "glorot_uniform_limit", Initializer::GlorotUniform);
        check_limit(row, "he_uniform_limit", Initializer::HeUniform);
        let shape: Vec<usize> = keras::list(&row["shape"]).iter().map(keras::count).collect();
        let deviation = keras::number(&row["random_normal_stddev"]);
        let values = kernel(&one_layer(&shape, Initializer::Normal { deviation }));
        let squares: f64 = values.iter().map(|value| value * value).sum();
        let found = (squares / values.len() as f64).sqrt();
        let spread = 3.0 * deviation / (2.0 * values.len() as f64).sqrt();
        assert!((found - deviation).abs() < spread, "{shape:?}: {found}");
    }
}
