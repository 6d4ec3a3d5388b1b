use super::*;
use crate::ops::linear::{Epilogue, PackedLinear, linear};
use crate::ops::precision::Precision;

/// Unrelated values in -1..1.
fn value(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn values(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| value(seed * 1_000_003 + i)).collect()
}

const FEATURES: usize = 3;
const HIDDEN: usize = 6;

/// Values of an operator's weights.
struct Given {
    width: usize,
    positions: usize,
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
            3 * width * width,
            3 * width,
            9 * width,
            width,
        ];
        let weights = counts.iter().enumerate().map(|(seed, &count)| values(seed, count));
        Self { width, positions, weights: weights.collect() }
    }

    fn times(&self) -> Vec<f32> {
        (0..self.positions).map(|i| i as f32 / self.positions as f32).collect()
    }

    fn filter(&self) -> ImplicitFilter {
        let w = &self.weights;
        ImplicitFilter::new(&FilterWeights {
            features: &w[0],
            times: &self.times(),
            deltas: &w[1],
            frequency: &[3.0; HIDDEN],
            first: (&w[2], &w[3]),
            inner: &[(&w[4], &w[3])],
            last: &w[5],
        })
        .unwrap()
    }

    fn operator(&self, spectra_bytes_max: usize) -> HyenaOperator {
        let w = &self.weights;
        let weights = HyenaWeights {
            projection: &w[6],
            projection_bias: &w[7],
            precision: Precision::F32,
            short: &w[8],
            short_bias: &w[7],
            skip: &w[9],
            filter: self.filter(),
        };
        HyenaOperator::new(weights, spectra_bytes_max).unwrap()
    }

    /// The filter's response by its definition in f64.
    fn response(&self, length: usize) -> Vec<f64> {
        let w = |index: usize, i: usize| f64::from(self.weights[index][i]);
        let times = self.times();
        let affine = |x: &[f64], weight: usize| -> Vec<f64> {
            let sum = |o: usize| {
                let terms =
                    x.iter().enumerate().map(|(i, x)| w(weight, o * x_width(x, weight) + i) * x);
                (3.0 * (terms.sum::<f64>() + w(3, o))).sin()
            };
            (0..HIDDEN).map(sum).collect()
        };
        let row = |t: usize| {
            let features: Vec<f64> = (0..FEATURES).map(|i| w(0, t * FEATURES + i)).collect();
            let hidden = affine(&affine(&features, 2), 4);
            let tap = |d: usize| {
                let sum: f64 =
                    hidden.iter().enumerate().map(|(i, h)| w(5, d * HIDDEN + i) * h).sum();
                sum * ((-f64::from(times[t]) * w(1, d).abs()).exp() + 0.05)
            };
            (0..self.width).map(tap).collect::<Vec<f64>>()
        };
        (0..length).flat_map(row).collect()
    }

    /// The operator on one sequence by its definition in f64, direct sums.
    fn mixed(&self, x: &[f32]) -> Vec<f64> {
        let w = |index: usize, i: usize| f64::from(self.weights[index][i]);
        let (width, length) = (self.width, x.len() / self.width);
        let projected = |t: usize, c: usize| -> f64 {
            let row = &x[t * width..][..width];
            row.iter().enumerate().map(|(k, x)| w(6, c * width + k) * f64::from(*x)).sum::<f64>()
                + w(7, c)
        };
        let u: Vec<f64> =
            (0..length * 3 * width).map(|i| projected(i / (3 * width), i % (3 * width))).collect();
        let convolved = |t: usize, c: usize| -> f64 {
            let back = |back: usize| if t < back { 0.0 } else { u[(t - back) * 3 * width + c] };
            (0..3).map(|tap| w(8, 3 * c + tap) * back(2 - tap)).sum::<f64>() + w(7, c)
        };
        let filter = self.response(length);
        let s: Vec<f64> = (0..length * width)
            .map(|i| (i / width, i % width))
            .map(|(t, d)| convolved(t, width + d) * convolved(t, 2 * width + d))
            .collect();
        let out = |t: usize, d: usize| {
            let sum: f64 = (0..=t).map(|r| filter[r * width + d] * s[(t - r) * width + d]).sum();
            convolved(t, d) * (sum + w(9, d) * s[t * width + d])
        };
        (0..length * width).map(|i| out(i / width, i % width)).collect()
    }
}

