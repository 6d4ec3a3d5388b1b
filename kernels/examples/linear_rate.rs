//! Prints GFLOP/s of linear layers and convolutions: `cargo run --release -p glmeval-kernels --example linear_rate [layer]`.
//!
//! Leaves out: peers. Invariant: shapes are those of the models, inputs are random, never zeros.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_kernels::error::Result;
use glmeval_kernels::ops::conv1d::{Conv1dShape, PackedConv1d, conv1d};
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::precision::Precision;
use std::time::Instant;

/// What it is, M, N, K.
const SHAPES: [(&str, usize, usize, usize); 16] = [
    ("square", 2048, 2048, 2048),
    ("NT-500M QKV", 1088, 3840, 1280),
    ("NT-500M out", 1088, 1280, 1280),
    ("NT-500M fc1", 1088, 5120, 1280),
    ("NT-500M fc2", 1088, 1280, 5120),
    ("NT-500M QKV, 32 sequences", 1152, 3840, 1280),
    ("NT-500M fc1, 32 sequences", 1152, 5120, 1280),
    ("NT-500M fc2, 32 sequences", 1152, 1280, 5120),
    ("NT-500M fc1, one sequence", 34, 5120, 1280),
    ("NT-500M fc2, one sequence", 34, 1280, 5120),
    ("12x512 QKV", 1152, 1536, 512),
    ("12x512 out", 1152, 512, 512),
    ("12x512 fc2", 1152, 512, 2048),
    ("Hyena fc1", 2048, 1024, 256),
    ("Hyena fc2", 2048, 256, 1024),
    ("one row", 1, 3840, 1280),
];

/// Sequences of a convolution's batch, and the length of each.
const SEQUENCES: (usize, usize) = (8, 256);

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("{} threads; GFLOP/s, best of runs", rayon::current_num_threads());
    for precision in [Precision::F32, Precision::Bf16] {
        let kind = match precision {
            Precision::F32 => glmeval_kernels::instruction_set(),
            Precision::Bf16 => glmeval_kernels::bf16_kind(),
        };
        println!("{precision:?}, {kind}");
        for (name, rows, output_width, input_width) in SHAPES {
            if name.contains(&wanted) {
                plain(precision, name, rows, output_width, input_width)?;
            }
        }
        if !wanted.is_empty() {
            continue;
        }
        gated(precision, "DNABERT-2 gated", 1152, 3072, 768)?;
        gated(precision, "gated", 1152, 2048, 512)?;
        for dilation in [1, 8, 32] {
            let shape = Conv1dShape { output_width: 512, input_width: 512, kernel: 9, dilation };
            convolution(precision, shape)?;
        }
    }
    Ok(())
}

/// A linear layer with each epilogue in turn.
fn plain(
    precision: Precision,
    name: &str,
    rows: usize,
    output_width: usize,
    input_width: usize,
) -> Result<()> {
    let (weight, bias) = (random(output_width * input_width), random(output_width));
    let packing = Instant::now();
    let weights =
        PackedLinear::pack_as(precision, &weight, Some(&bias), output_width, input_width)?;
    let packing = packing.elapsed().as_secs_f64();
    let x = random(rows * input_width);
    let mut out = vec![0.0; rows * output_width];
    let epilogues =
        [Epilogue::None, Epilogue::Gelu, Epilogue::GeluTanh, Epilogue::Relu, Epilogue::Add];
    print!("{name:28} {rows:5} x {output_width} x {input_width}:");
    let products = rows * output_width * input_width;
    compare(
        products,
        epilogues.len(),
        |i| linear(&x, &weights, epilogues[i], &mut out),
        |i| format!("{:?}", epilogues[i]),
    )?;
    println!("; packing {:.1} ms", packing * 1e3);
    Ok(())
}

/// Gated weights beside plain ones of as many sums.
fn gated(
    precision: Precision,
    name: &str,
    rows: usize,
    output_width: usize,
    input_width: usize,
) -> Result<()> {
    let weight = random(2 * output_width * input_width);
    let plain = PackedLinear::pack_as(precision, &weight, None, 2 * output_width, input_width)?;
    let gated = PackedLinear::pack_gated_as(precision, &weight, None, output_width, input_width)?;
    let x = random(rows * input_width);
    let (mut wide, mut out) = (vec![0.0; 2 * rows * output_width], vec![0.0; rows * output_width]);
    print!("{name:28} {rows:5} x 2x{output_width} x {input_width}:");
    let run = |i| match i {
        0 => linear(&x, &plain, Epilogue::None, &mut wide),
        1 => linear(&x, &gated, Epilogue::SiluGate, &mut out),
        _ => linear(&x, &gated, Epilogue::GeluGate, &mut out),
    };
    let names = ["plain", "SiluGate", "GeluGate"];
    compare(2 * rows * output_width * input_width, 3, run, |i| names[i].to_owned())?;
    println!();
    Ok(())
}

/// A convolution beside the linear layer of as many products.
fn convolution(precision: Precision, shape: Conv1dShape) -> Result<()> {
    let (count, length) = SEQUENCES;
    let rows = count * length;
    let steps = shape.input_width * shape.kernel;
    let weight = random(shape.output_width * steps);
    let plain = PackedLinear::pack_as(precision, &weight, None, shape.output_width, steps)?;
    let weights = PackedConv1d::pack_as(precision, &weight, None, shape)?;
    let offsets: Vec<usize> = (0..=count).map(|i| i * length).collect();
    let (wide, x) = (random(rows * steps), random(rows * shape.input_width));
    let mut out = vec![0.0; rows * shape.output_width];
    let name = format!("GPN, dilation {}", shape.dilation);
    print!("{name:28} {rows:5} x {} x {steps}:", shape.output_width);
    let run = |i| match i {
        0 => linear(&wide, &plain, Epilogue::None, &mut out),
        1 => conv1d(&x, &offsets, &weights, Epilogue::None, &mut out),
        _ => conv1d(&x, &offsets, &weights, Epilogue::Gelu, &mut out),
    };
    let names = ["plain", "conv", "conv Gelu"];
    compare(rows * shape.output_width * steps, 3, run, |i| names[i].to_owned())?;
    println!();
    Ok(())
}

/// Runs variants in turn, so that all see the same machine, and prints the best rate of each.
fn compare(
    products: usize,
    count: usize,
    mut run: impl FnMut(usize) -> Result<()>,
    name: impl Fn(usize) -> String,
) -> Result<()> {
    let mut seconds = vec![f64::INFINITY; count];
    for _ in 0..(4_000_000_000 / products).clamp(7, 200) {
        for (variant, seconds) in seconds.iter_mut().enumerate() {
            let start = Instant::now();
            run(variant)?;
            *seconds = seconds.min(start.elapsed().as_secs_f64());
        }
    }
    for (variant, seconds) in seconds.iter().enumerate() {
        print!(" {} {:6.1}", name(variant), 2.0 * products as f64 / seconds / 1e9);
    }
    Ok(())
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
