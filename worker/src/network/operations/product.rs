//! Convolutions and dense layers, and those that read their input through a batch normalisation.
//!
//! Leaves out: the function after them (elementwise). Invariant: a normalised copy of the input is
//! never formed.

use super::normalisation::{Statistics, pair};
use super::{Needs, Operation, Reads, Run, Seen, Wanted};
use crate::network::Network;
use crate::network::plan::{Linear, Norm, Taps};
use glmeval_common::model::Precision as NamedPrecision;
use glmeval_common::network::Padding;
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::batch_conv1d::{Affine, BatchConv1d, BatchConv1dShape, Input};
use glmeval_kernels::ops::linear::Epilogue;
use glmeval_kernels::ops::precision::Precision;

/// A convolution, or a dense layer as one of a single tap.
pub(super) struct Product {
    packed: BatchConv1d,
    kernel: usize,
    bias: Option<usize>,
    folded: Option<Folded>,
    needs_input_gradient: bool,
}

/// A normalisation of the input, taken into the weights.
///
/// ```text
/// n = (x - mean) / sqrt(variance + epsilon)
/// y[k] = b[k] + sum_c (gamma[c] n[c] + beta[c]) W[c,k] = b'[k] + sum_c n[c] W'[c,k]
/// W'[c,k] = gamma[c] W[c,k];  b'[k] = b[k] + sum_c beta[c] W[c,k]
/// ```
pub(super) struct Folded {
    pub(super) norm: Norm,
    pub(super) statistics: Statistics,
    /// `1 / sqrt(variance + epsilon)`, `[C]`.
    scale: Vec<f32>,
    /// W' and b'.
    pub(super) kernel: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Product {
    pub(super) fn new(
        network: &Network,
        linear: Linear,
        needs_input_gradient: bool,
    ) -> Result<Self, KernelError> {
        let Linear { taps, kernel, bias, norm } = linear;
        let has_bias = bias.is_some() || norm.is_some();
        let precision = precision(network);
        let packed = BatchConv1d::new(shape(taps), precision, has_bias, needs_input_gradient)?;
        let folded = norm.map(|norm| Folded::new(norm, taps.output_width));
        Ok(Self { packed, kernel, bias, folded, needs_input_gradient })
    }
}

/// Precision as the kernels name it.
pub(super) fn precision(network: &Network) -> Precision {
    match network.precision {
        // The CPU has no tf32; it was refused when the network was made.
        NamedPrecision::F32 | NamedPrecision::Tf32 => Precision::F32,
        NamedPrecision::Bf16 => Precision::Bf16,
    }
}

/// Extents as the kernels name them.
pub(super) fn shape(taps: Taps) -> BatchConv1dShape {
    let Taps { length, input_width, output_width, kernel, dilation, padding } = taps;
    match padding {
        Padding::Same => {
            BatchConv1dShape::same(length, input_width, output_width, kernel, dilation)
        }
        Padding::Valid => {
            BatchConv1dShape::valid(length, input_width, output_width, kernel, dilation)
        }
    }
}

impl Folded {
    /// Of a product that gives `output_width` channels.
    pub(super) fn new(norm: Norm, output_width: usize) -> Self {
        Self {
            norm,
            statistics: Statistics::new(norm.width),
            scale: vec![0.0; norm.width],
            kernel: vec![0.0; norm.width * output_width],
            bias: vec![0.0; output_width],
        }
    }

    /// Finds the statistics of one pass.
    pub(super) fn find_statistics(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
    ) -> Result<(), KernelError> {
        self.statistics.find(run, &self.norm, reads.inputs[0], reads.sums)?;
        for (scale, &variance) in self.scale.iter_mut().zip(&self.statistics.variance) {
            *scale = 1.0 / (variance + self.norm.epsilon).sqrt();
        }
        Ok(())
    }

    /// Finds W' and b'.
    pub(super) fn fold(&mut self, run: &Run<'_>, weights: &[f32], bias: Option<&[f32]>) {
        let (gamma, beta) = (&run.weights[self.norm.gamma], &run.weights[self.norm.beta()]);
        let width = self.bias.len();
        let mut shifts: Vec<f64> = match bias {
            Some(bias) => bias.iter().map(|&bias| f64::from(bias)).collect(),
            None => vec![0.0; width],
        };
        let rows = weights.chunks_exact(width).zip(self.kernel.chunks_exact_mut(width));
        for ((from, into), (&gamma, &beta)) in rows.zip(gamma.iter().zip(beta)) {
            for ((into, &weight), shift) in into.iter_mut().zip(from).zip(&mut shifts) {
                *into = gamma * weight;
                *shift += f64::from(beta) * f64::from(weight);
            }
        }
        self.bias.iter_mut().zip(shifts).for_each(|(bias, shift)| *bias = shift as f32);
    }

