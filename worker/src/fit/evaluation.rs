//! From predictions on `test` to scores, with words for what could not be scored.
//!
//! Leaves out: the statistics themselves. Invariant: a statistic that predictions or examples do not
//! support is null, never a number, and a note says why.

use super::measured::{Measured, protocol};
use crate::statistics::{ScoreContext, scores};
use glmeval_common::dataset::TaskName;
use glmeval_common::example::Split;
use glmeval_common::score::Statistic;
use glmeval_common::store::fits::Prediction;
use glmeval_common::unit::Fit;

/// Statistics named one by one in a note.
const NAMED_MAX: usize = 4;

/// What scores are made of.
pub(super) struct Predicted<'a> {
    pub(super) task: TaskName,
    pub(super) fit: &'a Fit,
    pub(super) target_names: &'a [String],
    pub(super) measured: &'a Measured,
    /// Examples of `test`.
    pub(super) rows: &'a [usize],
    /// One vector per target that is predicted, one value per row.
    pub(super) predictions: Vec<Vec<f64>>,
    /// Why no statistic may be given, if so.
    pub(super) failure: Option<String>,
    /// Targets that nothing was learnt of, by number, with the reason: what is predicted of them counts for nothing.
    pub(super) unfitted: Vec<(usize, String)>,
}

/// What a fit is committed with.
pub(super) struct Evaluated {
    pub(super) statistics: Vec<Statistic>,
    pub(super) predictions: Vec<Prediction>,
    pub(super) notes: Vec<String>,
}

impl Predicted<'_> {
    /// Scores the predictions.
    pub(super) fn evaluate(mut self) -> Evaluated {
        // Scores are those of the predictions that are kept, which are f32.
        let kept = self.predictions.iter_mut().flatten();
        kept.for_each(|prediction| *prediction = f64::from(*prediction as f32));
        let mut notes = self.leave_out_unfitted();
        let is_fitted = |target: &usize| self.unfitted.iter().all(|(other, _)| other != target);
        let columns = self.predictions.iter().enumerate().filter(|(i, _)| is_fitted(i));
        let values = columns.flat_map(|(_, column)| column);
        let (all, bad) = (values.clone().count(), values.filter(|p| !p.is_finite()).count());
        if bad > 0 && self.failure.is_none() {
            self.failure = Some(format!("{bad} of {all} predictions are not finite"));
        }
        let targets = self.measured.targets_of(self.rows);
        let context = ScoreContext {
            task: self.task,
            protocol: protocol(&self.fit.identity),
            probe: self.fit.probe.name(),
            split: Split::Test,
            seed: self.fit.identity.seed,
        };
        let statistics = match self.failure.take() {
            Some(failure) => {
                notes.push(format!("{failure}: no statistic is given"));
                // Zeros stand in, so that the rows are those of any other fit.
                let zeros: Vec<_> =
                    self.predictions.iter().map(|column| vec![0.0; column.len()]).collect();
                let mut rows = scores(&context, self.target_names, &targets, &zeros);
                rows.iter_mut().for_each(void);
                rows
            }
            None => {
                let rows = scores(&context, self.target_names, &targets, &self.predictions);
                notes.extend(undefined(&rows));
                rows
            }
        };
        Evaluated { statistics, predictions: self.table(&targets), notes }
    }

    /// Takes out what was predicted of targets that nothing was learnt of; a line on each.
    fn leave_out_unfitted(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (target, reason) in &self.unfitted {
            if let Some(column) = self.predictions.get_mut(*target) {
                column.fill(f64::NAN);
                let name = self.target_names.get(*target).map_or("", String::as_str);
                lines.push(format!("target {name}: {reason}: it is not fitted"));
            }
        }
        lines
    }

    /// One row per target and example; NaN for targets that are not fitted, or measured and never predicted, such
    /// as the means of splicing, which decide what is scored.
    fn table(&self, targets: &[Vec<f64>]) -> Vec<Prediction> {
        let mut table = Vec::new();
        let unpredicted = vec![f64::NAN; self.rows.len()];
        let predicted = self.predictions.iter().chain(std::iter::repeat(&unpredicted));
        let columns = self.target_names.iter().zip(targets).zip(predicted);
        for ((name, targets), predicted) in columns {
            for ((&row, &measured), &prediction) in self.rows.iter().zip(targets).zip(predicted) {
                table.push(Prediction {
                    id: self.measured.ids.get(row).cloned().unwrap_or_default(),
                    split: Split::Test,
                    target: name.clone(),
                    measured: measured as f32,
                    prediction: prediction as f32,
                });
            }
        }
        table
    }
}

fn void(row: &mut Statistic) {
    (row.value, row.low, row.high) = (None, None, None);
}

/// A line on the statistics without a value.
pub(super) fn undefined(rows: &[Statistic]) -> Option<String> {
    let without: Vec<_> = rows.iter().filter(|row| row.value.is_none()).collect();
    let first = without.first()?;
    let named: Vec<String> = without
        .iter()
        .take(NAMED_MAX)
        .map(|row| format!("{} of {}", row.name, row.target))
        .collect();
    let more = match without.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "undefined on {}: {}{more}: too few examples, one class or constant values ({} examples)",
        first.split,
        named.join(", "),
        first.examples
    ))
}
