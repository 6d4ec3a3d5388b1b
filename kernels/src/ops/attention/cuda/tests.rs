//! Every form against the CPU's, alone against in a batch, and what lies past a sequence.
//!
//! Leaves out: golden fixtures. Invariant: lengths lie on both sides of every tile's edge.

use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device, for_small_device};
use crate::cuda::{DeviceArray, Gpu};
use crate::ops::attention::{PositionBias, alibi_slopes, attention as on_cpu};

/// A batch: heads, values of a head, lengths, whether distance counts.
#[derive(Clone)]
struct Batch {
    heads: usize,
    width: usize,
    lengths: Vec<usize>,
    has_slopes: bool,
}

impl Batch {
    fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0];
        for length in &self.lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        offsets
    }

    /// Twice what `draw` gives, so that weights differ by some powers of ten.
    fn qkv(&self) -> Vec<f32> {
        let tokens: usize = self.lengths.iter().sum();
        draw(7, tokens * 3 * self.heads * self.width).iter().map(|x| 2.0 * x).collect()
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn slopes(&self) -> Option<Vec<f32>> {
        self.has_slopes.then(|| alibi_slopes(self.heads))
    }

    fn expected(&self, qkv: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; qkv.len() / 3];
        let slopes = self.slopes();
        let bias = match &slopes {
            Some(slopes) => PositionBias::Alibi { slopes },
            None => PositionBias::None,
        };
        on_cpu(qkv, &self.offsets(), self.heads, self.scale(), bias, &mut out).unwrap();
        out
    }

    /// Attends on a device, with NaNs behind `qkv` and `out`, and sees that those of `out` are left alone.
    fn run<T: Held>(&self, gpu: &Gpu, attend: Attend<T>, qkv: &[f32]) -> Result<Vec<f32>> {
        const BEHIND: usize = 512;
        let mut values: Vec<T> = qkv.iter().map(|x| T::of(*x)).collect();
        values.resize(qkv.len() + BEHIND, T::of(f32::NAN));
        let array = DeviceArray::from_slice(gpu, &values)?;
        let table = SequenceTable::new(gpu, &self.offsets())?;
        let slopes = self.slopes().map(|slopes| DeviceArray::from_slice(gpu, &slopes).unwrap());
        let count = qkv.len() / 3;
        let mut out = DeviceArray::<T>::new(gpu, count + BEHIND)?;
        out.view_mut().fill_bytes(0xff)?;
        attend(
            array.view().part(0..qkv.len()),
            &table,
            self.heads,
            self.scale(),
            slopes.as_ref().map(DeviceArray::view),
            &mut out.view_mut().part(0..count),
        )?;
        let mut found: Vec<f32> = out.to_vec()?.iter().map(|x| x.value()).collect();
        assert!(found.split_off(count).iter().all(|x| x.is_nan()));
        Ok(found)
    }

    /// Sees that a device's results are the CPU's from the values that it is given.
    fn check<T: Held>(&self, gpu: &Gpu, attend: Attend<T>, tolerance: f32) -> Result<()> {
        let qkv: Vec<f32> = self.qkv().iter().map(|x| T::of(*x).value()).collect();
        assert_close(&self.run(gpu, attend, &qkv)?, &self.expected(&qkv), tolerance);
        Ok(())
    }

    /// Sees that each sequence has the bits it has alone, be its neighbours numbers or not.
    fn check_alone<T: Held>(&self, gpu: &Gpu, attend: Attend<T>) -> Result<()> {
        let (qkv, width) = (self.qkv(), self.heads * self.width);
        let together = self.run(gpu, attend, &qkv)?;
        for (pair, length) in self.offsets().windows(2).zip(&self.lengths) {
            let own = pair[0] * 3 * width..pair[1] * 3 * width;
            let results = pair[0] * width..pair[1] * width;
            let single = Self { lengths: vec![*length], ..self.clone() };
            let alone = single.run(gpu, attend, &qkv[own])?;
            assert_eq!(bits(&together[results]), bits(&alone), "{length} tokens");
        }
        // Every other sequence is no numbers.
        for odd in [0, 1] {
            let mut among_nans = qkv.clone();
            for pair in self.offsets().windows(2).skip(odd).step_by(2) {
                among_nans[pair[0] * 3 * width..pair[1] * 3 * width].fill(f32::NAN);
            }
            let found = self.run(gpu, attend, &among_nans)?;
            for pair in self.offsets().windows(2).skip(1 - odd).step_by(2) {
                let results = pair[0] * width..pair[1] * width;
                assert_eq!(bits(&found[results.clone()]), bits(&together[results]), "{pair:?}");
            }
        }
        Ok(())
    }
}

/// A form of attention, as it is called.
type Attend<T> = for<'a, 'b, 'c, 'd, 'e> fn(
    View<'a, T>,
    &'b SequenceTable,
    usize,
    f32,
    Option<View<'c, f32>>,
    &'d mut ViewMut<'e, T>,
) -> Result<()>;

/// Values that can be made from f32 and back.
trait Held: Element {
    fn of(x: f32) -> Self;
    fn value(self) -> f32;
}

impl Held for f32 {
    fn of(x: f32) -> Self {
        x
    }
    fn value(self) -> f32 {
        self
    }
}

