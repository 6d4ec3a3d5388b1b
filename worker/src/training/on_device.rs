//! Steps of training on a device: one run at a time, over examples that lie there or are given batch by batch.
//!
//! Leaves out: epochs (run), the steps themselves (network). Invariant: the host is never more than a few steps ahead, so an order
//! to stop is heard in time; losses and measures are added up as on the CPU.

use super::batches::{BatchSource, Targets, for_each_batch};
use super::residence::Residence;
use super::run::{Run, Source, Trainer, Watcher};
use super::sums::EpochSums;
use crate::device::{device_error, is_out_of_memory};
use crate::network::{DeviceFit, DeviceSettings, Network, training_conv_class};
use glmeval_common::error::{Error, Result};
use std::ops::ControlFlow;

/// Batches that are told before those before them are waited for: enough to keep a device busy.
const BATCHES_AHEAD_MAX: usize = 16;

/// Trains one run on a device.
pub struct OnDevice<'a> {
    compiled: &'a [Network],
    residence: &'a Residence,
    fit: Option<DeviceFit>,
}

/// What is done with each batch, which has so many rows.
type Act<'a> = dyn FnMut(&mut DeviceFit, usize) -> Result<()> + 'a;

impl<'a> OnDevice<'a> {
    /// Nothing is on the device yet.
    pub fn new(compiled: &'a [Network], residence: &'a Residence) -> Self {
        Self { compiled, residence, fit: None }
    }

