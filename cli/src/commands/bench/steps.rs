//! Training steps of probes on random examples, as often as the seconds allow.
//!
//! Leaves out: reading embeddings. Invariant: every step is a whole one: forward, backward, Adam.

use super::timing::measure;
use super::{Arguments, Peak, Printed, Row};
use clap::ValueEnum;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{
    Adam, Architecture, ChipFront, Draws, Extent, Loss, NetworkSpec, ResolvedNetwork, named,
};
use glmeval_common::rng::Rng;
use glmeval_worker::network::{Batch, Network, NetworkState, Pass};

/// Learning rate of the timed steps; it has no part in their cost.
const LEARNING_RATE: f32 = 1e-4;

/// A probe of the study that reads one input.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProbeName {
    /// CNN on a reduced embedding.
    RepCnn,
    /// Two dense layers.
    RepMlp,
    /// Binding CNN on the raw input.
    ChipCnn,
    /// Dilated residual CNN.
    Resnet,
    /// Convolutions with softmax.
    Mprann,
    /// Residual CNN with a mean over positions.
    InsertCnn,
}

/// `BATCHxPOSITIONSxCHANNELS`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct StepShape {
    rows: usize,
    extent: Extent,
}

impl StepShape {
    /// Reads `256x41x2560`.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected BATCHxPOSITIONSxCHANNELS such as 256x41x2560".to_owned();
        let numbers: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
        match numbers.map_err(|_| wrong())?[..] {
            [rows @ 1..=65_536, length @ 1..=1_000_000, channels @ 1..=1_000_000] => {
                Ok(Self { rows, extent: Extent::Sequence { length, channels } })
            }
            _ => Err(wrong()),
        }
    }

    fn name(self) -> String {
        format!("{}x{}x{}", self.rows, self.extent.length(), self.extent.channels())
    }
}

impl ProbeName {
    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }

    fn loss(self) -> Loss {
        match self {
            Self::ChipCnn => Loss::BinaryCrossEntropy,
            _ => Loss::MeanSquaredError,
        }
    }

    fn network(self, extent: Extent, reduce: usize) -> Result<NetworkSpec> {
        let architecture = match self {
            Self::RepCnn => Architecture::RepCnn { factor: 1.0, reduce },
            Self::RepMlp => Architecture::RepMlp { factor: 1.0 },
            Self::ChipCnn => Architecture::ChipCnn { front: ChipFront::Raw },
            Self::Resnet => Architecture::Named(&named::resnet::NETWORK),
            Self::Mprann => Architecture::Named(&named::mprann::NETWORK),
            Self::InsertCnn => Architecture::InsertCnn,
        };
        architecture.network(&[extent], 1)
    }
}

/// Measures one step of `probe` in each precision that is asked for.
pub(super) fn steps(probe: ProbeName, arguments: &Arguments, printed: &mut Printed) -> Result<()> {
    let precision = arguments.precision.map_or(Precision::F32, Precision::from);
    let peak = Peak::measure(precision, arguments.seconds)?;
    for shape in &arguments.shapes {
        let resolved =
            probe.network(shape.extent, arguments.reduce as usize)?.resolve(&[shape.extent])?;
        let mut step = Step::prepare(probe, *shape, &resolved, precision)?;
        let flops = flops(&resolved) * shape.rows as f64;
        let timing = measure(arguments.seconds, || step.run())?;
        let case = format!("{}_{}", probe.name(), shape.name());
        let mut row = Row::new(&peak, "probe", case, flops, &timing);
        let per_second = 1e3 / timing.median_ms.max(1e-9);
        row.seqs_per_s = Some(shape.rows as f64 * per_second);
        row.tokens_per_s = row.seqs_per_s.map(|rate| rate * shape.extent.length() as f64);
        printed.add(row)?;
    }
    Ok(())
}

/// Floating-point operations of one example in one step: three products for every layer, two for
/// the first, whose input needs no gradient.
fn flops(network: &ResolvedNetwork) -> f64 {
    let first = network.layers.iter().map(|layer| layer.products).find(|&products| products > 0);
    6.0 * network.products() as f64 - 2.0 * first.unwrap_or(0) as f64
}

/// All that a step needs.
struct Step {
    network: Network,
    state: NetworkState,
    pass: Pass,
    rows: usize,
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

impl Step {
    fn prepare(
        probe: ProbeName,
        shape: StepShape,
        resolved: &ResolvedNetwork,
        precision: Precision,
    ) -> Result<Self> {
        let network = Network::new(resolved.clone(), probe.loss(), precision)?;
        let state = NetworkState::draw(&network, Draws::Independent, 0);
        let pass = Pass::new(&network)?;
        let mut draws = Rng::derive(0, "bench/steps");
        let inputs = (0..shape.rows * shape.extent.values()).map(|_| draws.normal() as f32);
        let inputs = inputs.collect();
        let is_binary = probe.loss() == Loss::BinaryCrossEntropy;
        let target = |draw: f64| if is_binary { f64::from(draw > 0.0) } else { draw };
        let targets = (0..shape.rows).map(|_| target(draws.normal()) as f32).collect();
        Ok(Self { network, state, pass, rows: shape.rows, inputs, targets })
    }

    fn run(&mut self) -> Result<()> {
        let inputs = [&self.inputs[..]];
        let batch = Batch { rows: self.rows, inputs: &inputs, targets: &self.targets, sums: &[] };
        let Self { pass, network, state, .. } = self;
        let outcome = pass.train((network, state), &batch, &Adam::KERAS, LEARNING_RATE, 0)?;
        if outcome.loss.is_finite() {
            return Ok(());
        }
        Err(Error::bug(format!("a training step's loss is {}", outcome.loss)))
    }
}
