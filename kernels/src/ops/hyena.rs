//! The mixer of HyenaDNA: projection, short convolution, gates and a convolution as long as the
//! sequence.
//!
//! Leaves out: the projection after it. Invariant: a sequence's result depends on that sequence
//! alone; what is cached, how rows are cut and how many threads there are never change a bit.

mod convolution;
pub mod cuda;
mod filter;
mod gate;
mod projection;
mod spectra;

pub use filter::{Affine, FilterWeights, ImplicitFilter};

use crate::error::{KernelError, Result, check_length};
use crate::isa::Isa;
use crate::ops::fft::vector::{LANES, Point};
use crate::ops::fft::{Execution, Transform, points_for};
use crate::ops::precision::Precision;
use crate::parallel::SharedRows;
use filter::Hidden;
use gate::{Columns, Stream, Taps};
use projection::{Operands, Projection};
use rayon::prelude::*;
use spectra::{Cache, Spectra};
use std::sync::Arc;

const OP: &str = "hyena";

/// What a checkpoint holds of one mixer of width D.
pub struct HyenaWeights<'a> {
    /// `[3 D, D]`: rows of the gate after, the gate before, the value.
    pub projection: &'a [f32],
    /// `[3 D]`
    pub projection_bias: &'a [f32],
    /// Of the projection's products; all else is f32.
    pub precision: Precision,
    /// `[3 D, 3]`: taps of two positions back, one back, present.
    pub short: &'a [f32],
    /// `[3 D]`
    pub short_bias: &'a [f32],
    /// `[D]`: what of the gated value is added to its convolution.
    pub skip: &'a [f32],
    /// The long filter of D channels.
    pub filter: ImplicitFilter,
}

/// The weights of one mixer, packed once, with the spectra of its filter.
pub struct HyenaOperator {
    projection: Projection,
    /// Of each block of sixteen channels: gate after, gate before, value.
    taps: Vec<[Taps; 3]>,
    skip: Vec<f32>,
    filter: ImplicitFilter,
    cache: Cache,
}

impl HyenaOperator {
    /// Packs the weights.
    ///
    /// `spectra_bytes_max`: bytes of filter spectra kept between calls; `8 D` bytes per point, and
    /// a sequence of T tokens takes T to 1.6 T points (at least 16). A spectrum that is not kept is
    /// computed whenever it is needed. Short spectra take up to a quarter more.
    ///
    /// # Errors
    /// `Shape` if any operand does not fit the filter's channels.
    pub fn new(weights: HyenaWeights<'_>, spectra_bytes_max: usize) -> Result<Self> {
        let width = weights.filter.width();
        check_length(OP, "short", weights.short.len(), 9 * width)?;
        check_length(OP, "short_bias", weights.short_bias.len(), 3 * width)?;
        check_length(OP, "skip", weights.skip.len(), width)?;
        check_length(OP, "projection", weights.projection.len(), 3 * width * width)?;
        check_length(OP, "projection_bias", weights.projection_bias.len(), 3 * width)?;
        let projection = Projection::pack(
            weights.precision,
            weights.projection,
            weights.projection_bias,
            width,
        )?;
        let taps = (0..width).step_by(LANES).map(|first| {
            let last = width.min(first + LANES);
            [0, 1, 2].map(|third| {
                let channels = third * width + first..third * width + last;
                Taps::new(weights.short, weights.short_bias, channels)
            })
        });
        Ok(Self {
            projection,
            taps: taps.collect(),
            skip: weights.skip.to_vec(),
            filter: weights.filter,
            cache: Cache::new(spectra_bytes_max),
        })
    }

    /// D: channels.
    pub fn width(&self) -> usize {
        self.skip.len()
    }

    /// The long filter.
    pub fn filter(&self) -> &ImplicitFilter {
        &self.filter
    }

    /// Bytes of filter spectra that are kept.
    pub fn spectra_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Mixes each sequence along its tokens, up to the output projection.
    ///
    /// ```text
    /// u = projection(x)
    /// c[t] = w0 u[t-2] + w1 u[t-1] + w2 u[t] + b;  x0, x1, v = thirds of c
    /// s = v * x1
    /// out[t,d] = x0[t,d] * (sum_{r <= t} h[r,d] s[t-r,d] + skip[d] s[t,d])
    /// ```
    ///
    /// - `x`, `out`: `[N, D]`
    /// - `offsets`: `[B + 1]` token counts before each sequence, from 0 to N
    ///
    /// The sum is a product of f32 transforms of the fewest points that hold the sequence, out of
    /// 1, 3 and 5 times powers of two; the skip is part of the filter's first tap. Error of about
    /// `1e-7 log2(T)` of the norms of filter and signal. The same bits on every CPU.
    ///
    /// # Errors
    /// `Shape` if the operands do not fit or a sequence is longer than the filter.
    ///
    /// Source: Poli et al. 2023, definition 3.1, order two; Nguyen et al. 2023.
    pub fn apply(&self, x: &[f32], offsets: &[usize], out: &mut [f32]) -> Result<()> {
        self.check(x, offsets, out, self.width())?;
        let out = SharedRows::new(out, self.width());
        let operands = Operands { x, offsets, taps: &self.taps, out: &out, width: self.width() };
        self.projection.signal(&operands)?;
        convolution::convolve(self, offsets, &out)?;
        self.projection.gate(&operands)
    }

