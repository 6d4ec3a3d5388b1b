//! Convolutions and dense layers on a device, and those that read their input through a batch normalisation.
//!
//! Leaves out: the function after them (layers). Invariant: the gradient of a normalised input is never formed; the normalisation's
//! own come from those of the weights.

use super::memory::{Run, Statistics};
use crate::network::operations::shape;
use crate::network::plan::{Linear, Taps};
use glmeval_kernels::cuda::{
    DeviceArray, Gpu, Operand, Output, Product as Matrices, ProductClass, View, ViewMut,
};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::arithmetic::cuda::column_sums;
use glmeval_kernels::ops::batch_conv1d::cuda::BatchConv1d;
use glmeval_kernels::ops::batch_norm::cuda::{self as norms, FoldedProduct};
use glmeval_kernels::ops::conv1d::cuda::{ConvClass, DeviceEpilogue};

type Result<T> = std::result::Result<T, KernelError>;

/// A convolution, or a dense layer as one of a single tap.
pub(super) struct Product {
    taps: Taps,
    kernel: usize,
    bias: Option<usize>,
    folded: Option<Folded>,
    map: Map,
    needs_dx: bool,
}

/// How products are computed.
enum Map {
    /// One position: products of whole matrices.
    Dense(ProductClass),
    Positions(BatchConv1d),
}

/// A normalisation of the input, taken into the weights; as on the CPU.
struct Folded {
    statistics: Statistics,
    gamma: usize,
    /// The normalised input.
    input: DeviceArray<f32>,
    /// W', b' and the gradient of b'.
    weights: DeviceArray<f32>,
    bias: DeviceArray<f32>,
    dbias: DeviceArray<f32>,
}

impl Product {
    pub(super) fn new(
        gpu: &Gpu,
        linear: Linear,
        (rows, class): (usize, ConvClass),
        needs_dx: bool,
    ) -> Result<Self> {
        let Linear { taps, kernel, bias, norm } = linear;
        let map = if taps.length == 1 && taps.kernel == 1 {
            let is_rounded = class == ConvClass::Tf32;
            Map::Dense(if is_rounded { ProductClass::Tf32 } else { ProductClass::F32 })
        } else {
            Map::Positions(BatchConv1d::new(shape(taps), class)?)
        };
        let folded = match norm {
            None => None,
            Some(norm) => Some(Folded {
                statistics: Statistics::new(gpu, norm)?,
                gamma: norm.gamma,
                input: DeviceArray::new(gpu, taps.length * taps.input_width * rows)?,
                weights: DeviceArray::new(gpu, taps.input_width * taps.output_width)?,
                bias: DeviceArray::new(gpu, taps.output_width)?,
                dbias: DeviceArray::new(gpu, taps.output_width)?,
            }),
        };
        Ok(Self { taps, kernel, bias, folded, map, needs_dx })
    }

    pub(super) fn scratch_values(&self, rows: usize) -> usize {
        let Taps { length, input_width, output_width, .. } = self.taps;
        let own = match &self.map {
            Map::Dense(_) => norms::scratch_values(rows, output_width),
            Map::Positions(conv) => conv.part_count(rows),
        };
        match self.folded {
            None => own,
            Some(_) => own.max(norms::scratch_values(rows * length, input_width)),
        }
    }

    pub(super) fn forward(
        &mut self,
        run: &mut Run<'_>,
        x: View<'_, f32>,
        out: &mut ViewMut<'_, f32>,
    ) -> Result<()> {
        let Self { taps, kernel, bias, folded, map, .. } = self;
        if let Some(folded) = folded.as_mut() {
            folded.read(run, x)?;
        }
        let bias = bias.map(|bias| run.values.weight(bias));
        let weights = run.values.weight(*kernel);
        let Some(folded) = folded else { return map.forward(taps, x, (weights, bias), out) };
        let product = FoldedProduct {
            gamma: run.values.weight(folded.gamma),
            beta: run.values.weight(folded.gamma + 1),
            weights,
        };
        let Folded { weights, bias: shift, input, .. } = folded;
        norms::fold(&product, bias, &mut weights.view_mut(), &mut shift.view_mut())?;
        let given = (weights.view(), Some(shift.view()));
        map.forward(taps, input.view().part(0..x.len()), given, out)
    }

