//! Fits of a unit that cannot be made, each with its own reason.
//!
//! Leaves out: who refuses them (linear, networks, effects). Invariant: a reason is told of the fit it concerns
//! and of no other.

use glmeval_common::control::{FitFailure, FitFailures};
use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::FitId;
use glmeval_common::unit::{Fit, FitUnit};
use std::collections::BTreeMap;

/// What was refused of a unit so far.
pub(super) struct Refused<'a> {
    unit: &'a FitUnit,
    errors: BTreeMap<&'a FitId, Error>,
}

impl<'a> Refused<'a> {
    /// Nothing yet.
    pub(super) fn new(unit: &'a FitUnit) -> Self {
        Self { unit, errors: BTreeMap::new() }
    }

    /// What was made of `fit`; `None` if it is refused, which keeps no other fit from being made.
    ///
    /// # Errors
    /// Those that concern more than this fit: all but `Invalid`, and what is the place's fault.
    pub(super) fn sort_out<T>(&mut self, fit: &'a Fit, made: Result<T>) -> Result<Option<T>> {
        match made {
            Ok(made) => Ok(Some(made)),
            Err(error) if error.kind() == ErrorKind::Invalid && !error.is_of_place() => {
                self.errors.insert(fit.id(), error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the unit, of which a commit is this attempt's if `is_won`.
    ///
    /// # Errors
    /// `Invalid`, caused by [`FitFailures`]: the reason of each fit that was refused.
    pub(super) fn end(self, is_won: bool) -> Result<bool> {
        if self.errors.is_empty() {
            return Ok(is_won);
        }
        let fits = &self.unit.fits;
        let refused = fits.iter().zip(names(fits)).filter_map(|(fit, label)| {
            let reason = self.errors.get(fit.id())?.chain();
            Some(FitFailure { fit: fit.id().clone(), label, reason })
        });
        let refused = FitFailures(refused.collect());
        let told = match (refused.0.as_slice(), fits.len()) {
            // The unit is named after its one fit.
            ([only], 1) => only.reason.clone(),
            (some, all) => {
                format!("{} of {all} fits cannot be made: {}", some.len(), refused.listed())
            }
        };
        Err(Error::invalid(told).with_source(refused))
    }
}

/// The labels of `fits`, with the id where another has the same.
fn names(fits: &[Fit]) -> Vec<String> {
    let labels: Vec<String> = fits.iter().map(Fit::label).collect();
    let is_shared = |label: &String| labels.iter().filter(|other| *other == label).count() > 1;
    let name = |(fit, label): (&Fit, &String)| match is_shared(label) {
        true => format!("{label} ({})", fit.id()),
        false => label.clone(),
    };
    fits.iter().zip(&labels).map(name).collect()
}
