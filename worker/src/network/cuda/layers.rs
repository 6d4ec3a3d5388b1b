//! What each operation of a plan does on a device: forward, and gradients.
//!
//! Leaves out: products (products), formulas (kernels). Invariant: a layer's own arrays are made when the fit begins; nothing is
//! allocated in a pass.

use super::memory::{Run, Statistics, Values};
use super::products::Product;
use crate::device::device_error;
use crate::network::operations::kernel;
use crate::network::plan::{Drop, Kind, Node, NormBlock, Plan};
use glmeval_common::error::{Error, Result as Outcome};
use glmeval_common::network::Activation;
use glmeval_kernels::cuda::{DeviceArray, Gpu, View, ViewMut};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::arithmetic::cuda::{Columns, add_in_place, copy_columns};
use glmeval_kernels::ops::batch_pool::{PoolShape, cuda as pools};
use glmeval_kernels::ops::conv1d::cuda::ConvClass;
use glmeval_kernels::ops::dropout::cuda::{LayerDropout, dropout};
use glmeval_kernels::ops::function::{Function, cuda as functions};
use glmeval_kernels::ops::layer_norm::cuda::{Norm as RowNorm, layer_norm};
use glmeval_kernels::ops::layer_norm_gradient::cuda as layer_norms;
use glmeval_kernels::ops::norm_block::cuda as blocks;
use glmeval_kernels::ops::spline_weights::{basis, cuda as splines};

type Result<T> = std::result::Result<T, KernelError>;

/// Which gradient is asked for: that of one input, and with the first those of weights.
pub(super) struct Wanted<'a, 'b> {
    pub(super) slot: usize,
    pub(super) dx: Option<&'a mut ViewMut<'b, f32>>,
}

/// Inputs, output, and the gradient of the output.
pub(super) type Seen<'a, 'b> = (&'a [View<'b, f32>], View<'b, f32>, View<'b, f32>);

/// A normalisation with what follows it.
pub(super) struct Block {
    parts: NormBlock,
    statistics: Statistics,
    /// Places of maxima, and what was dropped; as many as the block puts out.
    picked: DeviceArray<u16>,
}

/// A block as the kernels take it.
fn block<'a>(
    parts: &NormBlock,
    statistics: &'a Statistics,
    values: &'a Values,
    training: bool,
) -> blocks::DeviceBlock<'a> {
    let NormBlock { norm, function, before, pool, after } = *parts;
    let Statistics { mean, inverse, scale, .. } = statistics;
    let channels = blocks::Channels {
        mean: mean.view(),
        inverse: inverse.view(),
        scale: scale.view(),
        beta: values.weight(norm.beta()),
    };
    let in_training = |drop: Option<Drop>| drop.filter(|_| training).map(layer_dropout);
    let width = norm.width;
    let pool = pool.map(|(length, size)| PoolShape { length, width, size });
    let (before, after) = (in_training(before), in_training(after));
    blocks::DeviceBlock { channels, function: kernel(function), before, pool, after }
}

fn layer_dropout(Drop { layer, rate }: Drop) -> LayerDropout {
    LayerDropout { layer, rate }
}

impl Block {
    fn forward(
        &mut self,
        run: &mut Run<'_>,
        x: View<'_, f32>,
        out: &mut ViewMut<'_, f32>,
    ) -> Result<()> {
        self.statistics.find(run, x)?;
        let Self { parts, statistics, picked } = self;
        let block = block(parts, statistics, run.values, run.training);
        let mut whole = picked.view_mut();
        let mut places = block.picks().then(|| whole.part(0..out.len()));
        blocks::norm_block(&block, run.draws, x, out, places.as_mut())
    }

    fn backward(
        &self,
        run: &mut Run<'_>,
        (x, dy): (View<'_, f32>, View<'_, f32>),
        dx: Option<&mut ViewMut<'_, f32>>,
    ) -> Result<()> {
        let gamma = self.parts.norm.gamma;
        let block = block(&self.parts, &self.statistics, run.values, true);
        let picked = block.picks().then(|| self.picked.view().part(0..dy.len()));
        let given = blocks::BlockGiven { x, dy, picked };
        let [mut dgamma, mut dbeta] = run.gradients.of([gamma, gamma + 1]);
        let mut dx = dx.map(ViewMut::again);
        let gradient =
            blocks::BlockGradient { dx: dx.as_mut(), dgamma: &mut dgamma, dbeta: &mut dbeta };
        blocks::norm_block_gradient(&block, &given, true, gradient, &mut run.scratch)
    }
}

