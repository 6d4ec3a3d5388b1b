//! Outputs, losses, gradients and steps of models that are trained on a device.
//!
//! Leaves out: models too large for the emulator, by their number of products. Tolerances: those of the CPU.

use crate::fixture::{Complaints, Fixture, largest};
use crate::keras::adam;
use crate::models::{STEPS, compare_gradients, compare_weights, loss, rows};
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use glmeval_kernels::ops::conv1d::cuda::ConvClass;
use glmeval_worker::network::{DeviceExamples, DeviceFit, DeviceInput, DeviceSettings};
use std::sync::Arc;

/// Products of one forward pass over a batch that the emulator is asked for at most.
const PRODUCTS_MAX: usize = 1_000_000;

/// The batches of a fixture, one after another, and their targets.
fn examples(gpu: &Gpu, fixture: &Fixture, batches: usize) -> (Arc<DeviceExamples>, Vec<f32>) {
    let mut inputs = vec![Vec::new(); fixture.input_names().len()];
    let (mut targets, mut count) = (Vec::new(), 0);
    for batch in 0..batches {
        for (all, own) in inputs.iter_mut().zip(fixture.inputs(&format!("batch{batch}"))) {
            all.extend(own);
        }
        targets.extend(fixture.tensor(&format!("batch{batch}/y")).f32());
        count += rows(fixture, batch);
    }
    let array = |values: &Vec<f32>| DeviceArray::from_slice(gpu, values).unwrap();
    let inputs = inputs.iter().map(|values| DeviceInput::F32(array(values))).collect();
    (Arc::new(DeviceExamples { count, inputs }), targets)
}

/// Products of one forward pass over a batch: each weight at each position of its layer.
fn products(fixture: &Fixture) -> usize {
    let resolved = fixture.network.resolved();
    let layers = resolved.layers.iter().map(|layer| {
        let weights = resolved.weights[layer.weights.clone()].iter();
        let length = layer.output.values() / layer.output.channels().max(1);
        length * weights.map(|weight| weight.values()).sum::<usize>()
    });
    layers.sum::<usize>() * rows(fixture, 0)
}

fn small_models() -> Vec<Fixture> {
    let mut fixtures = Fixture::all("models");
    // A fit has batches of one size.
    let is_even =
        |fixture: &Fixture| (1..STEPS).all(|step| rows(fixture, step) == rows(fixture, 0));
    fixtures.retain(|fixture| products(fixture) <= PRODUCTS_MAX && is_even(fixture));
    fixtures
}

fn fit(gpu: &Gpu, fixture: &Fixture, class: ConvClass) -> (DeviceFit, f32) {
    let (optimizer, rate) = adam(&fixture.description);
    let batch_size = rows(fixture, 0);
    let settings = DeviceSettings {
        optimizer,
        dropout_seed: 7,
        batch_size,
        epoch_rows: STEPS * batch_size,
        class,
        keeps_predictions: false,
    };
    let known = (&fixture.network, &fixture.state("w0"));
    let (examples, targets) = examples(gpu, fixture, STEPS);
    (DeviceFit::new(gpu, known, (examples, &targets), settings).unwrap(), rate)
}

/// Numbers of all examples of the steps, in order.
fn order(fixture: &Fixture) -> Vec<u32> {
    (0..STEPS * rows(fixture, 0)).map(|number| number as u32).collect()
}

#[test]
fn predictions_gradients_and_steps_on_a_device_are_those_of_keras() {
    let mut complaints = Complaints::default();
    let gpu = Gpu::for_tests().unwrap();
    for fixture in small_models() {
        let name = &fixture.name;
        let (mut fit, rate) = fit(&gpu, &fixture, ConvClass::F32);
        let (_, found) = fit.predict(&order(&fixture)[..rows(&fixture, 0)]).unwrap();
        let expected = &fixture.tensor("out64/infer").values;
        let bound = 1e-5 * largest(expected) + 1e-6;
        complaints.compare(&format!("{name} prediction"), &found, expected, bound);
        fit.begin_epoch(&order(&fixture), rate).unwrap();
        let mut state = fixture.state("w0");
        for step in 0..STEPS {
            fit.step().unwrap();
            fit.read_state(&mut state).unwrap();
            if step == 0 {
                let gradients = fit.gradients().unwrap();
                let shapes = &fixture.network.resolved().weights;
                let gradients = shapes.iter().zip(&gradients).map(|(s, g)| (s, g.as_slice()));
                let gradients = gradients.filter(|(_, gradient)| !gradient.is_empty()).collect();
                compare_gradients(&mut complaints, &fixture, gradients, "device");
            }
            if step == 0 || step + 1 == STEPS {
                compare_weights(&mut complaints, &fixture, &state, step + 1);
            }
        }
        assert_eq!(state.step(), STEPS as u64);
        let losses = fit.losses().unwrap();
        for (index, (found, expected)) in
            losses.iter().zip(loss(&fixture, "train_batch_loss_per_step")).enumerate()
        {
            let bound =
                if index == 0 { 1e-5 * expected.abs() + 1e-6 } else { 1e-3 * expected.abs() };
            complaints.bound(&format!("{name} loss {index}"), (found - expected).abs(), bound);
        }
    }
    complaints.end();
}

#[test]
fn steps_on_a_device_give_the_same_bytes_again() {
    let gpu = Gpu::for_tests().unwrap();
    let Some(fixture) = small_models().into_iter().min_by_key(products) else { return };
    let run = || {
        let (mut fit, rate) = fit(&gpu, &fixture, ConvClass::F32);
        fit.begin_epoch(&order(&fixture), rate).unwrap();
        (0..STEPS).for_each(|_| fit.step().unwrap());
        let mut state = fixture.state("w0");
        fit.read_state(&mut state).unwrap();
        (fit.losses().unwrap(), state.snapshot())
    };
    assert_eq!(run(), run());
}
