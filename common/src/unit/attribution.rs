//! What one unit of attribution maps is made of.
//!
//! Leaves out: computing maps (worker). Invariant: what decides a map stands in the spec; how many logos
//! a report draws of them decides none.

use super::ModelRef;
use crate::attribution::MapKind;
use crate::ids::FitId;
use crate::representation::FullRows;
use serde::{Deserialize, Serialize};

/// A gLM whose tokens are masked, and the numeric class that this happens in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskedModel {
    /// The gLM, opened as for the embeddings of the data set.
    pub model: ModelRef,
    /// As of an embedding set.
    pub numeric_class: String,
}

/// Maps of the sequences of a data set's test split that a network puts highest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionSpec {
    /// Repeats of one network of one-hot sequences. The one with the lowest loss on the validation
    /// split ranks and is explained.
    pub explained: Vec<FitId>,
    /// Repeats of one network of all states of a layer of the gLM, chosen from likewise; empty = none.
    pub of_states: Vec<FitId>,
    /// The gLM; `None` = saliency alone.
    pub masked: Option<MaskedModel>,
    /// Sequences at most, highest output first.
    pub top: u32,
    /// Kinds of maps that are kept, sorted; those that cannot be made are left out.
    pub kinds: Vec<MapKind>,
    /// Sequences of which a report draws logos.
    pub logos: u32,
    /// What the rows stand for that each of `of_states` reads; empty in plans of before this was said.
    #[serde(default)]
    pub state_rows: Vec<FullRows>,
}
