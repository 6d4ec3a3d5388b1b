//! Fits, or maps, that a plan holds already, and the names that they stand under.
//!
//! Leaves out: ids (fits, attribution). Invariant: names are no part of an id and rows of scores are found by them, so
//! that a fit has one name of its data set, of its gLM and of its probe.

use super::Planner;
use glmeval_common::error::Result;
use glmeval_common::ids::FitId;
use glmeval_common::score::FitIdentity;
use std::collections::BTreeMap;

/// Every fit so far.
pub(super) struct Known {
    /// `fits` or `maps`, for errors.
    what: &'static str,
    /// Index into `names`.
    fits: BTreeMap<FitId, usize>,
    /// Neighbouring fits share theirs.
    names: Vec<Names>,
}

/// What people call a fit.
#[derive(PartialEq, Eq)]
struct Names {
    dataset: String,
    model: Option<String>,
    probe: String,
}

impl Known {
    /// None of `what` yet: `fits` or `maps`.
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, fits: BTreeMap::new(), names: Vec::new() }
    }

    /// Whether a fit that the table `key` asks for is another than all before it; tables may overlap.
    ///
    /// # Errors
    /// `Invalid` with both names where it is one of those under another name.
    pub(super) fn is_new(
        &mut self,
        planner: &Planner<'_>,
        key: &str,
        identity: &FitIdentity,
    ) -> Result<bool> {
        let names = Names::of(identity);
        if let Some(known) = self.fits.get(&identity.fit).and_then(|&index| self.names.get(index)) {
            if *known == names {
                return Ok(false);
            }
            let expected = format!("{} of its own for {}", self.what, names.all());
            let found = format!("those of {} under another name", known.others(&names));
            return Err(planner.wrong(key, expected, found).into());
        }
        if self.names.last() != Some(&names) {
            self.names.push(names);
        }
        self.fits.insert(identity.fit.clone(), self.names.len() - 1);
        Ok(true)
    }
}

impl Names {
    fn of(identity: &FitIdentity) -> Self {
        Self {
            dataset: identity.dataset.clone(),
            model: identity.model.clone(),
            probe: identity.probe.clone(),
        }
    }

    fn all(&self) -> String {
        let model = self.model.as_ref().map_or(String::new(), |model| format!(" of gLM {model}"));
        format!("probe {}{model} on data set {}", self.probe, self.dataset)
    }

    /// Those that differ from `another`'s.
    fn others(&self, another: &Self) -> String {
        let pairs = [
            ("probe", Some(&self.probe), Some(&another.probe)),
            ("gLM", self.model.as_ref(), another.model.as_ref()),
            ("data set", Some(&self.dataset), Some(&another.dataset)),
        ];
        let differing = pairs.into_iter().filter(|(_, own, another)| own != another);
        let words = differing.filter_map(|(word, own, _)| own.map(|own| format!("{word} {own}")));
        words.collect::<Vec<_>>().join(" and ")
    }
}
