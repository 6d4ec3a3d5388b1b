//! The state of a training run between two epochs, as bytes and back.
//!
//! Leaves out: where they rest (store). Invariant: a run that was encoded and restored goes on to the
//! same bytes as one that was not.

use super::arrays::ArrayFile;
use super::callbacks::{EarlyStopping, Plateau};
use super::run::{Ending, Run};
use crate::network::StateArrays;
use bytes::Bytes;
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::ids::FitId;
use glmeval_common::layout::{FORMAT_VERSION, check_version};
use glmeval_common::store::fits::{EpochRecord, history};
use serde::{Deserialize, Serialize};

/// What stands in the metadata of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    version: u32,
    fit: FitId,
    /// Steps of the optimiser.
    step: u64,
    /// Learning rate of the next epoch.
    learning_rate: f32,
    stopping: EarlyStopping,
    plateau: Option<Plateau>,
    /// Early stopping has spoken.
    is_stopped: bool,
    /// Number of weights kept as the best.
    best: Option<usize>,
}

/// A decoded checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    standing: Standing,
    arrays: StateArrays,
    best: Option<Vec<Vec<f32>>>,
    history: Vec<EpochRecord>,
}

/// Key of the metadata.
const STANDING: &str = "training";
/// Name of the table of epochs.
const HISTORY: &str = "history";

fn best_name(index: usize) -> String {
    format!("best/{index:05}")
}

/// The bytes of a run between two epochs.
///
/// # Errors
/// `Bug` if they cannot be encoded.
pub fn encode(fit: &FitId, run: &Run) -> Result<Bytes> {
    let StateArrays { step, arrays } = run.state.snapshot();
    let standing = Standing {
        version: FORMAT_VERSION,
        fit: fit.clone(),
        step,
        learning_rate: run.learning_rate,
        stopping: run.stopping.clone(),
        plateau: run.plateau.clone(),
        is_stopped: run.ending == Some(Ending::Stopped),
        best: run.best.as_ref().map(Vec::len),
    };
    let text = serde_json::to_string(&standing)
        .map_err(|e| Error::bug("encode a checkpoint").with_source(e))?;
    let mut file = ArrayFile::default();
    file.texts.insert(STANDING.to_owned(), text);
    file.blobs.insert(HISTORY.to_owned(), history::encode(&run.history)?);
    let flat = |values: Vec<f32>| (vec![values.len()], values);
    for (index, values) in run.best.iter().flatten().enumerate() {
        file.numbers.insert(best_name(index), flat(values.clone()));
    }
    file.numbers.extend(arrays.into_iter().map(|(name, values)| (name, flat(values))));
    file.encode()
}

/// Reads a checkpoint of `fit` after `epoch`; `place` names it in errors.
///
/// # Errors
/// `Corrupt` for anything else; `Invalid` for a newer version.
pub fn decode(fit: &FitId, epoch: u32, bytes: &Bytes, place: &str) -> Result<Checkpoint> {
    let defect = |key: &str, expected: &str, found: &str| {
        Error::corrupt(InputError::new(place, key, expected, found).to_string())
    };
    let mut file = ArrayFile::decode(bytes, place)?;
    let text = file.texts.get(STANDING).ok_or_else(|| defect(STANDING, "an entry", "none"))?;
    let standing: Standing = serde_json::from_str(text)
        .map_err(|e| defect(STANDING, "the standing of a run", "another text").with_source(e))?;
    check_version(standing.version, place)?;
    if standing.fit != *fit {
        return Err(defect("fit", fit.as_str(), standing.fit.as_str()));
    }
    let table = file.blobs.get(HISTORY).ok_or_else(|| defect(HISTORY, "a table", "none"))?;
    let history = history::decode(table.clone(), place)?;
    if history.len() != epoch as usize || history.last().is_none_or(|last| last.epoch != epoch) {
        return Err(defect(HISTORY, &format!("{epoch} epochs"), "another number"));
    }
    let mut best = Vec::new();
    for index in 0..standing.best.unwrap_or(0) {
        let name = best_name(index);
        let found = file.numbers.remove(&name);
        best.push(found.ok_or_else(|| defect(&name, "an array", "none"))?.1);
    }
    let arrays = file.numbers.into_iter().map(|(name, (_, values))| (name, values)).collect();
    let arrays = StateArrays { step: standing.step, arrays };
    let best = standing.best.map(|_| best);
    Ok(Checkpoint { standing, arrays, best, history })
}

impl Checkpoint {
    /// Puts `run`, which has not begun, where the checkpoint is.
    ///
    /// # Errors
    /// `Corrupt` if it is a checkpoint of another network; the run is then as before.
    pub fn restore(self, run: &mut Run) -> Result<()> {
        run.state
            .restore(&self.arrays)
            .map_err(|e| Error::corrupt("a checkpoint does not fit its network").with_source(e))?;
        run.learning_rate = self.standing.learning_rate;
        run.stopping = self.standing.stopping;
        run.plateau = self.standing.plateau;
        run.best = self.best;
        run.history = self.history;
        run.ending = match self.standing.is_stopped {
            true => Some(Ending::Stopped),
            false if run.epoch() >= run.spec.epochs_max => Some(Ending::EpochsOver),
            false => None,
        };
        Ok(())
    }
}
