//! Fits of a unit that cannot be made, each with its own reason.
//!
//! Leaves out: who refuses them (linear, networks, effects). Invariant: a reason is told of the fit it concerns
//! and of no other; what the error of a unit lists, [`reasons`] finds again.

use glmeval_common::error::{Error, ErrorKind, Result};
use glmeval_common::ids::FitId;
use glmeval_common::unit::{Fit, FitUnit};
use std::collections::BTreeMap;

/// Before the list of fits and reasons.
const LISTED: &str = " fits cannot be made: ";
/// Between a reason and the next fit.
const NEXT: &str = "; ";

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
    /// `Invalid` with the reason of each fit that was refused.
    pub(super) fn end(mut self, is_won: bool) -> Result<bool> {
        let fits = &self.unit.fits;
        if self.errors.is_empty() {
            return Ok(is_won);
        }
        if let [fit] = fits.as_slice()
            && let Some(error) = self.errors.remove(fit.id())
        {
            return Err(error);
        }
        let listed = fits.iter().zip(names(fits)).filter_map(|(fit, name)| {
            let error = self.errors.get(fit.id())?;
            Some(format!("{name}: {}", error.chain()))
        });
        let listed: Vec<String> = listed.collect();
        let (count, all) = (listed.len(), fits.len());
        Err(Error::invalid(format!("{count} of {all}{LISTED}{}", listed.join(NEXT))))
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

/// Why fits of `unit` are missing, by fit, as the error chain of its last attempt says: each its own reason where
/// they are listed, else all that of the unit.
pub(crate) fn reasons<'u, 'c>(unit: &'u FitUnit, chain: &'c str) -> BTreeMap<&'u FitId, &'c str> {
    let Some((_, mut rest)) = chain.split_once(LISTED) else {
        let chain = match unit.fits.as_slice() {
            [fit] => chain.strip_prefix(&format!("fit {}: ", fit.label())).unwrap_or(chain),
            _ => chain,
        };
        return unit.fits.iter().map(|fit| (fit.id(), chain)).collect();
    };
    let (mut found, mut last) = (BTreeMap::new(), None);
    for (fit, name) in unit.fits.iter().zip(names(&unit.fits)) {
        let parts = match last {
            None => rest.strip_prefix(&format!("{name}: ")).map(|rest| ("", rest)),
            Some(_) => rest.split_once(&format!("{NEXT}{name}: ")),
        };
        let Some((reason, after)) = parts else { continue };
        if let Some(before) = last.replace(fit.id()) {
            found.insert(before, reason);
        }
        rest = after;
    }
    found.extend(last.map(|last| (last, rest)));
    found
}