    /// The long convolution alone, with the skip, in place of the gated values `s` `[N, D]`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn long_convolution(&self, s: &mut [f32], offsets: &[usize]) -> Result<()> {
        self.check(s, offsets, s, self.width())?;
        convolution::convolve(self, offsets, &SharedRows::new(s, self.width()))
    }

    /// The short convolution alone: `u` is the projection, `[N, 3 D]` like `out`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn short_convolution(&self, u: &[f32], offsets: &[usize], out: &mut [f32]) -> Result<()> {
        let width = self.width();
        self.check(u, offsets, out, 3 * width)?;
        let out = SharedRows::new(out, 3 * width);
        let isa = Isa::best();
        for pair in offsets.windows(2) {
            let rows = &u[pair[0] * 3 * width..pair[1] * 3 * width];
            let length = pair[1] - pair[0];
            for (index, taps) in self.taps.iter().flatten().enumerate() {
                let (block, third) = (index / 3, index % 3);
                let column = third * width + block * LANES;
                let stream = Stream { rows, stride: 3 * width, column, first: 0, length, taps };
                let columns = Columns::new(&out, width, pair[0]..pair[1], block);
                let mut run = vec![Point::ZERO; length];
                gate::set(isa, &stream, 0, &mut run);
                // SAFETY: no other thread uses the output.
                unsafe { Columns { column, ..columns }.write(0, &run) };
            }
        }
        Ok(())
    }

    /// Refuses operands that do not fit rows of `width` or the filter.
    fn check(&self, x: &[f32], offsets: &[usize], out: &[f32], width: usize) -> Result<()> {
        let refuse =
            |operand, expected, found| Err(KernelError::Shape { op: OP, operand, expected, found });
        let tokens = match (offsets.first(), offsets.last()) {
            (Some(0), Some(&tokens)) if offsets.is_sorted() => tokens,
            _ => {
                return refuse("offsets", "counts that rise from 0".into(), format!("{offsets:?}"));
            }
        };
        check_length(OP, "x", x.len(), tokens.saturating_mul(width))?;
        check_length(OP, "out", out.len(), x.len())?;
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        if longest > self.filter.length_max() {
            let expected = format!("sequences of at most {} tokens", self.filter.length_max());
            return refuse("offsets", expected, format!("{longest} tokens"));
        }
        Ok(())
    }

    /// Blocks of sixteen channels.
    fn blocks(&self) -> usize {
        self.taps.len()
    }

    /// The spectra of all blocks for a number of points, kept if they may be.
    fn spectra(&self, points: usize) -> Result<Spectra> {
        if let Some(spectra) = self.cache.get(points) {
            return Ok(spectra);
        }
        let transform = Transform::of(points);
        let hidden = self.filter.hidden(points.min(self.filter.length_max()))?;
        let how = Execution { isa: Isa::best(), parallel: false };
        let spectra = (0..self.blocks()).into_par_iter().map(|block| {
            let mut spectrum = vec![Point::ZERO; transform.places()];
            self.spectrum(how, &transform, &hidden, block, &mut spectrum);
            spectrum
        });
        let spectra = Arc::new(spectra.collect());
        self.cache.put(points, &spectra);
        Ok(spectra)
    }

    /// Fills `spectrum` with that of one block's filter and skip, divided by the points.
    fn spectrum(
        &self,
        how: Execution,
        transform: &Transform,
        hidden: &Hidden,
        block: usize,
        spectrum: &mut [Point],
    ) {
        let width = self.filter.block_width(block);
        let length = hidden.length(&self.filter);
        let scale = 1.0 / transform.points() as f32;
        transform.forward(how, spectrum, &|first, run| {
            let inside = length.saturating_sub(first).min(run.len());
            run.iter_mut().for_each(|point| point.re = [0.0; LANES]);
            if inside == 0 {
                return;
            }
            let mut taps = vec![f32::NAN; inside * width];
            // Shapes agree since the filter was made; a defect there would leave NaN everywhere.
            let _ = self.filter.taps(hidden, block, first, &mut taps);
            if let Some(first_tap) = taps.get_mut(..width).filter(|_| first == 0) {
                for (tap, skip) in first_tap.iter_mut().zip(&self.skip[block * LANES..]) {
                    *tap += skip;
                }
            }
            for (point, taps) in run.iter_mut().zip(taps.chunks_exact(width)) {
                for (lane, tap) in point.re.iter_mut().zip(taps) {
                    *lane = tap * scale;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
