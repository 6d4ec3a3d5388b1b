//! Attribution maps of a job: the `[[attribution]]` table as written, and the checked form.
//!
//! Leaves out: the checks (check), which fits it finds (planned). Invariant: a key that is left out is
//! `None` here, so a default is never confused with a choice.

use crate::attribution::MapKind;
use crate::dataset::TaskName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One `[[attribution]]` table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributionTable {
    /// Names of data sets whose test sequences are mapped; left out = every one with such a network.
    pub datasets: Option<Vec<String>>,
    /// Tasks whose data sets are mapped; left out = all.
    pub tasks: Option<Vec<TaskName>>,
    /// Network of one-hot sequences that ranks and is explained; left out = the study's for the task, or
    /// the job's only one.
    pub probe: Option<String>,
    /// Names of gLMs; left out = those with masked tokens that embed the data set.
    pub models: Option<Vec<String>>,
    /// Network of all states of a gLM's layer; left out = as `probe`.
    pub embedding_probe: Option<String>,
    /// Sequences with the highest output that are mapped; left out = the study's 500.
    pub top: Option<u32>,
    /// `saliency`, `information`, `information_gradient`; left out = those that can be made.
    pub kinds: Option<Vec<String>>,
    /// Sequences of which the report draws logos; left out = 3.
    pub logos: Option<u32>,
}

/// A checked `[[attribution]]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct JobAttribution {
    /// Key of the table in the job file, for error messages.
    pub key: String,
    /// Indices into [`super::Job::datasets`]; `None` = those that suit.
    pub dataset_indices: Option<BTreeSet<usize>>,
    /// Name of the network that is explained; `None` = the study's, or the only one.
    pub probe: Option<String>,
    /// Names of gLMs; `None` = those that suit.
    pub models: Option<Vec<String>>,
    /// Name of the network of states; `None` = the study's, or the only one.
    pub embedding_probe: Option<String>,
    /// Sequences at most.
    pub top: u32,
    /// Kinds of maps, sorted; `None` = those that can be made.
    pub kinds: Option<Vec<MapKind>>,
    /// Sequences of which the report draws logos.
    pub logos: u32,
}

impl JobAttribution {
    /// Whether maps of `kind` are wanted, if they can be made.
    pub fn wants(&self, kind: MapKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Whether it needs a gLM.
    pub fn wants_model(&self) -> bool {
        self.wants(MapKind::Information) || self.wants(MapKind::InformationGradient)
    }
}
