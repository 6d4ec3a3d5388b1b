//! Windows around the peaks of a map.
//!
//! Leaves out: motifs. Invariant: windows ascend, do not touch and lie in the sequence.

use crate::importance::{MapForm, important_sites};
use glmeval_common::error::Result;

/// Stretches of `map` at most `reach` from one of its values above the 95th percentile: start and end,
/// from 0, half-open.
///
/// # Errors
/// As [`important_sites`].
pub fn peak_windows(map: &[f64], form: MapForm, reach: usize) -> Result<Vec<(usize, usize)>> {
    let mut windows: Vec<(usize, usize)> = Vec::new();
    for position in important_sites(map, form, reach)?.kept {
        match windows.last_mut() {
            Some((_, end)) if *end == position => *end += 1,
            _ => windows.push((position, position + 1)),
        }
    }
    Ok(windows)
}
