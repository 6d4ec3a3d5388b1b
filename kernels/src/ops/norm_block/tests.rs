use super::*;
use crate::ops::batch_norm::{batch_norm, batch_norm_gradient, batch_statistics};
use crate::ops::batch_pool::{max_pool, max_pool_gradient};
use crate::ops::dropout::dropout;
use crate::ops::function;

fn wave(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.3).collect()
}

struct Shape {
    sequences: usize,
    length: usize,
    width: usize,
    size: usize,
}

/// Output, then gradients of input, scale and shift.
type Results = [Vec<f32>; 4];

/// The operations one after another, everything between them kept.
fn separate(block: &NormBlock<'_>, x: &[f32], dy: &[f32], training: bool) -> Results {
    let (width, count) = (block.normalisation.width(), x.len());
    let (mut z, mut y) = (vec![0.0; count], vec![0.0; count]);
    batch_norm(x, &block.normalisation, &mut z).unwrap();
    function::apply(block.function, width, &z, &mut y).unwrap();
    let drop = |mask: &Option<DropoutMask>, x: Vec<f32>| {
        let mut out = x.clone();
        mask.iter().for_each(|mask| dropout(mask, &x, &mut out).unwrap());
        out
    };
    let dropped = drop(&block.before, y.clone());
    let mut picked = vec![0; dy.len()];
    let out = block.pool.map_or(dropped.clone(), |pool| {
        let mut out = vec![0.0; dy.len()];
        max_pool(&dropped, &pool, &mut out, &mut picked).unwrap();
        out
    });
    let out = drop(&block.after, out);
    let dy = drop(&block.after, dy.to_vec());
    let spread = block.pool.map_or(dy.clone(), |pool| {
        let mut spread = vec![0.0; count];
        max_pool_gradient(&dy, &picked, &pool, &mut spread).unwrap();
        spread
    });
    let (mut dz, mut dx) = (vec![0.0; count], vec![0.0; count]);
    function::gradient(block.function, width, &z, &y, &drop(&block.before, spread), &mut dz)
        .unwrap();
    let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
    let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
    batch_norm_gradient(x, &dz, &block.normalisation, training, places).unwrap();
    [out, dx, dgamma, dbeta]
}

/// The block as one.
fn fused(isa: Isa, block: &NormBlock<'_>, x: &[f32], dy: &[f32], training: bool) -> Results {
    let width = block.normalisation.width();
    let mut picked = vec![0; if block.pool.is_some() { dy.len() } else { 0 }];
    let (mut out, mut dx) = (vec![9.0; dy.len()], vec![9.0; x.len()]);
    let (mut dgamma, mut dbeta) = (vec![9.0; width], vec![9.0; width]);
    assert_eq!(block.check(x, &picked), Ok(out.len()));
    forward::run(isa, block, x, &mut out, &mut picked);
    let places = NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta };
    backward::run(isa, block, &Given { x, dy, picked: &picked }, training, places);
    let (mut again, mut sums) = (vec![9.0; width], vec![9.0; width]);
    let places = NormGradient { dx: None, dgamma: &mut again, dbeta: &mut sums };
    backward::run(isa, block, &Given { x, dy, picked: &picked }, training, places);
    assert_eq!((&again, &sums), (&dgamma, &dbeta), "the same sums where nobody asks for dx");
    [out, dx, dgamma, dbeta]
}

