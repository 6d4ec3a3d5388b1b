//! Training runs over one reading of the examples: epochs, validation, callbacks, history.
//!
//! Leaves out: steps (network), where runs and their states are kept (fit). Invariant: what a run
//! becomes does not depend on the runs it shares batches with, nor on where it was interrupted.

use super::batches::{BatchSource, Gathered, for_each_batch};
use super::callbacks::{Better, EarlyStopping, Plateau};
use super::measures::BinaryCounts;
use super::order::epoch_order;
use crate::network::{Batch, Network, NetworkState, Pass};
use glmeval_common::error::{Error, Result};
use glmeval_common::network::{Loss, Monitor, Restore, TrainingSpec};
use glmeval_common::rng::Rng;
use glmeval_common::store::fits::{BinaryMeasures, EpochRecord};
use std::ops::ControlFlow;

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
    /// Which network of [`Networks`] it trains.
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

    fn is_binary(&self) -> bool {
        matches!(self.spec.loss, Loss::BinaryCrossEntropy | Loss::BinaryCrossEntropyOfLogits)
    }

    /// Takes the results of an epoch and decides what follows.
    fn end_epoch(&mut self, train: &Sums, valid: Option<&Sums>) {
        let record = EpochRecord {
            epoch: self.epoch().saturating_add(1),
            loss: train.loss(),
            val_loss: valid.map(Sums::loss),
            learning_rate: f64::from(self.learning_rate),
            train: train.measures(),
            valid: valid.and_then(Sums::measures),
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

/// Losses and measures of one run in one epoch.
#[derive(Clone, Debug, Default)]
struct Sums {
    loss: f64,
    /// Examples, or their share whose targets are measured.
    weight: f64,
    binary: Option<BinaryCounts>,
}

impl Sums {
    fn new(run: &Run) -> Self {
        Self { binary: run.is_binary().then(BinaryCounts::default), ..Self::default() }
    }

    fn add(&mut self, loss: f64, batch: &Gathered, predictions: &[f32]) {
        // A batch counts as far as its targets are measured; pairs are always counted whole.
        let is_plain = batch.targets.len() == predictions.len();
        let known = batch.targets.iter().filter(|target| !is_plain || !target.is_nan()).count();
        let weight = batch.rows as f64 * (known as f64 / batch.targets.len().max(1) as f64);
        self.loss += loss * weight;
        self.weight += weight;
        if let Some(binary) = &mut self.binary {
            binary.add(predictions, &batch.targets);
        }
    }

    fn loss(&self) -> f64 {
        self.loss / self.weight
    }

    fn measures(&self) -> Option<BinaryMeasures> {
        self.binary.as_ref()?.measures()
    }
}

/// Compiled networks, each with one work space that its runs share.
pub struct Networks<'a> {
    compiled: &'a [Network],
    passes: Vec<Option<Pass>>,
}

impl<'a> Networks<'a> {
    /// No work space yet.
    pub fn new(compiled: &'a [Network]) -> Self {
        Self { compiled, passes: compiled.iter().map(|_| None).collect() }
    }

    fn get(&mut self, index: usize) -> Result<(&'a Network, &mut Pass)> {
        let missing = || Error::bug(format!("training: there is no network {index}"));
        let network = self.compiled.get(index).ok_or_else(missing)?;
        let pass = match self.passes.get_mut(index).ok_or_else(missing)? {
            Some(pass) => pass,
            none => none.insert(Pass::new(network)?),
        };
        Ok((network, pass))
    }

    /// Values that the network of `run` predicts for one example.
    ///
    /// # Errors
    /// `Bug` for a run of another list of networks.
    pub fn outputs(&mut self, run: &Run) -> Result<usize> {
        Ok(self.get(run.network)?.0.outputs_per_example())
    }

    /// Predictions for `rows`, `[rows, outputs_per_example]`.
    ///
    /// # Errors
    /// As reading batches and [`Pass::predict`].
    pub fn predict(
        &mut self,
        run: &Run,
        source: &BatchSource<'_>,
        rows: &[usize],
    ) -> Result<Vec<f32>> {
        let (_, pass) = self.get(run.network)?;
        let (mut all, mut some) = (Vec::new(), Vec::new());
        for_each_batch(source, rows, &mut |batch| {
            pass.predict(&run.state, batch.rows, &batch.input_slices(), &mut some)?;
            all.extend_from_slice(&some);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
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

    /// A run has ended, and has its final weights.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn ended(&mut self, index: usize, run: Run, networks: &mut Networks<'_>) -> Result<()>;
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
    networks: &mut Networks<'_>,
    watcher: &mut dyn Watcher,
) -> Result<()> {
    use glmeval_common::network::ExampleOrder::Stored;
    if runs.len() > 1 && runs.iter().any(|run| run.spec.order != Stored) {
        return Err(Error::bug("training: runs of several orders cannot share batches"));
    }
    let mut live: Vec<(usize, Run)> = runs.into_iter().enumerate().collect();
    loop {
        let (over, on): (Vec<_>, Vec<_>) =
            live.into_iter().partition(|(_, run)| run.ending.is_some());
        for (index, mut run) in over {
            run.finish()?;
            watcher.ended(index, run, networks)?;
        }
        live = on;
        if live.is_empty() {
            return Ok(());
        }
        let train = train_epoch(source, &mut live, networks, watcher)?;
        let valid = validate(source, &live, networks, watcher)?;
        for (place, (index, run)) in live.iter_mut().enumerate() {
            let Some(train) = train.get(place) else { continue };
            run.end_epoch(train, valid.get(place));
            watcher.epoch_done(*index, run)?;
        }
    }
}

fn train_epoch(
    source: &Source<'_>,
    live: &mut [(usize, Run)],
    networks: &mut Networks<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Sums>> {
    let Some((_, first)) = live.first() else { return Ok(Vec::new()) };
    let epoch = first.epoch().saturating_add(1);
    let order = epoch_order(first.spec.order, &source.train, first.seeds.order, epoch);
    let mut all: Vec<Sums> = live.iter().map(|(_, run)| Sums::new(run)).collect();
    for_each_batch(&source.batches, &order, &mut |batch| {
        watcher.go_on()?;
        let inputs = batch.input_slices();
        let step = Batch { rows: batch.rows, inputs: &inputs, targets: &batch.targets, sums: &[] };
        let mut is_any_sound = false;
        for ((_, run), sums) in live.iter_mut().zip(&mut all) {
            if !sums.loss.is_finite() {
                continue;
            }
            let (network, pass) = networks.get(run.network)?;
            let (adam, dropout) = (&run.spec.adam, run.seeds.dropout);
            let state = (network, &mut run.state);
            let outcome = pass.train(state, &step, adam, run.learning_rate, dropout)?;
            sums.add(outcome.loss, batch, pass.predictions());
            is_any_sound |= outcome.loss.is_finite();
        }
        watcher.trained(batch.rows * live.len());
        Ok(if is_any_sound { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(all)
}

/// Losses on the watched examples; none without examples.
fn validate(
    source: &Source<'_>,
    live: &[(usize, Run)],
    networks: &mut Networks<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Sums>> {
    if source.valid.is_empty() {
        return Ok(Vec::new());
    }
    let mut all: Vec<Sums> = live.iter().map(|(_, run)| Sums::new(run)).collect();
    let mut predictions = Vec::new();
    for_each_batch(&source.batches, &source.valid, &mut |batch| {
        watcher.go_on()?;
        for ((_, run), sums) in live.iter().zip(&mut all) {
            let (_, pass) = networks.get(run.network)?;
            pass.predict(&run.state, batch.rows, &batch.input_slices(), &mut predictions)?;
            sums.add(pass.loss(&run.state, &batch.targets)?, batch, &predictions);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}
