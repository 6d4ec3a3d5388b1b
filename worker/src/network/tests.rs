use super::*;
use crate::network::plan::Plan;
use glmeval_common::network::{
    Activation, Adam, Draws, Extent, Initializer, JoinAxis, LayerKind, LayerSpec, NetworkSpec,
    Padding, WeightRole,
};
use glmeval_common::rng::Rng;

const ROWS: usize = 5;
const LENGTH: usize = 12;
const CHANNELS: usize = 3;

fn layer(name: &str, inputs: &[&str], kind: LayerKind) -> LayerSpec {
    let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
    LayerSpec { name: name.to_owned(), inputs, kind }
}

fn conv(filters: usize, kernel: usize, dilation: usize, activation: Activation) -> LayerKind {
    LayerKind::Conv1d {
        filters,
        kernel,
        dilation,
        padding: Padding::Same,
        bias: true,
        activation,
        initializer: Initializer::GlorotUniform,
        l2: 1e-3,
    }
}

fn dense(units: usize, activation: Activation) -> LayerKind {
    let initializer = Initializer::HeUniform;
    LayerKind::Dense { units, bias: true, activation, initializer, l2: 0.0 }
}

const NORM: LayerKind = LayerKind::BatchNorm { momentum: 0.9, epsilon: 1e-3 };

fn function(function: Activation) -> LayerKind {
    LayerKind::Activation { function }
}

fn dropout(rate: f64) -> LayerKind {
    LayerKind::Dropout { rate }
}

fn sequence(length: usize, channels: usize) -> Extent {
    Extent::Sequence { length, channels }
}

fn resolve(inputs: &[&str], extents: &[Extent], layers: Vec<LayerSpec>) -> ResolvedNetwork {
    let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
    NetworkSpec { inputs, layers }.resolve(extents).unwrap()
}

/// Two inputs, a value that three layers read, both joins, every function, every pool.
fn everything() -> Network {
    use Activation::{Exponential, Gelu, Relu, Silu, Softmax, Tanh};
    let depthwise = LayerKind::DepthwiseConv1d {
        kernel: 4,
        dilation: 2,
        padding: Padding::Same,
        bias: true,
        initializer: Initializer::GlorotUniform,
    };
    let layers = vec![
        layer("input_norm", &["a"], NORM),
        layer("reduce", &["input_norm"], conv(4, 1, 1, Activation::Linear)),
        layer("other", &["b"], conv(4, 2, 1, Tanh)),
        layer("side", &["reduce", "other"], LayerKind::Concatenate { axis: JoinAxis::Channels }),
        layer("norm", &["side"], NORM),
        layer("silu", &["norm"], function(Silu)),
        layer("drop_a", &["silu"], dropout(0.2)),
        layer("conv", &["drop_a"], conv(8, 3, 2, Gelu)),
        layer("depthwise", &["drop_a"], depthwise),
        layer("sum", &["drop_a", "conv", "depthwise", "conv"], LayerKind::Add),
        layer("pad", &["sum"], LayerKind::ZeroPad { before: 1, after: 2 }),
        layer("spline", &["pad"], LayerKind::SplineWeights { bases: 5, degree: 3 }),
        layer("longer", &["spline", "sum"], LayerKind::Concatenate { axis: JoinAxis::Length }),
        layer("layer_norm", &["longer"], LayerKind::LayerNorm { epsilon: 1e-3 }),
        layer("softmax", &["layer_norm"], function(Softmax)),
        layer("block", &["softmax"], NORM),
        layer("exponential", &["block"], function(Exponential)),
        layer("drop_b", &["exponential"], dropout(0.3)),
        layer("max", &["drop_b"], LayerKind::MaxPool { size: 2 }),
        layer("drop_c", &["max"], dropout(0.1)),
        layer("mean", &["drop_c"], LayerKind::AveragePool { size: 3 }),
        layer("flat", &["mean"], LayerKind::Flatten),
        layer("global", &["softmax"], LayerKind::GlobalAveragePool),
        layer("heads", &["flat", "global"], LayerKind::Concatenate { axis: JoinAxis::Channels }),
        layer("dense", &["heads"], dense(6, Relu)),
        layer("unread", &["dense"], dense(3, Tanh)),
        layer("output", &["dense"], dense(2, Activation::Sigmoid)),
    ];
    let extents = [sequence(LENGTH, CHANNELS), sequence(LENGTH, CHANNELS)];
    let resolved = resolve(&["a", "b"], &extents, layers);
    Network::new(resolved, Loss::BinaryCrossEntropy, Precision::F32).unwrap()
}

