//! One analysis: its sequences, its model, its networks, and what it expects.
//!
//! Leaves out: computing anything. Invariant: nothing is known of a fixture but what its JSON says.

use glmeval_common::dna::DnaSequence;
use glmeval_common::representation::Pooling;
use glmeval_tests::golden::{self, Tensor, number};
use glmeval_worker::model::Model;
use glmeval_worker::network::NetworkDescription;
use glmeval_worker::variants::{ProbeReads, VariantProbe};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One analysis.
pub(super) struct Case {
    path: PathBuf,
    pub(super) name: String,
    pub(super) description: Value,
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) sequences: Vec<DnaSequence>,
}

/// All values in order.
pub(super) fn flat(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.iter().flatten().copied().collect()
}

impl Case {
    /// Reads an analysis.
    pub(super) fn open(path: &Path) -> Self {
        let description = golden::json(path);
        let tensors = path.with_file_name(description["arrays"].as_str().unwrap());
        let tensors = golden::tensors(&tensors);
        let name = description["case"].as_str().unwrap().to_owned();
        let letters = description["sequences"].as_array().unwrap().iter();
        let sequences =
            letters.map(|letters| DnaSequence::new(letters.as_str().unwrap()).unwrap()).collect();
        Self { path: path.to_owned(), name, description, tensors, sequences }
    }

    /// The gLM that it names.
    pub(super) fn model(&self) -> Model {
        golden::model(self.description["model"].as_str().unwrap())
    }

    /// The network of one-hot sequences.
    pub(super) fn one_hot_probe(&self) -> VariantProbe {
        self.probe("onehot_probe", ProbeReads::OneHot)
    }

    /// The network of all states of `model`'s last layer.
    pub(super) fn embedding_probe(&self, model: &Model) -> VariantProbe {
        let facts = model.facts();
        let (id, layer) = (facts.id.clone(), facts.layer_count);
        let (name, pooling) = (self.name.clone(), Pooling::Full);
        self.probe("embedding_probe", ProbeReads::States { model: id, name, layer, pooling })
    }

    fn probe(&self, key: &str, reads: ProbeReads) -> VariantProbe {
        let file = self.path.display().to_string();
        let described = NetworkDescription::parse(&file, &self.description[key]);
        let described = described.unwrap_or_else(|e| panic!("{}", e.chain()));
        let start = format!("{key}/");
        let weights = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(&start)?.to_owned(), tensor.f32()))
        });
        let [input] = described.inputs[..] else { panic!("{}: inputs", self.name) };
        let probe = VariantProbe::new(&described.network, input, reads, &weights.collect());
        probe.unwrap_or_else(|e| panic!("{}: {}", self.name, e.chain()))
    }

    /// The tolerance of a result.
    pub(super) fn tolerance(&self, name: &str) -> f64 {
        number(&self.description["tolerances"][name]["abs"]).unwrap()
    }

    /// Compares a result with the tensor of that name.
    pub(super) fn compare(&self, name: &str, found: &[f64]) {
        self.compare_within(name, self.tolerance(name), found);
    }

    /// As [`Case::compare`], within `tolerance`.
    pub(super) fn compare_within(&self, name: &str, tolerance: f64, found: &[f64]) {
        let expected = &self.tensors[name].values;
        assert_eq!(found.len(), expected.len(), "{} {name}", self.name);
        let mut worst: f64 = 0.0;
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            let place = format!("{} {name} at {place}", self.name);
            assert!(difference <= tolerance, "{place}: {found} for {expected}, {difference:e}");
            worst = worst.max(difference);
        }
        let share = worst / tolerance;
        golden::note(&format!("{} {name}: {worst:.2e}, {share:.3} of the tolerance", self.name));
    }
}
