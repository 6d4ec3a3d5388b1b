//! Two products without a function in between, the first of a single tap, computed as one.
//!
//! Leaves out: when that is cheaper (plan). Invariant: what the first product gives is never formed,
//! and composed weights are one chain over its channels for each tap, whatever the batch.

use super::normalisation::pair;
use super::product::{Folded, precision, shape};
use super::{Operation, Reads, Run, Seen, Wanted};
use crate::network::Network;
use crate::network::plan::{Linear, Taps};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::arithmetic::add_in_place;
use glmeval_kernels::ops::batch_conv1d::{Affine, BatchConv1d, BatchConv1dShape, Input};
use glmeval_kernels::ops::linear::Epilogue;
use glmeval_kernels::ops::precision::Precision;
use rayon::prelude::*;

/// Positions that one task extends.
const POSITIONS_PER_TASK: usize = 2048;

/// A convolution of a convolution of one tap.
///
/// The first gives `C` channels of `I`, the second `O` of these.
///
/// ```text
/// x' = [x, 1], and zeros beyond the ends: the second pads what the first gives
/// R'[i,c] = R[i,c] for i < I, else the bias of R
/// V[j,i,o] = sum_c R'[i,c] W[j,c,o];  y = conv(x', V) + b
/// dW[j,c,o] = sum_i R'[i,c] dV[j,i,o];  dR'[i,c] = sum_j sum_o W[j,c,o] dV[j,i,o]
/// ```
///
/// With a normalisation before R, x is normalised and R is what [`Folded`] makes of it.
pub(super) struct Composed {
    first: Linear,
    second: Linear,
    folded: Option<Folded>,
    /// Product of x' and V.
    packed: BatchConv1d,
    /// From I + 1 to O channels at C positions: V of one tap is the gradient of its weights where
    /// R' is read and W is the gradient of the output, and with dV as weights it gives dW from R'.
    /// The gradient of its input is then a part of dR'.
    composing: BatchConv1d,
    /// R' by channel, `[C, I + 1]`.
    reduce: Vec<f32>,
    /// dR', and what one tap adds to it, laid out as R'.
    dreduce: Vec<f32>,
    of_tap: Vec<f32>,
    /// V or its gradient, `[taps, I + 1, O]`.
    weights: Vec<f32>,
    /// Gradient of the bias of R, `[C]`.
    dbias: Vec<f32>,
    /// x' of the largest batch so far.
    extended: Vec<f32>,
}

impl Composed {
    pub(super) fn new(
        network: &Network,
        first: Linear,
        second: Linear,
    ) -> Result<Self, KernelError> {
        let (inputs, channels) = (first.taps.input_width + 1, first.taps.output_width);
        let outputs = second.taps.output_width;
        let taps = Taps { input_width: inputs, ..second.taps };
        let has_bias = second.bias.is_some();
        let packed = BatchConv1d::new(shape(taps), precision(network), has_bias, false)?;
        let dense = BatchConv1dShape::dense(channels, inputs, outputs);
        let reduce = vec![0.0; channels * inputs];
        Ok(Self {
            first,
            second,
            folded: first.norm.map(|norm| Folded::new(norm, channels)),
            packed,
            composing: BatchConv1d::new(dense, Precision::F32, false, true)?,
            dreduce: reduce.clone(),
            of_tap: reduce.clone(),
            reduce,
            weights: vec![0.0; taps.kernel * inputs * outputs],
            dbias: vec![0.0; channels],
            extended: Vec::new(),
        })
    }

    /// Finds R' and V.
    fn compose(&mut self, run: &Run<'_>) -> Result<(), KernelError> {
        let weights = &run.weights[self.first.kernel];
        let bias = self.first.bias.map(|bias| run.weights[bias].as_slice());
        let (weights, bias) = match &mut self.folded {
            Some(folded) => {
                folded.fold(run, weights, bias);
                (folded.kernel.as_slice(), Some(folded.bias.as_slice()))
            }
            None => (weights.as_slice(), bias),
        };
        let (inputs, channels) = (self.first.taps.input_width, self.first.taps.output_width);
        for (channel, reduce) in self.reduce.chunks_exact_mut(inputs + 1).enumerate() {
            let column = weights.iter().skip(channel).step_by(channels);
            reduce.iter_mut().zip(column).for_each(|(into, &weight)| *into = weight);
            reduce[inputs] = bias.map_or(0.0, |bias| bias[channel]);
        }
        let outputs = self.second.taps.output_width;
        let taps = run.weights[self.second.kernel].chunks_exact(channels * outputs);
        for (tap, into) in taps.zip(self.weights.chunks_exact_mut((inputs + 1) * outputs)) {
            self.composing.weight_gradient(Input::plain(&self.reduce), tap, into, None)?;
        }
        Ok(())
    }