/// A block of every part, a folded normalisation, a dense head.
fn blocks(loss: Loss) -> Network {
    let layers = vec![
        layer("input_norm", &["x"], NORM),
        layer("reduce", &["input_norm"], conv(5, 1, 1, Activation::Linear)),
        layer("norm", &["reduce"], NORM),
        layer("relu", &["norm"], function(Activation::Relu)),
        layer("pool", &["relu"], LayerKind::MaxPool { size: 3 }),
        layer("drop", &["pool"], dropout(0.25)),
        layer("flat", &["drop"], LayerKind::Flatten),
        layer("output", &["flat"], dense(2, Activation::Linear)),
    ];
    let resolved = resolve(&["x"], &[sequence(LENGTH, CHANNELS)], layers);
    Network::new(resolved, loss, Precision::F32).unwrap()
}

/// A convolution that is composed with the one before it; with `norm`, both with a normalisation.
fn composed(norm: bool, padding: Padding) -> Network {
    let with = |mut kind: LayerKind, wanted: Padding, has_bias: bool| {
        if let LayerKind::Conv1d { padding, bias, .. } = &mut kind {
            (*padding, *bias) = (wanted, has_bias);
        }
        kind
    };
    let reduce = with(conv(8, 1, 1, Activation::Linear), Padding::Same, norm);
    let wide = with(conv(6, 3, 2, Activation::Tanh), padding, !norm);
    let mut layers = vec![
        layer("reduce", &[if norm { "input_norm" } else { "x" }], reduce),
        layer("wide", &["reduce"], wide),
        layer("flat", &["wide"], LayerKind::Flatten),
        layer("output", &["flat"], dense(2, Activation::Linear)),
    ];
    if norm {
        layers.insert(0, layer("input_norm", &["x"], NORM));
    }
    let resolved = resolve(&["x"], &[sequence(LENGTH, CHANNELS)], layers);
    Network::new(resolved, Loss::MeanSquaredError, Precision::F32).unwrap()
}

fn all_composed() -> [Network; 4] {
    let (same, valid) = (Padding::Same, Padding::Valid);
    [(true, same), (true, valid), (false, same), (false, valid)]
        .map(|(norm, padding)| composed(norm, padding))
}

/// Inputs and targets of `rows` examples.
struct Examples {
    rows: usize,
    inputs: Vec<Vec<f32>>,
    targets: Vec<f32>,
}

impl Examples {
    fn new(network: &Network, rows: usize, seed: u64) -> Self {
        let mut rng = Rng::derive(seed, "examples");
        let mut normal = |count: usize| (0..count).map(|_| rng.normal() as f32).collect();
        let extents = network.resolved().inputs.iter();
        let inputs: Vec<Vec<f32>> = extents.map(|extent| normal(rows * extent.values())).collect();
        let targets: Vec<f32> = normal(rows * network.targets_per_example());
        let targets = targets.iter().map(|&y| f32::from(u8::from(y > 0.0))).collect();
        Self { rows, inputs, targets }
    }

    fn slices(&self) -> Vec<&[f32]> {
        self.inputs.iter().map(Vec::as_slice).collect()
    }

    fn train(&self, pass: &mut Pass, network: &Network, state: &mut NetworkState) -> f64 {
        let inputs = self.slices();
        let batch = Batch { rows: self.rows, inputs: &inputs, targets: &self.targets, sums: &[] };
        pass.train((network, state), &batch, &Adam::KERAS, 1e-2, 11).unwrap().loss
    }

    fn predict(&self, pass: &mut Pass, state: &NetworkState) -> Vec<f32> {
        let mut found = Vec::new();
        pass.predict(state, self.rows, &self.slices(), &mut found).unwrap();
        found
    }
}

fn draw(network: &Network, seed: u64) -> NetworkState {
    NetworkState::draw(network, Draws::Independent, seed)
}