fn check(shape: &Shape, function: Function, rates: [f32; 2], training: bool) {
    let width = shape.width;
    let x = wave(shape.sequences * shape.length * width, 0.77);
    let (gamma, beta) = (wave(width, 0.3), wave(width, 0.9));
    let (mut mean, mut variance) = (vec![0.1; width], vec![1.7; width]);
    if training {
        batch_statistics(&x, width, &mut mean, &mut variance).unwrap();
    }
    let normalisation = Normalisation {
        mean: &mean,
        variance: &variance,
        gamma: &gamma,
        beta: &beta,
        epsilon: 1e-3,
    };
    let pool =
        (shape.size > 0).then_some(PoolShape { length: shape.length, width, size: shape.size });
    let mask = |layer: u32| {
        let rate = rates[layer as usize];
        (rate > 0.0).then_some(DropoutMask { seed: 3, step: 5, layer, rate })
    };
    let block = NormBlock { normalisation, function, before: mask(0), pool, after: mask(1) };
    let outputs = pool.map_or(x.len(), |pool| shape.sequences * pool.output());
    let dy = wave(outputs, 1.31);
    let expected = separate(&block, &x, &dy, training);
    for isa in [Isa::Baseline, Isa::best()] {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| fused(isa, &block, &x, &dy, training));
            assert_eq!(found, expected, "{isa:?} {function:?} {rates:?} {training}");
        }
    }
}

const FUNCTIONS: [Function; 7] = [
    Function::Linear,
    Function::Relu,
    Function::Silu,
    Function::Exponential,
    Function::Sigmoid,
    Function::Tanh,
    Function::Gelu,
];

#[test]
fn blocks_with_a_pool_have_the_bits_of_their_parts() {
    // Slices of rows cut windows, and the last window of a sequence is not whole.
    let shape = Shape { sequences: 7, length: 43, width: 21, size: 5 };
    for function in FUNCTIONS {
        check(&shape, function, [0.2, 0.3], true);
    }
    check(&shape, Function::Relu, [0.0, 0.5], true);
    check(&shape, Function::Exponential, [0.5, 0.0], false);
    check(&shape, Function::Silu, [0.0, 0.0], true);
    let one = Shape { sequences: 2, length: 90, width: 3, size: 1 };
    check(&one, Function::Tanh, [0.1, 0.0], true);
    let whole = Shape { sequences: 3, length: 300, width: 4, size: 300 };
    check(&whole, Function::Linear, [0.9, 0.0], true);
}

#[test]
fn blocks_without_a_pool_have_the_bits_of_their_parts() {
    let shape = Shape { sequences: 5, length: 33, width: 37, size: 0 };
    for function in FUNCTIONS {
        check(&shape, function, [0.0, 0.3], true);
    }
    check(&shape, Function::Relu, [0.5, 0.5], false);
    check(&shape, Function::Linear, [0.0, 0.0], true);
}

#[test]
fn large_blocks_split_among_threads_have_the_bits_of_their_parts() {
    let shape = Shape { sequences: 9, length: 101, width: 99, size: 4 };
    check(&shape, Function::Relu, [0.0, 0.2], true);
    check(&Shape { size: 0, ..shape }, Function::Silu, [0.0, 0.2], true);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let two = [1.0; 2];
    let normalisation =
        Normalisation { mean: &two, variance: &two, gamma: &two, beta: &two, epsilon: 0.0 };
    let block = NormBlock {
        normalisation,
        function: Function::Relu,
        before: None,
        pool: None,
        after: None,
    };
    let mut out = [0.0; 4];
    assert!(norm_block(&block, &[0.0; 4], &mut out, &mut []).is_ok());
    assert!(norm_block(&block, &[0.0; 4], &mut out, &mut [0]).is_err());
    assert!(norm_block(&block, &[0.0; 3], &mut out[..3], &mut []).is_err());
    let softmax = NormBlock { function: Function::Softmax, ..block };
    assert!(norm_block(&softmax, &[0.0; 4], &mut out, &mut []).is_err());
    let pool = |width| Some(PoolShape { length: 2, width, size: 2 });
    let pooled = NormBlock { pool: pool(2), ..block };
    assert!(norm_block(&pooled, &[0.0; 4], &mut out[..2], &mut [0; 2]).is_ok());
    assert!(norm_block(&pooled, &[0.0; 4], &mut out, &mut [0; 4]).is_err());
    let other = NormBlock { pool: pool(1), ..block };
    assert!(norm_block(&other, &[0.0; 4], &mut out[..2], &mut [0; 2]).is_err());
}
