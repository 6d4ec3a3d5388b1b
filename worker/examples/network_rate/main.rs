//! Times training steps and predictions of a convolutional probe: `-- LENGTH CHANNELS ROWS STEPS`, or `-- --device` for steps on
//! a CUDA device as rows of `bench/peers/gpu.py`.
//!
//! Leaves out: reading examples. Invariant: the same arguments train the same weights.

mod device;

use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{
    Activation, Adam, Draws, Extent, Initializer, LayerKind, LayerSpec, Loss, NetworkSpec, Padding,
};
use glmeval_common::rng::Rng;
use glmeval_worker::network::{Batch, Network, NetworkState, Pass};

/// Layers one after the other, each reading the one before.
struct Chain(Vec<LayerSpec>);

impl Chain {
    fn add(&mut self, kind: LayerKind) {
        let before = self.0.last().map_or("x", |layer| &layer.name);
        let inputs = vec![before.to_owned()];
        self.0.push(LayerSpec { name: format!("layer{}", self.0.len()), inputs, kind });
    }

    fn conv(&mut self, filters: usize, kernel: usize) {
        let (dilation, padding, bias) = (1, Padding::Same, true);
        let (activation, initializer, l2) = (Activation::Linear, Initializer::HeUniform, 0.0);
        self.add(LayerKind::Conv1d {
            filters,
            kernel,
            dilation,
            padding,
            bias,
            activation,
            initializer,
            l2,
        });
    }

    fn dense(&mut self, units: usize) {
        let (activation, initializer) = (Activation::Linear, Initializer::GlorotUniform);
        self.add(LayerKind::Dense { units, bias: true, activation, initializer, l2: 0.0 });
    }

    fn norm(&mut self) {
        self.add(LayerKind::BatchNorm { momentum: 0.99, epsilon: 1e-3 });
    }

    fn block(&mut self, function: Activation, pool: Option<usize>, rate: f64) {
        self.norm();
        self.add(LayerKind::Activation { function });
        pool.into_iter().for_each(|size| self.add(LayerKind::MaxPool { size }));
        self.add(LayerKind::Dropout { rate });
    }
}

/// Normalisation, one tap, two convolutions with pools, two dense layers.
fn network(length: usize, channels: usize) -> Result<Network> {
    let mut chain = Chain(Vec::new());
    chain.norm();
    chain.conv(128, 1);
    chain.conv(196, 7);
    chain.block(Activation::Exponential, Some(5), 0.2);
    chain.conv(256, 7);
    chain.block(Activation::Relu, Some(4), 0.2);
    chain.add(LayerKind::Flatten);
    chain.dense(512);
    chain.block(Activation::Relu, None, 0.5);
    chain.dense(256);
    chain.block(Activation::Relu, None, 0.5);
    chain.dense(1);
    let spec = NetworkSpec { inputs: vec!["x".to_owned()], layers: chain.0 };
    let resolved = spec.resolve(&[Extent::Sequence { length, channels }])?;
    Network::new(resolved, Loss::MeanSquaredError, Precision::F32)
}

#[expect(clippy::print_stdout, reason = "an example for people")]
#[expect(clippy::disallowed_methods, reason = "what it measures is time")]
fn main() -> Result<()> {
    if let Some(first) = std::env::args().nth(1).filter(|first| first.starts_with("--")) {
        return device::main(first == "--smoke");
    }
    let mut arguments = std::env::args().skip(1).map_while(|argument| argument.parse().ok());
    let mut next = |default: usize| arguments.next().unwrap_or(default);
    let (length, channels, rows, steps) = (next(41), next(2560), next(64), next(5));
    let network = network(length, channels)?;
    let mut rng = Rng::derive(1, "example");
    let mut draw = |count: usize| (0..count).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
    let (x, targets) = (draw(rows * length * channels), draw(rows));
    let inputs = [x.as_slice()];
    let batch = Batch { rows, inputs: &inputs, targets: &targets, sums: &[] };
    let mut state = NetworkState::draw(&network, Draws::Independent, 1);
    let mut pass = Pass::new(&network)?;
    let mut predictions = Vec::new();
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (mut trained, mut predicted) = (Vec::new(), Vec::new());
    for _ in 0..steps.max(1) {
        let start = std::time::Instant::now();
        let outcome = pass.train((&network, &mut state), &batch, &Adam::KERAS, 1e-4, 1)?;
        trained.push(start.elapsed().as_secs_f64());
        let start = std::time::Instant::now();
        pass.predict(&state, rows, &inputs, &mut predictions)?;
        predicted.push(start.elapsed().as_secs_f64());
        if !outcome.loss.is_finite() {
            return Err(Error::invalid("network_rate: expected a finite loss"));
        }
    }
    let products = network.resolved().products() as f64 * rows as f64;
    let (train, predict) = (best(&trained), best(&predicted));
    println!(
        "{rows} x [{length}, {channels}]: step {:.1} ms ({:.1} Gproducts/s of three forward \
         passes), predict {:.1} ms ({:.1}), {:.1} MiB of activations",
        1e3 * train,
        3e-9 * products / train,
        1e3 * predict,
        1e-9 * products / predict,
        pass.held_values() as f64 * 4.0 / f64::from(1 << 20)
    );
    Ok(())
}
