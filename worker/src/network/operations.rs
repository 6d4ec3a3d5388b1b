//! What every operation of a plan can do: compute its output, and gradients from its output's.
//!
//! Leaves out: formulas (kernels), who is asked when (engine). Invariant: an operation keeps nothing
//! between passes but memory, so it may serve another state next.

use super::plan::{Kind, Node, Plan};
use super::{Network, defect};
use glmeval_common::error::Result;
use glmeval_kernels::error::KernelError;

mod block;
mod composed;
mod elementwise;
mod joining;
mod normalisation;
mod pooling;
mod positional;
mod product;

pub(super) use elementwise::kernel;
pub(super) use product::shape;

/// Sums over each example's positions, so that statistics of a batch need not read the batch.
#[derive(Clone, Copy, Debug)]
pub struct InputSums<'a> {
    /// Subtracted from every position before it is added, `[C]`.
    pub shift: &'a [f32],
    /// `[rows, C]`
    pub sums: &'a [f32],
    /// Sums of squares, `[rows, C]`.
    pub squares: &'a [f32],
}

/// What all operations of one pass see.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// Whether statistics are the batch's and values are dropped.
    pub(super) training: bool,
    /// All weights of the network.
    pub(super) weights: &'a [Vec<f32>],
    /// Whether weights are others than those of the last pass.
    pub(super) repack: bool,
    /// Seed and step of dropout.
    pub(super) draws: (u64, u64),
}

/// Values that one operation reads.
pub(super) struct Reads<'a> {
    pub(super) inputs: &'a [&'a [f32]],
    /// Known for inputs of the network at best.
    pub(super) sums: Option<InputSums<'a>>,
}

/// What an operation's backward pass sees; values that it does not need may be empty.
pub(super) struct Seen<'a> {
    pub(super) inputs: &'a [&'a [f32]],
    pub(super) output: &'a [f32],
    /// Of the loss with respect to the output.
    pub(super) gradient: &'a [f32],
}

/// Where gradients go.
pub(super) struct Wanted<'a, 'b> {
    /// One for each input; overwritten.
    pub(super) inputs: &'a mut [Option<&'b mut [f32]>],
    /// One for each weight of the network; this operation's are overwritten.
    pub(super) weights: &'a mut [Vec<f32>],
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) inputs: bool,
    pub(super) output: bool,
}

/// One step of a pass.
pub(super) trait Operation: Send {
    /// What the backward pass reads.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Overwrites `output`.
    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError>;

    /// Overwrites what is wanted; follows a forward pass of the same run.
    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError>;

    /// Takes the statistics of a training pass into the moving ones.
    fn update_moving(&self, _weights: &mut [Vec<f32>]) -> Result<(), KernelError> {
        Ok(())
    }
}

/// The operation of a node of `plan`, with memory of its own.
pub(super) fn build(network: &Network, plan: &Plan, node: &Node) -> Result<Box<dyn Operation>> {
    let needs_input = node.inputs.iter().any(|&input| plan.values[input].needs_gradient);
    Ok(match node.kind.clone() {
        Kind::Product(linear) => {
            let product = product::Product::new(network, linear, needs_input);
            Box::new(product.map_err(defect)?)
        }
        Kind::Composed(inner, outer) => {
            let composed = composed::Composed::new(network, inner, outer);
            Box::new(composed.map_err(defect)?)
        }
        Kind::Depthwise { taps, kernel, bias } => {
            Box::new(positional::Depthwise { taps, kernel, bias })
        }
        Kind::BatchNorm { norm } => Box::new(normalisation::BatchNorm::new(norm)),
        Kind::LayerNorm { width, gamma, epsilon } => {
            Box::new(normalisation::LayerNorm { width, gamma, epsilon })
        }
        Kind::Function { function, width } => {
            Box::new(elementwise::Function { function: elementwise::kernel(function), width })
        }
        Kind::Dropout(drop) => Box::new(elementwise::Dropout(drop)),
        Kind::NormBlock(parts) => Box::new(block::Block::new(parts)),
        Kind::MaxPool { length, width, size } => {
            Box::new(pooling::MaxPool::new(length, width, size))
        }
        Kind::AveragePool { length, width, size } => {
            Box::new(pooling::AveragePool::new(length, width, size))
        }
        Kind::GlobalAveragePool { length, width } => {
            Box::new(pooling::GlobalAveragePool { length, width })
        }
        Kind::Add => Box::new(joining::Add),
        Kind::Join { widths } => Box::new(joining::Join { widths }),
        Kind::Pad { before, values, after } => Box::new(joining::Pad { before, values, after }),
        Kind::Spline { length, width, bases, degree, kernel } => {
            let spline = positional::Spline::new((length, width), (bases, degree), kernel);
            Box::new(spline)
        }
    })
}
