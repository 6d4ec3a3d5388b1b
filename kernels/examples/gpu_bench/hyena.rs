//! Hyena's mixer: short convolutions, gates and the long convolution, in one kernel or in four steps.
//!
//! Leaves out: projections, which are products; making spectra, which are kept. Invariant: short sequences are compared with the
//! CPU's operator.

use super::{Bench, Case, draw, look};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Number as Stored};
use glmeval_kernels::error::Result;
use glmeval_kernels::ops::hyena::cuda::{HyenaMixer, MixerWeights, Sequences};
use glmeval_kernels::ops::hyena::{FilterWeights, HyenaOperator, HyenaWeights, ImplicitFilter};
use glmeval_kernels::ops::precision::Precision;

/// Sequences and tokens of each; from 32,768 on, four steps.
const SHAPES: [(usize, usize); 8] = [
    (2048, 202),
    (2048, 232),
    (512, 1000),
    (512, 1024),
    (64, 8192),
    (16, 32_768),
    (3, 160_000),
    (1, 1_000_000),
];
const WIDTH: usize = 256;
const FEATURES: usize = 5;
const HIDDEN: usize = 64;
/// Tokens up to which the CPU's operator is asked.
const COMPARED_MAX: usize = 1_024;
const SPECTRA_BYTES_MAX: usize = 8 << 30;

pub(super) fn mixers(bench: &Bench) -> Result<()> {
    for (count, length) in SHAPES {
        let (count, length) = if bench.is_smoke { (2, 20) } else { (count, length) };
        let name = format!("hyena_B{count}_L{length}");
        if !bench.wants(&name) {
            continue;
        }
        let weights = Weights::new(length);
        one::<f32>(bench, (name.clone(), "f32"), (count, length), &weights)?;
        one::<Bf16>(bench, (name, "bf16"), (count, length), &weights)?;
    }
    Ok(())
}

/// A mixer's weights on the host.
struct Weights {
    features: Vec<f32>,
    times: Vec<f32>,
    deltas: Vec<f32>,
    frequency: Vec<f32>,
    first: Vec<f32>,
    bias: Vec<f32>,
    last: Vec<f32>,
    short: Vec<f32>,
    short_bias: Vec<f32>,
    skip: Vec<f32>,
}

impl Weights {
    fn new(length: usize) -> Self {
        let positions = length + 2;
        Self {
            features: draw(1, positions * FEATURES),
            times: (0..positions).map(|i| i as f32 / positions as f32).collect(),
            deltas: draw(2, WIDTH).iter().map(|x| 10.0 * x).collect(),
            frequency: vec![10.0; HIDDEN],
            first: draw(3, HIDDEN * FEATURES),
            bias: draw(4, HIDDEN),
            last: draw(5, WIDTH * HIDDEN).iter().map(|x| x / 64.0).collect(),
            short: draw(6, 9 * WIDTH),
            short_bias: draw(7, 3 * WIDTH),
            skip: draw(8, WIDTH),
        }
    }

    fn filter(&self) -> FilterWeights<'_> {
        FilterWeights {
            features: &self.features,
            times: &self.times,
            deltas: &self.deltas,
            frequency: &self.frequency,
            first: (&self.first, &self.bias),
            inner: &[],
            last: &self.last,
        }
    }

    /// What the CPU's operator makes of `x` `[T, D]`, its projection repeating each row three times.
    fn mixed(&self, x: &[f32]) -> Result<Vec<f32>> {
        let is_one = |index: usize| index % WIDTH == index / WIDTH % WIDTH;
        let projection: Vec<f32> =
            (0..3 * WIDTH * WIDTH).map(|i| f32::from(u8::from(is_one(i)))).collect();
        let weights = HyenaWeights {
            projection: &projection,
            projection_bias: &[0.0; 3 * WIDTH],
            precision: Precision::F32,
            short: &self.short,
            short_bias: &self.short_bias,
            skip: &self.skip,
            filter: ImplicitFilter::new(&self.filter())?,
        };
        let mut out = vec![0.0; x.len()];
        HyenaOperator::new(weights, SPECTRA_BYTES_MAX)?.apply(
            x,
            &[0, x.len() / WIDTH],
            &mut out,
        )?;
        Ok(out)
    }
}

fn one<T: super::Number + Stored>(
    bench: &Bench,
    (name, dtype): (String, &'static str),
    (count, length): (usize, usize),
    weights: &Weights,
) -> Result<()> {
    let bytes = size_of::<T>() * 4 * count * length * WIDTH;
    // As the peers' program counts: transforms of the next power of two.
    let points = (2 * length - 1).next_power_of_two() as f64;
    let flop = 5.0 * points.log2() * points * (count * WIDTH) as f64;
    let case = Case { suite: "gpu", name, dtype, bytes: bytes as f64, flop };
    bench.attempt(&case, || measured::<T>(bench, &case, (count, length), weights))
}

fn measured<T: super::Number + Stored>(
    bench: &Bench,
    case: &Case,
    (count, length): (usize, usize),
    weights: &Weights,
) -> Result<()> {
    let (gpu, tokens) = (&bench.gpu, count * length);
    let turns = bench.turns(case.bytes as usize);
    let x = draw(9, length * WIDTH);
    let row = |row: &[f32]| [row, row, row].concat();
    let sequence: Vec<T> = x.chunks_exact(WIDTH).flat_map(row).map(T::of).collect();
    let (mut inputs, mut outs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let mut input = DeviceArray::<T>::new(gpu, 3 * tokens * WIDTH)?;
        for number in 0..count {
            let place = number * sequence.len()..(number + 1) * sequence.len();
            input.view_mut().part(place).write(&sequence)?;
        }
        inputs.push(input);
        outs.push(DeviceArray::<T>::new(gpu, tokens * WIDTH)?);
    }
    let offsets: Vec<usize> = (0..=count).map(|number| number * length).collect();
    let sequences = Sequences::new(gpu, &offsets)?;
    let on_device = MixerWeights {
        short: &weights.short,
        short_bias: &weights.short_bias,
        skip: &weights.skip,
        filter: weights.filter(),
    };
    let mixer = HyenaMixer::new(gpu, &on_device, SPECTRA_BYTES_MAX)?;
    let mut mix =
        |turn: usize| mixer.apply(inputs[turn].view(), &sequences, &mut outs[turn].view_mut());
    mix(0)?;
    bench.row(case, turns, &mut mix)?;
    if length <= COMPARED_MAX {
        let expected = weights.mixed(&x)?;
        let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let found = outs[0].view().part((tokens - length) * WIDTH..tokens * WIDTH).to_vec()?;
        let tolerance = if case.dtype == "f32" { 1e-4 } else { 3e-2 };
        for (found, expected) in found.iter().zip(&expected) {
            look(case, found.value(), *expected, tolerance * scale)?;
        }
    }
    Ok(())
}
