use super::*;
use crate::cuda::Bf16;
use crate::cuda::testing::{assert_close, draw, for_each_device, for_small_device};
use crate::ops::hyena::{HyenaOperator, HyenaWeights, ImplicitFilter};
use crate::ops::precision::Precision;

const FEATURES: usize = 3;
const HIDDEN: usize = 6;

/// Values of a mixer's weights.
struct Given {
    width: usize,
    times: Vec<f32>,
    weights: Vec<Vec<f32>>,
}

impl Given {
    fn new(width: usize, positions: usize) -> Self {
        let counts = [
            positions * FEATURES,
            width,
            HIDDEN * FEATURES,
            HIDDEN,
            HIDDEN * HIDDEN,
            width * HIDDEN,
            9 * width,
            3 * width,
            width,
        ];
        let weights = counts.iter().enumerate().map(|(seed, &count)| draw(seed as u64, count));
        let times = (0..positions).map(|i| i as f32 / positions as f32).collect();
        Self { width, times, weights: weights.collect() }
    }

    fn filter<'a>(&'a self, inner: &'a [super::super::Affine<'a>]) -> FilterWeights<'a> {
        let w = &self.weights;
        FilterWeights {
            features: &w[0],
            times: &self.times,
            deltas: &w[1],
            frequency: &[3.0; HIDDEN],
            first: (&w[2], &w[3]),
            inner,
            last: &w[5],
        }
    }

    fn mixer(&self, gpu: &Gpu, spectra_bytes_max: usize) -> HyenaMixer {
        let w = &self.weights;
        let inner = [(&w[4][..], &w[3][..])];
        let weights = MixerWeights {
            short: &w[6],
            short_bias: &w[7],
            skip: &w[8],
            filter: self.filter(&inner),
        };
        HyenaMixer::new(gpu, &weights, spectra_bytes_max).unwrap()
    }

    /// The CPU's form of what follows the projection.
    fn on_cpu(&self, projected: &[f32], offsets: &[usize]) -> Vec<f32> {
        let (w, width) = (&self.weights, self.width);
        let inner = [(&w[4][..], &w[3][..])];
        let weights = HyenaWeights {
            projection: &vec![0.0; 3 * width * width],
            projection_bias: &vec![0.0; 3 * width],
            precision: Precision::F32,
            short: &w[6],
            short_bias: &w[7],
            skip: &w[8],
            filter: ImplicitFilter::new(&self.filter(&inner)).unwrap(),
        };
        let operator = HyenaOperator::new(weights, 0).unwrap();
        let mut c = vec![0.0; projected.len()];
        operator.short_convolution(projected, offsets, &mut c).unwrap();
        let third = |i: usize, third: usize| c[(3 * (i / width) + third) * width + i % width];
        let count = projected.len() / 3;
        let mut s: Vec<f32> = (0..count).map(|i| third(i, 2) * third(i, 1)).collect();
        operator.long_convolution(&mut s, offsets).unwrap();
        s.iter().enumerate().map(|(i, s)| s * third(i, 0)).collect()
    }
}

fn offsets_of(lengths: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    }));
    offsets
}

fn mixed(mixer: &HyenaMixer, projected: &[f32], offsets: &[usize]) -> Result<Vec<f32>> {
    let gpu = &mixer.gpu;
    let sequences = Sequences::new(gpu, offsets)?;
    let projected = DeviceArray::from_slice(gpu, projected)?;
    let mut out = DeviceArray::new(gpu, projected.len() / 3)?;
    mixer.apply(projected.view(), &sequences, &mut out.view_mut())?;
    out.to_vec()
}

/// Compares with the CPU, and each sequence alone with itself in the batch.
fn check(mixer: &HyenaMixer, given: &Given, lengths: &[usize]) -> Result<()> {
    let offsets = offsets_of(lengths);
    let projected = draw(77, offsets[lengths.len()] * 3 * given.width);
    let found = mixed(mixer, &projected, &offsets)?;
    let expected = given.on_cpu(&projected, &offsets);
    for pair in offsets.windows(2) {
        let rows = pair[0] * given.width..pair[1] * given.width;
        assert_close(&found[rows.clone()], &expected[rows.clone()], 2e-6);
        if lengths.len() > 1 {
            let own = &projected[3 * rows.start..3 * rows.end];
            let alone = mixed(mixer, own, &[0, pair[1] - pair[0]])?;
            assert!(alone == found[rows], "{lengths:?}: {pair:?}");
        }
    }
    Ok(())
}