    fn network(&self, run: &Run) -> Result<&'a Network> {
        let missing = || Error::bug(format!("training: there is no network {}", run.network));
        self.compiled.get(run.network).ok_or_else(missing)
    }

    /// The fit of `run` with its state, for epochs of so many rows if it is to be trained.
    fn fit(
        &mut self,
        run: &Run,
        source: &BatchSource<'_>,
        (rows, is_trained): (usize, bool),
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<&mut DeviceFit> {
        let made = match self.fit.take() {
            Some(fit) if !is_trained || fit.epoch_rows() == rows => fit,
            other => {
                // Its memory goes before the next one's is asked for.
                drop(other);
                self.made(run, source, rows, go_on)?
            }
        };
        let fit = self.fit.insert(made);
        fit.hold(&run.state)?;
        Ok(fit)
    }

    fn made(
        &self,
        run: &Run,
        source: &BatchSource<'_>,
        rows: usize,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<DeviceFit> {
        let network = self.network(run)?;
        let class = training_conv_class(network.precision());
        let settings = DeviceSettings {
            optimizer: run.spec.adam,
            dropout_seed: run.seeds.dropout,
            batch_size: source.batch_rows.min(rows).max(1),
            epoch_rows: rows.max(1),
            class: class.ok_or_else(|| Error::bug("a network that no device trains"))?,
            keeps_predictions: run.is_binary(),
        };
        let known = (network, &run.state);
        if let Some(examples) = self.residence.examples(source, go_on)? {
            let examples = (examples, source.targets.values.as_slice());
            match DeviceFit::new(self.residence.gpu(), known, examples, settings) {
                Err(error) if is_out_of_memory(&error) => self.residence.stream_from_now_on(),
                made => return made,
            }
        }
        DeviceFit::streamed(self.residence.gpu(), known, settings)
            .map_err(|error| too_large(error, &batch_of(settings.batch_size)))
    }

    /// Does something with each batch of `rows`, in their order; asks `before` each.
    fn each_batch(
        &mut self,
        source: &BatchSource<'_>,
        rows: &[usize],
        before: &mut dyn FnMut() -> Result<()>,
        act: &mut Act<'_>,
    ) -> Result<()> {
        let gpu = self.residence.gpu();
        let fit = self.fit.as_mut().ok_or_else(nothing_there)?;
        let batch_rows = fit.batch_size();
        let mut told = 0;
        let mut one = |fit: &mut DeviceFit, rows: usize| -> Result<()> {
            act(fit, rows).map_err(|error| too_large(error, &batch_of(batch_rows)))?;
            told += 1;
            if told % BATCHES_AHEAD_MAX == 0 {
                gpu.synchronise().map_err(device_error)?;
            }
            Ok(())
        };
        if !fit.is_streamed() {
            for batch in rows.chunks(batch_rows) {
                before()?;
                one(fit, batch.len())?;
            }
            return Ok(());
        }
        for_each_batch(&BatchSource { batch_rows, ..*source }, rows, &mut |batch| {
            before()?;
            fit.fill(&batch.input_slices(), &batch.targets)?;
            one(fit, batch.rows)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Logits and predictions for `rows`, `[rows, outputs]` each.
    fn answers(
        &mut self,
        run: &Run,
        source: &BatchSource<'_>,
        rows: &[usize],
        before: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let fit = self.fit(run, source, (rows.len(), false), before)?;
        let places = places(fit, rows)?;
        let begun = fit.begin_predictions(&places);
        begun.map_err(|error| {
            too_large(error, &format!("the predictions of {} examples", rows.len()))
        })?;
        self.each_batch(source, rows, before, &mut |fit, _| fit.predict_batch().map(drop))?;
        let fit = self.fit.as_mut().ok_or_else(nothing_there)?;
        fit.end_predictions()
    }
}

/// The numbers on the device of `rows`: their own, or their places in a batch.
fn places(fit: &DeviceFit, rows: &[usize]) -> Result<Vec<u32>> {
    let batch_size = fit.batch_size();
    let place = |(index, row): (usize, &usize)| {
        u32::try_from(if fit.is_streamed() { index % batch_size } else { *row })
    };
    let places: Result<Vec<u32>, _> = rows.iter().enumerate().map(place).collect();
    places.map_err(|e| Error::bug("more examples than a device counts").with_source(e))
}

/// Says what did not fit, if it is that. Half a batch would be another step, so there is no way out.
fn too_large(error: Error, what: &str) -> Error {
    if !is_out_of_memory(&error) {
        return error;
    }
    Error::unavailable(format!("train on a device: no room there for {what}")).with_source(error)
}

fn batch_of(rows: usize) -> String {
    format!("a batch of {rows} examples")
}

/// Targets of some rows.
fn targets_of(targets: &Targets, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| targets.row(row)).copied().collect()
}

fn nothing_there() -> Error {
    Error::bug("nothing is on the device")
}

fn not_one_run() -> Error {
    Error::bug("training: a device trains one run at a time")
}

impl Trainer for OnDevice<'_> {
    fn outputs(&mut self, run: &Run) -> Result<usize> {
        Ok(self.network(run)?.outputs_per_example())
    }

    fn train_epoch(
        &mut self,
        source: &Source<'_>,
        order: &[usize],
        live: &mut [(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>> {
        let [(_, run)] = live else { return Err(not_one_run()) };
        let (batches, outputs) = (&source.batches, self.outputs(run)?);
        let fit = self.fit(run, batches, (order.len(), true), &mut || watcher.go_on())?;
        let places = places(fit, order)?;
        fit.begin_epoch(&places, run.learning_rate)?;
        let watcher = std::cell::RefCell::new(watcher);
        let before = &mut || watcher.borrow_mut().go_on();
        self.each_batch(batches, order, before, &mut |fit, rows| {
            fit.step()?;
            watcher.borrow_mut().trained(rows);
            Ok(())
        })?;
        let fit = self.fit.as_mut().ok_or_else(nothing_there)?;
        let (losses, predictions) = (fit.losses()?, fit.step_predictions()?);
        fit.read_state(&mut run.state)?;
        let mut sums = EpochSums::new(run.is_binary());
        let batch_size = fit.batch_size();
        for (batch, (rows, loss)) in order.chunks(batch_size).zip(losses).enumerate() {
            // As where steps end with the first loss that is no number.
            if !sums.is_sound() {
                break;
            }
            let start = batch * batch_size * outputs;
            let predicted = predictions.get(start..start + rows.len() * outputs);
            let targets = targets_of(batches.targets, rows);
            sums.add(loss, (rows.len(), outputs), &targets, predicted.unwrap_or(&[]));
        }
        Ok(vec![sums])
    }

    fn validate(
        &mut self,
        source: &Source<'_>,
        live: &[(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>> {
        let [(_, run)] = live else { return Err(not_one_run()) };
        let (batches, outputs) = (&source.batches, self.outputs(run)?);
        let answers = self.answers(run, batches, &source.valid, &mut || watcher.go_on())?;
        let fit = self.fit.as_ref().ok_or_else(nothing_there)?;
        let penalties = fit.penalties(&run.state)?;
        let mut sums = EpochSums::new(run.is_binary());
        let [logits, predictions] =
            [&answers.0, &answers.1].map(|all| all.chunks(batches.batch_rows.max(1) * outputs));
        let rows = source.valid.chunks(batches.batch_rows.max(1));
        for (rows, (logits, predictions)) in rows.zip(logits.zip(predictions)) {
            let targets = targets_of(batches.targets, rows);
            let loss = fit.loss(logits, &targets)? + penalties;
            sums.add(loss, (rows.len(), outputs), &targets, predictions);
        }
        Ok(vec![sums])
    }

    fn predict(
        &mut self,
        runs: &[&Run],
        source: &BatchSource<'_>,
        rows: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        let of_run = |run: &&Run| Ok(self.answers(run, source, rows, &mut || Ok(()))?.1);
        runs.iter().map(of_run).collect()
    }
}
