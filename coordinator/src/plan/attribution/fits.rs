//! Which fits a name stands for: one network, one width, the largest fraction, one repeat or all.
//!
//! Leaves out: what they are used for (attribution). Invariant: a name that fits of different settings
//! have is refused rather than one of them taken.

use glmeval_common::ids::{FitId, SetId};
use glmeval_common::job::Protocol;
use glmeval_common::network::Architecture;
use glmeval_common::representation::FeatureSource;
use glmeval_common::unit::{Fit, FitUnit, ProbeSpec};

/// What the fits read.
pub(super) enum Reads<'a> {
    OneHot,
    /// All states of a layer in one of these sets.
    States(Vec<&'a SetId>),
}

/// Fits that differ in their repeat alone.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// As reports name the probe.
    pub(super) label: String,
    pub(super) factor: f64,
    pub(super) fraction: f64,
    pub(super) layer: Option<u32>,
    pub(super) architecture: Architecture,
    pub(super) fits: Vec<FitId>,
    /// The units that make them.
    pub(super) units: Vec<u32>,
    /// What each of them reads.
    pub(super) features: Vec<FeatureSource>,
}

/// One fit, where it is made.
#[derive(Clone, Copy)]
struct Made<'a> {
    unit: u32,
    features: &'a FeatureSource,
    fit: &'a Fit,
    architecture: &'a Architecture,
}

/// Chooses among the fits of `units`: those `named`, else the study's, else the only ones.
///
/// The study kept the weights of the last repeat; corrected, all repeats are given and the one with the
/// lowest loss on the validation split is taken once they are there.
///
/// # Errors
/// The labels among which the name does not decide.
pub(super) fn choose<'a>(
    units: impl Iterator<Item = (u32, &'a FitUnit)>,
    (named, published): (Option<&str>, Option<&str>),
    protocol: Protocol,
) -> Result<Option<Chosen>, Vec<String>> {
    let of_unit = |(unit, made): (u32, &'a FitUnit)| {
        made.fits.iter().filter_map(move |fit| match &fit.probe {
            ProbeSpec::Network { architecture, .. } => {
                Some(Made { unit, features: &made.features, fit, architecture })
            }
            _ => None,
        })
    };
    let all: Vec<Made<'_>> = units.flat_map(of_unit).collect();
    let mut found = match (named, published) {
        (Some(name), _) => called(&all, name),
        (None, Some(name)) => Some(called(&all, name)).filter(|f| !f.is_empty()).unwrap_or(all),
        (None, None) => all,
    };
    let deepest = found.iter().filter_map(|made| made.fit.identity.layer).max();
    found.retain(|made| made.fit.identity.layer == deepest);
    keep(&mut found, |fit| fit.identity.fraction, f64::max);
    // Of several widths the usual one, else the narrowest.
    if found.iter().any(|made| made.fit.identity.factor == 1.0) {
        found.retain(|made| made.fit.identity.factor == 1.0);
    }
    keep(&mut found, |fit| fit.identity.factor, f64::min);
    let mut labels: Vec<String> =
        found.iter().map(|made| made.fit.identity.probe.clone()).collect();
    labels.sort();
    labels.dedup();
    if labels.len() > 1 {
        return Err(labels);
    }
    found.sort_by_key(|made| made.fit.identity.repeat);
    if protocol == Protocol::Published {
        found.drain(..found.len().saturating_sub(1));
    }
    let Some(first) = found.first() else { return Ok(None) };
    let identity = &first.fit.identity;
    Ok(Some(Chosen {
        label: identity.probe.clone(),
        factor: identity.factor,
        fraction: identity.fraction,
        layer: identity.layer,
        architecture: first.architecture.clone(),
        fits: found.iter().map(|made| made.fit.id().clone()).collect(),
        units: found.iter().map(|made| made.unit).collect(),
        features: found.iter().map(|made| made.features.clone()).collect(),
    }))
}

/// Keeps those with the extreme value.
fn keep(all: &mut Vec<Made<'_>>, of: impl Fn(&Fit) -> f64, extreme: fn(f64, f64) -> f64) {
    let best = all.iter().map(|made| of(made.fit)).reduce(extreme);
    all.retain(|made| Some(of(made.fit)) == best);
}

/// Those of that very label, else those that the study's settings were changed of.
fn called<'a>(all: &[Made<'a>], name: &str) -> Vec<Made<'a>> {
    let label = |made: &Made<'a>| made.fit.identity.probe.as_str();
    let exact: Vec<_> = all.iter().copied().filter(|made| label(made) == name).collect();
    if !exact.is_empty() {
        return exact;
    }
    // A label goes on with what differs from the study: `resnet, 5 epochs`.
    let plain = |made: &Made<'a>| label(made).split(", ").next() == Some(name);
    all.iter().copied().filter(plain).collect()
}
