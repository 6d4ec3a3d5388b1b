//! Which gLMs there are, and which one a folder or a published file holds.
//!
//! A model is one file below `models/` and two lines here. Leaves out: what a model is ([`crate::model`]).

use crate::device::Device;
use crate::hub::{Hub, HubModel};
use crate::model::{
    Architecture, Blueprint, Checkpoint, MaskedPadding, Model, ModelOptions, RandomTensors,
    TensorShape, TensorSource, write_safetensors,
};
use crate::tokenizer::Tokenizer;
use crate::tokenizers::Padded;
use crate::weights::{ExpectedTensor, Weights};
use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{InputError, Result};
use glmeval_common::ids::ModelId;
use glmeval_common::model::{ModelFacts, Padding};
use std::path::Path;

mod dnabert;
mod gpn;
mod hyenadna;
#[cfg(test)]
mod letters;
mod nucleotide_transformer;
mod rbp_cnn;
mod sei;

/// Every architecture, in the order they are asked whether a checkpoint is theirs.
pub static ALL: &[&dyn Architecture] = &[
    &nucleotide_transformer::FIRST,
    &nucleotide_transformer::SECOND,
    &hyenadna::MODEL,
    &gpn::MODEL,
    &dnabert::FIRST,
    &dnabert::SECOND,
    &sei::MODEL,
    &rbp_cnn::MODEL,
    #[cfg(test)]
    &letters::MODEL,
];

/// Opens the gLM at `path` as its published code runs it.
///
/// # Errors
/// As [`recognise`]; the first defect of config, weights or vocabulary, with file and place.
pub fn open(path: &Path) -> Result<Model> {
    open_with(path, &ModelOptions::default())
}

/// Opens the gLM at `path` with other choices than the published ones.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, options: &ModelOptions) -> Result<Model> {
    open_on(path, options, &Device::Cpu)
}

/// Opens the gLM at `path` on a device.
///
/// # Errors
/// As [`open`]; `Invalid` that names a precision the device lacks, or a gLM without a form for it; `Unavailable` if the
/// device has no room or fails.
pub fn open_on(path: &Path, options: &ModelOptions, device: &Device) -> Result<Model> {
    if let Some(seed) = options.random {
        return open_random_on(path, options, seed.into(), device);
    }
    let kind = Kind::find(path, options)?;
    let mut weights = kind.weights()?;
    kind.open(&mut weights, device)
}

/// Opens the config and vocabulary at `path` with random weights of `seed`; weight files are not
/// read if there is a config.
///
/// # Errors
/// As [`open`].
pub fn open_random(path: &Path, options: &ModelOptions, seed: u64) -> Result<Model> {
    open_random_on(path, options, seed, &Device::Cpu)
}

/// As [`open_random`], on a device.
///
/// # Errors
/// As [`open_on`].
pub fn open_random_on(
    path: &Path,
    options: &ModelOptions,
    seed: u64,
    device: &Device,
) -> Result<Model> {
    let kind = Kind::find(path, options)?;
    kind.open(&mut kind.random(seed), device)
}

/// Reads everything but the numbers of the gLM at `path`.
///
/// # Errors
/// As [`open`].
pub fn describe(path: &Path, options: &ModelOptions) -> Result<ModelFacts> {
    Kind::find(path, options)?.describe()
}

/// As [`describe`], for a gLM that is to run on devices of `kind`, as [`Device::kind`] names it.
///
/// # Errors
/// As [`describe`]; `Invalid` that names the gLM if it has no form for such devices, or its precision if they have not.
pub fn describe_on(path: &Path, options: &ModelOptions, kind: &str) -> Result<ModelFacts> {
    let found = Kind::find(path, options)?;
    if kind == Device::Cpu.kind() {
        Device::Cpu.check_precision(options.precision)?;
    } else if !found.blueprint.has_cuda_form() {
        let expected = format!("a gLM that runs on {kind}; this kind runs on CPUs only");
        let name = found.architecture.name();
        return Err(InputError::new(path.display(), "", expected, name).into());
    }
    found.describe()
}