/// Rows of several inputs side by side, or one of them.
fn columns(widths: &[usize], slot: usize) -> Columns {
    Columns { stride: widths.iter().sum(), start: widths[..slot].iter().sum() }
}

/// One operation with its own arrays.
pub(super) enum Layer {
    Product(Product),
    Block(Block),
    RowNorms {
        width: usize,
        gamma: usize,
        epsilon: f32,
    },
    Function {
        function: Function,
        width: usize,
    },
    Dropout(LayerDropout),
    MaxPool {
        shape: PoolShape,
        picked: DeviceArray<u16>,
    },
    AveragePool(PoolShape),
    Add,
    /// Rows of inputs side by side, and zeros where there is no input.
    Join {
        widths: Vec<usize>,
        from: Vec<usize>,
    },
    Spline(Spline),
}

/// Weights of positions, with what they need.
pub(super) struct Spline {
    width: usize,
    kernel: usize,
    basis: DeviceArray<f32>,
    factors: DeviceArray<f32>,
    products: DeviceArray<f64>,
}

impl Layer {
    /// The layer of a node, for `rows` examples at most.
    ///
    /// # Errors
    /// `Invalid` for an operation that devices do not take; `Unavailable` if there is no room.
    pub(super) fn new(
        gpu: &Gpu,
        plan: &Plan,
        node: &Node,
        (rows, class): (usize, ConvClass),
    ) -> Outcome<Self> {
        Self::made(gpu, plan, node, (rows, class)).map_err(device_error)?.ok_or_else(|| {
            let found = "a depthwise convolution";
            Error::invalid(format!("network: expected layers that a device trains, found {found}"))
        })
    }

    fn made(
        gpu: &Gpu,
        plan: &Plan,
        node: &Node,
        (rows, class): (usize, ConvClass),
    ) -> Result<Option<Self>> {
        let outputs = plan.values[node.output].length.saturating_mul(rows);
        let made_block = |parts: NormBlock| -> Result<Self> {
            let statistics = Statistics::new(gpu, parts.norm)?;
            Ok(Self::Block(Block { parts, statistics, picked: DeviceArray::new(gpu, outputs)? }))
        };
        Ok(Some(match node.kind.clone() {
            Kind::Product(linear) => {
                let needs_dx = plan.values[node.inputs[0]].needs_gradient;
                Self::Product(Product::new(gpu, linear, (rows, class), needs_dx)?)
            }
            Kind::Composed(..) | Kind::Depthwise { .. } => return Ok(None),
            Kind::BatchNorm { norm } => {
                let function = Activation::Linear;
                made_block(NormBlock { norm, function, before: None, pool: None, after: None })?
            }
            Kind::NormBlock(parts) => made_block(parts)?,
            Kind::LayerNorm { width, gamma, epsilon } => Self::RowNorms { width, gamma, epsilon },
            Kind::Function { function, width } => {
                Self::Function { function: kernel(function), width }
            }
            Kind::Dropout(drop) => Self::Dropout(layer_dropout(drop)),
            Kind::MaxPool { length, width, size } => Self::MaxPool {
                shape: PoolShape { length, width, size },
                picked: DeviceArray::new(gpu, outputs)?,
            },
            Kind::AveragePool { length, width, size } => {
                Self::AveragePool(PoolShape { length, width, size })
            }
            Kind::GlobalAveragePool { length, width } => {
                Self::AveragePool(PoolShape { length, width, size: length })
            }
            Kind::Add => Self::Add,
            Kind::Join { widths } => Self::Join { from: (0..widths.len()).collect(), widths },
            Kind::Pad { before, values, after } => {
                Self::Join { widths: vec![before, values, after], from: vec![1] }
            }
            Kind::Spline { length, width, bases, degree, kernel } => {
                let basis = DeviceArray::from_slice(gpu, &basis(length, bases, degree))?;
                let (factors, products) = (
                    DeviceArray::new(gpu, length * width)?,
                    DeviceArray::new(gpu, length * width)?,
                );
                Self::Spline(Spline { width, kernel, basis, factors, products })
            }
        }))
    }

    /// Values of scratch memory that a pass over `rows` examples needs.
    pub(super) fn scratch_values(&self, plan: &Plan, node: &Node, rows: usize) -> usize {
        let values = |width: usize| plan.values[node.inputs[0]].length / width.max(1) * rows;
        match self {
            Self::Product(product) => product.scratch_values(rows),
            Self::Block(block) => {
                let width = block.parts.norm.width;
                blocks::gradient_scratch_values(values(width), width)
            }
            Self::RowNorms { width, .. } => {
                let rows = values(*width);
                layer_norms::scratch_values(rows, *width).max(rows * width)
            }
            _ => 0,
        }
    }

