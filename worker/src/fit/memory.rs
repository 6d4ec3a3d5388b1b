//! Whether the machine has the memory that a network takes at least while it is trained.
//!
//! Leaves out: examples, which lie in a file where they are too many (training::cache). Invariant: what is
//! refused could not have been trained in the memory that is left.

use glmeval_common::error::{Error, Result};
use glmeval_common::network::{Activation, LayerKind, ResolvedLayer, ResolvedNetwork};

/// Refuses a network that takes more than the `left` bytes; batches have `rows` examples, which are not here if
/// it is trained on a device.
///
/// # Errors
/// `Invalid` with both numbers.
pub(super) fn check_memory(
    network: &ResolvedNetwork,
    (rows, is_on_device): (usize, bool),
    left: Option<u64>,
) -> Result<()> {
    let least = least_bytes(network, rows, is_on_device);
    match left {
        Some(left) if least > left => Err(Error::invalid(format!(
            "network: expected to train in the {left} bytes of memory that are left, found {least} bytes at least"
        ))),
        _ => Ok(()),
    }
}

/// Bytes of the weights and their two moments and, on the CPU, of their gradient and the largest output of a
/// layer for a batch.
fn least_bytes(network: &ResolvedNetwork, rows: usize, is_on_device: bool) -> u64 {
    let moments = network.trained_parameters().saturating_mul(2);
    let state = network.parameters().saturating_add(moments);
    let values = if is_on_device {
        state
    } else {
        let formed = network.layers.iter().enumerate().filter(|(i, _)| is_formed(network, *i));
        let largest = formed.map(|(_, layer)| layer.output.values() as u64).max().unwrap_or(0);
        let of_batch = largest.saturating_mul(rows as u64);
        state.saturating_add(network.trained_parameters()).saturating_add(of_batch)
    };
    values.saturating_mul(size_of::<f32>() as u64)
}

/// Whether the output of a layer is certainly held: one of two products in a row may be computed as one.
fn is_formed(network: &ResolvedNetwork, index: usize) -> bool {
    let Some(layer) = network.layers.get(index) else { return false };
    let (LayerKind::Conv1d { activation, .. } | LayerKind::Dense { activation, .. }) =
        layer.spec.kind
    else {
        return false;
    };
    let place = network.inputs.len() + index;
    let reads_all = |layer: &ResolvedLayer| {
        layer.inputs.contains(&place)
            && matches!(
                layer.spec.kind,
                LayerKind::MaxPool { .. }
                    | LayerKind::AveragePool { .. }
                    | LayerKind::GlobalAveragePool
                    | LayerKind::BatchNorm { .. }
            )
    };
    activation != Activation::Linear || network.layers.iter().any(reads_all)
}