/// The tokenizer of the gLM at `path`, without its weights.
///
/// # Errors
/// As [`recognise`]; defects of the vocabulary.
pub fn tokenizer(path: &Path, options: &ModelOptions) -> Result<Box<dyn Tokenizer>> {
    Kind::find(path, options)?.tokenizer()
}

/// Writes `model.safetensors` with random weights of `seed` beside the `config.json` of `folder`.
///
/// Returns the tensors written.
///
/// # Errors
/// As [`recognise`]; I/O errors with the path.
pub fn write_random(folder: &Path, seed: u64) -> Result<Vec<TensorShape>> {
    let kind = Kind::find(folder, &ModelOptions::default())?;
    let tensors = kind.blueprint.initial_tensors();
    write_safetensors(&folder.join("model.safetensors"), &tensors, &mut kind.random(seed))?;
    Ok(tensors)
}

/// How the tensors at `path` compare with those its config lets expect, and the weights.
///
/// # Errors
/// As [`recognise`]; the first defect of the config; weights that cannot be opened.
pub fn inspect(path: &Path) -> Result<(Weights, Vec<ExpectedTensor>)> {
    let kind = Kind::find(path, &ModelOptions::default())?;
    let weights = kind.checkpoint.weights(kind.architecture)?;
    let expected = kind.blueprint.expected_in(&weights);
    Ok((weights, expected))
}

/// The architecture of the gLM at `path`.
///
/// # Errors
/// A checkpoint that cannot be read or is of no known kind.
pub fn recognise(path: &Path) -> Result<&'static dyn Architecture> {
    recognise_checkpoint(&find(path)?)
}

/// The checkpoint at `path`, fetched first if it is `hf://…`.
fn find(path: &Path) -> Result<Checkpoint> {
    match path.to_str().filter(|text| HubModel::is_named_by(text)) {
        None => Checkpoint::find(path),
        Some(text) => {
            let progress = &mut |progress| tracing::debug!("{progress:?}");
            let folder = Hub::from_environment()?.fetch(&HubModel::parse(text)?, progress)?;
            Checkpoint::find(&folder)
        }
    }
}

fn recognise_checkpoint(checkpoint: &Checkpoint) -> Result<&'static dyn Architecture> {
    if let Some(architecture) = ALL.iter().find(|a| a.recognises(checkpoint)) {
        return Ok(*architecture);
    }
    let known: Vec<&str> = ALL.iter().map(|a| a.looks_like()).collect();
    let expected = format!("a known gLM: {}", known.join(" or "));
    let Some(config) = checkpoint.config() else {
        let found = "no config.json, and tensors of no known gLM";
        return Err(InputError::new(checkpoint.path().display(), "", expected, found).into());
    };
    let (place, found) = match config.get("model_type") {
        None => ("model_type", "missing".to_owned()),
        Some(kind) => ("model_type", kind.to_string()),
    };
    Err(InputError::new(checkpoint.config_path().display(), place, expected, found).into())
}

/// A checkpoint whose architecture was found and whose config was read.
struct Kind {
    architecture: &'static dyn Architecture,
    checkpoint: Checkpoint,
    blueprint: Box<dyn Blueprint>,
    options: ModelOptions,
}

impl Kind {
    fn find(path: &Path, options: &ModelOptions) -> Result<Self> {
        let checkpoint = find(path)?;
        let architecture = recognise_checkpoint(&checkpoint)?;
        let blueprint = architecture.read(&checkpoint, options)?;
        Ok(Self { architecture, checkpoint, blueprint, options: *options })
    }

    /// The weights, checked against the config.
    fn weights(&self) -> Result<Weights> {
        let weights = self.checkpoint.weights(self.architecture)?;
        self.blueprint.check_weights(&weights)?;
        Ok(weights)
    }

    /// Facts about the weights that are there, or those that are drawn.
    fn describe(&self) -> Result<ModelFacts> {
        match self.options.random {
            Some(seed) => self.facts(&self.random(seed.into()), self.tokenizer()?.as_ref()),
            None => {
                // A config that the tensors contradict is at fault, not the vocabulary.
                let weights = self.weights()?;
                self.facts(&weights, self.tokenizer()?.as_ref())
            }
        }
    }

