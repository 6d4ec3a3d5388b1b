//! The implicit filter of a Hyena operator: a small network of the position, under a window.
//!
//! Leaves out: transforms and who keeps them. Invariant: a tap depends on its position alone, so
//! the response of a length is a prefix of that of any other.

use crate::error::{KernelError, Result, check_length, check_rows};
use crate::isa::{Isa, per_isa};
use crate::ops::exp::exp_of;
use crate::ops::linear::{Epilogue, PackedLinear, linear};
use crate::ops::sin::sin_of;
use rayon::prelude::*;

const OP: &str = "implicit_filter";
/// What the window tends to far from the start.
const WINDOW_FLOOR: f32 = 0.05;
/// Positions whose inner layers one task computes.
const POSITIONS_PER_TASK: usize = 256;
/// Channels of a block of the last layer.
const BLOCK: usize = 16;

/// One affine layer: weight `[out, in]` and bias `[out]`.
pub type Affine<'a> = (&'a [f32], &'a [f32]);

/// What a checkpoint holds of an implicit filter; P positions, E features, O hidden values.
pub struct FilterWeights<'a> {
    /// `[P, E]`: features of each position.
    pub features: &'a [f32],
    /// `[P]`: time of each position, for the window.
    pub times: &'a [f32],
    /// `[D]`: rate of each channel's window; its sign does not count.
    pub deltas: &'a [f32],
    /// `[O]`: frequency of every sine.
    pub frequency: &'a [f32],
    /// E to O.
    pub first: Affine<'a>,
    /// O to O, any number of them.
    pub inner: &'a [Affine<'a>],
    /// `[D, O]`, without bias.
    pub last: &'a [f32],
}

/// The weights of an implicit filter, packed once.
pub struct ImplicitFilter {
    features: Vec<f32>,
    times: Vec<f32>,
    /// Magnitudes.
    deltas: Vec<f32>,
    frequency: Vec<f32>,
    /// The first and the inner layers.
    layers: Vec<PackedLinear>,
    /// Sixteen channels each.
    last: Vec<PackedLinear>,
}

/// Last hidden values of the first positions, `[P, O]`: what all channels share.
pub(super) struct Hidden(Vec<f32>);

impl ImplicitFilter {
    /// Packs the weights.
    ///
    /// # Errors
    /// `Shape` if there is no position, channel or hidden value, or any operand does not fit.
    pub fn new(weights: &FilterWeights<'_>) -> Result<Self> {
        let (positions, hidden) = (weights.times.len(), weights.frequency.len());
        check_rows(OP, "times", weights.features.len(), positions)?;
        check_rows(OP, "frequency", weights.last.len(), hidden)?;
        check_length(OP, "last", weights.last.len(), weights.deltas.len().saturating_mul(hidden))?;
        let features = weights.features.len() / positions;
        let (weight, bias) = weights.first;
        let mut layers = vec![PackedLinear::pack(weight, Some(bias), hidden, features)?];
        for (weight, bias) in weights.inner {
            layers.push(PackedLinear::pack(weight, Some(bias), hidden, hidden)?);
        }
        let blocks = weights.last.chunks(BLOCK * hidden);
        let last = blocks.map(|rows| PackedLinear::pack(rows, None, rows.len() / hidden, hidden));
        let last = last.collect::<Result<Vec<_>>>()?;
        check_rows(OP, "deltas", weights.deltas.len(), weights.deltas.len())?;
        Ok(Self {
            features: weights.features.to_vec(),
            times: weights.times.to_vec(),
            deltas: weights.deltas.iter().map(|delta| delta.abs()).collect(),
            frequency: weights.frequency.to_vec(),
            layers,
            last,
        })
    }

    /// D: channels.
    pub fn width(&self) -> usize {
        self.deltas.len()
    }

    /// P: the longest response.
    pub fn length_max(&self) -> usize {
        self.times.len()
    }

