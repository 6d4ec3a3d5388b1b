//! Which networks there are by name, and how a user's own stands beside them.
//!
//! Leaves out: training. Invariant: the same architecture and number of targets give the same layers.

use super::NetworkSpec;
use serde::{Deserialize, Serialize};

/// The layers of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Layers as written in the job file.
    Layers(NetworkSpec),
}

impl Architecture {
    /// `network`, `rep-cnn`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::Layers(_) => "network",
        }
    }

    /// The layers for `targets` values per example.
    pub fn network(&self, _targets: usize) -> NetworkSpec {
        match self {
            Self::Layers(network) => network.clone(),
        }
    }
}
