//! Outputs, losses, gradients and steps of every model.
//!
//! Leaves out: epochs (fits). Tolerances: what separates two correct float32 implementations, as the
//! fixtures' README calibrated it.

use crate::fixture::{Complaints, Fixture, largest, slices};
use crate::keras::{adam, list, number};
use glmeval_common::network::WeightShape;
use glmeval_worker::network::{Batch, NetworkState, Pass};

/// Steps of the fixtures.
pub(crate) const STEPS: usize = 5;

/// One step on batch `index`.
fn step(fixture: &Fixture, pass: &mut Pass, state: &mut NetworkState, index: usize) -> f64 {
    let inputs = fixture.inputs(&format!("batch{index}"));
    let inputs = slices(&inputs);
    let targets = fixture.tensor(&format!("batch{index}/y"));
    let rows = targets.shape[0];
    let batch = Batch { rows, inputs: &inputs, targets: &targets.f32(), sums: &[] };
    let (optimizer, rate) = adam(&fixture.description);
    pass.train((&fixture.network, state), &batch, &optimizer, rate, 7).unwrap().loss
}

/// Rows of a batch, which its targets count.
pub(crate) fn rows(fixture: &Fixture, index: usize) -> usize {
    fixture.tensor(&format!("batch{index}/y")).shape[0]
}

/// Keras' loss: in f64, or in f32 where clipping makes the two differ.
pub(crate) fn loss(fixture: &Fixture, key: &str) -> Vec<f64> {
    let is_clipped = fixture.description["loss"]["path"] == "probabilities_keras2";
    let suffix = if is_clipped { "f32" } else { "f64" };
    let value = &fixture.description["loss_values"][format!("{key}_{suffix}")];
    match value.as_array() {
        Some(values) => values.iter().map(number).collect(),
        None => vec![number(value)],
    }
}

#[test]
fn predictions_and_their_loss_are_those_of_keras() {
    let mut complaints = Complaints::default();
    for fixture in Fixture::all("models") {
        let name = &fixture.name;
        let state = fixture.state("w0");
        let mut pass = Pass::new(&fixture.network).unwrap();
        let inputs = fixture.inputs("batch0");
        let mut found = Vec::new();
        pass.predict(&state, rows(&fixture, 0), &slices(&inputs), &mut found).unwrap();
        let expected = &fixture.tensor("out64/infer").values;
        let bound = 1e-5 * largest(expected) + 1e-6;
        complaints.compare(&format!("{name} prediction"), &found, expected, bound);
        let expected = loss(&fixture, "inference_loss_batch0")[0];
        let found = pass.loss(&state, &fixture.tensor("batch0/y").f32()).unwrap();
        let bound = 1e-5 * expected.abs() + 1e-6;
        complaints.bound(&format!("{name} loss"), (found - expected).abs(), bound);
    }
    complaints.end();
}

/// Compares what one training step left with Keras' gradients.
pub(crate) fn compare_gradients(
    complaints: &mut Complaints,
    fixture: &Fixture,
    gradients: Vec<(&WeightShape, &[f32])>,
    kind: &str,
) {
    let expected = |weight: &str| &fixture.tensor(&format!("grad64/{weight}")).values;
    let all = gradients.iter().map(|(shape, _)| largest(expected(&shape.name)));
    let overall = all.fold(0.0, f64::max);
    let trained = fixture.network.resolved().weights.iter().filter(|w| w.role.is_trained());
    assert_eq!(gradients.len(), trained.count(), "{}: gradients", fixture.name);
    for (shape, found) in gradients {
        let expected = expected(&shape.name);
        let bound = match fixture.is_absorbed(&shape.name) {
            true => 1e-5 * overall,
            false => 1e-4 * largest(expected) + 1e-6 * overall,
        };
        let name = format!("{} {kind} gradient of {}", fixture.name, shape.name);
        complaints.compare(&name, found, expected, bound);
    }
}

#[test]
fn training_outputs_and_gradients_are_those_of_keras() {
    let mut complaints = Complaints::default();
    for fixture in Fixture::all("models") {
        for keeps_input_gradients in [false, true] {
            let mut pass = match keeps_input_gradients {
                true => Pass::with_input_gradients(&fixture.network).unwrap(),
                false => Pass::new(&fixture.network).unwrap(),
            };
            let mut state = fixture.state("w0");
            let loss_found = step(&fixture, &mut pass, &mut state, 0);
            let name = &fixture.name;
            let expected = &fixture.tensor("out64/train").values;
            let bound = 2e-5 * largest(expected) + 1e-6;
            complaints.compare(&format!("{name} output"), pass.predictions(), expected, bound);
            let expected = loss(&fixture, "train_batch_loss_per_step")[0];
            let bound = 1e-5 * expected.abs() + 1e-6;
            complaints.bound(&format!("{name} loss"), (loss_found - expected).abs(), bound);
            let kind = if keeps_input_gradients { "whole" } else { "short" };
            let gradients = pass.gradients(&fixture.network).collect();
            compare_gradients(&mut complaints, &fixture, gradients, kind);
            let names = fixture.input_names();
            let found: Vec<&[f32]> = pass.input_gradients().collect();
            assert_eq!(found.len(), if keeps_input_gradients { names.len() } else { 0 });
            for (input, found) in names.iter().zip(found) {
                let expected = &fixture.tensor(&format!("grad64_input/{input}")).values;
                let name = format!("{name} gradient of input {input}");
                complaints.compare(&name, found, expected, 1e-4 * largest(expected));
            }
        }
    }
    complaints.end();
}

