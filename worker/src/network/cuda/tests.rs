use super::*;
use crate::network::{Batch, Pass};
use glmeval_common::network::{
    Activation, Draws, Extent, Initializer, JoinAxis, LayerKind, LayerSpec, Loss, NetworkSpec,
    Padding,
};

const LENGTH: usize = 12;
const CHANNELS: usize = 3;
const EXAMPLES: usize = 7;

fn layer(name: &str, inputs: &[&str], kind: LayerKind) -> LayerSpec {
    let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
    LayerSpec { name: name.to_owned(), inputs, kind }
}

fn conv(filters: usize, kernel: usize, activation: Activation, l2: f64) -> LayerKind {
    let (dilation, padding, initializer) = (1, Padding::Same, Initializer::GlorotUniform);
    LayerKind::Conv1d {
        filters,
        kernel,
        dilation,
        padding,
        bias: true,
        activation,
        initializer,
        l2,
    }
}

/// Every kind of layer that a device trains, a value with several readers, dropouts that drop.
fn network() -> Network {
    use Activation::{Exponential, Gelu, Linear, Silu, Softmax};
    const NORM: LayerKind = LayerKind::BatchNorm { momentum: 0.9, epsilon: 1e-3 };
    let function = |function| LayerKind::Activation { function };
    let dense = |units, activation| LayerKind::Dense {
        units,
        bias: true,
        activation,
        initializer: Initializer::HeUniform,
        l2: 0.0,
    };
    let layers = vec![
        layer("input_norm", &["x"], NORM),
        layer("reduce", &["input_norm"], conv(4, 1, Linear, 0.0)),
        layer("norm", &["reduce"], NORM),
        layer("silu", &["norm"], function(Silu)),
        layer("drop_a", &["silu"], LayerKind::Dropout { rate: 0.2 }),
        layer("conv", &["drop_a"], conv(4, 3, Gelu, 1e-3)),
        layer("sum", &["drop_a", "conv", "conv"], LayerKind::Add),
        layer("pad", &["sum"], LayerKind::ZeroPad { before: 1, after: 2 }),
        layer("spline", &["pad"], LayerKind::SplineWeights { bases: 5, degree: 3 }),
        layer("longer", &["spline", "sum"], LayerKind::Concatenate { axis: JoinAxis::Length }),
        layer("layer_norm", &["longer"], LayerKind::LayerNorm { epsilon: 1e-3 }),
        layer("softmax", &["layer_norm"], function(Softmax)),
        layer("block", &["softmax"], NORM),
        layer("exponential", &["block"], function(Exponential)),
        layer("drop_b", &["exponential"], LayerKind::Dropout { rate: 0.3 }),
        layer("max", &["drop_b"], LayerKind::MaxPool { size: 2 }),
        layer("drop_c", &["max"], LayerKind::Dropout { rate: 0.1 }),
        layer("mean", &["drop_c"], LayerKind::AveragePool { size: 3 }),
        layer("flat", &["mean"], LayerKind::Flatten),
        layer("global", &["softmax"], LayerKind::GlobalAveragePool),
        layer("heads", &["flat", "global"], LayerKind::Concatenate { axis: JoinAxis::Channels }),
        layer("dense", &["heads"], dense(6, Linear)),
        layer("drop_d", &["dense"], LayerKind::Dropout { rate: 0.5 }),
        layer("unread", &["dense"], dense(3, Linear)),
        layer("output", &["drop_d"], dense(2, Activation::Sigmoid)),
    ];
    let extent = Extent::Sequence { length: LENGTH, channels: CHANNELS };
    let spec = NetworkSpec { inputs: vec!["x".to_owned()], layers };
    Network::new(spec.resolve(&[extent]).unwrap(), Loss::BinaryCrossEntropy, Precision::F32)
        .unwrap()
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.77).sin() * 1.5 + 0.2).collect()
}

fn close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * scale, "{name}: {found} {expected}");
    }
}

