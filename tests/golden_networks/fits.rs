//! Whole fits against Keras' `fit`: losses, learning rates, statistics, weights of every epoch.
//!
//! Leaves out: shuffling, which Keras draws otherwise. Tolerances: those of the fixtures' README.

use crate::fixture::{Complaints, Fixture, slices};
use crate::keras::{adam, count, list, number, plateau};
use glmeval_worker::network::{Batch, NetworkState, Pass};
use glmeval_worker::statistics::{KerasCounts, accuracy};
use glmeval_worker::training::callbacks::{Better, EarlyStopping, Plateau};
use std::collections::BTreeMap;

/// Statistics whose scores differ by float32 noise may count an example in the next of 200 buckets.
const STATISTIC_TOLERANCE: f64 = 1e-6;

/// Examples of one split.
struct Split {
    rows: usize,
    inputs: Vec<Vec<f32>>,
    targets: Vec<f32>,
}

impl Split {
    fn new(fixture: &Fixture, name: &str) -> Self {
        let targets = fixture.tensor(&format!("{name}/y"));
        let inputs = fixture.inputs(name);
        Self { rows: targets.shape[0], inputs, targets: targets.f32() }
    }

    /// Runs of `size` rows: how many, their inputs, their targets.
    fn batches(&self, size: usize) -> impl Iterator<Item = (usize, Vec<&[f32]>, &[f32])> {
        (0..self.rows).step_by(size).map(move |first| {
            let last = (first + size).min(self.rows);
            let part = |values| rows(values, self.rows, first, last);
            let inputs = self.inputs.iter().map(|input| part(input)).collect();
            (last - first, inputs, part(&self.targets))
        })
    }
}

fn rows(values: &[f32], total: usize, first: usize, last: usize) -> &[f32] {
    let width = values.len() / total;
    &values[first * width..last * width]
}

/// Sums of one pass over a split.
#[derive(Default)]
struct Sums {
    loss: f64,
    rows: usize,
    scores: Vec<f64>,
    targets: Vec<f64>,
}

impl Sums {
    fn add(&mut self, rows: usize, loss: f64, scores: &[f32], targets: &[f32]) {
        self.loss += loss * rows as f64;
        self.rows += rows;
        self.scores.extend(scores.iter().map(|&score| f64::from(score)));
        self.targets.extend(targets.iter().map(|&target| f64::from(target)));
    }

    fn end(self, prefix: &str, history: &mut BTreeMap<String, Vec<f64>>) -> f64 {
        let loss = self.loss / self.rows as f64;
        let mut push = |name: &str, value: Option<f64>| {
            history.entry(format!("{prefix}{name}")).or_default().extend(value);
        };
        push("loss", Some(loss));
        if self.scores.len() == self.targets.len() {
            let counts = KerasCounts::new(&self.targets, &self.scores);
            push("auroc", counts.roc());
            push("aupr", counts.precision_recall());
            let labels: Vec<f64> =
                self.scores.iter().map(|&score| f64::from(u8::from(score > 0.5))).collect();
            push("accuracy", accuracy(&self.targets, &labels));
        }
        loss
    }
}

/// What a fit left behind.
struct Fit {
    history: BTreeMap<String, Vec<f64>>,
    epochs: Vec<Vec<Vec<f32>>>,
    best_epoch: usize,
    stopped_epoch: Option<usize>,
    state: NetworkState,
}

