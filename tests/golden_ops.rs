//! Operations against the fixtures of `probes/ops`, driven by the cases found there.
//!
//! Leaves out: gradients and operations that have no kernel yet; those cases are listed as not
//! covered. Invariant: tolerances are those of the fixtures' README, against float64 results.

use glmeval_kernels::ops::attention::{PositionBias, attention};
use glmeval_kernels::ops::exp::exp;
use glmeval_kernels::ops::gelu::gelu;
use glmeval_kernels::ops::layer_norm::layer_norm;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};
use glmeval_kernels::ops::softmax::softmax;
use glmeval_tests::golden::cases::{Bound, FORWARD, check};
use glmeval_tests::golden::{self, Tensor};

/// Bound of attention.
const ATTENTION: Bound = (0.0, 1e-5);

#[test]
fn layer_norm_agrees() {
    check("layernorm", |case| {
        let x = case.f32("x");
        let mut y = vec![0.0; x.len()];
        let eps = case.number("epsilon") as f32;
        layer_norm(&x, &case.f32("gamma"), Some(&case.f32("beta")), eps, &mut y).unwrap();
        case.check("y", &y, FORWARD);
        true
    });
}

#[test]
fn linear_agrees_on_dense_layers() {
    check("dense", |case| {
        let kernel = case.tensor("kernel");
        let &[input_width, output_width] = kernel.shape.as_slice() else { return false };
        let epilogue = match case.text("activation") {
            "" | "linear" => Epilogue::None,
            "gelu" | "gelu_erf" => Epilogue::Gelu,
            _ => return false,
        };
        let values = kernel.f32();
        let weight: Vec<f32> = (0..output_width)
            .flat_map(|n| values.iter().skip(n).step_by(output_width).copied())
            .collect();
        let bias = case.find("bias").map(Tensor::f32);
        let weights =
            PackedLinear::pack(&weight, bias.as_deref(), output_width, input_width).unwrap();
        let mut y = vec![0.0; case.tensor("y").values.len()];
        linear(&case.f32("x"), &weights, epilogue, &mut y).unwrap();
        case.check("y", &y, FORWARD);
        true
    });
}

#[test]
fn activations_agree() {
    check("activation", |case| {
        let mut x = case.f32("x");
        match case.text("op") {
            "exponential" => exp(&mut x),
            "gelu_erf" | "gelu" => gelu(&mut x),
            "softmax" => {
                let width = case.tensor("x").shape.last().copied().expect("x has an axis");
                softmax(&mut x, width).unwrap();
            }
            _ => return false,
        }
        case.check("y", &x, FORWARD);
        true
    });
}

/// Masked keys are left out by packing; a head's columns are those of its own third.
#[test]
fn attention_agrees() {
    check("attention", |case| {
        if case.has("bias") {
            return false;
        }
        let (query, key) = if case.has("q_rot") { ("q_rot", "k_rot") } else { ("q", "k") };
        let &[sequences, heads, tokens, width] = case.tensor("q").shape.as_slice() else {
            return false;
        };
        let kept: Vec<bool> = match case.find("key_mask") {
            Some(mask) => mask.values.iter().map(|&kept| kept != 0.0).collect(),
            None => vec![true; sequences * tokens],
        };
        let at = |b: usize, h: usize, t: usize| ((b * heads + h) * tokens + t) * width;
        let operands = [case.f32(query), case.f32(key), case.f32("v")];
        let expected = &case.tensor("out").values;
        let (mut qkv, mut wanted, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
        for b in 0..sequences {
            for t in (0..tokens).filter(|t| kept[b * tokens + t]) {
                for third in &operands {
                    for h in 0..heads {
                        qkv.extend_from_slice(&third[at(b, h, t)..][..width]);
                    }
                }
                for h in 0..heads {
                    wanted.extend_from_slice(&expected[at(b, h, t)..][..width]);
                }
            }
            offsets.push(wanted.len() / (heads * width));
        }
        let mut out = vec![0.0; wanted.len()];
        let scale = 1.0 / (width as f32).sqrt();
        attention(&qkv, &offsets, heads, scale, PositionBias::None, &mut out).unwrap();
        let (difference, _) = golden::max_difference(&out, &wanted);
        assert!(difference <= ATTENTION.1, "{}: out is off by {difference}", case.name());
        true
    });
}