    /// What gives n of x, channel by channel.
    pub(super) fn affine(&self) -> Affine<'_> {
        Affine { shift: &self.statistics.mean, scale: &self.scale }
    }

    fn input<'a>(&'a self, values: &'a [f32]) -> Input<'a> {
        Input { values, affine: Some(self.affine()) }
    }

    /// From the gradients of W' and b' to those of W, gamma and beta.
    ///
    /// ```text
    /// dgamma[c] = sum_k W[c,k] dW'[c,k];  dbeta[c] = sum_k W[c,k] db[k]
    /// dW[c,k] = gamma[c] dW'[c,k] + beta[c] db[k]
    /// ```
    pub(super) fn unfold(
        &self,
        run: &Run<'_>,
        weights: &[f32],
        dbias: &[f32],
        (dkernel, dgamma, dbeta): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let (gamma, beta) = (&run.weights[self.norm.gamma], &run.weights[self.norm.beta()]);
        let width = dbias.len();
        let rows = weights.chunks_exact(width).zip(dkernel.chunks_exact_mut(width));
        for (channel, (row, drow)) in rows.enumerate() {
            let (mut scale, mut shift) = (0.0_f64, 0.0_f64);
            for ((&weight, dweight), &dbias) in row.iter().zip(drow).zip(dbias) {
                scale += f64::from(weight) * f64::from(*dweight);
                shift += f64::from(weight) * f64::from(dbias);
                *dweight = gamma[channel].mul_add(*dweight, beta[channel] * dbias);
            }
            dgamma[channel] = scale as f32;
            dbeta[channel] = shift as f32;
        }
    }
}

impl Operation for Product {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: false }
    }

    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let weights = &run.weights[self.kernel];
        let bias = self.bias.map(|bias| run.weights[bias].as_slice());
        let input = match &mut self.folded {
            Some(folded) => {
                folded.find_statistics(run, reads)?;
                if run.repack {
                    folded.fold(run, weights, bias);
                    self.packed.set_weights(&folded.kernel, Some(&folded.bias))?;
                }
                folded.input(reads.inputs[0])
            }
            None => {
                if run.repack {
                    self.packed.set_weights(weights, bias)?;
                }
                Input::plain(reads.inputs[0])
            }
        };
        self.packed.forward(input, Epilogue::None, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let (x, dy) = (seen.inputs[0], seen.gradient);
        if self.needs_input_gradient
            && let Some(Some(dx)) = wanted.inputs.first_mut()
        {
            self.packed.input_gradient(dy, dx)?;
        }
        // Taken out so that two weights can be written at once.
        let mut dkernel = std::mem::take(&mut wanted.weights[self.kernel]);
        let result = match &mut self.folded {
            None => {
                let dbias = self.bias.map(|bias| wanted.weights[bias].as_mut_slice());
                self.packed.weight_gradient(Input::plain(x), dy, &mut dkernel, dbias)
            }
            Some(folded) => {
                // b' is packed: its memory takes its gradient.
                let mut dbias = std::mem::take(&mut folded.bias);
                let input = folded.input(x);
                let result = self.packed.weight_gradient(input, dy, &mut dkernel, Some(&mut dbias));
                let [dgamma, dbeta] = pair(wanted.weights, folded.norm.gamma);
                let places = (dkernel.as_mut_slice(), dgamma, dbeta);
                folded.unfold(run, &run.weights[self.kernel], &dbias, places);
                if let Some(bias) = self.bias {
                    wanted.weights[bias].copy_from_slice(&dbias);
                }
                folded.bias = dbias;
                result
            }
        };
        wanted.weights[self.kernel] = dkernel;
        result
    }

    fn update_moving(&self, weights: &mut [Vec<f32>]) -> Result<(), KernelError> {
        let Some(folded) = &self.folded else { return Ok(()) };
        folded.statistics.update_moving(&folded.norm, weights)
    }
}
