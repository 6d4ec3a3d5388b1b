//! Whole fits against Keras' `fit`: losses, learning rates, statistics, weights of every epoch.
//!
//! Leaves out: shuffling, which Keras draws otherwise. Tolerances: those of the fixtures' README.

use crate::fixture::{Complaints, Fixture, slices};
use crate::keras::{adam, count, list, loss, number, plateau};
use glmeval_common::error::Result;
use glmeval_common::model::Precision;
use glmeval_common::network::{Draws, ExampleOrder, Monitor, Restore, TrainingSpec};
use glmeval_common::representation::StoredDtype;
use glmeval_common::store::fits::{BinaryMeasures, EpochRecord};
use glmeval_worker::network::{NetworkState, Pass};
use glmeval_worker::training::batches::{BatchSource, Targets};
use glmeval_worker::training::cache::{ExampleCache, RowFormat};
use glmeval_worker::training::run::{Ending, Networks, Run, Seeds, Source, Watcher, train};
use std::collections::BTreeMap;

/// Statistics whose scores differ by float32 noise may count an example in the next of 200 buckets.
const STATISTIC_TOLERANCE: f64 = 1e-6;

/// What a fit left behind.
struct Fit {
    history: BTreeMap<String, Vec<f64>>,
    epochs: Vec<Vec<Vec<f32>>>,
    best_epoch: usize,
    stopped_epoch: Option<usize>,
    state: NetworkState,
}

/// Keeps the weights of every epoch, and the run that ended.
#[derive(Default)]
struct Keeper {
    epochs: Vec<Vec<Vec<f32>>>,
    run: Option<Run>,
}

impl Watcher for Keeper {
    fn go_on(&mut self) -> Result<()> {
        Ok(())
    }

    fn trained(&mut self, _: usize) {}

    fn epoch_done(&mut self, _: usize, run: &Run) -> Result<()> {
        self.epochs.push(run.state.copy_weights());
        Ok(())
    }

    fn ended(&mut self, _: usize, run: Run, _: &mut Networks<'_>) -> Result<()> {
        self.run = Some(run);
        Ok(())
    }
}

/// All examples, first those to train on: how many those are, rows and targets.
fn examples(fixture: &Fixture) -> (usize, ExampleCache, Vec<usize>, Targets) {
    let (mut bytes, mut targets, mut widths) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = Vec::new();
    for split in ["train", "val"] {
        let values = fixture.tensor(&format!("{split}/y"));
        let rows = values.shape[0];
        let inputs = fixture.inputs(split);
        widths = inputs.iter().map(|input| input.len() / rows).collect::<Vec<_>>();
        for row in 0..rows {
            for (input, width) in inputs.iter().zip(&widths) {
                let values = &input[row * width..(row + 1) * width];
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            }
        }
        targets.extend(values.f32());
        counts.push(rows);
    }
    let (row_values, rows) = (widths.iter().sum(), counts[0] + counts[1]);
    let format = RowFormat::Numbers(StoredDtype::F32);
    let mut cache = ExampleCache::new(format, row_values, rows, u64::MAX).unwrap();
    cache.push(&bytes).unwrap();
    (counts[0], cache, widths, Targets { per_example: targets.len() / rows, values: targets })
}

fn training(fixture: &Fixture) -> TrainingSpec {
    let settings = &fixture.description;
    let (adam, rate) = adam(settings);
    TrainingSpec {
        loss: loss(settings),
        learning_rate: f64::from(rate),
        adam,
        batch_rows: count(&settings["batch_size"]) as u32,
        epochs_max: count(&settings["max_epochs"]) as u32,
        order: ExampleOrder::Stored,
        monitor: Monitor::Loss,
        stop_patience: Some(count(&settings["early_stopping"]["patience"]) as u32),
        // Keras 3, which wrote the fixtures, restores the best in any case.
        restore: Restore::Always,
        plateau: Some(plateau(&settings["reduce_lr"])),
        draws: Draws::Independent,
        precision: Precision::F32,
    }
}

fn fit(fixture: &Fixture) -> Fit {
    let (trained, cache, inputs, targets) = examples(fixture);
    let spec = training(fixture);
    let batch_rows = spec.batch_rows as usize;
    let batches = BatchSource { cache: &cache, inputs: &inputs, targets: &targets, batch_rows };
    let valid = (trained..cache.rows()).collect();
    let source = Source { batches, train: (0..trained).collect(), valid };
    let networks = [fixture.network.clone()];
    let mut run = Run::new(0, spec, Seeds::derive(1, 0), &fixture.network);
    run.state = fixture.state("w0");
    let mut keeper = Keeper::default();
    train(&source, vec![run], &mut Networks::new(&networks), &mut keeper).unwrap();
    let run = keeper.run.expect("the run has ended");
    let is_stopped = run.ending == Some(Ending::Stopped);
    Fit {
        history: columns(&run.history),
        best_epoch: run.stopping.best_epoch() as usize,
        stopped_epoch: is_stopped.then(|| run.history.len() - 1),
        epochs: keeper.epochs,
        state: run.state,
    }
}

/// A history as Keras names it.
fn columns(history: &[EpochRecord]) -> BTreeMap<String, Vec<f64>> {
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for epoch in history {
        let mut push = |name: String, value: Option<f64>| {
            columns.entry(name).or_default().extend(value);
        };
        push("loss".to_owned(), Some(epoch.loss));
        push("val_loss".to_owned(), epoch.val_loss);
        push("learning_rate".to_owned(), Some(epoch.learning_rate));
        for (prefix, measures) in [("", epoch.train), ("val_", epoch.valid)] {
            let named: [(&str, fn(BinaryMeasures) -> f64); 3] =
                [("accuracy", |m| m.accuracy), ("auroc", |m| m.auroc), ("aupr", |m| m.aupr)];
            for (name, of) in named {
                push(format!("{prefix}{name}"), measures.map(of));
            }
        }
    }
    columns
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
        let (inputs, rows) = (fixture.inputs("val"), fixture.tensor("val/y").shape[0]);
        let mut found = Vec::new();
        let mut pass = Pass::new(&fixture.network).unwrap();
        pass.predict(&fit.state, rows, &slices(&inputs), &mut found).unwrap();
        let expected = &fixture.tensor("val/pred_final64").values;
        let noise = number(&settings["noise"]["val_pred"]);
        let bound = (20.0 * noise).max(1e-4 * crate::fixture::largest(expected));
        complaints.compare(&format!("{name} final prediction"), &found, expected, bound);
    }
    complaints.end();
}
