//! Dropout with a mask that is computed, never stored.
//!
//! Leaves out: inference, which drops nothing. Invariant: whether an element is dropped depends on
//! the seed, the step, the layer and the element's index alone.

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

/// Counters that are run through the generator at once, one word of each after another.
const LANES: usize = 16;
/// Elements of one group of counters.
const GROUP: usize = 4 * LANES;
/// Elements whose bits are held at once.
const BLOCK: usize = 16 * GROUP;

impl DropoutMask {
    /// Factor of what is kept: `1 / (1 - rate)`.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// Elements whose bits are below it are dropped.
    pub(crate) fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    /// The bits of the elements from `first` on.
    ///
    /// Element `e` is word `e / 16 % 4` of the counter `(16 (e / 64) + e % 16, layer, step)`.
    #[inline(always)]
    pub(crate) fn bits_of(&self, first: usize, out: &mut [u32]) {
        let mut rest = out;
        let mut element = first;
        while !rest.is_empty() {
            let within = element % GROUP;
            let count = (GROUP - within).min(rest.len());
            let (here, after) = rest.split_at_mut(count);
            let words = self.group((element / GROUP) as u64);
            match here.first_chunk_mut::<GROUP>() {
                Some(here) => *here = words,
                None => here.copy_from_slice(&words[within..within + count]),
            }
            (element, rest) = (element + count, after);
        }
    }

    /// The bits of one group of elements: Philox4x32 with ten rounds.
    #[inline(always)]
    fn group(&self, group: u64) -> [u32; GROUP] {
        let mut counters = [[0_u32; LANES]; 4];
        for lane in 0..LANES {
            let counter = group * LANES as u64 + lane as u64;
            counters[0][lane] = counter as u32;
            // Above 2^36 elements the index would reach into the layer's word.
            counters[1][lane] = self.layer ^ (((counter >> 32) as u32) << 28);
            counters[2][lane] = self.step as u32;
            counters[3][lane] = (self.step >> 32) as u32;
        }
        let words = philox(counters, [self.seed as u32, (self.seed >> 32) as u32]);
        let mut bits = [0; GROUP];
        for (bits, words) in bits.chunks_exact_mut(LANES).zip(&words) {
            bits.copy_from_slice(words);
        }
        bits
    }
}

/// Ten rounds of Philox4x32 on sixteen counters.
///
/// Source: Salmon et al. 2011, section 3.3 and table 2.
#[inline(always)]
fn philox(counters: [[u32; LANES]; 4], key: [u32; 2]) -> [[u32; LANES]; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let [mut a, mut b, mut c, mut d] = counters;
    let mut key = key;
    for _ in 0..10 {
        for lane in 0..LANES {
            let first = MULTIPLIERS[0] * u64::from(a[lane]);
            let second = MULTIPLIERS[1] * u64::from(c[lane]);
            a[lane] = (second >> 32) as u32 ^ b[lane] ^ key[0];
            b[lane] = second as u32;
            c[lane] = (first >> 32) as u32 ^ d[lane] ^ key[1];
            d[lane] = first as u32;
        }
        key = [key[0].wrapping_add(STEPS[0]), key[1].wrapping_add(STEPS[1])];
    }
    [a, b, c, d]
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
            Some(mask) => (BLOCK + count.next_multiple_of(GROUP), mask.threshold(), mask.scale()),
            None => (count, 0, 1.0),
        };
        Self { mask, bits: vec![0; length], first: usize::MAX, threshold, scale }
    }

    /// The bits of `count` elements from `first` on.
    #[inline(always)]
    pub(crate) fn bits(&mut self, first: usize, count: usize) -> &[u32] {
        let Some(mask) = self.mask else { return &self.bits[..count] };
        let is_held = self.first <= first && first + count <= self.first + self.bits.len();
        if self.first == usize::MAX || !is_held {
            self.first = first - first % GROUP;
            mask.bits_of(self.first, &mut self.bits);
        }
        &self.bits[first - self.first..][..count]
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
    parallel::for_rows(out, BLOCK, |first, out| {
        let first = first * BLOCK;
        drop_part(isa, *mask, first, &x[first..first + out.len()], out);
    });
    Ok(())
}

per_isa!(fn drop_part(mask: DropoutMask, first: usize, x: &[f32], out: &mut [f32]) = drop_all);

#[inline(always)]
fn drop_all(mask: DropoutMask, first: usize, x: &[f32], out: &mut [f32]) {
    let (scale, threshold) = (mask.scale(), mask.threshold());
    let mut bits = [0_u32; BLOCK];
    for (block, (x, out)) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
        let bits = &mut bits[..x.len()];
        mask.bits_of(first + block * BLOCK, bits);
        for ((out, &x), &bits) in out.iter_mut().zip(x).zip(&*bits) {
            *out = dropped(x, bits, threshold, scale);
        }
    }
}

/// One element after dropout.
#[inline(always)]
pub(crate) fn dropped(x: f32, bits: u32, threshold: u32, scale: f32) -> f32 {
    if bits >= threshold { x * scale } else { 0.0 }
}

#[cfg(test)]
mod tests;
