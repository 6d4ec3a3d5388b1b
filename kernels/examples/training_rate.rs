//! Prints GB/s of the operations of training: `cargo run --release -p glmeval-kernels --example training_rate`.
//!
//! Leaves out: products with weights. Invariant: shapes are those of the networks; bytes are those
//! that must be read and written once, so a pass that is bound by memory shows its bandwidth.
#![expect(clippy::disallowed_methods, reason = "a stop watch is the point of this program")]
#![expect(clippy::print_stdout, reason = "a table for a person")]

use glmeval_kernels::error::Result;
use glmeval_kernels::ops::adam::{AdamStep, adam};
use glmeval_kernels::ops::batch_norm::{
    NormGradient, Normalisation, batch_norm, batch_norm_gradient, batch_statistics, example_sums,
};
use glmeval_kernels::ops::batch_pool::PoolShape;
use glmeval_kernels::ops::dropout::{DropoutMask, dropout};
use glmeval_kernels::ops::function::{Function, apply, gradient};
use glmeval_kernels::ops::norm_block::{NormBlock, norm_block, norm_block_gradient};
use std::time::Instant;

const MASK: DropoutMask = DropoutMask { seed: 1, step: 2, layer: 3, rate: 0.2 };

fn main() -> Result<()> {
    println!("{} threads, {}", rayon::current_num_threads(), glmeval_kernels::instruction_set());
    separate(128, 230, 196)?;
    let pool = |length, width, size| Some(PoolShape { length, width, size });
    blocks("rep_cnn 1", 128, Function::Exponential, (230, 196, pool(230, 196, 5)))?;
    blocks("rep_cnn 2", 128, Function::Relu, (46, 256, pool(46, 256, 4)))?;
    blocks("resnet", 128, Function::Silu, (230, 196, None))?;
    blocks("dense", 256, Function::Relu, (1, 512, None))?;
    let count = 2_000_000;
    let (g, mut m, mut v, mut w) = (wave(count), wave(count), vec![0.1; count], wave(count));
    let step = AdamStep {
        step: 5,
        learning_rate: 1e-3,
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-7,
        torch_form: false,
    };
    show("adam", 28 * count, || adam(&step, &g, &mut m, &mut v, &mut w))
}

/// Operations one by one on `[sequences, length, width]`.
fn separate(sequences: usize, length: usize, width: usize) -> Result<()> {
    let count = sequences * length * width;
    let (x, dy, mut out) = (wave(count), wave(count), vec![0.0; count]);
    out.copy_from_slice(&dy);
    show("copy", 8 * count, || {
        out.copy_from_slice(&x);
        Ok(())
    })?;
    let (mut mean, mut variance) = (vec![0.0; width], vec![1.0; width]);
    show("statistics", 4 * count, || batch_statistics(&x, width, &mut mean, &mut variance))?;
    let (shift, mut sums, mut squares) =
        (mean.clone(), vec![0.0; sequences * width], vec![0.0; sequences * width]);
    show("example sums", 4 * count, || example_sums(&x, width, &shift, &mut sums, &mut squares))?;
    let (gamma, beta) = (vec![1.0; width], vec![0.1; width]);
    let norm = Normalisation {
        mean: &mean,
        variance: &variance,
        gamma: &gamma,
        beta: &beta,
        epsilon: 1e-3,
    };
    show("batch norm", 8 * count, || batch_norm(&x, &norm, &mut out))?;
    let (mut dgamma, mut dbeta) = (gamma.clone(), gamma.clone());
    show("its gradient", 20 * count, || {
        let places = NormGradient { dx: Some(&mut out), dgamma: &mut dgamma, dbeta: &mut dbeta };
        batch_norm_gradient(&x, &dy, &norm, true, places)
    })?;
    show("dropout", 8 * count, || dropout(&MASK, &x, &mut out))?;
    for function in [Function::Relu, Function::Silu, Function::Exponential, Function::Gelu] {
        show(&format!("{function:?}"), 8 * count, || apply(function, width, &x, &mut out))?;
        show("its gradient", 16 * count, || gradient(function, width, &x, &x, &dy, &mut out))?;
    }
    Ok(())
}

/// A block forward and back.
fn blocks(
    name: &str,
    sequences: usize,
    function: Function,
    (length, width, pool): (usize, usize, Option<PoolShape>),
) -> Result<()> {
    let count = sequences * length * width;
    let outputs = pool.map_or(count, |pool| sequences * pool.output_length() * width);
    let (x, dy, mut out) = (wave(count), wave(outputs), vec![0.0; outputs]);
    let (mean, variance) = (vec![0.1; width], vec![1.0; width]);
    let normalisation = Normalisation {
        mean: &mean,
        variance: &variance,
        gamma: &variance,
        beta: &mean,
        epsilon: 1e-3,
    };
    let block = NormBlock { normalisation, function, before: None, pool, after: Some(MASK) };
    let block = match function {
        Function::Exponential => NormBlock { before: Some(MASK), after: None, ..block },
        _ => block,
    };
    let mut picked = vec![0; if pool.is_some() { outputs } else { 0 }];
    show(&format!("{name} forward"), 4 * (count + outputs), || {
        norm_block(&block, &x, &mut out, &mut picked)
    })?;
    let (mut dx, mut dgamma, mut dbeta) = (vec![1.0; count], mean.clone(), mean.clone());
    show(&format!("{name} back"), 12 * count + 8 * outputs, || {
        let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
        norm_block_gradient(&block, &x, &dy, &picked, true, places)
    })
}

fn show(name: &str, bytes: usize, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name:24} {:7.2} ms {:6.1} GB/s", best * 1e3, bytes as f64 / best / 1e9);
    Ok(())
}

fn wave(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i % 65_537) as f32 * 0.77).sin() * 2.0).collect()
}