/// Trains three epochs of batches of three, three and one.
fn train(gpu: &Gpu, network: &Network, state: &NetworkState) -> (DeviceFit, Vec<f64>) {
    let inputs = values(EXAMPLES * LENGTH * CHANNELS);
    let targets: Vec<f32> = (0..2 * EXAMPLES).map(|i| (i % 3) as f32 / 2.0).collect();
    let inputs = vec![DeviceInput::F32(DeviceArray::from_slice(gpu, &inputs).unwrap())];
    let targets = DeviceArray::from_slice(gpu, &targets).unwrap();
    let examples = Arc::new(DeviceExamples { count: EXAMPLES, inputs, targets });
    let settings = DeviceSettings {
        optimizer: Adam::KERAS,
        dropout_seed: 5,
        batch_size: 3,
        class: ConvClass::F32,
    };
    let mut fit = DeviceFit::new(gpu, (network, state), examples, settings).unwrap();
    let mut losses = Vec::new();
    for epoch in 0..3 {
        fit.begin_epoch(&order(epoch), 1e-3).unwrap();
        (0..fit.batches_per_epoch()).for_each(|_| fit.step().unwrap());
        assert!(fit.step().is_err(), "the epoch is over");
        losses.extend(fit.losses().unwrap());
    }
    (fit, losses)
}

fn order(epoch: usize) -> Vec<u32> {
    (0..EXAMPLES).map(|i| ((i * 3 + epoch) % EXAMPLES) as u32).collect()
}

#[test]
fn epochs_on_a_device_are_those_on_the_cpu_with_the_same_masks() {
    let (gpu, network) = (Gpu::for_tests().unwrap(), network());
    let mut state = NetworkState::draw(&network, Draws::Independent, 3);
    let (mut fit, losses) = train(&gpu, &network, &state);
    let mut found = state.clone();
    fit.read_state(&mut found).unwrap();
    let (example, inputs) = (LENGTH * CHANNELS, values(EXAMPLES * LENGTH * CHANNELS));
    let mut pass = Pass::new(&network).unwrap();
    let mut expected = Vec::new();
    for epoch in 0..3 {
        for batch in order(epoch).chunks(3) {
            let own = |&n: &u32| inputs[n as usize * example..][..example].to_vec();
            let x: Vec<f32> = batch.iter().flat_map(own).collect();
            let targets = |&n: &u32| [2 * n, 2 * n + 1].map(|i| (i % 3) as f32 / 2.0);
            let targets: Vec<f32> = batch.iter().flat_map(targets).collect();
            let batch = Batch { rows: batch.len(), inputs: &[&x], targets: &targets, sums: &[] };
            let known = (&network, &mut state);
            expected.push(pass.train(known, &batch, &Adam::KERAS, 1e-3, 5).unwrap().loss);
        }
    }
    for (found, expected) in losses.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4 * expected, "{losses:?} {expected:?}");
    }
    assert_eq!((losses.len(), found.step()), (expected.len(), state.step()));
    for ((shape, found), (_, expected)) in found.weights().zip(state.weights()) {
        // What a normalisation takes away again has a gradient of rounding noise, which moves it by up to the rate a step.
        const NOISY: [&str; 4] =
            ["input_norm/beta", "conv/bias", "reduce/bias", "norm/moving_mean"];
        if NOISY.contains(&shape.name.as_str()) {
            let steps = losses.len() as f32;
            let is_near = |(x, y): (&f32, &f32)| (x - y).abs() <= 2.0 * steps * 1e-3;
            assert!(found.iter().zip(expected).all(is_near), "{}", shape.name);
        } else {
            close(&shape.name, found, expected, 2e-3);
        }
    }
    let mut expected = Vec::new();
    pass.predict(&found, EXAMPLES, &[&inputs], &mut expected).unwrap();
    let inputs = vec![DeviceInput::F32(DeviceArray::from_slice(&gpu, &inputs).unwrap())];
    let targets = DeviceArray::zeros(&gpu, 2 * EXAMPLES).unwrap();
    let examples = DeviceExamples { count: EXAMPLES, inputs, targets };
    let (_, predicted) = fit.predict(&network, &examples).unwrap();
    close("predictions", &predicted, &expected, 1e-5);
}

#[test]
fn the_same_fit_gives_the_same_bytes_again() {
    let (gpu, network) = (Gpu::for_tests().unwrap(), network());
    let state = NetworkState::draw(&network, Draws::Independent, 3);
    let run = || {
        let (fit, losses) = train(&gpu, &network, &state);
        let mut found = state.clone();
        fit.read_state(&mut found).unwrap();
        (losses, found.snapshot())
    };
    assert_eq!(run(), run());
}
