//! Opens what a command line names: gLMs, fetched first if need be, and trained networks.
//!
//! Leaves out: what is done with them. Invariant: a network that a store or a file holds says itself
//! what it reads.

use crate::model_arguments::{DeviceArguments, ModelArguments};
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::ids::FitId;
use glmeval_common::representation::Pooling;
use glmeval_common::store::Store;
use glmeval_common::store::fits::{find_scores, read_weights};
use glmeval_worker::model::Model;
use glmeval_worker::models;
use glmeval_worker::variants::{ProbeReads, VariantProbe};
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

/// Opens the gLM on a device, which is asked for first: it is there or not before anything is fetched.
///
/// # Errors
/// As [`DeviceArguments::open`] and [`models::open_on`].
pub(crate) fn model(arguments: &ModelArguments, device: &DeviceArguments) -> Result<Model> {
    let (spec, device) = (arguments.spec(), device.open()?);
    let folder = crate::planning::fetching::fetch(&spec.path)?;
    models::open_on(&folder, &spec.options(), &device)
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
        let (store, fit) = (Store::open_existing(url)?, FitId::parse(fit)?);
        let scores = find_scores(&store, &fit).await?;
        let scores = scores.ok_or_else(|| Error::not_found(format!("fit {fit} in {url}")))?;
        return decoded(read_weights(&store, &scores).await?);
    }
    let beside = || path.with_extension("safetensors");
    let weights = weights.map_or_else(beside, Path::to_path_buf);
    Ok(NamedProbe::Described(path.to_owned(), weights))
}

/// The network of states of `model`; a description says nothing of the layer it reads, so the user does.
///
/// # Errors
/// `Invalid` for a layer beside a fit, which names its own; those of opening.
pub(crate) fn of_states(
    named: NamedProbe,
    model: &Model,
    layer: Option<u32>,
) -> Result<VariantProbe> {
    match named {
        NamedProbe::Fit(_) if layer.is_some() => {
            let found = "a fit, which names its layer";
            Err(InputError::new("command line", "--embedding-layer", "a JSON file", found).into())
        }
        NamedProbe::Fit(probe) => Ok(*probe),
        NamedProbe::Described(description, weights) => {
            let facts = model.facts();
            let reads = ProbeReads::States {
                model: facts.id.clone(),
                name: "--model".to_owned(),
                layer: layer.unwrap_or(facts.layer_count),
                pooling: Pooling::Full,
            };
            VariantProbe::open_reading(&description, &weights, reads)
        }
    }
}
