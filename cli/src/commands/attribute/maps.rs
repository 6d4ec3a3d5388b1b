//! From networks and a gLM as a command line names them to what makes maps.
//!
//! Leaves out: maps (worker). Invariant: a network that cannot give its map is refused before a sequence
//! is read.

use crate::opening::{self, NamedProbe};
use glmeval_common::error::{InputError, Result};
use glmeval_worker::attribution::{EmbeddingGradients, Entropies, Mapper};
use glmeval_worker::model::Model;
use glmeval_worker::variants::{ProbeReads, published};

/// Checks that each part can give its map.
pub(super) fn mapper(
    model: Option<&Model>,
    probe: Option<NamedProbe>,
    (embedding_probe, layer): (Option<NamedProbe>, Option<u32>),
) -> Result<Mapper<'_>> {
    let probe = probe.map(NamedProbe::of_letters).transpose()?;
    if let Some(ProbeReads::States { name, layer, .. }) = probe.as_ref().map(|p| p.reads()) {
        let expected = "a network of one-hot sequences";
        let found = format!("one of layer {layer} of {name}, which --embedding-probe takes");
        return Err(InputError::new("command line", "--probe", expected, found).into());
    }
    let entropies = model.map(Entropies::new).transpose()?;
    let gradients = match (model, embedding_probe) {
        (Some(model), Some(named)) => {
            let pads = !published(&model.facts().architecture).padded.is_empty();
            let probe = opening::of_states(named, model, layer)?;
            Some(EmbeddingGradients::new(model, probe, pads)?)
        }
        _ => None,
    };
    Mapper::new(probe, entropies, gradients)
}
