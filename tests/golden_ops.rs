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
use glmeval_tests::golden::{self, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;

/// One case: its parameters and its tensors by role.
struct Case {
    parameters: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    fn text(&self, key: &str) -> &str {
        self.parameters[key].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.text("name")
    }

    fn tensor(&self, role: &str) -> &Tensor {
        self.tensors.get(role).unwrap_or_else(|| panic!("{}: no tensor {role}", self.name()))
    }

    fn f32(&self, role: &str) -> Vec<f32> {
        self.tensor(role).f32()
    }

    /// Compares with the tensor `role` within `relative * max |expected| + absolute`.
    fn check(&self, role: &str, found: &[f32], (relative, absolute): (f64, f64)) {
        let expected = &self.tensor(role).values;
        let scale = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let (difference, at) = golden::max_difference(found, expected);
        let bound = relative * scale + absolute;
        assert!(difference <= bound, "{}: {role}[{at}] is off by {difference}", self.name());
    }
}

/// Bound of an operation's result: 1e-5 of the largest value, and 1e-6.
const FORWARD: (f64, f64) = (1e-5, 1e-6);
/// Bound of attention.
const ATTENTION: (f64, f64) = (0.0, 1e-5);

/// Runs every case of a family; `run` says whether it covers the case.
fn check(family: &str, run: impl Fn(&Case) -> bool) {
    let folder = golden::root().join("probes/ops");
    let description = golden::json(&folder.join(family).with_extension("json"));
    let tensors = golden::tensors(&folder.join(family).with_extension("safetensors"));
    let cases = description["cases"].as_array().expect("cases is a list");
    assert!(!cases.is_empty(), "{family}: no case");
    let mut not_covered = Vec::new();
    for parameters in cases {
        let roles = parameters["tensors"].as_object().into_iter().flatten();
        let roles = roles.filter_map(|(role, key)| {
            Some((role.clone(), tensors.get(key.as_str().unwrap_or_default())?.clone()))
        });
        let case = Case { parameters: parameters.clone(), tensors: roles.collect() };
        if !run(&case) {
            not_covered.push(case.name().to_owned());
        }
    }
    assert!(not_covered.len() < cases.len(), "{family}: no case is covered");
    note(family, cases.len(), &not_covered);
}

#[expect(clippy::print_stderr, reason = "cases that are skipped must be heard of")]
fn note(family: &str, count: usize, not_covered: &[String]) {
    eprintln!("{family}: {} of {count} covered, not: {not_covered:?}", count - not_covered.len());
}

#[test]
fn layer_norm_agrees() {
    check("layernorm", |case| {
        let x = case.f32("x");
        let mut y = vec![0.0; x.len()];
        let eps = golden::number(&case.parameters["epsilon"]).expect("epsilon is a number") as f32;
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
        let bias = case.tensors.get("bias").map(Tensor::f32);
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
        if case.tensors.contains_key("bias") {
            return false;
        }
        let (query, key) =
            if case.tensors.contains_key("q_rot") { ("q_rot", "k_rot") } else { ("q", "k") };
        let &[sequences, heads, tokens, width] = case.tensor("q").shape.as_slice() else {
            return false;
        };
        let kept: Vec<bool> = match case.tensors.get("key_mask") {
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