impl Held for Bf16 {
    fn of(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

fn batch(heads: usize, width: usize, lengths: &[usize], has_slopes: bool) -> Batch {
    Batch { heads, width, lengths: lengths.to_vec(), has_slopes }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn f32_is_as_on_the_cpu_at_every_length_and_width() {
    for_each_device(|gpu| {
        for batch in [
            batch(2, 16, &[1, 2, 15, 16, 17, 33, 47, 48, 49, 64, 65], false),
            batch(2, 7, &[1, 0, 129], true),
            batch(1, 64, &[127, 3], true),
            batch(1, 16, &[333], true),
            batch(1, 128, &[66], false),
            batch(1, 256, &[49], false),
        ] {
            batch.check::<f32>(gpu, attention, 2e-6)?;
        }
        Ok(())
    });
}

#[test]
fn tf32_is_near_the_cpu_at_every_length_and_width() {
    for_each_device(|gpu| {
        for batch in [
            batch(2, 16, &[1, 2, 15, 16, 17, 33, 47, 48, 49, 64, 65, 200], false),
            batch(1, 64, &[48, 127, 129], true),
            batch(1, 128, &[66], true),
            batch(1, 20, &[333, 7], false),
            batch(2, 6, &[5], false),
        ] {
            batch.check::<f32>(gpu, attention_tf32, 2e-3)?;
        }
        Ok(())
    });
}

#[test]
fn short_bf16_is_near_the_cpu_at_every_length() {
    for_each_device(|gpu| {
        let lengths = [1, 2, 15, 16, 17, 24, 25, 33, 47, 48, 49, 63, 64, 65, 96, 97, 127, 128];
        batch(3, 16, &lengths, true).check::<Bf16>(gpu, attention, 5e-3)?;
        batch(1, 64, &lengths, false).check::<Bf16>(gpu, attention, 5e-3)
    });
}

#[test]
fn short_bf16_is_near_the_cpu_at_every_width() {
    for_each_device(|gpu| {
        for width in [8, 24, 80, 96, 128] {
            batch(3, width, &[23, 41], true).check::<Bf16>(gpu, attention, 5e-3)?;
        }
        batch(2, 128, &[127, 90], false).check::<Bf16>(gpu, attention, 5e-3)
    });
}

#[test]
fn long_bf16_is_near_the_cpu_at_every_width_and_length() {
    for_each_device(|gpu| {
        for batch in [
            batch(2, 32, &[129, 200, 333], true),
            batch(1, 64, &[191, 256, 257], false),
            batch(1, 96, &[193], true),
            batch(1, 128, &[225, 160], true),
            batch(1, 120, &[161], false),
            batch(3, 8, &[300], false),
        ] {
            batch.check::<Bf16>(gpu, attention, 5e-3)?;
        }
        Ok(())
    });
}

#[test]
fn bf16_heads_of_any_width_are_near_the_cpu() {
    for_each_device(|gpu| {
        for (width, has_slopes) in [(4, true), (20, false), (7, false), (136, true)] {
            batch(2, width, &[1, 17, 50], has_slopes).check::<Bf16>(gpu, attention, 5e-3)?;
        }
        Ok(())
    });
}

#[test]
fn blocks_with_little_shared_memory_attend_in_narrower_tiles() {
    for_small_device(|gpu| {
        batch(1, 128, &[100, 128, 97, 20], true).check::<Bf16>(gpu, attention, 5e-3)?;
        batch(1, 128, &[66, 40], true).check::<f32>(gpu, attention_tf32, 2e-3)?;
        for width in [128, 160, 256] {
            let batch = batch(1, width, &[49, 9, 48], false);
            batch.check::<f32>(gpu, attention, 2e-6)?;
            batch.check_alone::<f32>(gpu, attention)?;
        }
        Ok(())
    });
}

#[test]
fn a_sequence_has_the_bits_it_has_alone() {
    for_each_device(|gpu| {
        let mixed = batch(1, 16, &[5, 70, 0, 40], true);
        mixed.check_alone::<f32>(gpu, attention)?;
        let mixed = batch(3, 16, &[5, 70, 0, 130, 24, 40, 1], true);
        mixed.check_alone::<Bf16>(gpu, attention)?;
        mixed.check_alone::<f32>(gpu, attention_tf32)
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let table = SequenceTable::new(gpu, &[0, 2])?;
        let qkv = DeviceArray::<f32>::zeros(gpu, 28)?;
        let slopes = DeviceArray::<f32>::zeros(gpu, 3)?;
        let mut out = DeviceArray::<f32>::zeros(gpu, 9)?;
        let mut refused = |part: std::ops::Range<usize>, heads, scale, slopes, count| {
            let (qkv, mut out) = (qkv.view().part(part), out.view_mut());
            let out = &mut out.part(0..count);
            match attention(qkv, &table, heads, scale, slopes, out) {
                Err(KernelError::Shape { operand, .. }) => operand,
                other => panic!("expected a refusal, found {other:?}"),
            }
        };
        assert_eq!(refused(0..23, 2, 1.0, None, 8), "qkv");
        assert_eq!(refused(0..27, 2, 1.0, None, 9), "out");
        assert_eq!(refused(0..24, 0, 1.0, None, 8), "out");
        assert_eq!(refused(0..24, 3, 1.0, None, 8), "out");
        assert_eq!(refused(0..0, 1, 1.0, None, 0), "out");
        assert_eq!(refused(1..25, 2, 1.0, None, 8), "qkv");
        assert_eq!(refused(0..24, 2, -1.0, None, 8), "scale");
        assert_eq!(refused(0..24, 2, 0.0, None, 8), "scale");
        assert_eq!(refused(0..24, 2, f32::NAN, None, 8), "scale");
        assert_eq!(refused(0..24, 2, 1.0, Some(slopes.view()), 8), "slopes");
        attention(qkv.view().part(0..24), &table, 2, 1.0, None, &mut out.view_mut().part(0..8))?;
        let none = SequenceTable::new(gpu, &[0, 0])?;
        attention(qkv.view().part(0..0), &none, 2, 1.0, None, &mut out.view_mut().part(0..0))
    });
}
