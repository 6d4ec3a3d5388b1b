//! Normalisations, pools and spline weights against their fixtures.
//!
//! Leaves out: products with weights. Invariant: as in the head of this target.

use glmeval_kernels::ops::batch_norm::{
    NormGradient, Normalisation, batch_norm, batch_norm_gradient, batch_statistics, update_moving,
};
use glmeval_kernels::ops::batch_pool::{self as pool, PoolShape};
use glmeval_kernels::ops::function::Function;
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::layer_norm_gradient::layer_norm_gradient;
use glmeval_kernels::ops::norm_block::{NormBlock, norm_block, norm_block_gradient};
use glmeval_kernels::ops::spline_weights as spline;
use glmeval_tests::golden;
use glmeval_tests::golden::cases::{Case, FORWARD, GRADIENT, SUM, check};

#[test]
fn batch_normalisation_agrees() {
    check("batchnorm", |case| {
        let (x, gamma, beta) = (case.f32("x"), case.f32("gamma"), case.f32("beta"));
        let training = case.flag("training");
        let (mut mean, mut variance) = (case.f32("moving_mean"), case.f32("moving_variance"));
        let (mut moving_mean, mut moving_variance) = (mean.clone(), variance.clone());
        if training {
            batch_statistics(&x, gamma.len(), &mut mean, &mut variance).unwrap();
            let momentum = case.number("momentum") as f32;
            update_moving(&mut moving_mean, &mean, momentum).unwrap();
            update_moving(&mut moving_variance, &variance, momentum).unwrap();
        }
        case.check("new_moving_mean", &moving_mean, FORWARD);
        case.check("new_moving_variance", &moving_variance, FORWARD);
        let epsilon = case.number("epsilon") as f32;
        let normalisation =
            Normalisation { mean: &mean, variance: &variance, gamma: &gamma, beta: &beta, epsilon };
        let mut y = case.place("y");
        batch_norm(&x, &normalisation, &mut y).unwrap();
        case.check("y", &y, FORWARD);
        gradients_agree(case, |dy, gradient| {
            batch_norm_gradient(&x, dy, &normalisation, training, gradient).unwrap();
        });
        let block = NormBlock {
            normalisation,
            function: Function::Linear,
            before: None,
            pool: None,
            after: None,
        };
        norm_block(&block, &x, &mut y, &mut []).unwrap();
        case.check("y", &y, FORWARD);
        gradients_agree(case, |dy, gradient| {
            norm_block_gradient(&block, &x, dy, &[], training, gradient).unwrap();
        });
        true
    });
}

/// Runs a gradient of a normalisation and compares all of its results.
fn gradients_agree(case: &Case, run: impl Fn(&[f32], NormGradient<'_>)) {
    let mut dx = case.place("dx");
    let (mut dgamma, mut dbeta) = (case.place("dgamma"), case.place("dbeta"));
    run(
        &case.f32("dy"),
        NormGradient { dx: Some(&mut dx), dgamma: &mut dgamma, dbeta: &mut dbeta },
    );
    case.check("dx", &dx, GRADIENT);
    case.check("dgamma", &dgamma, SUM);
    case.check("dbeta", &dbeta, SUM);
}

#[test]
fn layer_normalisation_agrees() {
    check("layernorm", |case| {
        let (x, gamma, beta) = (case.f32("x"), case.f32("gamma"), case.f32("beta"));
        let epsilon = case.number("epsilon") as f32;
        let mut y = case.place("y");
        layer_norm(&x, &gamma, Some(&beta), epsilon, &mut y).unwrap();
        case.check("y", &y, FORWARD);
        gradients_agree(case, |dy, gradient| {
            layer_norm_gradient(&x, dy, &gamma, epsilon, gradient).unwrap();
        });
        true
    });
}

#[test]
fn pools_agree() {
    check("pool", |case| {
        let (x, dy) = (case.f32("x"), case.f32("dy"));
        let &[_, length, width] = case.shape("x") else { return false };
        let (mut y, mut dx) = (case.place("y"), case.place("dx"));
        let shape = || PoolShape { length, width, size: case.count("pool_size") };
        match case.text("op") {
            "maxpool" => {
                let mut picked = vec![0; y.len()];
                pool::max_pool(&x, &shape(), &mut y, &mut picked).unwrap();
                pool::max_pool_gradient(&dy, &picked, &shape(), &mut dx).unwrap();
            }
            "avgpool" => {
                pool::average_pool(&x, &shape(), &mut y).unwrap();
                pool::average_pool_gradient(&dy, &shape(), &mut dx).unwrap();
            }
            "global_average" => {
                pool::global_average_pool(&x, length, width, &mut y).unwrap();
                pool::global_average_pool_gradient(&dy, length, width, &mut dx).unwrap();
            }
            _ => return false,
        }
        case.check("y", &y, FORWARD);
        case.check("dx", &dx, GRADIENT);
        true
    });
}

/// Splines that embeddings are projected on belong to a model.
#[test]
fn spline_weights_agree() {
    check("bspline", |case| {
        if !case.has("W") {
            return false;
        }
        let (bases, degree) = (case.count("n_bases"), case.count("degree"));
        let basis = spline::basis(case.count("L"), bases, degree);
        case.check("basis", &basis, (0.0, 1e-6));
        let (x, dy, weights) = (case.f32("x"), case.f32("dy"), case.f32("W"));
        let width = case.shape("W")[1];
        let (mut y, mut dx, mut dw) = (case.place("y"), case.place("dx"), case.place("dW"));
        spline::spline_weights(&x, &basis, &weights, width, &mut y).unwrap();
        case.check("y", &y, FORWARD);
        let places = Some(dx.as_mut_slice());
        spline::spline_weights_gradient((&x, &dy), &basis, &weights, width, places, &mut dw)
            .unwrap();
        case.check("dx", &dx, GRADIENT);
        case.check("dW", &dw, SUM);
        let matrix: Vec<f32> =
            spline::smoothness(bases, degree).iter().map(|&value| value as f32).collect();
        let (difference, _) = golden::max_difference(&matrix, &case.tensor("penalty").values);
        assert!(difference <= 1e-6, "{}: penalty is off by {difference}", case.name());
        true
    });
}
