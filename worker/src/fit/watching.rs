//! What is kept of training runs: progress, checkpoints, and in the end weights and scores.
//!
//! Leaves out: the loop (training). Invariant: a run that is interrupted loses no more than its epoch
//! and what was done since the last checkpoint; told to stop, only its epoch.

use super::commit;
use super::evaluation::{Evaluated, Predicted};
use super::measured::Measured;
use super::work::{Blueprint, Prepared, Work};
use crate::agent::FitProgress;
use crate::attempt::UnitContext;
use crate::training::arrays::ArrayFile;
use crate::training::checkpoint;
use crate::training::run::{Ending, Run, Trainer, Watcher};
use bytes::Bytes;
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::layout::FORMAT_VERSION;
use glmeval_common::limits::CHECKPOINT_INTERVAL_MS;
use glmeval_common::network::Restore;
use glmeval_common::store::fits::{commit_checkpoint, newest_checkpoint};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run predicts, one vector per output, and why that is no number, if so.
type Outcome = (Vec<Vec<f64>>, Option<String>);

/// Watches the runs of one group of fits.
pub(super) struct FitWatcher<'w, 'a> {
    work: &'w Work<'a>,
    fits: &'w [&'w Prepared<'a>],
    /// States after an epoch that are not in the store.
    unsaved: Vec<Option<Run>>,
    saved_ms: u64,
    is_won: bool,
    /// Whether another group failed.
    is_failed: &'w AtomicBool,
}

/// Puts `run`, which has not begun, after the newest epoch that the store holds.
///
/// # Errors
/// `Invalid` for a checkpoint of a newer version; store errors.
pub(super) async fn resume(
    context: &UnitContext<'_>,
    prepared: &Prepared<'_>,
    run: Run,
) -> Result<Run> {
    let fit = prepared.fit.id();
    let read = |epoch: u32, bytes: &Bytes, place: &str| {
        let mut resumed = run.clone();
        checkpoint::decode(fit, epoch, bytes, place)?.restore(&mut resumed)?;
        Ok(resumed)
    };
    let Some((epoch, resumed)) = newest_checkpoint(context.store, fit, read).await? else {
        return Ok(run);
    };
    tracing::info!(fit = prepared.name, epoch, "training goes on after a checkpoint");
    let rows = prepared.chosen.train.len() as u64;
    context.progress().drop_rows(rows.saturating_mul(u64::from(epoch)));
    Ok(resumed)
}

impl<'w, 'a> FitWatcher<'w, 'a> {
    /// Watches runs of `fits`, in their order.
    pub(super) fn new(
        work: &'w Work<'a>,
        fits: &'w [&'w Prepared<'a>],
        is_failed: &'w AtomicBool,
    ) -> Self {
        let unsaved = fits.iter().map(|_| None).collect();
        let saved_ms = work.context.now_ms();
        Self { work, fits, unsaved, saved_ms, is_won: false, is_failed }
    }

    /// Whether this attempt's commit of one of the fits stands.
    pub(super) fn is_won(&self) -> bool {
        self.is_won
    }

    fn fit(&self, index: usize) -> Result<&'w Prepared<'a>> {
        self.fits.get(index).copied().ok_or_else(|| Error::bug("a run without its fit"))
    }