/// A state whose every weight differs from where it starts.
fn scattered(network: &Network, seed: u64) -> NetworkState {
    let mut state = draw(network, seed);
    let mut rng = Rng::derive(seed, "scatter");
    let mut weights = state.copy_weights();
    for value in weights.iter_mut().flatten() {
        *value += 0.2 * rng.uniform() as f32;
    }
    state.set_weights(weights).unwrap();
    state
}

/// Loss of a training pass with weights moved along `direction`.
fn loss_along(network: &Network, state: &NetworkState, examples: &Examples, far: f32) -> f64 {
    let mut moved = state.copy_weights();
    let shapes = &network.resolved().weights;
    for (shape, values) in shapes.iter().zip(&mut moved) {
        let mut rng = Rng::derive(5, &shape.name);
        for value in values.iter_mut().filter(|_| shape.role.is_trained()) {
            *value += far * rng.normal() as f32;
        }
    }
    let mut state = state.clone();
    state.set_weights(moved).unwrap();
    examples.train(&mut Pass::new(network).unwrap(), network, &mut state)
}

#[test]
fn gradients_are_slopes_of_the_loss_whatever_the_layers() {
    let networks = [everything(), blocks(Loss::MeanSquaredError)];
    for network in networks.into_iter().chain(all_composed()) {
        let state = scattered(&network, 3);
        let examples = Examples::new(&network, ROWS, 4);
        let mut pass = Pass::new(&network).unwrap();
        examples.train(&mut pass, &network, &mut state.clone());
        let mut slope = 0.0;
        for (shape, gradient) in pass.gradients(&network) {
            let mut rng = Rng::derive(5, &shape.name);
            slope += gradient.iter().map(|&g| f64::from(g) * rng.normal()).sum::<f64>();
        }
        // Sharp blocks curve, so a long way is no slope, and a short one is noise: some way is neither.
        let slopes = [1e-3, 3e-4, 1e-4, 3e-5].map(|far: f32| {
            let up = loss_along(&network, &state, &examples, far);
            let down = loss_along(&network, &state, &examples, -far);
            (up - down) / f64::from(2.0 * far)
        });
        let agrees = |expected: &f64| (slope - expected).abs() < 2e-3 * expected.abs() + 1e-3;
        assert!(slopes.iter().any(agrees), "{slope} {slopes:?}");
    }
}

#[test]
fn gradients_of_inputs_are_slopes_of_predictions() {
    let network = everything();
    let state = scattered(&network, 3);
    let examples = Examples::new(&network, ROWS, 4);
    let mut pass = Pass::new(&network).unwrap();
    let slopes = pass.input_gradient((&network, &state), ROWS, &examples.slices(), 1).unwrap();
    let sum = |far: f32, pass: &mut Pass| {
        let mut rng = Rng::derive(9, "direction");
        let mut moved = Examples::new(&network, ROWS, 4);
        for value in moved.inputs.iter_mut().flatten() {
            *value += far * rng.normal() as f32;
        }
        moved.predict(pass, &state).iter().skip(1).step_by(2).map(|&p| f64::from(p)).sum::<f64>()
    };
    let far = 1e-3;
    let expected = (sum(far, &mut pass) - sum(-far, &mut pass)) / f64::from(2.0 * far);
    let mut rng = Rng::derive(9, "direction");
    let slope: f64 = slopes.iter().flatten().map(|&g| f64::from(g) * rng.normal()).sum();
    assert!((slope - expected).abs() < 2e-3 * expected.abs() + 1e-3, "{slope} {expected}");
}

#[test]
fn plans_form_no_normalised_input_and_join_blocks() {
    let plan = Plan::new(blocks(Loss::MeanSquaredError).resolved(), Loss::MeanSquaredError, false);
    assert_eq!(plan.nodes.len(), 3, "{:?}", plan.nodes);
    let whole = Plan::new(blocks(Loss::MeanSquaredError).resolved(), Loss::MeanSquaredError, true);
    assert_eq!(whole.nodes.len(), 4, "{:?}", whole.nodes);
}

