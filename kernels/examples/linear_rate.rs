//! Prints GFLOP/s of linear layers: `cargo run --release -p glmeval-kernels --example linear_rate`.
//!
//! Leaves out: peers. Invariant: shapes are those of the models, inputs are random, never zeros.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_kernels::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::precision::Precision;
use std::time::Instant;

/// What it is, M, N, K.
const SHAPES: [(&str, usize, usize, usize); 13] = [
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
    ("Hyena fc1", 2048, 1024, 256),
    ("Hyena fc2", 2048, 256, 1024),
    ("one row", 1, 3840, 1280),
];

fn main() -> Result<()> {
    let kind = glmeval_kernels::bf16_kind();
    println!("{} threads; GFLOP/s, best of runs; bf16 is {kind}", rayon::current_num_threads());
    for (name, rows, output_width, input_width) in SHAPES {
        let weight = random(output_width * input_width);
        let bias = random(output_width);
        let x = random(rows * input_width);
        let mut out = vec![0.0; rows * output_width];
        let products = rows * output_width * input_width;
        print!("{name:28} {rows:5} x {output_width} x {input_width}:");
        for precision in [Precision::F32, Precision::Bf16] {
            let weights =
                PackedLinear::pack_as(precision, &weight, Some(&bias), output_width, input_width)?;
            print!(" | {precision:?}");
            for epilogue in [Epilogue::None, Epilogue::Gelu, Epilogue::Add] {
                let repetitions = (4_000_000_000 / products).clamp(5, 200);
                let mut seconds = f64::INFINITY;
                for _ in 0..repetitions {
                    let start = Instant::now();
                    linear(&x, &weights, epilogue, &mut out)?;
                    seconds = seconds.min(start.elapsed().as_secs_f64());
                }
                print!(" {epilogue:?} {:6.1}", 2.0 * products as f64 / seconds / 1e9);
            }
        }
        println!();
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