#[test]
fn gradients_of_inputs_are_those_of_keras() {
    let mut complaints = Complaints::default();
    for fixture in Fixture::all("models") {
        let state = fixture.state("w0");
        let mut pass = Pass::new(&fixture.network).unwrap();
        let inputs = fixture.inputs("batch0");
        let rows = rows(&fixture, 0);
        let known = (&fixture.network, &state);
        let found = pass.input_gradient(known, rows, &slices(&inputs), 0).unwrap();
        for (input, found) in fixture.input_names().iter().zip(found) {
            let expected = &fixture.tensor(&format!("saliency64/{input}")).values;
            let name = format!("{} saliency of {input}", fixture.name);
            complaints.compare(&name, &found, expected, 1e-4 * largest(expected));
        }
        assert!(pass.input_gradient(known, rows, &slices(&inputs), usize::MAX).is_err());
    }
    complaints.end();
}

/// Compares weights and moving statistics after `steps` steps.
pub(crate) fn compare_weights(
    complaints: &mut Complaints,
    fixture: &Fixture,
    state: &NetworkState,
    steps: usize,
) {
    let rate = f64::from(adam(&fixture.description).1);
    for (shape, found) in state.weights() {
        let name = format!("{} {} after {steps}", fixture.name, shape.name);
        let first = &fixture.tensor(&format!("w0/{}", shape.name)).values;
        let expected = &fixture.tensor(&format!("w{steps}_64/{}", shape.name)).values;
        if !shape.role.is_trained() {
            let changes: Vec<f64> = first.iter().zip(expected).map(|(a, b)| a - b).collect();
            let later = if steps == 1 { 0.0 } else { 0.05 * rate };
            let bound = 1e-4 * largest(&changes) + 1e-6 * (1.0 + largest(expected)) + later;
            complaints.compare(&name, found, expected, bound);
            continue;
        }
        if fixture.is_absorbed(&shape.name) {
            complaints.compare(&name, found, expected, rate * steps as f64);
            continue;
        }
        let differences = found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs());
        let mut differences: Vec<f64> = differences.collect();
        differences.sort_by(f64::total_cmp);
        let count = differences.len();
        complaints.compare(&name, found, expected, rate);
        let mean = differences.iter().sum::<f64>() / count as f64;
        complaints.bound(&format!("{name}, mean"), mean, 0.05 * rate);
        if count > 200 {
            let place = (count * 99).div_ceil(100) - 1;
            complaints.bound(&format!("{name}, 99 %"), differences[place], 0.02 * rate);
        }
    }
}

#[test]
fn weights_after_one_and_five_steps_are_those_of_keras() {
    let mut complaints = Complaints::default();
    for fixture in Fixture::all("models") {
        for keeps_input_gradients in [false, true] {
            let mut pass = match keeps_input_gradients {
                true => Pass::with_input_gradients(&fixture.network).unwrap(),
                false => Pass::new(&fixture.network).unwrap(),
            };
            let mut state = fixture.state("w0");
            let losses = loss(&fixture, "train_batch_loss_per_step");
            for (index, expected) in losses.iter().enumerate().take(STEPS) {
                let found = step(&fixture, &mut pass, &mut state, index);
                let name = format!("{} loss of step {index}", fixture.name);
                complaints.bound(&name, (found - expected).abs(), 1e-3 * expected.abs());
                if index == 0 || index + 1 == STEPS {
                    compare_weights(&mut complaints, &fixture, &state, index + 1);
                }
            }
        }
    }
    complaints.end();
}

#[test]
fn every_kind_of_layer_of_the_fixtures_is_met() {
    let mut kinds: Vec<String> = Vec::new();
    for fixture in Fixture::all("models") {
        let layers = list(&fixture.description["layers"]).iter();
        kinds.extend(layers.map(|layer| layer["type"].to_string()));
    }
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() >= 12 || glmeval_tests::golden::is_elsewhere(), "{kinds:?}");
}