#[test]
fn plans_compose_products_where_shapes_make_it_cheaper() {
    let count = |network: &Network, input_gradients: bool| {
        let plan = Plan::new(network.resolved(), Loss::MeanSquaredError, input_gradients);
        plan.nodes.len()
    };
    for network in all_composed() {
        let norms = network.resolved().layers.len() - 4;
        let counts = [false, true].map(|input_gradients| count(&network, input_gradients));
        // The wide product with its function, and the output.
        assert_eq!(counts, [3, 4 + norms]);
    }
    let narrow = |filters: usize, last: Option<LayerSpec>| {
        let mut layers = vec![
            layer("reduce", &["x"], conv(filters, 1, 1, Activation::Linear)),
            layer("second", &["reduce"], conv(8, 3, 1, Activation::Linear)),
        ];
        layers.extend(last);
        let resolved = resolve(&["x"], &[sequence(LENGTH, CHANNELS)], layers);
        count(&Network::new(resolved, Loss::MeanSquaredError, Precision::F32).unwrap(), false)
    };
    assert_eq!(narrow(8, None), 1);
    assert_eq!(narrow(2, None), 2, "it would cost more");
    let both = layer("both", &["second", "reduce"], LayerKind::Add);
    assert_eq!(narrow(8, Some(both)), 3, "another layer reads what the first gives");
}

#[test]
fn joined_and_whole_passes_agree() {
    for network in all_composed().into_iter().chain([blocks(Loss::MeanSquaredError)]) {
        let examples = Examples::new(&network, ROWS, 2);
        let passes = [Pass::new(&network), Pass::with_input_gradients(&network)];
        let found = passes.map(|pass| {
            let mut pass = pass.unwrap();
            let mut state = scattered(&network, 1);
            let given = examples.predict(&mut pass, &state);
            examples.train(&mut pass, &network, &mut state);
            let gradients = pass.gradients(&network).flat_map(|(_, gradient)| gradient);
            let moving = state.weights().filter(|(shape, _)| !shape.role.is_trained());
            let moving = moving.flat_map(|(_, values)| values);
            let trained = gradients.chain(moving).chain(pass.predictions());
            let found: Vec<f32> = given.iter().chain(trained).copied().collect();
            found
        });
        assert_eq!(found[0].len(), found[1].len());
        for (joined, whole) in found[0].iter().zip(&found[1]) {
            assert!((joined - whole).abs() < 1e-5 * whole.abs().max(1.0), "{joined} {whole}");
        }
    }
}

/// Weights and predictions after a few steps on batches of two sizes.
fn run(network: &Network) -> Vec<Vec<f32>> {
    let (large, small) = (Examples::new(network, 7, 1), Examples::new(network, 2, 2));
    let mut pass = Pass::new(network).unwrap();
    let mut state = draw(network, 6);
    for examples in [&large, &small, &large] {
        examples.train(&mut pass, network, &mut state);
    }
    let mut found = state.copy_weights();
    found.push(large.predict(&mut pass, &state));
    found
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for network in [everything(), composed(true, Padding::Same)] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&network))
        };
        let one = with(1);
        assert_eq!(one, with(2));
        assert_eq!(one, with(3));
    }
}

#[test]
fn states_that_share_a_pass_are_trained_as_if_alone() {
    let network = everything();
    let examples = Examples::new(&network, ROWS, 8);
    let alone = [1, 2].map(|seed| {
        let (mut pass, mut state) = (Pass::new(&network).unwrap(), draw(&network, seed));
        (0..3).for_each(|_| {
            examples.train(&mut pass, &network, &mut state);
        });
        state
    });
    let mut pass = Pass::new(&network).unwrap();
    let mut shared = [1, 2].map(|seed| draw(&network, seed));
    for _ in 0..3 {
        for state in &mut shared {
            examples.train(&mut pass, &network, state);
            examples.predict(&mut pass, state);
        }
    }
    assert!(alone == shared);
}

