//! Numbers on a device: operations on arrays, CPU forms first.
//!
//! Leaves out: DNA, files, jobs, network. Invariant: a row's result never depends on other rows,
//! on how many there are, on the number of threads or on the CPU model.

pub mod error;
pub mod ops;