    fn random(&self, seed: u64) -> RandomTensors<'_> {
        RandomTensors::new(seed, self.blueprint.as_ref())
    }

    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        let tokenizer = self.blueprint.tokenizer(self.checkpoint.folder())?;
        match self.options.pad_to {
            None => Ok(tokenizer),
            Some(length) => {
                Ok(Box::new(Padded::new(tokenizer, length)?.masked(self.masks_padding())))
            }
        }
    }

    fn masks_padding(&self) -> bool {
        self.options.padding == Padding::Masked && self.blueprint.masks_padding()
    }

    fn facts(&self, tensors: &dyn TensorSource, tokenizer: &dyn Tokenizer) -> Result<ModelFacts> {
        let shape = self.blueprint.shape();
        Ok(ModelFacts {
            id: self.id(tensors, tokenizer)?,
            architecture: self.architecture.name().to_owned(),
            parameters: self.parameters(tensors),
            layer_count: shape.layer_count,
            width: shape.width,
            tokens_max: shape.tokens_max,
            token_rule: tokenizer.rule(),
            states_fixed: shape.states_fixed,
            flops_per_token: shape.flops_per_token,
            flops_per_token_pair: shape.flops_per_token_pair,
            memory: shape.memory,
        })
    }

    /// Digest of all that decides a state or a logit.
    fn id(&self, tensors: &dyn TensorSource, tokenizer: &dyn Tokenizer) -> Result<ModelId> {
        let digest = ContentDigest::new("model/1").field("architecture", self.architecture.name());
        let identity = self.blueprint.identity().into_iter();
        let digest = identity.fold(digest, |d, (name, value)| d.field(name, value.to_le_bytes()));
        let digest = digest.field("tensors", tensors.digest()?);
        Ok(ModelId::new(digest.field("tokenizer", tokenizer.digest()).finish()))
    }

    /// Weights that are there.
    fn parameters(&self, tensors: &dyn TensorSource) -> u64 {
        let expected = self.blueprint.expected_tensors();
        let held = expected.iter().filter(|t| t.is_parameter && tensors.contains(&t.name));
        held.fold(0, |sum: u64, tensor| sum.saturating_add(tensor.count()))
    }

    fn open(&self, tensors: &mut dyn TensorSource, device: &Device) -> Result<Model> {
        device.check_precision(self.options.precision)?;
        let tokenizer = self.tokenizer()?;
        let facts = self.facts(tensors, tokenizer.as_ref())?;
        let network = match device {
            Device::Cpu => self.blueprint.load(tensors)?,
            Device::Cuda(gpu) => self
                .blueprint
                .load_on(gpu, tensors)
                .map_err(|error| error.context(self.architecture.name()))?,
        };
        let network = match tokenizer.pad_id().filter(|_| self.masks_padding()) {
            Some(pad_id) => Box::new(MaskedPadding::new(network, pad_id)),
            None => network,
        };
        let tokens_max = device.tokens_per_batch_max(&facts.memory);
        Ok(Model::new(facts, tokenizer, network).with_tokens_per_batch(tokens_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        recognise(folder.path()).err().expect("refused").chain()
    }

    #[test]
    fn an_unknown_config_is_refused_with_its_place() {
        assert!(refusal("{}").contains("model_type: expected a known gLM: model_type \"esm\""));
        assert!(refusal("{}").ends_with("found missing"));
        assert!(refusal(r#"{"model_type":"esm-9000"}"#).ends_with("found \"esm-9000\""));
        assert!(refusal("[1]").ends_with("expected a JSON object, found a list (array)"));
        assert!(refusal("{\"a\":").contains("line 1 column 5: expected JSON, found end of text"));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = recognise(Path::new("/no/such/folder")).err().expect("refused");
        assert!(error.chain().contains("/no/such/folder/config.json"));
    }
}