#[test]
fn short_sequences_are_as_on_the_cpu_and_alone_as_in_a_batch() {
    for_each_device(|gpu| {
        for (width, lengths) in [
            (3, &[1, 2, 3, 5, 31, 0, 2, 48][..]),
            (1, &[31, 17]),
            (8, &[202, 232]),
            (130, &[3, 65]),
        ] {
            let given = Given::new(width, 256);
            check(&given.mixer(gpu, usize::MAX), &given, lengths)?;
        }
        Ok(())
    });
}

#[test]
fn lengths_around_powers_of_two_are_as_on_the_cpu() {
    for_each_device(|gpu| {
        let given = Given::new(3, 2100);
        let mixer = given.mixer(gpu, usize::MAX);
        for lengths in [&[255, 256, 257][..], &[1000, 1024], &[2048], &[2049]] {
            check(&mixer, &given, lengths)?;
        }
        Ok(())
    });
}

#[test]
fn the_longest_transform_of_one_block_is_as_on_the_cpu() {
    for_each_device(|gpu| {
        let given = Given::new(1, 8192);
        check(&given.mixer(gpu, 0), &given, &[8192])
    });
}

#[test]
fn blocks_with_little_shared_memory_hold_fewer_channels() {
    for_small_device(|gpu| {
        let given = Given::new(3, 6000);
        let mixer = given.mixer(gpu, usize::MAX);
        check(&mixer, &given, &[4000, 3900])?;
        check(&mixer, &given, &[6000])
    });
}

#[test]
fn transforms_of_several_blocks_are_as_on_the_cpu_from_kept_and_computed_spectra() {
    for_each_device(|gpu| {
        for spectra_bytes_max in [0, usize::MAX] {
            let given = Given::new(11, 1000);
            let mut mixer = given.mixer(gpu, spectra_bytes_max);
            mixer.block_points_max = 32;
            check(&mixer, &given, &[64, 5, 33, 90, 63])?;
            check(&mixer, &given, &[150])?;
            check(&mixer, &given, &[1000])?;
            assert_eq!(mixer.spectra_bytes() > 0, spectra_bytes_max > 0);
        }
        Ok(())
    });
}

#[test]
fn rows_of_bf16_are_mixed_in_f32() {
    for_each_device(|gpu| {
        let given = Given::new(9, 100);
        let mut mixer = given.mixer(gpu, usize::MAX);
        let offsets = [0, 90, 93];
        let projected: Vec<Bf16> = draw(5, 93 * 27).iter().map(|x| Bf16::from_f32(*x)).collect();
        let exact: Vec<f32> = projected.iter().map(|x| x.to_f32()).collect();
        let expected = given.on_cpu(&exact, &offsets);
        let projected = DeviceArray::from_slice(gpu, &projected)?;
        let sequences = Sequences::new(gpu, &offsets)?;
        for block_points_max in [plan::BLOCK_POINTS_MAX, 32] {
            mixer.kept = Mutex::default();
            mixer.block_points_max = block_points_max;
            let mut out = DeviceArray::<Bf16>::new(gpu, 93 * 9)?;
            mixer.apply(projected.view(), &sequences, &mut out.view_mut())?;
            let found: Vec<f32> = out.to_vec()?.iter().map(|x| x.to_f32()).collect();
            assert_close(&found, &expected, 4e-3);
        }
        Ok(())
    });
}

#[test]
fn spectra_stay_within_their_bytes() {
    for_each_device(|gpu| {
        let given = Given::new(2, 100);
        let mixer = given.mixer(gpu, 20_000);
        for length in [16, 30, 40, 60, 16] {
            check(&mixer, &given, &[length])?;
            let bytes = mixer.spectra_bytes();
            assert!(bytes > 0 && bytes <= 20_000, "{length}: {bytes}");
        }
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for_each_device(|gpu| {
        let mixer = Given::new(4, 8).mixer(gpu, 0);
        let message = |projected: usize, offsets: &[usize]| {
            mixed(&mixer, &vec![0.0; projected], offsets).unwrap_err().to_string()
        };
        assert!(message(24, &[0, 3]).contains("out has 8 values"));
        assert!(message(108, &[0, 9]).contains("at most 8 tokens"));
        assert!(message(24, &[0, 2, 1]).contains("rise"));
        assert!(message(24, &[1, 2]).contains("rise"));
        mixed(&mixer, &[], &[0, 0])?;
        Ok(())
    });
}
