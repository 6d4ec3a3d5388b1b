//! Every form against the CPU's, alone against in a batch, and what lies past a sequence.
//!
//! Leaves out: golden fixtures. Invariant: lengths lie on both sides of every tile's edge.

use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device};
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
    fn run<T: AttentionValue + PartialEq + std::fmt::Debug>(
        &self,
        gpu: &Gpu,
        qkv: &[T],
        poison: T,
    ) -> Result<Vec<T>> {
        const BEHIND: usize = 4096;
        let mut behind = qkv.to_vec();
        behind.resize(qkv.len() + BEHIND, poison);
        let array = DeviceArray::from_slice(gpu, &behind)?;
        let table = SequenceTable::new(gpu, &self.offsets())?;
        let slopes = self.slopes().map(|slopes| DeviceArray::from_slice(gpu, &slopes).unwrap());
        let count = qkv.len() / 3;
        let mut out = DeviceArray::<T>::new(gpu, count + BEHIND)?;
        out.view_mut().fill_bytes(0xff)?;
        attention(
            array.view().part(0..qkv.len()),
            &table,
            self.heads,
            self.scale(),
            slopes.as_ref().map(DeviceArray::view),
            &mut out.view_mut().part(0..count),
        )?;
        let mut found = out.to_vec()?;
        let behind = found.split_off(count);
        // A NaN differs from itself, bits or not.
        let untouched = DeviceArray::<T>::new(gpu, BEHIND)?.to_vec()?;
        assert_eq!(format!("{behind:?}"), format!("{untouched:?}"));
        Ok(found)
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
            batch(3, 7, &[1, 0, 49, 48, 129], true),
            batch(1, 64, &[127, 3], true),
            batch(1, 40, &[200], false),
            batch(2, 4, &[333, 1], true),
            batch(1, 128, &[66], false),
            batch(1, 256, &[65], false),
        ] {
            let qkv = batch.qkv();
            assert_close(&batch.run(gpu, &qkv, f32::NAN)?, &batch.expected(&qkv), 2e-6);
        }
        Ok(())
    });
}