/// Inputs of a layer: features for the first, hidden values for the others.
fn x_width(_: &f64, weight: usize) -> usize {
    if weight == 2 { FEATURES } else { HIDDEN }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn applied(operator: &HyenaOperator, x: &[f32], offsets: &[usize]) -> Vec<u32> {
    let mut out = vec![f32::NAN; x.len()];
    operator.apply(x, offsets, &mut out).unwrap();
    bits(&out)
}

fn in_pool<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn response_is_its_definition_and_a_prefix_of_longer_ones() {
    let given = Given::new(19, 300);
    let filter = given.filter();
    let found = filter.response(300).unwrap();
    for (found, expected) in found.iter().zip(given.response(300)) {
        assert!((f64::from(*found) - expected).abs() < 3e-6, "{found} {expected}");
    }
    let prefix = filter.response(17).unwrap();
    assert_eq!(bits(&prefix), bits(&found[..17 * 19]));
    assert!(filter.response(301).is_err());
}

#[test]
fn operator_is_its_definition_for_any_channels_and_lengths() {
    for (width, lengths) in [
        (1, &[1, 2, 3, 100][..]),
        (15, &[17]),
        (16, &[1, 16, 33]),
        (17, &[70, 161]),
        (40, &[5, 200]),
    ] {
        let given = Given::new(width, 256);
        let operator = given.operator(usize::MAX);
        for &length in lengths {
            let x = values(77, length * width);
            let mut out = vec![f32::NAN; x.len()];
            operator.apply(&x, &[0, length], &mut out).unwrap();
            let expected = given.mixed(&x);
            let norm = (expected.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt();
            for (found, expected) in out.iter().zip(expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-5 * norm + 1e-5 * expected.abs(), "{width} {length}: {error}");
            }
        }
    }
}

#[test]
fn parts_agree_with_the_whole() {
    let (width, length) = (20, 50);
    let given = Given::new(width, 64);
    let operator = given.operator(0);
    let x = values(5, length * width);
    let projection =
        PackedLinear::pack(&given.weights[6], Some(&given.weights[7]), 3 * width, width).unwrap();
    let mut u = vec![0.0; 3 * x.len()];
    linear(&x, &projection, Epilogue::None, &mut u).unwrap();
    let mut c = vec![f32::NAN; u.len()];
    operator.short_convolution(&u, &[0, 20, length], &mut c).unwrap();
    let third = |t: usize, d: usize, third: usize| c[(3 * t + third) * width + d];
    let each = |f: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..x.len()).map(|i| f(i / width, i % width)).collect()
    };
    let s = each(&|t, d| third(t, d, 2) * third(t, d, 1));
    let mut y = s;
    operator.long_convolution(&mut y, &[0, 20, length]).unwrap();
    let expected = each(&|t, d| y[t * width + d] * third(t, d, 0));
    assert_eq!(applied(&operator, &x, &[0, 20, length]), bits(&expected));
}

#[test]
fn sequences_are_blind_to_each_other_threads_and_kept_spectra() {
    let width = 33;
    let offsets = [0, 1, 1, 40, 242, 282, 2000, 4300, 4400];
    let given = Given::new(width, 2400);
    let x = values(3, 4400 * width);
    let expected = in_pool(1, || applied(&given.operator(0), &x, &offsets));
    let kept = given.operator(1 << 24);
    for threads in [1, 2, 3] {
        assert!(in_pool(threads, || applied(&kept, &x, &offsets)) == expected, "{threads}");
    }
    for pair in offsets.windows(2) {
        let alone = applied(&kept, &x[pair[0] * width..pair[1] * width], &[0, pair[1] - pair[0]]);
        assert!(alone == expected[pair[0] * width..pair[1] * width], "{pair:?}");
    }
}

#[test]
fn long_sequences_have_the_same_bits_from_kept_and_computed_spectra() {
    let (width, length) = (35, (1 << 14) + 700);
    let given = Given::new(width, length + 5);
    let x = values(9, (length + 30) * width);
    let offsets = [0, 30, length + 30];
    let computed = given.operator(0);
    let expected = in_pool(1, || applied(&computed, &x, &offsets));
    assert_eq!(computed.spectra_bytes(), 0);
    let kept = given.operator(1 << 30);
    assert!(in_pool(2, || applied(&kept, &x, &offsets)) == expected);
    assert!(in_pool(2, || applied(&computed, &x, &offsets)) == expected);
    assert!(
        in_pool(3, || applied(&kept, &x[30 * width..], &[0, length])) == expected[30 * width..]
    );
}