    /// Writes the states that are not in the store; one that cannot be written now is kept.
    fn save(&mut self) -> Result<()> {
        let context = self.work.context;
        self.saved_ms = context.now_ms();
        for (prepared, slot) in self.fits.iter().zip(&mut self.unsaved) {
            let Some(run) = slot.take() else { continue };
            let fit = prepared.fit.id();
            let bytes = checkpoint::encode(fit, &run)?;
            let who = (context.attempt, context.worker);
            let written = commit_checkpoint(context.store, fit, run.epoch(), bytes, who);
            match self.work.runtime.block_on(written) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(error = error.chain(), "a checkpoint could not be written");
                    *slot = Some(run);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn tell(&self, name: &str, run: &Run) {
        let Some(last) = run.history.last() else { return };
        self.work.context.progress().tell_fit(FitProgress {
            fit: name.to_owned(),
            epoch: last.epoch,
            epochs_max: run.spec.epochs_max,
            loss: last.loss,
            monitor: run.monitor(),
            learning_rate: last.learning_rate,
        });
    }

    /// Predictions on `test` of runs that saw the same batches.
    fn predict(
        &self,
        runs: &[(&Prepared<'_>, &Run)],
        trainer: &mut dyn Trainer,
    ) -> Result<Vec<Outcome>> {
        let Some((first, _)) = runs.first() else { return Ok(Vec::new()) };
        let rows = &first.chosen.test;
        let failure = |run: &Run| match run.ending {
            Some(Ending::Diverged { epoch, loss }) => {
                Some(format!("training ended in epoch {epoch}, whose loss is {loss}"))
            }
            _ => None,
        };
        let sound = runs.iter().filter(|(_, run)| failure(run).is_none());
        let sound: Vec<&Run> = sound.map(|(_, run)| *run).collect();
        let mut found = trainer.predict(&sound, &self.work.batches(first)?, rows)?.into_iter();
        let mut all = Vec::new();
        for (_, run) in runs {
            let outputs = trainer.outputs(run)?;
            let failure = failure(run);
            let predictions = match &failure {
                Some(_) => vec![vec![f64::NAN; rows.len()]; outputs],
                None => {
                    let flat = found.next().ok_or_else(|| Error::bug("a run is not predicted"))?;
                    columns(&flat, outputs)
                }
            };
            all.push((predictions, failure));
        }
        Ok(all)
    }

    /// Commits what one run came to.
    fn keep(&mut self, index: usize, run: &Run, mut evaluated: Evaluated) -> Result<()> {
        let (work, prepared) = (self.work, self.fit(index)?);
        let mut notes = prepared.notes.clone();
        notes.extend(ending(run));
        evaluated.notes.splice(0..0, notes);
        let has_diverged = matches!(run.ending, Some(Ending::Diverged { .. }));
        let blueprint = work.blueprints.get(prepared.network);
        let weights = match blueprint.filter(|_| !has_diverged) {
            Some(blueprint) => Some(encode_weights(prepared, blueprint, run)?),
            None => None,
        };
        let kept = (weights, Some(run.history.as_slice()));
        let committed = commit(work.context, prepared.fit, evaluated, kept);
        self.is_won |= work.runtime.block_on(committed)?;
        if let Some(slot) = self.unsaved.get_mut(index) {
            *slot = None;
        }
        let left = u64::from(run.spec.epochs_max.saturating_sub(run.epoch()));
        let progress = work.context.progress();
        progress.drop_rows(left.saturating_mul(prepared.chosen.train.len() as u64));
        progress.end_fit(&prepared.name);
        Ok(())
    }
}

/// `[rows, outputs]` as one vector per output.
fn columns(flat: &[f32], outputs: usize) -> Vec<Vec<f64>> {
    let column = |output: usize| {
        flat.iter().skip(output).step_by(outputs.max(1)).map(|&p| f64::from(p)).collect()
    };
    (0..outputs).map(column).collect()
}

impl Watcher for FitWatcher<'_, '_> {
    fn go_on(&mut self) -> Result<()> {
        if let Err(stopped) = self.work.context.check_stop() {
            self.save()?;
            return Err(stopped);
        }
        if self.is_failed.load(Ordering::Relaxed) {
            return Err(Error::unavailable("another fit of the unit has failed"));
        }
        Ok(())
    }

    fn trained(&mut self, rows: usize) {
        self.work.context.done(rows as u64);
    }

    fn epoch_done(&mut self, index: usize, run: &Run) -> Result<()> {
        self.tell(&self.fit(index)?.name, run);
        if matches!(run.ending, Some(Ending::Diverged { .. })) {
            return Ok(());
        }
        if let Some(slot) = self.unsaved.get_mut(index) {
            *slot = Some(run.clone());
        }
        let now_ms = self.work.context.now_ms();
        if now_ms.saturating_sub(self.saved_ms) >= CHECKPOINT_INTERVAL_MS {
            self.save()?;
        }
        Ok(())
    }

    fn ended(&mut self, runs: Vec<(usize, Run)>, trainer: &mut dyn Trainer) -> Result<()> {
        let work = self.work;
        let mut known = Vec::new();
        for (index, run) in &runs {
            known.push((self.fit(*index)?, run));
        }
        let predicted: Vec<Predicted<'_>> = (known.iter().zip(self.predict(&known, trainer)?))
            .map(|((prepared, _), (predictions, failure))| Predicted {
                task: work.unit.task,
                fit: prepared.fit,
                target_names: work.target_names,
                measured: &work.examples.measured,
                rows: &prepared.chosen.test,
                predictions,
                failure,
                unfitted: unfitted(prepared, &work.examples.measured),
            })
            .collect();
        // Intervals take long beside a short training.
        let evaluated: Vec<Evaluated> =
            predicted.into_par_iter().map(Predicted::evaluate).collect();
        for ((index, run), evaluated) in runs.iter().zip(evaluated) {
            self.keep(*index, run, evaluated)?;
        }
        Ok(())
    }
}

/// Targets that no example has taught the network anything of, with the reason.
fn unfitted(prepared: &Prepared<'_>, measured: &Measured) -> Vec<(usize, String)> {
    let reason = "expected a value, found none in the examples of train";
    let unknown = measured.unknown_in(&prepared.chosen.train).into_iter();
    unknown.map(|target| (target, reason.to_owned())).collect()
}

/// A line on how a run ended and which weights it kept.
fn ending(run: &Run) -> Option<String> {
    let epochs = run.epoch();
    let best = run.stopping.best().map(|_| run.stopping.best_epoch().saturating_add(1));
    let kept = |is_best: bool| match (is_best, best) {
        (true, Some(best)) => format!("weights of epoch {best}, the best"),
        (true, None) => "weights of epoch 1, as none was better".to_owned(),
        (false, Some(best)) => format!("weights of the last, epoch {best} was the best"),
        (false, None) => "weights of the last".to_owned(),
    };
    match run.ending {
        Some(Ending::Stopped) => Some(format!("stopped after epoch {epochs}: {}", kept(true))),
        Some(Ending::EpochsOver) => {
            let is_best = run.spec.restore == Restore::Always;
            Some(format!("all {epochs} epochs: {}", kept(is_best)))
        }
        Some(Ending::Diverged { .. }) | None => None,
    }
}

/// All weights, moving statistics included, named as Keras names them, with what they belong to.
fn encode_weights(prepared: &Prepared<'_>, blueprint: &Blueprint, run: &Run) -> Result<Bytes> {
    let mut file = ArrayFile::default();
    let identity = &prepared.fit.identity;
    file.texts.insert("format_version".to_owned(), FORMAT_VERSION.to_string());
    file.texts.insert("identity".to_owned(), to_json(identity)?);
    file.texts.insert("inputs".to_owned(), to_json(&blueprint.inputs)?);
    file.texts.insert("network".to_owned(), to_json(&blueprint.spec)?);
    file.texts.insert("training".to_owned(), to_json(prepared.spec)?);
    for (shape, values) in run.state.weights() {
        file.numbers.insert(shape.name.clone(), (shape.shape.clone(), values.to_vec()));
    }
    file.encode()
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::bug("describe weights").with_source(e))
}
