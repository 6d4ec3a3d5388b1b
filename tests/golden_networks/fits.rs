//! Whole fits against Keras' `fit`: losses, learning rates, statistics, weights of every epoch.
//!
//! Leaves out: shuffling, which Keras draws otherwise. Tolerances: those of the fixtures' README.

use crate::fixture::{Complaints, Fixture, largest};
use crate::keras::{self, adam, count, list, number, plateau};
use glmeval_common::error::Result;
use glmeval_common::model::Precision;
use glmeval_common::network::{Draws, ExampleOrder, Monitor, Restore, TrainingSpec};
use glmeval_common::representation::StoredDtype;
use glmeval_common::store::fits::{BinaryMeasures, EpochRecord};
use glmeval_worker::training::batches::{BatchSource, Targets};
use glmeval_worker::training::cache::{ExampleCache, RowFormat};
use glmeval_worker::training::networks::Networks;
use glmeval_worker::training::run::{Ending, Run, Seeds, Source, Trainer, Watcher, train};

/// Of accuracies and areas: scores differ by less than the next of 200 thresholds.
const STATISTIC_TOLERANCE: f64 = 1e-6;
/// Bytes of examples in memory; the rest lies in a file.
const BUDGET_BYTES: u64 = 1 << 14;

/// What a fit left behind.
struct Fit {
    run: Run,
    /// Weights at the end of every epoch.
    epochs: Vec<Vec<Vec<f32>>>,
    /// Of the examples watched, with the final weights.
    predictions: Vec<f32>,
}

/// Keeps weights of epochs and the ended run.
struct Keeper<'a> {
    source: &'a Source<'a>,
    epochs: Vec<Vec<Vec<f32>>>,
    ended: Option<(Run, Vec<f32>)>,
}

impl Watcher for Keeper<'_> {
    fn go_on(&mut self) -> Result<()> {
        Ok(())
    }

    fn trained(&mut self, _rows: usize) {}

    fn epoch_done(&mut self, _index: usize, run: &Run) -> Result<()> {
        self.epochs.push(run.state.copy_weights());
        Ok(())
    }

    fn ended(&mut self, runs: Vec<(usize, Run)>, trainer: &mut dyn Trainer) -> Result<()> {
        for (_, run) in runs {
            let source = self.source;
            let predictions = trainer.predict(&[&run], &source.batches, &source.valid)?;
            self.ended = predictions.into_iter().next().map(|predictions| (run, predictions));
        }
        Ok(())
    }
}

/// The settings of a fixture.
fn training(fixture: &Fixture) -> TrainingSpec {
    let settings = &fixture.description;
    let (optimizer, _) = adam(settings);
    TrainingSpec {
        loss: keras::loss(settings),
        learning_rate: number(&settings["optimizer"]["learning_rate"]),
        adam: optimizer,
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

/// Examples of both splits, inputs side by side, and their targets.
fn examples(fixture: &Fixture) -> (ExampleCache, Vec<usize>, Targets, [usize; 2]) {
    let extents = &fixture.network.resolved().inputs;
    let widths: Vec<usize> = extents.iter().map(|extent| extent.values()).collect();
    let rows = ["train", "val"].map(|name| fixture.tensor(&format!("{name}/y")).shape[0]);
    let values = widths.iter().sum();
    let format = RowFormat::Numbers(StoredDtype::F32);
    let mut cache = ExampleCache::new(format, values, rows[0] + rows[1], BUDGET_BYTES).unwrap();
    let mut targets = Vec::new();
    for (name, rows) in ["train", "val"].into_iter().zip(rows) {
        let inputs = fixture.inputs(name);
        for row in 0..rows {
            let parts = inputs.iter().zip(&widths);
            let parts = parts.flat_map(|(input, width)| &input[row * width..(row + 1) * width]);
            let bytes: Vec<u8> = parts.flat_map(|value| value.to_le_bytes()).collect();
            cache.push(&bytes).unwrap();
        }
        targets.extend(fixture.tensor(&format!("{name}/y")).f32());
    }
    let per_example = fixture.network.targets_per_example();
    (cache, widths, Targets { per_example, values: targets }, rows)
}

fn fit(fixture: &Fixture) -> Fit {
    let (cache, inputs, targets, [trained, watched]) = examples(fixture);
    let spec = training(fixture);
    let batch_rows = spec.batch_rows as usize;
    let batches = BatchSource { cache: &cache, inputs: &inputs, targets: &targets, batch_rows };
    let valid = (trained..trained + watched).collect();
    let source = Source { batches, train: (0..trained).collect(), valid };
    let compiled = std::slice::from_ref(&fixture.network);
    let mut run = Run::new(0, spec, Seeds::derive(1, 0), &fixture.network);
    run.state = fixture.state("w0");
    let mut keeper = Keeper { source: &source, epochs: Vec::new(), ended: None };
    train(&source, vec![run], &mut Networks::new(compiled), &mut keeper).unwrap();
    let (run, predictions) = keeper.ended.expect("the run ended");
    Fit { run, epochs: keeper.epochs, predictions }
}

/// What a record says under Keras' name.
fn recorded(record: &EpochRecord, key: &str) -> Option<f64> {
    let of = |measures: Option<BinaryMeasures>, name: &str| {
        let measures = measures?;
        match name {
            "accuracy" => Some(measures.accuracy),
            "auroc" => Some(measures.auroc),
            "aupr" => Some(measures.aupr),
            _ => None,
        }
    };
    match key {
        "loss" => Some(record.loss),
        "val_loss" => record.val_loss,
        "learning_rate" => Some(record.learning_rate),
        _ => match key.strip_prefix("val_") {
            Some(name) => of(record.valid, name),
            None => of(record.train, key),
        },
    }
}

fn compare_history(complaints: &mut Complaints, fixture: &Fixture, fit: &Fit) {
    let expected = fixture.description["history_f64"].as_object().expect("a history");
    for (key, expected) in expected {
        let found = fit.run.history.iter().map(|record| {
            recorded(record, key).unwrap_or_else(|| panic!("{}: no {key}", fixture.name))
        });
        let found: Vec<f64> = found.collect();
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
        let best = fit.run.stopping.best_epoch() as usize;
        assert_eq!(best, count(&settings["best_epoch"]), "{name}");
        let ending = match settings["stopped_epoch"].is_null() {
            true => Ending::EpochsOver,
            false => Ending::Stopped,
        };
        assert_eq!(fit.run.ending, Some(ending), "{name}");
        compare_history(&mut complaints, &fixture, &fit);
        compare_weights(&mut complaints, &fixture, &fit);
        let expected = &fixture.tensor("val/pred_final64").values;
        let noise = number(&settings["noise"]["val_pred"]);
        let bound = (20.0 * noise).max(1e-4 * largest(expected));
        complaints.compare(&format!("{name} prediction"), &fit.predictions, expected, bound);
    }
    complaints.end();
}