#[test]
fn spectra_stay_within_their_bytes() {
    let given = Given::new(16, 400);
    let operator = given.operator(64 << 10);
    for length in [16, 100, 200, 300, 400, 100] {
        let mut out = vec![0.0; length * 16];
        operator.apply(&values(1, length * 16), &[0, length], &mut out).unwrap();
        let bytes = operator.spectra_bytes();
        assert!(bytes > 0 && bytes <= 64 << 10, "{length}: {bytes}");
    }
    let least = given.operator(usize::MAX);
    let mut out = vec![0.0; 1000 * 16];
    let x = values(2, 1000 * 16);
    least.apply(&x, &[0, 257, 577, 900, 1000], &mut out).unwrap();
    let points = 320 + 320 + 384 + 128 - 320;
    assert!(least.spectra_bytes() >= points * 128 && least.spectra_bytes() < points * 161);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let operator = Given::new(4, 8).operator(0);
    let message = |x: &[f32], offsets: &[usize], out: &mut [f32]| {
        operator.apply(x, offsets, out).unwrap_err().to_string()
    };
    assert!(message(&[0.0; 8], &[0, 3], &mut [0.0; 8]).contains("x has 8 values"));
    assert!(message(&[0.0; 8], &[0, 2], &mut [0.0; 4]).contains("out has 4 values"));
    assert!(message(&[0.0; 36], &[0, 9], &mut [0.0; 36]).contains("at most 8 tokens"));
    for offsets in [&[] as &[usize], &[1, 2], &[0, 2, 1]] {
        assert!(message(&[0.0; 8], offsets, &mut [0.0; 8]).contains("rise"));
    }
    operator.apply(&[], &[0], &mut []).unwrap();
    operator.apply(&[], &[0, 0], &mut []).unwrap();
    assert!(operator.long_convolution(&mut [0.0; 8], &[0, 3]).is_err());
    assert!(operator.short_convolution(&[0.0; 8], &[0, 2], &mut [0.0; 8]).is_err());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let given = Given::new(4, 8);
    let w = &given.weights;
    let filter = |times: &[f32], last: &[f32]| {
        let weights = FilterWeights {
            features: &w[0],
            times,
            deltas: &w[1],
            frequency: &[1.0; HIDDEN],
            first: (&w[2], &w[3]),
            inner: &[],
            last,
        };
        ImplicitFilter::new(&weights).map(|_| ()).map_err(|error| error.to_string())
    };
    filter(&[0.0; 8], &w[5]).unwrap();
    assert!(filter(&[], &w[5]).unwrap_err().contains("times"));
    assert!(filter(&[0.0; 5], &w[5]).is_err());
    assert!(filter(&[0.0; 8], &w[5][HIDDEN..]).unwrap_err().contains("last"));
    let operator = |short: &[f32], skip: &[f32]| {
        let weights = HyenaWeights {
            projection: &w[6],
            projection_bias: &w[7],
            precision: Precision::F32,
            short,
            short_bias: &w[7],
            skip,
            filter: given.filter(),
        };
        HyenaOperator::new(weights, 0).map(|_| ()).map_err(|error| error.to_string())
    };
    operator(&w[8], &w[9]).unwrap();
    assert!(operator(&w[8][1..], &w[9]).unwrap_err().contains("short"));
    assert!(operator(&w[8], &w[9][1..]).unwrap_err().contains("skip"));
}

#[test]
fn every_instruction_set_gates_with_the_same_bits() {
    let rows = values(4, 50 * 40);
    let taps = Taps::new(&values(5, 3 * 20), &values(6, 20), 2..18);
    let run = |isa, column| {
        let stream = Stream { rows: &rows, stride: 40, column, first: 0, length: 50, taps: &taps };
        let mut run = vec![Point { re: [0.5; LANES], im: [0.0; LANES] }; 60];
        gate::set(isa, &stream, 0, &mut run[..20]);
        gate::set(isa, &stream, 20, &mut run[20..]);
        gate::multiply(isa, &stream, 0, &mut run);
        run.iter().flat_map(|point| point.re.map(f32::to_bits)).collect::<Vec<_>>()
    };
    for isa in Isa::available() {
        for column in [0, 3, 30] {
            assert_eq!(run(isa, column), run(Isa::Baseline, column), "{isa:?} {column}");
        }
    }
}