#[test]
fn predictions_are_those_of_the_weights_that_stand() {
    let network = everything();
    let examples = Examples::new(&network, ROWS, 8);
    let mut pass = Pass::new(&network).unwrap();
    let mut state = draw(&network, 1);
    let fresh = |state: &NetworkState| examples.predict(&mut Pass::new(&network).unwrap(), state);
    for seed in [2, 3] {
        let other = scattered(&network, seed);
        assert_eq!(examples.predict(&mut pass, &state), fresh(&state));
        assert_eq!(examples.predict(&mut pass, &other), fresh(&other));
        examples.train(&mut pass, &network, &mut state);
        assert_eq!(examples.predict(&mut pass, &state), fresh(&state));
        state.set_weights(other.copy_weights()).unwrap();
        assert_eq!(examples.predict(&mut pass, &state), fresh(&other));
        assert_eq!(examples.predict(&mut pass, &state), fresh(&state));
    }
}

#[test]
fn restored_states_go_on_as_if_never_stored() {
    let network = everything();
    let examples = Examples::new(&network, ROWS, 8);
    let mut pass = Pass::new(&network).unwrap();
    let mut state = draw(&network, 1);
    examples.train(&mut pass, &network, &mut state);
    let mut restored = draw(&network, 2);
    let mut stored = state.snapshot();
    restored.restore(&stored).unwrap();
    examples.train(&mut pass, &network, &mut state);
    examples.train(&mut pass, &network, &mut restored);
    assert!(state == restored && state.step() == 2);
    stored.arrays.insert("first/output/kernel".to_owned(), vec![0.0; 3]);
    let error = restored.restore(&stored).unwrap_err().to_string();
    assert!(error.contains("first/output/kernel") && error.contains("found 3 values"), "{error}");
    assert!(state == restored, "a refused state changes nothing");
}

#[test]
fn layers_that_nothing_reads_are_neither_computed_nor_trained() {
    let network = everything();
    let examples = Examples::new(&network, ROWS, 8);
    let (mut pass, first) = (Pass::new(&network).unwrap(), draw(&network, 1));
    let mut state = first.clone();
    examples.train(&mut pass, &network, &mut state);
    for ((shape, before), (_, after)) in first.weights().zip(state.weights()) {
        assert_eq!(before == after, shape.name.starts_with("unread/"), "{}", shape.name);
    }
    assert!(pass.gradients(&network).all(|(shape, _)| !shape.name.starts_with("unread/")));
}

#[test]
fn losses_that_are_no_numbers_are_seen_and_not_refused() {
    for loss in [Loss::MeanSquaredError, Loss::BinaryCrossEntropy, Loss::SplicingDivergence] {
        let network = blocks(loss);
        let mut examples = Examples::new(&network, ROWS, 8);
        examples.inputs[0][3] = f32::NAN;
        let (mut pass, mut state) = (Pass::new(&network).unwrap(), draw(&network, 1));
        assert!(examples.train(&mut pass, &network, &mut state).is_nan(), "{loss:?}");
        assert!(examples.train(&mut pass, &network, &mut state).is_nan(), "{loss:?}");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let network = blocks(Loss::MeanSquaredError);
    let (mut pass, mut state) = (Pass::new(&network).unwrap(), draw(&network, 1));
    let examples = Examples::new(&network, ROWS, 8);
    let inputs = examples.slices();
    let targets = examples.targets.as_slice();
    let cases = [
        (ROWS + 1, inputs.clone(), targets),
        (ROWS, inputs.clone(), &targets[1..]),
        (ROWS, [inputs.clone(), inputs.clone()].concat(), targets),
        (0, vec![&[][..]], &[][..]),
        (usize::MAX, inputs, targets),
    ];
    for (rows, inputs, targets) in cases {
        let batch = Batch { rows, inputs: &inputs, targets, sums: &[] };
        let result = pass.train((&network, &mut state), &batch, &Adam::KERAS, 1e-2, 0);
        assert!(result.is_err(), "{rows} rows");
    }
    assert_eq!(state.step(), 0);
    let mut found = vec![1.0];
    pass.predict(&state, 0, &[&[]], &mut found).unwrap();
    assert!(found.is_empty());
}

#[test]
fn memory_is_asked_for_once() {
    let network = everything();
    let (large, small) = (Examples::new(&network, 7, 1), Examples::new(&network, 2, 2));
    let (mut pass, mut state) = (Pass::new(&network).unwrap(), draw(&network, 6));
    let mut held = Vec::new();
    for _ in 0..3 {
        for examples in [&large, &small] {
            examples.train(&mut pass, &network, &mut state);
            examples.predict(&mut pass, &state);
        }
        held.push(pass.held_values());
    }
    assert!(held[0] > 0 && held[1] == held[0] && held[2] == held[0], "{held:?}");
}

#[test]
fn sums_of_examples_stand_for_reading_them() {
    let network = blocks(Loss::MeanSquaredError);
    let examples = Examples::new(&network, ROWS, 8);
    let inputs = examples.slices();
    let shift = [0.1, -0.2, 0.3];
    let mut sums = vec![0.0; ROWS * CHANNELS];
    let mut squares = sums.clone();
    let kernel = glmeval_kernels::ops::batch_norm::example_sums;
    kernel(inputs[0], CHANNELS, &shift, &mut sums, &mut squares).unwrap();
    let given = [Some(InputSums { shift: &shift, sums: &sums, squares: &squares })];
    let found = [&given[..], &[]].map(|sums| {
        let (mut pass, mut state) = (Pass::new(&network).unwrap(), draw(&network, 1));
        let (targets, inputs) = (examples.targets.as_slice(), inputs.as_slice());
        let batch = Batch { rows: ROWS, inputs, targets, sums };
        pass.train((&network, &mut state), &batch, &Adam::KERAS, 1e-2, 0).unwrap();
        let moving = state.weights().filter(|(shape, _)| shape.role == WeightRole::MovingVariance);
        let moving: Vec<f32> = moving.flat_map(|(_, values)| values.to_vec()).collect();
        (moving, pass.predictions().to_vec())
    });
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near(&found[0].0, &found[1].0) && near(&found[0].1, &found[1].1));
    assert_eq!(found[0].0.len(), CHANNELS + 5);
}

