//! What fits keep of the examples beside their features, and which of them a fit sees.
//!
//! Leaves out: features (reading). Invariant: which rows a fit sees depends on its identity and the
//! examples alone.

use glmeval_common::dataset::TaskName;
use glmeval_common::error::{Error, Result};
use glmeval_common::example::{Example, Split};
use glmeval_common::job::Protocol;
use glmeval_common::rng::Rng;
use glmeval_common::score::FitIdentity;

/// Ids, splits and targets of all examples.
pub(super) struct Measured {
    pub(super) ids: Vec<String>,
    pub(super) splits: Vec<Option<Split>>,
    /// One vector per target.
    pub(super) targets: Vec<Vec<f64>>,
}

impl Measured {
    pub(super) fn new(target_count: usize) -> Self {
        Self { ids: Vec::new(), splits: Vec::new(), targets: vec![Vec::new(); target_count] }
    }

    pub(super) fn extend(&mut self, examples: &[Example]) {
        for example in examples {
            self.ids.push(example.id.clone());
            self.splits.push(example.split);
            for (column, &target) in self.targets.iter_mut().zip(&example.targets) {
                column.push(f64::from(target));
            }
        }
    }

    /// Numbers of the examples of `split`.
    pub(super) fn rows(&self, split: Split) -> Vec<usize> {
        let wanted = |row: &usize| self.splits.get(*row) == Some(&Some(split));
        (0..self.splits.len()).filter(wanted).collect()
    }

    /// Targets of `rows`, one vector per target.
    pub(super) fn targets_of(&self, rows: &[usize]) -> Vec<Vec<f64>> {
        let of_column = |column: &Vec<f64>| {
            rows.iter().map(|&row| column.get(row).copied().unwrap_or(f64::NAN)).collect()
        };
        self.targets.iter().map(of_column).collect()
    }

    /// Targets of which none of `rows` has a value, by number.
    pub(super) fn unknown_in(&self, rows: &[usize]) -> Vec<usize> {
        let is_unknown = |column: &Vec<f64>| {
            rows.iter().all(|&row| column.get(row).is_none_or(|value| value.is_nan()))
        };
        let columns = self.targets.iter().enumerate();
        columns.filter(|(_, column)| is_unknown(column)).map(|(target, _)| target).collect()
    }
}

/// The examples a fit sees, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) train: Vec<usize>,
    pub(super) valid: Vec<usize>,
    pub(super) test: Vec<usize>,
}

/// The examples that the fit `identity` sees: its fraction of `train`, for splicing of `valid` too.
///
/// As published, all repeats of a fraction share one random subset; corrected, each draws its own.
///
/// # Errors
/// `Invalid` naming the data set when nothing is left to fit on or no example is there to score.
pub(super) fn choose(
    identity: &FitIdentity,
    task: TaskName,
    measured: &Measured,
) -> Result<Chosen> {
    let FitIdentity { dataset, fraction, .. } = identity;
    let fraction = *fraction;
    if !(fraction > 0.0 && fraction <= 1.0) {
        let message = format!("data set {dataset}: expected a fraction above 0, at most 1");
        return Err(Error::invalid(format!("{message}, found {fraction}")));
    }
    let mut train = measured.rows(Split::Train);
    let mut valid = measured.rows(Split::Valid);
    let test = measured.rows(Split::Test);
    for (rows, split) in [(&train, Split::Train), (&test, Split::Test)] {
        if rows.is_empty() {
            return Err(missing(dataset, split, ""));
        }
    }
    train = subset(identity, train, Split::Train);
    if task == TaskName::Splicing {
        valid = subset(identity, valid, Split::Valid);
    }
    if train.is_empty() {
        return Err(missing(dataset, Split::Train, &format!(" in a fraction of {fraction}")));
    }
    Ok(Chosen { train, valid, test })
}

/// No example of `split` where some are needed.
pub(super) fn missing(dataset: &str, split: Split, place: &str) -> Error {
    Error::invalid(format!(
        "data set {dataset}: expected examples of split {split}{place}, found none"
    ))
}

/// floor(fraction n) of `rows`, drawn without replacement, in their order.
fn subset(identity: &FitIdentity, mut rows: Vec<usize>, split: Split) -> Vec<usize> {
    let FitIdentity { fraction, repeat, seed, .. } = identity;
    if *fraction >= 1.0 {
        return rows;
    }
    let mut purpose = format!("fraction {fraction} of {split}");
    if protocol(identity) == Protocol::Corrected {
        purpose.push_str(&format!(", repeat {repeat}"));
    }
    let count = (fraction * rows.len() as f64) as usize;
    Rng::derive(*seed, &purpose).shuffle(&mut rows);
    rows.truncate(count);
    rows.sort_unstable();
    rows
}

/// The protocol a fit was planned under.
pub(super) fn protocol(identity: &FitIdentity) -> Protocol {
    if identity.protocol == Protocol::Corrected.name() {
        Protocol::Corrected
    } else {
        Protocol::Published
    }
}
