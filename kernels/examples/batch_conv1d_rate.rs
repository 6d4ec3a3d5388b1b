//! Prints GFLOP/s of the three products of training: `cargo run --release -p glmeval-kernels --example batch_conv1d_rate [network]`.
//!
//! Leaves out: peers. Invariant: shapes are those of the networks, inputs are random, never zeros.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_kernels::error::Result;
use glmeval_kernels::ops::batch_conv1d::{Affine, BatchConv1d, BatchConv1dShape, Input};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::precision::Precision;
use std::time::Instant;

/// Times each product is run; the best counts.
const RUNS: usize = 7;

/// A layer: sequences, their length, input and output channels, taps.
type Layer = (usize, usize, usize, usize, usize);

/// What it is, and its layers; the first has a normalised input, and no gradient for it.
const NETWORKS: [(&str, &[Layer]); 4] = [
    (
        "NT-2.5B",
        &[
            (256, 41, 2560, 196, 1),
            (256, 41, 196, 196, 7),
            (256, 8, 196, 256, 7),
            (256, 1, 512, 512, 1),
            (256, 1, 512, 2, 1),
        ],
    ),
    (
        "GPN",
        &[
            (64, 230, 512, 128, 1),
            (64, 230, 128, 196, 7),
            (64, 46, 196, 256, 7),
            (64, 1, 2816, 512, 1),
        ],
    ),
    ("HyenaDNA", &[(64, 230, 256, 128, 1), (64, 230, 128, 196, 7), (64, 46, 196, 256, 7)]),
    (
        "one-hot",
        &[
            (128, 230, 4, 196, 1),
            (128, 230, 4, 196, 7),
            (128, 230, 196, 196, 7),
            (128, 46, 196, 256, 7),
            (128, 1, 2816, 512, 1),
        ],
    ),
];

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("{} threads; GFLOP/s, best of runs", rayon::current_num_threads());
    for precision in [Precision::F32, Precision::Bf16] {
        for (name, layers) in NETWORKS {
            if !name.contains(&wanted) {
                continue;
            }
            println!("{precision:?}, {name}");
            let mut total = 0.0;
            for (index, &layer) in layers.iter().enumerate() {
                total += time_layer(precision, layer, index == 0)?;
            }
            println!("  all products and packing {:.1} ms", total * 1e3);
        }
    }
    Ok(())
}

/// Seconds of a layer's step; prints the rate of each part beside a linear layer as large.
fn time_layer(precision: Precision, layer: Layer, first: bool) -> Result<f64> {
    let (batch, length, input_width, output_width, kernel) = layer;
    let shape = BatchConv1dShape::same(length, input_width, output_width, kernel, 1);
    let (rows, steps) = (batch * length, kernel * input_width);
    let (x, dy) = (random(rows * input_width), random(rows * output_width));
    let (weights, bias) = (random(steps * output_width), random(output_width));
    let (shift, scale) = (random(input_width), random(input_width));
    let affine = first.then_some(Affine { shift: &shift, scale: &scale });
    let input = Input { values: &x, affine };
    let mut convolution = BatchConv1d::new(shape, precision, true, !first)?;
    let plain = PackedLinear::pack_by_input_as(precision, &weights, None, output_width, steps)?;
    let wide = random(rows * steps);
    let (mut out, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    let (mut dkernel, mut dbias) = (vec![0.0; weights.len()], vec![0.0; output_width]);
    let mut seconds = [f64::INFINITY; 5];
    for _ in 0..RUNS {
        seconds[0] = seconds[0].min(time(|| convolution.set_weights(&weights, Some(&bias)))?);
        seconds[1] = seconds[1].min(time(|| linear(&wide, &plain, Epilogue::None, &mut out))?);
        let forward = time(|| convolution.forward(input, Epilogue::None, &mut out))?;
        seconds[2] = seconds[2].min(forward);
        if !first {
            seconds[3] = seconds[3].min(time(|| convolution.input_gradient(&dy, &mut dx))?);
        }
        let dbias = Some(dbias.as_mut_slice());
        let backward = time(|| convolution.weight_gradient(input, &dy, &mut dkernel, dbias))?;
        seconds[4] = seconds[4].min(backward);
    }
    let rate = |seconds: f64| 2.0 * (rows * steps * output_width) as f64 / seconds / 1e9;
    let [packing, plain, forward, backward, gradient] = seconds;
    print!("  {rows:5} x {output_width:3} x {steps:4} ({kernel} taps): linear {:6.1}", rate(plain));
    print!("; forward {:6.1}, dx {:6.1}, dw {:6.1}", rate(forward), rate(backward), rate(gradient));
    let backward = if first { 0.0 } else { backward };
    println!("; packing {:.2} ms", packing * 1e3);
    Ok(packing + forward + backward + gradient)
}

/// Seconds of one run.
fn time(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
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
