//! The words and formats that coordinator, workers and command line agree on.
//!
//! Leaves out: numbers on a device (kernels), what a unit does (worker), who does what (coordinator).
//! Invariant: nothing here depends on another crate of ours.

pub mod attribution;
pub mod clock;
pub mod control;
pub mod dataset;
pub mod digest;
pub mod dna;
pub mod effect;
pub mod embedding;
pub mod error;
pub mod example;
pub mod ids;
pub mod job;
pub mod layout;
pub mod leakage;
pub mod limits;
pub mod model;
pub mod network;
pub mod plan;
pub mod readers;
mod regular_file;
pub mod representation;
pub mod rng;
pub mod score;
pub mod split_rule;
pub mod store;
pub mod survey;
pub mod trace;
pub mod trust;
pub mod unit;
pub mod variant;
pub mod wire;
