//! Training runs over one reading of the examples: epochs, validation, callbacks, history.
//!
//! Leaves out: steps (networks, on_device), where runs and their states are kept (fit). Invariant: what a run
//! becomes does not depend on the runs it shares batches with, nor on where it was interrupted.

use super::batches::BatchSource;
use super::callbacks::{Better, EarlyStopping, Plateau};
use super::order::epoch_order;
use super::sums::EpochSums;
use crate::network::{Network, NetworkState};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::{Loss, Monitor, Restore, TrainingSpec};
use glmeval_common::rng::Rng;
use glmeval_common::store::fits::EpochRecord;

/// Where the randomness of one run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// First weights.
    pub init: u64,
    /// Order of examples.
    pub order: u64,
    /// What is dropped.
    pub dropout: u64,
}

impl Seeds {
    /// The streams of repeat `repeat` under the job's root seed.
    pub fn derive(root_seed: u64, repeat: u32) -> Self {
        let stream =
            |purpose| Rng::derive(root_seed, &format!("{purpose} of repeat {repeat}")).next_u64();
        Self { init: stream("first weights"), order: stream("order"), dropout: stream("dropout") }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// All its epochs are done.
    EpochsOver,
    /// Early stopping.
    Stopped,
    /// The training loss became NaN or infinite.
    Diverged {
        /// In which epoch, from 1.
        epoch: u32,
        /// What it became.
        loss: f64,
    },
}

/// One training run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which network of its [`Trainer`] it trains.
    pub network: usize,
    /// Its settings.
    pub spec: TrainingSpec,
    /// Its streams.
    pub seeds: Seeds,
    /// Weights and moments.
    pub state: NetworkState,
    /// Early stopping, and the best epoch.
    pub stopping: EarlyStopping,
    /// The fall of the learning rate.
    pub plateau: Option<Plateau>,
    /// Learning rate of the next epoch.
    pub learning_rate: f32,
    /// Epochs done.
    pub history: Vec<EpochRecord>,
    /// Weights of the best epoch, where they might be wanted.
    pub best: Option<Vec<Vec<f32>>>,
    /// How it ended; `None` while it goes on.
    pub ending: Option<Ending>,
}

impl Run {
    /// A run before its first epoch.
    pub fn new(network: usize, spec: TrainingSpec, seeds: Seeds, compiled: &Network) -> Self {
        let better = Better::of(spec.monitor);
        Self {
            network,
            seeds,
            state: NetworkState::draw(compiled, spec.draws, seeds.init),
            stopping: EarlyStopping::new(spec.stop_patience, better),
            plateau: spec.plateau.map(|settings| Plateau::new(settings, better)),
            learning_rate: spec.learning_rate as f32,
            history: Vec::new(),
            best: None,
            ending: None,
            spec,
        }
    }

    /// Epochs done.
    pub fn epoch(&self) -> u32 {
        self.history.last().map_or(0, |last| last.epoch)
    }

    /// What early stopping watches, after the last epoch; NaN without.
    pub fn monitor(&self) -> f64 {
        let last = self.history.last();
        let value = match self.spec.monitor {
            Monitor::Loss => last.and_then(|last| last.val_loss),
            Monitor::Aupr => last.and_then(|last| last.valid).map(|measures| measures.aupr),
        };
        value.unwrap_or(f64::NAN)
    }

    /// Whether predictions are labels, whose accuracy and areas are measured.
    pub(super) fn is_binary(&self) -> bool {
        matches!(self.spec.loss, Loss::BinaryCrossEntropy | Loss::BinaryCrossEntropyOfLogits)
    }

    /// Takes the results of an epoch and decides what follows.
    fn end_epoch(&mut self, train: &EpochSums, valid: Option<&EpochSums>) {
        let record = EpochRecord {
            epoch: self.epoch().saturating_add(1),
            loss: train.loss(),
            val_loss: valid.map(EpochSums::loss),
            learning_rate: f64::from(self.learning_rate),
            train: train.measures(),
            valid: valid.and_then(EpochSums::measures),
        };
        let (epoch, loss) = (record.epoch, record.loss);
        self.history.push(record);
        if !loss.is_finite() {
            self.ending = Some(Ending::Diverged { epoch, loss });
            return;
        }
        if valid.is_some() {
            let monitor = self.monitor();
            let verdict = self.stopping.observe(monitor);
            let is_wanted =
                self.spec.stop_patience.is_some() || self.spec.restore == Restore::Always;
            if verdict.keep && is_wanted {
                self.best = Some(self.state.copy_weights());
            }
            if let Some(plateau) = &mut self.plateau {
                self.learning_rate = plateau.observe(monitor, self.learning_rate);
            }
            if verdict.stop {
                self.ending = Some(Ending::Stopped);
                return;
            }
        }
        if epoch >= self.spec.epochs_max {
            self.ending = Some(Ending::EpochsOver);
        }
    }

