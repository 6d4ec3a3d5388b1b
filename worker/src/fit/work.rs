//! Network fits of a unit, ready to be trained, and where their batches come from.
//!
//! Leaves out: how they are made ready and trained (networks). Invariant: fits that share batches see
//! the same examples in the same order in every epoch.

use super::measured::Chosen;
use super::reading::Examples;
use crate::attempt::UnitContext;
use crate::network::Network;
use crate::training::batches::{BatchSource, Targets};
use crate::training::residence::Residence;
use glmeval_common::error::{Error, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{ExampleOrder, Extent, Loss, NetworkSpec, TrainingSpec};
use glmeval_common::unit::{Fit, FitUnit};
use std::collections::BTreeMap;
use tokio::runtime::Handle;

/// How targets stand in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    /// One value for each prediction.
    Plain,
    /// Pairs of difference and mean.
    Pairs,
}

/// A network and all that decides how it is compiled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blueprint {
    pub(super) spec: NetworkSpec,
    pub(super) inputs: Vec<Extent>,
    pub(super) loss: Loss,
    pub(super) precision: Precision,
}

/// One fit, ready to be trained.
pub(super) struct Prepared<'a> {
    pub(super) fit: &'a Fit,
    /// Unlike that of any other fit of the unit.
    pub(super) name: String,
    pub(super) spec: &'a TrainingSpec,
    /// Index of its blueprint.
    pub(super) network: usize,
    pub(super) chosen: Chosen,
    pub(super) notes: Vec<String>,
    pub(super) layout: Layout,
    pub(super) input_values: Vec<usize>,
}

impl Prepared<'_> {
    /// Whether both see the same batches in every epoch.
    pub(super) fn shares_batches(&self, other: &Prepared<'_>) -> bool {
        let is_stored = |one: &Prepared<'_>| one.spec.order == ExampleOrder::Stored;
        is_stored(self)
            && is_stored(other)
            && self.spec.batch_rows == other.spec.batch_rows
            && (self.layout, &self.input_values) == (other.layout, &other.input_values)
            && self.chosen == other.chosen
    }
}

/// All network fits of a unit.
pub(super) struct Work<'a> {
    pub(super) context: &'a UnitContext<'a>,
    pub(super) unit: &'a FitUnit,
    /// What a device holds of the examples, if networks are trained on one.
    pub(super) residence: Option<Residence>,
    pub(super) target_names: &'a [String],
    pub(super) examples: &'a Examples,
    pub(super) runtime: Handle,
    pub(super) blueprints: Vec<Blueprint>,
    pub(super) fits: Vec<Prepared<'a>>,
    pub(super) networks: Vec<Network>,
    pub(super) targets: BTreeMap<Layout, Targets>,
}

impl<'a> Work<'a> {
    /// Where the batches of a fit come from.
    pub(super) fn batches(&self, fit: &'a Prepared<'_>) -> Result<BatchSource<'_>> {
        let targets = self.targets.get(&fit.layout);
        Ok(BatchSource {
            cache: &self.examples.cache,
            inputs: &fit.input_values,
            targets: targets.ok_or_else(|| Error::bug("a layout without targets"))?,
            batch_rows: usize::try_from(fit.spec.batch_rows).unwrap_or(usize::MAX),
        })
    }
}
