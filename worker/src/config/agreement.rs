//! Whether weights have the sizes that a config says.
//!
//! Leaves out: which tensors there must be. Invariant: an error names the config's key and both numbers.

use super::Config;
use crate::weights::Weights;
use glmeval_common::error::Result;

/// A size of a config, and where the weights show it.
pub(super) struct Size<'a> {
    pub(super) key: &'a str,
    pub(super) value: usize,
    pub(super) tensor: &'a str,
    /// Which extent of `tensor` it is.
    pub(super) axis: usize,
    /// How many times the extent holds it.
    pub(super) factor: usize,
}

/// Compares sizes with tensors that are there; others are not looked at.
///
/// # Errors
/// `Invalid` with the key and both numbers of the first size that differs.
pub(super) fn check_sizes(config: &Config, weights: &Weights, sizes: &[Size<'_>]) -> Result<()> {
    for size in sizes {
        let shape = weights.shape(size.tensor).unwrap_or_default();
        let Some(&stored) = shape.get(size.axis) else { continue };
        if stored != size.value.saturating_mul(size.factor) {
            let (name, file) = (size.tensor, weights.path().display());
            let value = stored / size.factor.max(1);
            let expected = format!("{value}, as {name} in {file} has shape {shape:?}");
            return Err(config.error(size.key, expected, size.value));
        }
    }
    Ok(())
}

/// Compares the number of layers with the numbers behind `prefix` in the tensors' names.
///
/// # Errors
/// `Invalid` with `key` and both numbers if they differ.
pub(super) fn check_layers(
    config: &Config,
    weights: &Weights,
    (key, layers): (&str, usize),
    prefix: &str,
) -> Result<()> {
    let number = |name: &str| {
        let rest = name.strip_prefix(prefix)?;
        rest.split('.').next()?.parse::<usize>().ok()?.checked_add(1)
    };
    match weights.names().filter_map(number).max() {
        Some(stored) if stored != layers => {
            let expected = format!("{stored}, the layers in {}", weights.path().display());
            Err(config.error(key, expected, layers))
        }
        _ => Ok(()),
    }
}