    /// From dV to dR' and dW.
    fn take_apart(&mut self, second: &[f32], dsecond: &mut [f32]) -> Result<(), KernelError> {
        let (channels, outputs) = (self.second.taps.input_width, self.second.taps.output_width);
        let inputs = self.first.taps.input_width + 1;
        let taps = second.chunks_exact(channels * outputs);
        let taps = taps.zip(dsecond.chunks_exact_mut(channels * outputs));
        self.dreduce.fill(0.0);
        for ((tap, dtap), dv) in taps.zip(self.weights.chunks_exact(inputs * outputs)) {
            self.composing.set_weights(dv, None)?;
            self.composing.forward(Input::plain(&self.reduce), Epilogue::None, dtap)?;
            self.composing.input_gradient(tap, &mut self.of_tap)?;
            add_in_place(&mut self.dreduce, &self.of_tap)?;
        }
        Ok(())
    }

    /// From dR' to the gradients of R, its bias, and the normalisation before it.
    fn hand_on(&mut self, run: &Run<'_>, wanted: &mut [Vec<f32>]) {
        let (inputs, channels) = (self.first.taps.input_width, self.first.taps.output_width);
        // Taken out so that several weights can be written at once.
        let mut dkernel = std::mem::take(&mut wanted[self.first.kernel]);
        let columns = self.dreduce.chunks_exact(inputs + 1).zip(&mut self.dbias);
        for (channel, (column, dbias)) in columns.enumerate() {
            let places = dkernel.iter_mut().skip(channel).step_by(channels);
            places.zip(column).for_each(|(into, &gradient)| *into = gradient);
            *dbias = column[inputs];
        }
        if let Some(folded) = &self.folded {
            let [dgamma, dbeta] = pair(wanted, folded.norm.gamma);
            let places = (dkernel.as_mut_slice(), dgamma, dbeta);
            folded.unfold(run, &run.weights[self.first.kernel], &self.dbias, places);
        }
        if let Some(bias) = self.first.bias {
            wanted[bias].copy_from_slice(&self.dbias);
        }
        wanted[self.first.kernel] = dkernel;
    }
}

/// Writes x' for the positions of `x`, each through `affine` if there is one.
fn extend(x: &[f32], width: usize, affine: Option<Affine<'_>>, extended: &mut [f32]) {
    let extend_task = |(from, into): (&[f32], &mut [f32])| {
        let rows = from.chunks_exact(width).zip(into.chunks_exact_mut(width + 1));
        for (from, into) in rows {
            into[width] = 1.0;
            let Some(Affine { shift, scale }) = affine else {
                into[..width].copy_from_slice(from);
                continue;
            };
            let maps = shift.iter().zip(scale);
            for ((into, &value), (&shift, &scale)) in into.iter_mut().zip(from).zip(maps) {
                *into = (value - shift) * scale;
            }
        }
    };
    let tasks = x.par_chunks(POSITIONS_PER_TASK * width);
    tasks.zip(extended.par_chunks_mut(POSITIONS_PER_TASK * (width + 1))).for_each(extend_task);
}

impl Operation for Composed {
    fn forward(
        &mut self,
        run: &Run<'_>,
        reads: &Reads<'_>,
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        if let Some(folded) = &mut self.folded {
            folded.find_statistics(run, reads)?;
        }
        if run.repack {
            self.compose(run)?;
            let bias = self.second.bias.map(|bias| run.weights[bias].as_slice());
            self.packed.set_weights(&self.weights, bias)?;
        }
        let (x, width) = (reads.inputs[0], self.first.taps.input_width);
        let length = x.len() / width * (width + 1);
        if self.extended.len() < length {
            self.extended.resize(length, 0.0);
        }
        let extended = &mut self.extended[..length];
        extend(x, width, self.folded.as_ref().map(Folded::affine), extended);
        self.packed.forward(Input::plain(extended), Epilogue::None, output)
    }

    fn backward(
        &mut self,
        run: &Run<'_>,
        seen: &Seen<'_>,
        wanted: &mut Wanted<'_, '_>,
    ) -> Result<(), KernelError> {
        let per_example = self.second.taps.output_length() * self.second.taps.output_width;
        let positions = seen.gradient.len() / per_example * self.first.taps.length;
        let width = self.first.taps.input_width + 1;
        // Written by the forward pass; V is packed, so its memory takes its gradient.
        let extended = Input::plain(&self.extended[..positions * width]);
        let dbias = self.second.bias.map(|bias| wanted.weights[bias].as_mut_slice());
        self.packed.weight_gradient(extended, seen.gradient, &mut self.weights, dbias)?;
        let second = self.second.kernel;
        self.take_apart(&run.weights[second], &mut wanted.weights[second])?;
        self.hand_on(run, wanted.weights);
        Ok(())
    }

    fn update_moving(&self, weights: &mut [Vec<f32>]) -> Result<(), KernelError> {
        let Some(folded) = &self.folded else { return Ok(()) };
        folded.statistics.update_moving(&folded.norm, weights)
    }
}
