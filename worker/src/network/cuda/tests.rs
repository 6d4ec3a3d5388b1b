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

fn targets() -> Vec<f32> {
    (0..2 * EXAMPLES).map(|i| (i % 3) as f32 / 2.0).collect()
}

fn settings() -> DeviceSettings {
    DeviceSettings {
        optimizer: Adam::KERAS,
        dropout_seed: 5,
        batch_size: 3,
        epoch_rows: EXAMPLES,
        class: ConvClass::F32,
        keeps_predictions: true,
    }
}

/// All examples on the device.
fn examples(gpu: &Gpu) -> Arc<DeviceExamples> {
    let mut all =
        DeviceExamples::new(gpu, EXAMPLES, &[LENGTH * CHANNELS], DeviceNumber::F32).unwrap();
    let values = values(EXAMPLES * LENGTH * CHANNELS);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (first, rest) = bytes.split_at(2 * 4 * LENGTH * CHANNELS);
    all.write(2, rest).unwrap();
    all.write(0, first).unwrap();
    assert!(all.write(EXAMPLES, first).is_err() && all.write(0, &first[1..]).is_err());
    Arc::new(all)
}

/// Trains three epochs of batches of three, three and one.
fn train(gpu: &Gpu, network: &Network, state: &NetworkState) -> (DeviceFit, Vec<f64>) {
    let known = (examples(gpu), &targets()[..]);
    let mut fit = DeviceFit::new(gpu, (network, state), known, settings()).unwrap();
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
    let all: Vec<u32> = (0..EXAMPLES as u32).collect();
    let (_, predicted) = fit.predict(&all).unwrap();
    close("predictions", &predicted, &expected, 1e-5);
}

/// The batches of an epoch, their inputs and targets.
fn batches(epoch: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let (inputs, targets, order) = (values(EXAMPLES * LENGTH * CHANNELS), targets(), order(epoch));
    let rows = |all: &[f32], rows: &[u32]| -> Vec<f32> {
        let width = all.len() / EXAMPLES;
        rows.iter().flat_map(|&row| &all[row as usize * width..][..width]).copied().collect()
    };
    order.chunks(3).map(|batch| (rows(&inputs, batch), rows(&targets, batch))).collect()
}

#[test]
fn batches_that_are_given_one_by_one_leave_the_bytes_of_examples_that_are_held() {
    let (gpu, network) = (Gpu::for_tests().unwrap(), network());
    let state = NetworkState::draw(&network, Draws::Independent, 3);
    let (mut held, losses) = train(&gpu, &network, &state);
    let mut fit = DeviceFit::streamed(&gpu, (&network, &state), settings()).unwrap();
    let places: Vec<u32> = (0..EXAMPLES as u32).map(|place| place % 3).collect();
    let mut found = Vec::new();
    for epoch in 0..3 {
        fit.begin_epoch(&places, 1e-3).unwrap();
        for (inputs, targets) in batches(epoch) {
            fit.fill(&[&inputs], &targets).unwrap();
            fit.step().unwrap();
        }
        found.extend(fit.losses().unwrap());
    }
    assert_eq!(found, losses);
    assert_eq!(fit.step_predictions().unwrap(), held.step_predictions().unwrap());
    let mut states = [state.clone(), state];
    for (fit, state) in [&mut fit, &mut held].into_iter().zip(&mut states) {
        fit.read_state(state).unwrap();
    }
    assert_eq!(states[0].snapshot(), states[1].snapshot());
    fit.begin_predictions(&places).unwrap();
    for (inputs, targets) in batches(2) {
        fit.fill(&[&inputs], &targets).unwrap();
        fit.predict_batch().unwrap();
    }
    assert_eq!(fit.end_predictions().unwrap(), held.predict(&order(2)).unwrap());
}