fn fit(fixture: &Fixture) -> Fit {
    let (train, valid) = (Split::new(fixture, "train"), Split::new(fixture, "val"));
    let settings = &fixture.description;
    let size = count(&settings["batch_size"]);
    let (optimizer, mut rate) = adam(settings);
    let patience = count(&settings["early_stopping"]["patience"]) as u32;
    let mut stopping = EarlyStopping::new(Some(patience), Better::Smaller);
    let mut falling = Plateau::new(plateau(&settings["reduce_lr"]), Better::Smaller);
    let mut state = fixture.state("w0");
    let mut pass = Pass::new(&fixture.network).unwrap();
    let mut history: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut epochs, mut stopped_epoch, mut predictions) = (Vec::new(), None, Vec::new());
    for epoch in 0..count(&settings["max_epochs"]) {
        let mut sums = Sums::default();
        for (rows, inputs, targets) in train.batches(size) {
            let batch = Batch { rows, inputs: &inputs, targets, sums: &[] };
            let known = (&fixture.network, &mut state);
            let outcome = pass.train(known, &batch, &optimizer, rate, 0).unwrap();
            sums.add(rows, outcome.loss, pass.predictions(), targets);
        }
        sums.end("", &mut history);
        let mut sums = Sums::default();
        for (rows, inputs, targets) in valid.batches(size) {
            pass.predict(&state, rows, &inputs, &mut predictions).unwrap();
            sums.add(rows, pass.loss(&state, targets).unwrap(), &predictions, targets);
        }
        let value = sums.end("val_", &mut history);
        history.entry("learning_rate".to_owned()).or_default().push(f64::from(rate));
        epochs.push(state.copy_weights());
        let verdict = stopping.observe(value);
        rate = falling.observe(value, rate);
        if verdict.stop {
            stopped_epoch = Some(epoch);
            break;
        }
    }
    let best_epoch = stopping.best_epoch() as usize;
    // Keras 3, which wrote the fixtures, restores the best in any case.
    state.set_weights(epochs[best_epoch].clone()).unwrap();
    Fit { history, epochs, best_epoch, stopped_epoch, state }
}

fn compare_history(complaints: &mut Complaints, fixture: &Fixture, fit: &Fit) {
    let expected = fixture.description["history_f64"].as_object().expect("a history");
    for (key, expected) in expected {
        let found = fit.history.get(key).unwrap_or_else(|| panic!("{}: {key}", fixture.name));
        let expected: Vec<f64> = list(expected).iter().map(number).collect();
        assert_eq!(found.len(), expected.len(), "{}: epochs of {key}", fixture.name);
        for (epoch, (found, expected)) in found.iter().zip(expected).enumerate() {
            let bound = match key.as_str() {
                "learning_rate" => 1e-6 * expected,
                "loss" | "val_loss" => {
                    let noise = number(&fixture.description["noise"][key]);
                    (20.0 * noise).max(1e-4 * expected)
                }
                _ => STATISTIC_TOLERANCE,
            };
            let name = format!("{} {key} of epoch {epoch}", fixture.name);
            complaints.bound(&name, (found - expected).abs(), bound);
        }
    }
}

/// Trained weights within a step of each other in the mean; biases that are noise are left out.
fn compare_weights(complaints: &mut Complaints, fixture: &Fixture, fit: &Fit) {
    let rate = f64::from(adam(&fixture.description).1);
    let shapes = &fixture.network.resolved().weights;
    for (epoch, weights) in fit.epochs.iter().enumerate() {
        for (shape, found) in shapes.iter().zip(weights) {
            let key = format!("w_epoch{epoch}_64/{}", shape.name);
            let Some(expected) = fixture.find(&key) else { continue };
            if !shape.role.is_trained() || fixture.is_absorbed(&shape.name) {
                continue;
            }
            let differences =
                found.iter().zip(&expected.values).map(|(&a, b)| (f64::from(a) - b).abs());
            let mean = differences.sum::<f64>() / found.len() as f64;
            complaints.bound(&format!("{} {key}, mean", fixture.name), mean, 0.05 * rate);
        }
    }
}

#[test]
fn losses_rates_and_weights_of_every_epoch_are_those_of_keras() {
    let mut complaints = Complaints::default();
    for fixture in Fixture::all("fit") {
        let name = &fixture.name;
        let fit = fit(&fixture);
        let settings = &fixture.description;
        assert_eq!(fit.epochs.len(), count(&settings["epochs_run"]), "{name}");
        assert_eq!(fit.best_epoch, count(&settings["best_epoch"]), "{name}");
        let stopped = settings["stopped_epoch"].as_u64();
        assert_eq!(fit.stopped_epoch.map(|epoch| epoch as u64), stopped, "{name}");
        compare_history(&mut complaints, &fixture, &fit);
        compare_weights(&mut complaints, &fixture, &fit);
        let valid = Split::new(&fixture, "val");
        let mut found = Vec::new();
        let mut pass = Pass::new(&fixture.network).unwrap();
        pass.predict(&fit.state, valid.rows, &slices(&valid.inputs), &mut found).unwrap();
        let expected = &fixture.tensor("val/pred_final64").values;
        let noise = number(&settings["noise"]["val_pred"]);
        let bound = (20.0 * noise).max(1e-4 * crate::fixture::largest(expected));
        complaints.compare(&format!("{name} final prediction"), &found, expected, bound);
    }
    complaints.end();
}
