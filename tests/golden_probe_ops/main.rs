//! Operations of training, forward and back, against the fixtures of `probes/ops`.
//!
//! Leaves out: whole networks; kinds of case that have no kernel, which are said aloud. Invariant:
//! every case is built from its own description; tolerances are those of the fixtures' README.

mod layers;
mod products;

use glmeval_kernels::ops::adam::{AdamStep, adam};
use glmeval_kernels::ops::arithmetic::l2_penalty;
use glmeval_kernels::ops::dropout::{DropoutMask, dropout};
use glmeval_kernels::ops::function::{Function, apply, gradient};
use glmeval_kernels::ops::loss::{LossKind, loss};
use glmeval_tests::golden;
use glmeval_tests::golden::cases::{ADAM, Case, FORWARD, GRADIENT, check};

#[test]
fn activations_agree() {
    check("activation", |case| {
        let function = match case.text("op") {
            "linear" => Function::Linear,
            "relu" => Function::Relu,
            "silu" => Function::Silu,
            "exponential" => Function::Exponential,
            "softmax" => Function::Softmax,
            "sigmoid" => Function::Sigmoid,
            "tanh" => Function::Tanh,
            "gelu" | "gelu_erf" => Function::Gelu,
            _ => return false,
        };
        let width = case.shape("x").last().copied().expect("x has an axis");
        let (x, dy) = (case.f32("x"), case.f32("dy"));
        let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        apply(function, width, &x, &mut y).unwrap();
        gradient(function, width, &x, &y, &dy, &mut dx).unwrap();
        case.check("y", &y, FORWARD);
        case.check("dx", &dx, GRADIENT);
        true
    });
}

/// Random masks differ, so elements that both keep are compared, and no other.
#[test]
fn dropout_agrees_where_both_keep_an_element() {
    check("dropout", |case| {
        let rate = case.number("rate") as f32;
        let mut compared = 0;
        for step in 0..16 {
            let mask = DropoutMask { seed: 7, step, layer: 0, rate };
            let mut kept = vec![0.0; case.f32("x").len()];
            dropout(&mask, &vec![1.0; kept.len()], &mut kept).unwrap();
            for (given, result) in [("x", "y"), ("dy", "dx")] {
                let mut found = case.f32(given);
                dropout(&mask, &case.f32(given), &mut found).unwrap();
                let expected = &case.tensor(result).values;
                let keep = &case.tensor("keep").values;
                for (i, &found) in found.iter().enumerate() {
                    if kept[i] == 0.0 {
                        assert_eq!(found, 0.0, "{}", case.name());
                    } else if keep[i] != 0.0 {
                        let apart = (f64::from(found) - expected[i]).abs();
                        assert!(apart <= 1e-5 * expected[i].abs() + 1e-6, "{}", case.name());
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 0, "{}: nothing to compare", case.name());
        true
    });
}

#[test]
fn losses_agree() {
    check("loss", |case| {
        let kind = match (case.text("op"), case.text("path")) {
            ("mse", _) => LossKind::MeanSquaredError,
            ("bce", "logits") => LossKind::CrossEntropyOfLogits,
            ("bce", "probabilities_keras2") => LossKind::CrossEntropyOfProbabilities,
            ("bce", "probabilities_keras3") => LossKind::CrossEntropyOfProbabilitiesKeras3,
            ("diff_kl", _) => LossKind::SplicingDivergence,
            ("l2", _) => return penalty_agrees(case),
            _ => return false,
        };
        let predictions = case.f32("pred");
        let mut slopes = vec![0.0; predictions.len()];
        let entries = predictions.len();
        let value = loss(kind, &predictions, &case.f32("y"), entries, Some(&mut slopes)).unwrap();
        // Clipped probabilities cost what f32 makes of the bounds.
        let clipped = case.text("path").starts_with("probabilities");
        let expected = case.number(if clipped { "value_f32" } else { "value" });
        let apart = (value - expected).abs();
        assert!(apart <= 1e-5 * expected.abs() + 1e-6, "{}: {value} {expected}", case.name());
        case.check("dpred", &slopes, GRADIENT);
        true
    });
}

fn penalty_agrees(case: &Case) -> bool {
    let weights = case.f32("w");
    let mut slopes = vec![0.0; weights.len()];
    let value = l2_penalty(case.number("coefficient") as f32, &weights, Some(&mut slopes))
        .expect("a case fits its own description");
    let expected = case.number("value");
    assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{}: {value}", case.name());
    case.check("dw", &slopes, GRADIENT);
    true
}

/// Weights after every step, and both moments after the last.
fn adam_agrees(case: &Case) -> bool {
    let torch_form = match case.text("form") {
        "keras" => false,
        "torch" => true,
        _ => return false,
    };
    let (mut weights, gradients) = (case.f32("w0"), case.f32("grads"));
    let (mut m, mut v) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    let rates = case.parameters["lr_per_step"].as_array().expect("lr_per_step is a list");
    let mut found = Vec::new();
    for (index, rate) in rates.iter().enumerate() {
        let step = AdamStep {
            step: index as u64 + 1,
            learning_rate: golden::number(rate).expect("a rate is a number") as f32,
            beta_1: case.number("beta_1"),
            beta_2: case.number("beta_2"),
            epsilon: case.number("epsilon"),
            torch_form,
        };
        let gradient = &gradients[index * weights.len()..][..weights.len()];
        adam(&step, gradient, &mut m, &mut v, &mut weights)
            .expect("a case fits its own description");
        found.extend_from_slice(&weights);
    }
    case.check("w", &found, ADAM);
    case.check("m_final", &m, GRADIENT);
    case.check("v_final", &v, GRADIENT);
    true
}

#[test]
fn steps_of_adam_agree_in_the_form_of_keras() {
    check("adam", adam_agrees);
}

#[test]
fn steps_of_adam_agree_in_the_form_of_pytorch() {
    check("adam_torch", adam_agrees);
}