    /// Gives the state the weights that the run ends with.
    ///
    /// # Errors
    /// `Invalid` if the best weights are not those of the network.
    pub fn finish(&mut self) -> Result<()> {
        let takes_best = match self.ending {
            Some(Ending::Stopped) => true,
            Some(Ending::EpochsOver) => self.spec.restore == Restore::Always,
            Some(Ending::Diverged { .. }) | None => false,
        };
        match self.best.take().filter(|_| takes_best) {
            Some(best) => self.state.set_weights(best),
            None => Ok(()),
        }
    }
}

/// What runs are trained and validated on.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Where batches come from.
    pub batches: BatchSource<'a>,
    /// Training examples in stored order.
    pub train: Vec<usize>,
    /// Examples that are watched.
    pub valid: Vec<usize>,
}

/// Who is told how runs go.
pub trait Watcher {
    /// Asked before every batch; an error ends the training, and is passed on.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn go_on(&mut self) -> Result<()>;

    /// `rows` examples more were trained on.
    fn trained(&mut self, rows: usize);

    /// A run that goes on has done one more epoch; `index` is its place in the list given.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn epoch_done(&mut self, index: usize, run: &Run) -> Result<()>;

    /// Runs have ended with the same epoch, and have their final weights; numbers are their places in the
    /// list given.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn ended(&mut self, runs: Vec<(usize, Run)>, trainer: &mut dyn Trainer) -> Result<()>;
}

/// Where steps are computed. Which examples are in a batch, in which order they come, what is dropped, and what follows from the
/// results of an epoch is the same everywhere.
pub trait Trainer {
    /// Values that the network of `run` predicts for one example.
    ///
    /// # Errors
    /// `Bug` for a run of another list of networks.
    fn outputs(&mut self, run: &Run) -> Result<usize>;

    /// Trains `live` on the batches of one epoch, which sees examples in `order`; what it found of each.
    ///
    /// # Errors
    /// As `watcher`, reading and steps.
    fn train_epoch(
        &mut self,
        source: &Source<'_>,
        order: &[usize],
        live: &mut [(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>>;

    /// Losses of `live` on the watched examples, of which there are some.
    ///
    /// # Errors
    /// As `watcher`, reading and predicting.
    fn validate(
        &mut self,
        source: &Source<'_>,
        live: &[(usize, Run)],
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<EpochSums>>;

    /// Predictions of each of `runs` for `rows`, `[rows, outputs]`, from one reading where that is possible.
    ///
    /// # Errors
    /// As reading and predicting.
    fn predict(
        &mut self,
        runs: &[&Run],
        source: &BatchSource<'_>,
        rows: &[usize],
    ) -> Result<Vec<Vec<f32>>>;
}

/// Trains runs that see the same batches in the same order, until all have ended.
///
/// Only runs whose order is the stored one can share batches; any other run comes alone.
///
/// # Errors
/// As `watcher`, reading and steps; `Bug` for runs that cannot share.
pub fn train(
    source: &Source<'_>,
    runs: Vec<Run>,
    trainer: &mut dyn Trainer,
    watcher: &mut dyn Watcher,
) -> Result<()> {
    use glmeval_common::network::ExampleOrder::Stored;
    if runs.len() > 1 && runs.iter().any(|run| run.spec.order != Stored) {
        return Err(Error::bug("training: runs of several orders cannot share batches"));
    }
    let mut live: Vec<(usize, Run)> = runs.into_iter().enumerate().collect();
    loop {
        let (mut over, on): (Vec<_>, Vec<_>) =
            live.into_iter().partition(|(_, run)| run.ending.is_some());
        if !over.is_empty() {
            over.iter_mut().try_for_each(|(_, run)| run.finish())?;
            watcher.ended(over, trainer)?;
        }
        live = on;
        if live.is_empty() {
            return Ok(());
        }
        let order = next_order(source, &live);
        let train = trainer.train_epoch(source, &order, &mut live, watcher)?;
        let valid = match source.valid.is_empty() {
            true => Vec::new(),
            false => trainer.validate(source, &live, watcher)?,
        };
        for (place, (index, run)) in live.iter_mut().enumerate() {
            let Some(train) = train.get(place) else { continue };
            run.end_epoch(train, valid.get(place));
            watcher.epoch_done(*index, run)?;
        }
    }
}

/// The order of the next epoch, which is that of all runs.
fn next_order(source: &Source<'_>, live: &[(usize, Run)]) -> Vec<usize> {
    let Some((_, first)) = live.first() else { return Vec::new() };
    let epoch = first.epoch().saturating_add(1);
    epoch_order(first.spec.order, &source.train, first.seeds.order, epoch)
}
