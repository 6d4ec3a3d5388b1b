//! One trained model of the fixtures: its description, its tensors, its batches.
//!
//! Leaves out: comparisons. Invariant: fixtures are found by folder, never by name.

use crate::keras::{self, list, text};
use glmeval_common::model::Precision;
use glmeval_common::network::{Draws, WeightShape};
use glmeval_tests::golden::{self, Tensor};
use glmeval_worker::network::{Network, NetworkState};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A model with its tensors.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) description: Value,
    pub(crate) network: Network,
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Opens a description and the tensors beside it.
    pub(crate) fn open(path: &Path) -> Self {
        let description = golden::json(path);
        let tensors = golden::tensors(&path.with_extension("safetensors"));
        let resolved = keras::resolved(&description);
        let network = Network::new(resolved, keras::loss(&description), Precision::F32).unwrap();
        Self { name: text(&description["name"]), description, network, tensors }
    }

    /// Every model of a folder that has tensors.
    pub(crate) fn all(folder: &str) -> Vec<Self> {
        let mut files = golden::descriptions(&format!("probes/{folder}"));
        files.retain(|file| file.with_extension("safetensors").exists());
        files.iter().map(|file| Self::open(file)).collect()
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(key)
    }

    pub(crate) fn tensor(&self, key: &str) -> &Tensor {
        self.find(key).unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
    }

    /// The values of every input under `prefix`, in order.
    pub(crate) fn inputs(&self, prefix: &str) -> Vec<Vec<f32>> {
        let key = |input: &Value| format!("{prefix}/x/{}", text(&input["name"]));
        let inputs = list(&self.description["inputs"]).iter();
        inputs.map(|input| self.tensor(&key(input)).f32()).collect()
    }

    /// Names of the inputs, in order.
    pub(crate) fn input_names(&self) -> Vec<String> {
        list(&self.description["inputs"]).iter().map(|input| text(&input["name"])).collect()
    }

    /// A state with the weights under `prefix`.
    pub(crate) fn state(&self, prefix: &str) -> NetworkState {
        let mut state = NetworkState::draw(&self.network, Draws::Independent, 1);
        let value = |shape: &WeightShape| self.tensor(&format!("{prefix}/{}", shape.name)).f32();
        let weights = self.network.resolved().weights.iter().map(value).collect();
        state.set_weights(weights).unwrap();
        state
    }

    /// Whether a weight's gradient is rounding noise.
    pub(crate) fn is_absorbed(&self, weight: &str) -> bool {
        list(&self.description["bn_absorbed_biases"]).iter().any(|name| name == weight)
    }
}

/// Slices of several tensors.
pub(crate) fn slices(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
    tensors.iter().map(Vec::as_slice).collect()
}

/// Largest absolute value.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// Complaints of a test; a test ends with all of them.
#[derive(Default)]
pub(crate) struct Complaints {
    lines: Vec<String>,
    checks: usize,
}

impl Complaints {
    /// Largest difference of two tensors against a bound.
    pub(crate) fn compare(&mut self, name: &str, found: &[f32], expected: &[f64], bound: f64) {
        let (difference, index) = golden::max_difference(found, expected);
        self.bound(&format!("{name}[{index}]"), difference, bound);
    }

    /// A number against a bound; NaN is above all.
    pub(crate) fn bound(&mut self, name: &str, found: f64, bound: f64) {
        self.checks += 1;
        if found.is_nan() || found > bound {
            self.lines.push(format!("{name}: expected at most {bound:.3e}, found {found:.3e}"));
        }
    }

    /// Fails with every complaint, or if nothing was checked.
    pub(crate) fn end(self) {
        assert!(self.lines.is_empty(), "{}", self.lines.join("\n"));
        assert!(self.checks > 0 || golden::is_elsewhere(), "nothing was checked");
    }
}
