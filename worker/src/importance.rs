//! Global importance analysis: what a motif adds to a prediction, averaged over backgrounds that
//! have nothing but their composition of pairs.
//!
//! Leaves out: training the network, and maps of single sequences. Invariant: an experiment's
//! predictions depend on its backgrounds and motifs alone, never on other experiments or on batches.

mod experiment;
mod figure;
mod maps;
mod outcome;
mod shuffle;
mod sites;
#[cfg(test)]
mod tests;

pub use experiment::{Experiment, PlacedMotif, flanks, position_scan, spacings};
pub use figure::figure;
pub use maps::{MatchedMaps, read_maps};
pub use outcome::{Analysis, Comparison, Importance, Predict, compare, interaction};
pub use shuffle::{shuffled, shuffles};
pub use sites::{ImportantSites, MapForm, important_sites, kept};