#[test]
fn a_fit_goes_on_from_a_state_that_it_is_given() {
    let (gpu, network) = (Gpu::for_tests().unwrap(), network());
    let first = NetworkState::draw(&network, Draws::Independent, 3);
    let other = NetworkState::draw(&network, Draws::Independent, 4);
    let known = |state| {
        let examples = (examples(&gpu), &targets()[..]);
        DeviceFit::new(&gpu, (&network, state), examples, settings()).unwrap()
    };
    let epoch = |fit: &mut DeviceFit, state: &mut NetworkState| {
        fit.begin_epoch(&order(0), 1e-3).unwrap();
        (0..3).for_each(|_| fit.step().unwrap());
        fit.read_state(state).unwrap();
    };
    let (mut states, mut fits) = ([other.clone(), other.clone()], [known(&other), known(&first)]);
    epoch(&mut fits[1], &mut first.clone());
    fits[1].hold(&other).unwrap();
    for (fit, state) in fits.iter_mut().zip(&mut states) {
        epoch(fit, state);
    }
    assert_eq!(states[0].snapshot(), states[1].snapshot());
    let best = states[0].copy_weights();
    epoch(&mut fits[0], &mut states[0]);
    let later = fits[0].predict(&[0, 1]).unwrap();
    states[0].set_weights(best).unwrap();
    fits[0].hold(&states[0]).unwrap();
    let restored = fits[0].predict(&[0, 1]).unwrap();
    assert_ne!(later, restored);
    assert_eq!(restored, fits[1].predict(&[0, 1]).unwrap());
}

#[test]
fn a_network_is_trained_on_devices_unless_a_layer_or_its_precision_is_not() {
    let spec = |kind: LayerKind| {
        let layers = vec![layer("map", &["x"], kind), layer("flat", &["map"], LayerKind::Flatten)];
        let extent = Extent::Sequence { length: LENGTH, channels: CHANNELS };
        NetworkSpec { inputs: vec!["x".to_owned()], layers }.resolve(&[extent]).unwrap()
    };
    let depthwise = spec(LayerKind::DepthwiseConv1d {
        kernel: 3,
        dilation: 1,
        padding: Padding::Same,
        bias: true,
        initializer: Initializer::GlorotUniform,
    });
    let plain = spec(conv(4, 3, Activation::Gelu, 0.0));
    let training = |precision, batch_rows| TrainingSpec {
        loss: Loss::MeanSquaredError,
        learning_rate: 1e-3,
        adam: Adam::KERAS,
        batch_rows,
        epochs_max: 1,
        order: glmeval_common::network::ExampleOrder::Stored,
        monitor: glmeval_common::network::Monitor::Loss,
        stop_patience: None,
        restore: glmeval_common::network::Restore::Always,
        plateau: None,
        draws: Draws::Independent,
        precision,
    };
    let is_trained =
        |network, precision, rows| is_trained_on_devices(network, &training(precision, rows));
    assert!(is_trained(&plain, Precision::F32, 128) && is_trained(&plain, Precision::Tf32, 128));
    assert!(!is_trained(&plain, Precision::Bf16, 128));
    assert!(!is_trained(&plain, Precision::F32, 70_000), "more rows than a launch has");
    assert!(!is_trained(&depthwise, Precision::F32, 128));
    let class = |kind| crate::training_class_on(kind, &plain, &training(Precision::Tf32, 8));
    assert_eq!(class("cpu"), None);
    assert!(class("cuda-sm90").unwrap().starts_with("tf32.cuda-sm90."));
}

#[test]
fn the_same_fit_gives_the_same_bytes_again() {
    let (gpu, network) = (Gpu::for_tests().unwrap(), network());
    let state = NetworkState::draw(&network, Draws::Independent, 3);
    let run = || {
        let (mut fit, losses) = train(&gpu, &network, &state);
        let mut found = state.clone();
        fit.read_state(&mut found).unwrap();
        (losses, found.snapshot())
    };
    assert_eq!(run(), run());
}
