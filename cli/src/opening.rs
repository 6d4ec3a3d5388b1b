//! Opens what a command line names: gLMs, fetched first if need be, and trained networks.
//!
//! Leaves out: what is done with them. Invariant: a network that a store or a file holds says itself
//! what it reads.

use glmeval_common::error::{Error, Result, io_error};
use glmeval_common::ids::FitId;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{find_scores, read_weights};
use glmeval_worker::variants::VariantProbe;
use std::path::{Path, PathBuf};

/// A trained network as it was named.
pub(crate) enum NamedProbe {
    /// What a fit left: ready.
    Fit(Box<VariantProbe>),
    /// A JSON file of layers, and its weights.
    Described(PathBuf, PathBuf),
}

impl NamedProbe {
    /// The network; a description is one of one-hot sequences.
    ///
    /// # Errors
    /// As [`VariantProbe::open`].
    pub(crate) fn of_letters(self) -> Result<VariantProbe> {
        match self {
            Self::Fit(probe) => Ok(*probe),
            Self::Described(description, weights) => VariantProbe::open(&description, &weights),
        }
    }
}

/// Opens the network at `path`: a fit of a store (`STORE/probes/FIT`), the safetensors file it left, or
/// a description, whose weights are in `weights` or in the `.safetensors` beside it.
///
/// # Errors
/// As [`VariantProbe::decode`]; `NotFound` for a fit that is not there.
pub(crate) async fn probe(path: &Path, weights: Option<&Path>) -> Result<NamedProbe> {
    let place = path.display().to_string();
    let decoded = |bytes| Ok(NamedProbe::Fit(Box::new(VariantProbe::decode(&bytes, &place)?)));
    if path.extension().is_some_and(|ending| ending == "safetensors") {
        return decoded(std::fs::read(path).map_err(|e| io_error(path, e))?.into());
    }
    let stored = place.rsplit_once("/probes/").filter(|(_, fit)| !fit.contains(['/', '.']));
    if let Some((url, fit)) = stored {
        let (store, fit) = (Store::open(url)?, FitId::parse(fit)?);
        let scores = find_scores(&store, &fit).await?;
        let scores = scores.ok_or_else(|| Error::not_found(format!("fit {fit} in {url}")))?;
        return decoded(read_weights(&store, &scores).await?);
    }
    let beside = || path.with_extension("safetensors");
    let weights = weights.map_or_else(beside, Path::to_path_buf);
    Ok(NamedProbe::Described(path.to_owned(), weights))
}
