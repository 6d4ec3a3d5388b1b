//! Where motifs occur in sequences, and which occur where a map has its peaks.
//!
//! Leaves out: reading motifs and sequences (common), drawing them (logo). Invariant: what is found
//! depends on sequences, motifs and settings alone; a window with a letter other than A, C, G, T
//! holds no motif.

mod enrichment;
mod matrix;
mod peaks;
mod scan;
#[cfg(test)]
mod tests;

pub use enrichment::{Enrichment, PeakScan, enrichment};
pub use matrix::{Background, ScoreMatrix};
pub use peaks::peak_windows;
pub use scan::{Hit, Scan, ScanOptions, Scanner};