    /// The first `length` taps of all channels, `[length, D]`.
    ///
    /// ```text
    /// h = features;  h = sin(frequency * (W h + b)) for each layer but the last
    /// out[t,d] = (W_last h)[t,d] * (exp(-times[t] * |deltas[d]|) + 0.05)
    /// ```
    ///
    /// # Errors
    /// `Shape` if `length` is more than [`Self::length_max`].
    ///
    /// Source: Poli et al. 2023, section 3.3; Nguyen et al. 2023 (HyenaDNA), the window's floor.
    pub fn response(&self, length: usize) -> Result<Vec<f32>> {
        if length > self.length_max() {
            return Err(KernelError::Shape {
                op: OP,
                operand: "length",
                expected: format!("at most {} positions", self.length_max()),
                found: format!("{length} positions"),
            });
        }
        let hidden = self.hidden(length)?;
        let mut out = vec![0.0; length * self.width()];
        let mut taps = vec![0.0; length * BLOCK];
        for block in 0..self.last.len() {
            let width = self.block_width(block);
            let taps = &mut taps[..length * width];
            self.taps(&hidden, block, 0, taps)?;
            for (out, taps) in out.chunks_mut(self.width()).zip(taps.chunks(width)) {
                out[block * BLOCK..][..width].copy_from_slice(taps);
            }
        }
        Ok(out)
    }

    /// Channels of a block: sixteen, or what is left.
    pub(super) fn block_width(&self, block: usize) -> usize {
        self.last[block].output_width()
    }

    /// The last hidden values of the first `length` positions.
    pub(super) fn hidden(&self, length: usize) -> Result<Hidden> {
        let (width, features) = (self.frequency.len(), self.features.len() / self.times.len());
        let mut out = vec![0.0; length * width];
        let isa = Isa::best();
        out.par_chunks_mut(POSITIONS_PER_TASK * width)
            .zip(self.features.par_chunks(POSITIONS_PER_TASK * features))
            .try_for_each(|(out, features)| {
                let rows = out.len() / width;
                let mut input = features[..rows * self.layers[0].input_width()].to_vec();
                for layer in &self.layers {
                    linear(&input, layer, Epilogue::None, out)?;
                    sines(isa, out, &self.frequency);
                    input.clear();
                    input.extend_from_slice(out);
                }
                Ok(())
            })?;
        Ok(Hidden(out))
    }

    /// Writes the taps of one block from a position on: `[rows, block width]`.
    pub(super) fn taps(
        &self,
        hidden: &Hidden,
        block: usize,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let (width, inputs) = (self.block_width(block), self.frequency.len());
        let rows = out.len() / width;
        let hidden = &hidden.0[first * inputs..][..rows * inputs];
        linear(hidden, &self.last[block], Epilogue::None, out)?;
        let deltas = &self.deltas[block * BLOCK..][..width];
        window(Isa::best(), out, &self.times[first..first + rows], deltas);
        Ok(())
    }
}

impl Hidden {
    /// Positions.
    pub(super) fn length(&self, filter: &ImplicitFilter) -> usize {
        self.0.len() / filter.frequency.len()
    }
}

per_isa!(
    /// Replaces each value by the sine of itself times its column's frequency.
    fn sines(rows: &mut [f32], frequency: &[f32]) = sines_of
);

#[inline(always)]
fn sines_of(rows: &mut [f32], frequency: &[f32]) {
    for row in rows.chunks_exact_mut(frequency.len()) {
        for (x, frequency) in row.iter_mut().zip(frequency) {
            *x = sin_of(*x * frequency);
        }
    }
}

per_isa!(
    /// Multiplies each row by the window at its time.
    fn window(rows: &mut [f32], times: &[f32], deltas: &[f32]) = window_of
);

#[inline(always)]
fn window_of(rows: &mut [f32], times: &[f32], deltas: &[f32]) {
    for (row, time) in rows.chunks_exact_mut(deltas.len()).zip(times) {
        for (x, delta) in row.iter_mut().zip(deltas) {
            *x *= exp_of(-time * delta) + WINDOW_FLOOR;
        }
    }
}
