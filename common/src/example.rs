//! Examples: sequences with their measured values.
//!
//! Leaves out: where they come from (readers) and where they rest (store).

use crate::dna::{DnaSequence, Interval};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Part of a data set that a probe is fitted on, tuned on or scored on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Fitted on.
    Train,
    /// Watched while fitting.
    Valid,
    /// Scored on, once.
    Test,
}

impl Split {
    /// All splits in the order a file lists them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// `train`, `valid` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }

    /// The split of that name (`validation`, `val` and `dev` mean valid; case is ignored).
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "valid" | "validation" | "val" | "dev" => Some(Self::Valid),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One sequence (or one per side) with its measured values.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Verbatim from the source; made from split and row where the source has none.
    pub id: String,
    /// One per name in [`ExampleSchema::sequences`].
    pub sequences: Vec<DnaSequence>,
    /// Where the (first) sequence was cut from, where known.
    pub interval: Option<Interval>,
    /// `None` in data sets that are only embedded.
    pub split: Option<Split>,
    /// One per name in [`ExampleSchema::targets`]; NaN = not measured.
    pub targets: Vec<f32>,
}

/// What every example of a data set has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleSchema {
    /// Names of the sequences: `["sequence"]`, or `["left", "right"]` for splicing.
    pub sequences: Vec<String>,
    /// Names of the targets; empty for data sets that are only embedded.
    pub targets: Vec<String>,
    /// Whether examples carry an interval.
    pub has_intervals: bool,
    /// Whether examples carry a split.
    pub has_splits: bool,
}

impl ExampleSchema {
    /// One sequence, no target, no interval, no split.
    pub fn sequences_only() -> Self {
        Self {
            sequences: vec!["sequence".to_owned()],
            targets: Vec::new(),
            has_intervals: false,
            has_splits: false,
        }
    }
}