    /// Overwrites `out`.
    pub(super) fn forward(
        &mut self,
        run: &mut Run<'_>,
        inputs: &[View<'_, f32>],
        out: &mut ViewMut<'_, f32>,
    ) -> Result<()> {
        let x = inputs[0];
        match self {
            Self::Product(product) => product.forward(run, x, out),
            Self::Block(block) => block.forward(run, x, out),
            Self::RowNorms { gamma, epsilon, .. } => {
                let (weight, bias) = (run.values.weight(*gamma), run.values.weight(*gamma + 1));
                let mut copy = run.scratch.part(0..x.len());
                // The kernel may add a branch to what it reads, so it is given a copy.
                copy.copy_from(x)?;
                let norm = RowNorm { weight, bias: Some(bias), eps: *epsilon };
                layer_norm(&mut copy, None, norm, out)
            }
            Self::Function { function, width } => functions::apply(*function, *width, x, out),
            Self::Dropout(drop) => dropout(drop, run.draws, x, out),
            Self::MaxPool { shape, picked } => {
                let mut picked = picked.view_mut();
                pools::max_pool(x, shape, out, &mut picked.part(0..out.len()))
            }
            Self::AveragePool(shape) => pools::average_pool(x, shape, out),
            Self::Add => {
                out.copy_from(x)?;
                inputs[1..].iter().try_for_each(|other| add_in_place(out, *other))
            }
            Self::Join { widths, from } => {
                for (slot, &width) in widths.iter().enumerate() {
                    let source = from.iter().position(|&place| place == slot);
                    let source =
                        source.map(|input| (inputs[input], Columns { stride: width, start: 0 }));
                    copy_columns(source, (out, columns(widths, slot)), width)?;
                }
                Ok(())
            }
            Self::Spline(Spline { width, kernel, basis, factors, .. }) => {
                let weights = run.values.weight(*kernel);
                splines::factors(basis.view(), weights, *width, &mut factors.view_mut())?;
                splines::weigh(x, factors.view(), out)
            }
        }
    }

    /// Overwrites what is wanted; follows a forward pass.
    pub(super) fn backward(
        &mut self,
        run: &mut Run<'_>,
        (inputs, output, dy): Seen<'_, '_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<()> {
        let x = inputs[0];
        let dx = wanted.dx.as_deref_mut();
        match self {
            Self::Product(product) => return product.backward(run, (x, dy), dx),
            Self::Block(block) => return block.backward(run, (x, dy), dx),
            Self::RowNorms { gamma, epsilon, .. } => {
                let [mut dgamma, mut dbeta] = run.gradients.of([*gamma, *gamma + 1]);
                let mut dx = dx.map(ViewMut::again);
                let gradient = blocks::BlockGradient {
                    dx: dx.as_mut(),
                    dgamma: &mut dgamma,
                    dbeta: &mut dbeta,
                };
                let gamma = run.values.weight(*gamma);
                let scratch = &mut run.scratch;
                return layer_norms::layer_norm_gradient(
                    (x, dy),
                    gamma,
                    *epsilon,
                    gradient,
                    scratch,
                );
            }
            Self::Spline(Spline { width, kernel, basis, products, .. }) => {
                let [mut dweights] = run.gradients.of([*kernel]);
                let (given, products) = ((x, dy), &mut products.view_mut());
                splines::weight_gradient(given, basis.view(), *width, products, &mut dweights)?;
            }
            _ => {}
        }
        let Some(dx) = dx else { return Ok(()) };
        match self {
            Self::Function { function, width } => {
                functions::gradient(*function, *width, (x, output), dy, dx)
            }
            Self::Dropout(drop) => dropout(drop, run.draws, dy, dx),
            Self::MaxPool { shape, picked } => {
                let picked = picked.view().part(0..dy.len());
                pools::pool_gradient(dy, Some(picked), shape, dx)
            }
            Self::AveragePool(shape) => pools::pool_gradient(dy, None, shape, dx),
            Self::Add => dx.copy_from(dy),
            Self::Join { widths, from } => {
                let place = from[wanted.slot];
                let (own, width) = (columns(widths, place), widths[place]);
                copy_columns(Some((dy, own)), (dx, Columns { stride: width, start: 0 }), width)
            }
            Self::Spline(Spline { factors, .. }) => splines::weigh(dy, factors.view(), dx),
            Self::Product(_) | Self::Block(_) | Self::RowNorms { .. } => Ok(()),
        }
    }
}
