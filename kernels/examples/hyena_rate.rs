//! Prints times of the Hyena operator: `cargo run --release -p glmeval-kernels --example hyena_rate`.
//!
//! Leaves out: peers. Invariant: weights and inputs are random, never zeros; spectra are warm.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_kernels::error::Result;
use glmeval_kernels::ops::hyena::{FilterWeights, HyenaOperator, HyenaWeights, ImplicitFilter};
use glmeval_kernels::ops::precision::Precision;
use std::time::Instant;

/// Sequences and tokens of each.
const SHAPES: [(usize, usize); 6] =
    [(32, 202), (8, 1000), (8, 1024), (2, 8192), (1, 32_768), (1, 160_000)];
const WIDTH: usize = 256;
const FEATURES: usize = 5;
const HIDDEN: usize = 64;

fn main() -> Result<()> {
    let only: Option<usize> = std::env::args().nth(1).and_then(|length| length.parse().ok());
    let bytes = std::env::args().nth(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(1 << 30);
    println!("{} threads, {WIDTH} channels, best of runs", rayon::current_num_threads());
    let shapes = match only {
        Some(length) => vec![(1, length)],
        None => SHAPES.to_vec(),
    };
    for (sequences, length) in shapes {
        let operator = operator(length + 2, bytes)?;
        let x = random(sequences * length * WIDTH);
        let mut out = vec![0.0; x.len()];
        let offsets: Vec<usize> = (0..=sequences).map(|index| index * length).collect();
        let repetitions = (40_000_000 / x.len()).clamp(3, 60);
        let first = best(1, || operator.apply(&x, &offsets, &mut out))?;
        let whole = best(repetitions, || operator.apply(&x, &offsets, &mut out))?;
        let mut long = f64::INFINITY;
        for _ in 0..repetitions {
            // In place, so each run needs values that did not grow.
            out.copy_from_slice(&x);
            long = long.min(milliseconds(|| operator.long_convolution(&mut out, &offsets))?);
        }
        println!(
            "{sequences:3} x {length:6}: long convolution {long:8.2} ms, whole {whole:8.2} ms, first {first:8.2} ms"
        );
    }
    Ok(())
}

/// Milliseconds of the fastest run.
fn best(repetitions: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    (0..repetitions).try_fold(f64::INFINITY, |best, _| Ok(best.min(milliseconds(&mut run)?)))
}

fn milliseconds(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn operator(positions: usize, spectra_bytes_max: usize) -> Result<HyenaOperator> {
    let square = random(HIDDEN * HIDDEN);
    let bias = random(HIDDEN);
    let filter = ImplicitFilter::new(&FilterWeights {
        features: &random(positions * FEATURES),
        times: &(0..positions).map(|i| i as f32 / positions as f32).collect::<Vec<_>>(),
        deltas: &random(WIDTH),
        frequency: &vec![10.0; HIDDEN],
        first: (&random(HIDDEN * FEATURES), &bias),
        inner: &[(&square, &bias), (&square, &bias)],
        last: &random(WIDTH * HIDDEN),
    })?;
    let weights = HyenaWeights {
        projection: &random(3 * WIDTH * WIDTH),
        projection_bias: &random(3 * WIDTH),
        precision: Precision::F32,
        short: &random(9 * WIDTH),
        short_bias: &random(3 * WIDTH),
        skip: &random(WIDTH),
        filter,
    };
    HyenaOperator::new(weights, spectra_bytes_max)
}

/// Values in -1..1 from a fixed linear congruence.
fn random(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
