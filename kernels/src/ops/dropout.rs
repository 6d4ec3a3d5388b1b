//! Dropout with a mask that is computed, never stored.
//!
//! Leaves out: inference, which drops nothing. Invariant: whether an element is dropped depends on
//! the seed, the step, the layer and the element's index alone.

pub mod cuda;

use crate::error::{Result, check_length};
use crate::isa::{Isa, per_isa};
use crate::parallel;

/// Names the mask of one layer in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    /// Seed of the training.
    pub seed: u64,
    /// Step of the training.
    pub step: u64,
    /// Which dropout of the network.
    pub layer: u32,
    /// Probability that an element is dropped, in 0..1.
    pub rate: f32,
}

/// Counters of one group; their first words lie one after another, then their second words, …
const LANES: usize = 256;
/// Elements of one group of counters.
const GROUP: usize = 4 * LANES;

impl DropoutMask {
    /// Factor of what is kept: `1 / (1 - rate)`.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// Elements whose bits are below it are dropped.
    pub(crate) fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    /// Word of the counter that the step is in.
    fn step_words(&self) -> [u32; 2] {
        [self.step as u32, (self.step >> 32) as u32]
    }

    /// The keys of the ten rounds.
    fn keys(&self) -> [[u32; 2]; ROUNDS] {
        const STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
        let (mut keys, mut key) = ([[0; 2]; ROUNDS], [self.seed as u32, (self.seed >> 32) as u32]);
        for place in &mut keys {
            *place = key;
            key = [key[0].wrapping_add(STEPS[0]), key[1].wrapping_add(STEPS[1])];
        }
        keys
    }
}

const ROUNDS: usize = 10;

per_isa!(
    /// Writes the bits of whole groups of elements, the first of which is `group`.
    ///
    /// Element `e` is word `e / 256 % 4` of the counter `(256 (e / 1024) + e % 256, layer, step)`.
    fn fill_part(mask: DropoutMask, group: usize, bits: &mut [u32]) = fill_all
);

#[inline(always)]
fn fill_all(mask: DropoutMask, group: usize, bits: &mut [u32]) {
    let (keys, [low, high]) = (mask.keys(), mask.step_words());
    for (index, bits) in bits.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let first = (group + index) * LANES;
        // Above 2^32 counters the index reaches into the layer's word.
        let layer = mask.layer ^ (((first >> 32) as u32) << 28);
        let (front, back) = bits.split_at_mut(2 * LANES);
        let ((a, b), (c, d)) = (front.split_at_mut(LANES), back.split_at_mut(LANES));
        let places = a.iter_mut().zip(b).zip(c.iter_mut().zip(d));
        for (lane, ((a, b), (c, d))) in (0_u32..).zip(places) {
            let counter = (first as u32).wrapping_add(lane);
            [*a, *b, *c, *d] = philox([counter, layer, low, high], &keys);
        }
    }
}

/// Philox4x32-10 of one counter; rounds are written out so that loops over it vectorise.
///
/// Source: Salmon et al. 2011, section 3.3 and table 2.
#[inline(always)]
fn philox(counter: [u32; 4], keys: &[[u32; 2]; ROUNDS]) -> [u32; 4] {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9] = *keys;
    let words = round(round(round(round(round(counter, k0), k1), k2), k3), k4);
    round(round(round(round(round(words, k5), k6), k7), k8), k9)
}

#[inline(always)]
fn round([a, b, c, d]: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let first = 0xD251_1F53 * u64::from(a);
    let second = 0xCD9E_8D57 * u64::from(c);
    let (first_high, second_high) = ((first >> 32) as u32, (second >> 32) as u32);
    [second_high ^ b ^ key[0], second as u32, first_high ^ d ^ key[1], first as u32]
}

/// The bits of elements that are asked for in order, made for many at a time.
pub(crate) struct Stream {
    mask: Option<DropoutMask>,
    bits: Vec<u32>,
    first: usize,
    /// Elements whose bits are below it are dropped; without a mask, none.
    pub(crate) threshold: u32,
    /// Factor of what is kept; without a mask, one.
    pub(crate) scale: f32,
}

impl Stream {
    /// For a mask, or none that drops anything; `count` elements are asked for at most at once.
    pub(crate) fn new(mask: Option<DropoutMask>, count: usize) -> Self {
        let (length, threshold, scale) = match mask {
            Some(mask) => {
                (4 * GROUP + count.next_multiple_of(GROUP), mask.threshold(), mask.scale())
            }
            None => (count, 0, 1.0),
        };
        Self { mask, bits: vec![0; length], first: usize::MAX, threshold, scale }
    }

    /// The bits of `count` elements from `first` on.
    pub(crate) fn bits(&mut self, isa: Isa, first: usize, count: usize) -> &[u32] {
        let Some(mask) = self.mask else { return &self.bits[..count] };
        let is_held = self.first <= first && first + count <= self.first + self.bits.len();
        if self.first == usize::MAX || !is_held {
            self.first = first - first % GROUP;
            fill_part(isa, mask, first / GROUP, &mut self.bits);
        }
        &self.bits[first - self.first..][..count]
    }

    /// Applies the mask to the elements from `first` on.
    pub(crate) fn drop_from(&mut self, isa: Isa, first: usize, values: &mut [f32]) {
        if self.mask.is_some() {
            let (threshold, scale) = (self.threshold, self.scale);
            let bits = self.bits(isa, first, values.len());
            drop_bits(isa, bits, threshold, scale, values);
        }
    }
}

per_isa!(fn drop_bits(bits: &[u32], threshold: u32, scale: f32, values: &mut [f32]) = drop_bits_all);

#[inline(always)]
fn drop_bits_all(bits: &[u32], threshold: u32, scale: f32, values: &mut [f32]) {
    for (value, &bits) in values.iter_mut().zip(bits) {
        *value = dropped(*value, bits, threshold, scale);
    }
}

/// Writes what the mask keeps of `x`, scaled so that the mean stays; its own gradient too.
///
/// ```text
/// out[i] = x[i] / (1 - rate) where kept, else 0
/// ```
///
/// - `x`, `out`: of one length, `i` the index in the batch's array
///
/// # Errors
/// `Shape` if lengths differ.
///
/// Source: Srivastava et al. 2014, section 10.
pub fn dropout(mask: &DropoutMask, x: &[f32], out: &mut [f32]) -> Result<()> {
    check_length("dropout", "out", out.len(), x.len())?;
    let isa = Isa::best();
    parallel::for_rows(out, GROUP, |first, out| {
        let first = first * GROUP;
        drop_part(isa, *mask, first, &x[first..first + out.len()], out);
    });
    Ok(())
}

/// [`dropout`] of the elements from `first` on, on this thread alone.
fn drop_part(isa: Isa, mask: DropoutMask, first: usize, x: &[f32], out: &mut [f32]) {
    let mut stream = Stream::new(Some(mask), GROUP);
    let parts = x.chunks(GROUP).zip(out.chunks_mut(GROUP));
    for (start, (x, out)) in (first..).step_by(GROUP).zip(parts) {
        out.copy_from_slice(x);
        stream.drop_from(isa, start, out);
    }
}

/// One element after dropout.
#[inline(always)]
pub(crate) fn dropped(x: f32, bits: u32, threshold: u32, scale: f32) -> f32 {
    if bits >= threshold { x * scale } else { 0.0 }
}

#[cfg(test)]
mod tests;
