//! Kinds of gLMs: how one is recognised, described and opened from what was published.
//!
//! Leaves out: which kinds there are ([`crate::models`]). Invariant: a blueprint is a checked config;
//! tensors are only asked for after their names and shapes were checked against it.

use super::{Network, TensorShape, TensorSource};
use crate::tokenizer::Tokenizer;
use crate::weights::{ExpectedTensor, Weights};
use crate::{json, weights};
use glmeval_common::error::{Error, InputError, Result, io_error};
use glmeval_common::model::{MemoryFacts, ModelOptions};
use glmeval_kernels::cuda::Gpu;
use serde_json::Value;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What was found where a gLM is said to lie.
pub struct Checkpoint {
    folder: PathBuf,
    /// The path as given: a folder, or one published file.
    path: PathBuf,
    config: Option<Value>,
    /// Names of tensors, read where there is no config to tell the kind.
    names: Vec<String>,
}

impl Checkpoint {
    /// Looks at `path`, a folder or one published file; reads its `config.json` if there is one.
    ///
    /// # Errors
    /// `NotFound` if neither config nor weights are there; a config that is no strict JSON object.
    pub fn find(path: &Path) -> Result<Self> {
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = if is_file { parent.unwrap_or(Path::new(".")) } else { path }.to_owned();
        let config_path = folder.join("config.json");
        let config = match json::read(&config_path) {
            Ok(Value::Object(config)) => Some(Value::Object(config)),
            Ok(other) => {
                let found = json::describe(&other);
                return Err(
                    InputError::new(config_path.display(), "", "a JSON object", found).into()
                );
            }
            Err(error) if config_path.exists() => return Err(error),
            Err(_) => None,
        };
        let mut checkpoint = Self { folder, path: path.to_owned(), config, names: Vec::new() };
        if checkpoint.config.is_none() {
            let Ok(weights) = weights::locate(path) else {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(io_error(&config_path, missing));
            };
            checkpoint.names = Weights::open(&weights)?.names().map(str::to_owned).collect();
        }
        Ok(checkpoint)
    }

    /// The folder that holds config and vocabulary.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where `config.json` is or would be.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The config; `None` if there is no `config.json`.
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// The text under `key` of the config.
    pub fn config_text(&self, key: &str) -> Option<&str> {
        self.config.as_ref()?.get(key)?.as_str()
    }

    /// Whether the config has `key`.
    pub fn config_has(&self, key: &str) -> bool {
        self.config.as_ref().is_some_and(|config| config.get(key).is_some())
    }

    /// Whether some tensor's name ends with `end`; only where there is no config.
    pub fn any_name_ends(&self, end: &str) -> bool {
        self.names.iter().any(|name| name.ends_with(end))
    }

    /// Opens the weights, names of tensors as `architecture` calls them.
    ///
    /// # Errors
    /// As [`Weights::open`]; two tensors that get one name.
    pub fn weights(&self, architecture: &dyn Architecture) -> Result<Weights> {
        Weights::open(&self.path)?.renamed(|name| architecture.canonical_name(name))
    }
}

/// Sizes and costs that follow from a config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelShape {
    /// Layers that can be asked for, beside 0.
    pub layer_count: u32,
    /// Width of a state.
    pub width: u32,
    /// Most tokens of one sequence, special tokens included.
    pub tokens_max: u64,
    /// States of any sequence; `None` = one for each of its tokens.
    pub states_fixed: Option<u32>,
    /// FLOPs per token that do not depend on length, all blocks.
    pub flops_per_token: f64,
    /// FLOPs per pair of tokens, all blocks.
    pub flops_per_token_pair: f64,
    /// Bytes held while it runs.
    pub memory: MemoryFacts,
}

/// A kind of gLM: recognised by its config, or by its tensors where none was published.
pub trait Architecture: Sync {
    /// `nucleotide-transformer-v1`, …
    fn name(&self) -> &'static str;

    /// One line on what its config looks like, for errors.
    fn looks_like(&self) -> &'static str;

    /// Whether a checkpoint is of this kind; its values are not checked here.
    fn recognises(&self, checkpoint: &Checkpoint) -> bool;

    /// The name this program uses for a tensor that some publication calls `stored`.
    fn canonical_name<'a>(&self, stored: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(stored)
    }

    /// Reads and checks the config.
    ///
    /// # Errors
    /// The first defect, with file, key, expected and found.
    fn read(&self, checkpoint: &Checkpoint, options: &ModelOptions) -> Result<Box<dyn Blueprint>>;
}

/// A checked config: all of a gLM but its tensors and its vocabulary.
pub trait Blueprint: Send + Sync {
    /// Sizes and costs.
    fn shape(&self) -> ModelShape;

    /// Names and values of everything in the config that decides a state or a logit; with tensors
    /// and tokenizer it makes the gLM's id.
    fn identity(&self) -> Vec<(&'static str, u64)>;

    /// Every tensor a checkpoint of this config may hold, and which it must.
    fn expected_tensors(&self) -> Vec<ExpectedTensor>;

    /// The same for given weights, of which some parts may be left out as a whole.
    fn expected_in(&self, _weights: &Weights) -> Vec<ExpectedTensor> {
        self.expected_tensors()
    }

    /// Tensors of a freshly initialised gLM.
    fn initial_tensors(&self) -> Vec<TensorShape> {
        let expected = self.expected_tensors().into_iter();
        expected
            .filter(|tensor| tensor.required)
            .map(|tensor| TensorShape { name: tensor.name, shape: tensor.shape })
            .collect()
    }

    /// Values a tensor starts with that are neither drawn nor constant, such as positional features.
    fn initial_values(&self, _name: &str) -> Option<Vec<f32>> {
        None
    }

    /// Checks names and shapes of stored tensors.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape; a size of the config that the
    /// tensors contradict.
    fn check_weights(&self, weights: &Weights) -> Result<()> {
        weights.check(&self.expected_tensors())
    }

    /// Reads the vocabulary in `folder`.
    ///
    /// # Errors
    /// The first defect, with file and place.
    fn tokenizer(&self, folder: &Path) -> Result<Box<dyn Tokenizer>>;

    /// Takes the tensors.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`].
    fn load(&self, tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>>;

    /// Whether the published code hides padding if it is given a mask.
    fn masks_padding(&self) -> bool {
        false
    }

    /// Whether [`Blueprint::load_on`] takes them, so that a job can be refused before any of it runs.
    fn has_cuda_form(&self) -> bool {
        false
    }

    /// Takes the tensors to a CUDA device.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`]; `Invalid` if this kind of gLM runs on CPUs only; `Unavailable` if the device has
    /// no room.
    fn load_on(&self, gpu: &Gpu, _tensors: &mut dyn TensorSource) -> Result<Box<dyn Network>> {
        let device = &gpu.properties().name;
        Err(Error::invalid(format!("this kind of gLM does not run on {device}: choose the CPU")))
    }
}