    pub(super) fn backward(
        &mut self,
        run: &mut Run<'_>,
        (x, dy): (View<'_, f32>, View<'_, f32>),
        dx: Option<&mut ViewMut<'_, f32>>,
    ) -> Result<()> {
        let Self { taps, kernel, bias, folded, map, needs_dx } = self;
        if let Some(dx) = dx.filter(|_| *needs_dx) {
            map.input_gradient(taps, dy, run.values.weight(*kernel), dx)?;
        }
        let scratch = &mut run.scratch;
        let Some(folded) = folded else {
            let Some(bias) = *bias else {
                let [mut dkernel] = run.gradients.of([*kernel]);
                return map.weight_gradient(taps, (x, dy), scratch, (&mut dkernel, None));
            };
            let [mut dkernel, mut dbias] = run.gradients.of([*kernel, bias]);
            let into = (&mut dkernel, Some(&mut dbias));
            return map.weight_gradient(taps, (x, dy), scratch, into);
        };
        let Folded { gamma, input, dbias, .. } = folded;
        let input = input.view().part(0..x.len());
        let [mut dgamma, mut dbeta, mut dkernel] = run.gradients.of([*gamma, *gamma + 1, *kernel]);
        let into = (&mut dkernel, Some(&mut dbias.view_mut()));
        map.weight_gradient(taps, (input, dy), scratch, into)?;
        let product = FoldedProduct {
            gamma: run.values.weight(*gamma),
            beta: run.values.weight(*gamma + 1),
            weights: run.values.weight(*kernel),
        };
        norms::unfold(&product, dbias.view(), &mut dkernel, &mut dgamma, &mut dbeta)?;
        let Some(bias) = *bias else { return Ok(()) };
        let [mut into] = run.gradients.of([bias]);
        into.copy_from(dbias.view())
    }
}

impl Folded {
    /// Finds the statistics of one pass and normalises its input.
    fn read(&mut self, run: &mut Run<'_>, x: View<'_, f32>) -> Result<()> {
        self.statistics.find(run, x)?;
        let (mean, inverse) = self.statistics.affine();
        norms::standardise(x, mean, inverse, &mut self.input.view_mut().part(0..x.len()))
    }
}

impl Map {
    fn forward(
        &self,
        taps: &Taps,
        x: View<'_, f32>,
        (weights, bias): (View<'_, f32>, Option<View<'_, f32>>),
        out: &mut ViewMut<'_, f32>,
    ) -> Result<()> {
        let &Taps { input_width, output_width, .. } = taps;
        match self {
            Self::Positions(conv) => {
                conv.forward(x, (weights, bias), DeviceEpilogue::default(), out)
            }
            Self::Dense(class) => x.gpu().multiply(&Matrices {
                rows: x.len() / input_width,
                columns: output_width,
                depth: input_width,
                left: Operand::rows(x, input_width),
                right: Operand::transposed(weights, output_width),
                bias,
                adds: false,
                out: Output::rows(out.again(), output_width),
                class: *class,
            }),
        }
    }

    fn input_gradient(
        &self,
        taps: &Taps,
        dy: View<'_, f32>,
        weights: View<'_, f32>,
        dx: &mut ViewMut<'_, f32>,
    ) -> Result<()> {
        let &Taps { input_width, output_width, .. } = taps;
        match self {
            Self::Positions(conv) => {
                conv.input_gradient(dy, weights, DeviceEpilogue::default(), dx)
            }
            Self::Dense(class) => dy.gpu().multiply(&Matrices {
                rows: dy.len() / output_width,
                columns: input_width,
                depth: output_width,
                left: Operand::rows(dy, output_width),
                right: Operand::rows(weights, output_width),
                bias: None,
                adds: false,
                out: Output::rows(dx.again(), input_width),
                class: *class,
            }),
        }
    }

    fn weight_gradient(
        &self,
        taps: &Taps,
        (x, dy): (View<'_, f32>, View<'_, f32>),
        scratch: &mut ViewMut<'_, f32>,
        (dkernel, dbias): (&mut ViewMut<'_, f32>, Option<&mut ViewMut<'_, f32>>),
    ) -> Result<()> {
        let &Taps { input_width, output_width, .. } = taps;
        let class = match self {
            Self::Positions(conv) => return conv.weight_gradient((x, dy), scratch, dkernel, dbias),
            Self::Dense(class) => *class,
        };
        x.gpu().multiply(&Matrices {
            rows: input_width,
            columns: output_width,
            depth: x.len() / input_width,
            left: Operand::transposed(x, input_width),
            right: Operand::transposed(dy, output_width),
            bias: None,
            adds: false,
            out: Output::rows(dkernel.again(), output_width),
            class,
        })?;
        match dbias {
            Some(dbias) => column_sums(dy, dbias, scratch),
            None => Ok(()),
        }
    }
}