#[test]
fn predictions_of_logits_are_their_sigmoid() {
    let logits = blocks(Loss::MeanSquaredError);
    let network = blocks(Loss::BinaryCrossEntropyOfLogits);
    let examples = Examples::new(&network, ROWS, 8);
    let state = draw(&network, 1);
    let plain = examples.predict(&mut Pass::new(&logits).unwrap(), &state);
    let found = examples.predict(&mut Pass::new(&network).unwrap(), &state);
    for (z, p) in plain.iter().zip(found) {
        assert!((1.0 / (1.0 + (-z).exp()) - p).abs() < 1e-6, "{z} {p}");
    }
}

#[test]
fn shared_draws_begin_alike_and_independent_ones_do_not() {
    let network = everything();
    let kernels = |draws| {
        let state = NetworkState::draw(&network, draws, 4);
        ["conv/kernel", "reduce/kernel"].map(|name| {
            let mut weights = state.weights();
            let (_, values) = weights.find(|(shape, _)| shape.name == name).unwrap();
            values.iter().map(|value| value / values[0]).collect::<Vec<f32>>()
        })
    };
    let [long, short] = kernels(Draws::Shared);
    assert!(long.iter().zip(&short).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs()));
    let [long, short] = kernels(Draws::Independent);
    assert!(long.iter().zip(&short).skip(1).any(|(a, b)| (a - b).abs() > 0.1));
}

#[test]
fn pools_that_cannot_be_named_are_refused_with_their_layer() {
    let size = usize::from(u16::MAX) + 1;
    let layers = vec![layer("pool", &["x"], LayerKind::MaxPool { size })];
    let resolved = resolve(&["x"], &[sequence(size, 1)], layers);
    let error = Network::new(resolved, Loss::MeanSquaredError, Precision::F32).unwrap_err();
    assert!(error.to_string().contains("layer pool"), "{error}");
}

#[test]
fn bf16_rounds_products_alone() {
    let exact = blocks(Loss::MeanSquaredError);
    let rounded =
        Network::new(exact.resolved().clone(), Loss::MeanSquaredError, Precision::Bf16).unwrap();
    let examples = Examples::new(&exact, ROWS, 8);
    let state = draw(&exact, 1);
    let [exact, rounded] =
        [exact, rounded].map(|network| examples.predict(&mut Pass::new(&network).unwrap(), &state));
    assert_ne!(exact, rounded);
    assert!(exact.iter().zip(&rounded).all(|(a, b)| (a - b).abs() < 0.05), "{exact:?} {rounded:?}");
}
