//! Effects of variants as a trained network predicts them, from one-hot windows or a gLM's states.
//!
//! Leaves out: training it, and running the gLM (`probe_states`). Invariant: the prediction is the
//! network's last value before a sigmoid, so that an effect is a difference of logits; a letter other
//! than A, C, G, T is a row of zeros.

use super::Window;
use crate::json;
use crate::model::{LayerRequest, Model};
use crate::network::{Network, NetworkDescription, NetworkState, Pass};
use crate::training::arrays::ArrayFile;
use crate::weights::Weights;
use bytes::Bytes;
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::ids::ModelId;
use glmeval_common::model::Precision;
use glmeval_common::network::{Activation, Draws, Extent, LayerKind, Loss, NetworkSpec};
use glmeval_common::representation::Pooling;
use glmeval_common::score::FitIdentity;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;

/// Names of what [`VariantProbe::effects`] gives: f(alt) - f(ref), then both terms.
pub const PROBE_COLUMNS: [&str; 3] = ["probe", "f_ref", "f_alt"];
/// Sequences in one pass.
const SEQUENCES_PER_PASS: usize = 64;
/// Sequences in one pass that keeps all activations for the way back.
const SEQUENCES_PER_GRADIENT: usize = 16;

/// What a network reads of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeReads {
    /// Its letters, `[length, 4]`.
    OneHot,
    /// States of a gLM.
    States {
        /// The gLM.
        model: ModelId,
        /// Its name in the job that trained the network.
        name: String,
        /// Layer.
        layer: u32,
        /// What of the layer.
        pooling: Pooling,
    },
}

/// A trained network with one output for each sequence.
pub struct VariantProbe {
    network: Network,
    state: NetworkState,
    pass: Pass,
    input: Extent,
    reads: ProbeReads,
}

impl VariantProbe {
    /// Opens a network that the JSON file `description` describes, its weights in `weights`.
    ///
    /// Tensors are called `LAYER/WEIGHT`, with anything before another `/`.
    ///
    /// # Errors
    /// As [`NetworkDescription::parse`] and [`VariantProbe::new`]; a network of other inputs than one
    /// of one-hot windows; weights that are missing.
    pub fn open(description: &Path, weights: &Path) -> Result<Self> {
        Self::open_reading(description, weights, ProbeReads::OneHot)
    }

    /// As [`VariantProbe::open`], a network of what `reads` says.
    ///
    /// # Errors
    /// As [`VariantProbe::open`].
    pub fn open_reading(description: &Path, weights: &Path, reads: ProbeReads) -> Result<Self> {
        let file = description.display().to_string();
        let value = json::read(description)?;
        // A file may hold more than the probe.
        let described = value.get("probe").unwrap_or(&value);
        let NetworkDescription { network, inputs } = NetworkDescription::parse(&file, described)?;
        let &[input] = inputs.as_slice() else { return Err(one_input(&file, inputs.len())) };
        let stored = Weights::open(weights)?;
        let mut values = BTreeMap::new();
        for shape in network.resolve(&inputs)?.weights {
            let end = format!("/{}", shape.name);
            let name = stored.names().find(|name| *name == shape.name || name.ends_with(&end));
            let name = name.unwrap_or(&shape.name).to_owned();
            values.insert(shape.name, stored.take_f32(&name, &shape.shape)?);
        }
        Self::new(&network, input, reads, &values)
    }

    /// Opens the weights that a fit left in the store, which say what they belong to; `place` names
    /// them in errors.
    ///
    /// # Errors
    /// `Invalid` for a fit of several inputs, on k-mers, or on representations that windows of a
    /// variant do not have; `Corrupt` for a file that no fit wrote.
    pub fn decode(bytes: &Bytes, place: &str) -> Result<Self> {
        let file = ArrayFile::decode(bytes, place)?;
        let identity: FitIdentity = text(&file, "identity", place)?;
        let inputs: Vec<Extent> = text(&file, "inputs", place)?;
        let network: NetworkSpec = text(&file, "network", place)?;
        let &[input] = inputs.as_slice() else { return Err(one_input(place, inputs.len())) };
        let known = Pooling::ALL.into_iter().find(|p| p.name() == identity.representation);
        let reads = match (identity.model_id, identity.layer, known) {
            (Some(model), Some(layer), Some(pooling)) => {
                let name = identity.model.unwrap_or_default();
                ProbeReads::States { model, name, layer, pooling }
            }
            (None, ..) if identity.representation == "one-hot" => ProbeReads::OneHot,
            _ => {
                let expected = "a fit on one-hot sequences, or on cls, mean or full of one strand";
                let found = identity.representation;
                return Err(InputError::new(place, "representation", expected, found).into());
            }
        };
        let weights = file.numbers.into_iter().map(|(name, (_, values))| (name, values));
        Self::new(&network, input, reads, &weights.collect())
    }

    /// Opens the weights that a fit left in the store, whatever it read: who calls knows what to give it.
    ///
    /// # Errors
    /// `Invalid` for a fit of several inputs or outputs; `Corrupt` for a file that no fit wrote.
    pub(crate) fn of_fit(bytes: &Bytes, place: &str) -> Result<Self> {
        let file = ArrayFile::decode(bytes, place)?;
        let identity: FitIdentity = text(&file, "identity", place)?;
        let inputs: Vec<Extent> = text(&file, "inputs", place)?;
        let network: NetworkSpec = text(&file, "network", place)?;
        let &[input] = inputs.as_slice() else { return Err(one_input(place, inputs.len())) };
        let reads = ProbeReads::States {
            model: identity.model_id.unwrap_or_else(|| ModelId::new("")),
            name: identity.model.unwrap_or_default(),
            layer: identity.layer.unwrap_or_default(),
            pooling: Pooling::Full,
        };
        let weights = file.numbers.into_iter().map(|(name, (_, values))| (name, values));
        Self::new(&network, input, reads, &weights.collect())
    }

    /// Builds `spec` over `input` with trained `weights` by name.
    ///
    /// # Errors
    /// `Invalid` for a network that cannot read that or has several outputs, and for weights that are
    /// missing or of other extents.
    pub fn new(
        spec: &NetworkSpec,
        input: Extent,
        reads: ProbeReads,
        weights: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Self> {
        if reads == ProbeReads::OneHot && !matches!(input, Extent::Sequence { channels: 4, .. }) {
            let expected = "one-hot windows, a sequence of length x 4";
            return Err(InputError::new("probe", "input", expected, input).into());
        }
        let resolved = before_sigmoid(spec).resolve(&[input])?;
        let network = Network::new(resolved, Loss::MeanSquaredError, Precision::F32)?;
        if network.outputs_per_example() != 1 {
            let found = format!("{} outputs", network.outputs_per_example());
            return Err(InputError::new("probe", "", "one output", found).into());
        }
        let mut state = NetworkState::draw(&network, Draws::Independent, 0);
        let shapes = network.resolved().weights.iter();
        let values = shapes.map(|shape| {
            let found = weights.get(&shape.name).cloned();
            found.ok_or_else(|| {
                let place = format!("weight {}", shape.name);
                Error::from(InputError::new("probe", place, "its values", "none"))
            })
        });
        state.set_weights(values.collect::<Result<_>>()?)?;
        let pass = Pass::new(&network)?;
        Ok(Self { network, state, pass, input, reads })
    }

    /// What it reads.
    pub fn reads(&self) -> &ProbeReads {
        &self.reads
    }

    /// Extent of what it reads.
    pub fn input(&self) -> Extent {
        self.input
    }

    /// The layer of `model` that it reads, and what of it.
    ///
    /// # Errors
    /// `Invalid` for a network that reads letters or was trained on another gLM.
    pub fn layer_of(&self, model: &Model) -> Result<(LayerRequest, Pooling)> {
        let ProbeReads::States { model: id, name, layer, pooling } = &self.reads else {
            let found = "a network of one-hot windows, which reads none";
            return Err(InputError::new("probe", "", "a network that reads a gLM", found).into());
        };
        let facts = model.facts();
        if facts.id != *id {
            let expected = format!("the gLM it was trained on, {name} ({id})");
            return Err(InputError::new("probe", "", expected, &facts.id).into());
        }
        Ok((LayerRequest::new(&[*layer], facts.layer_count)?, *pooling))
    }

    /// Length of its windows in nucleotides; `None` if it reads states.
    pub fn window(&self) -> Option<u64> {
        (self.reads == ProbeReads::OneHot).then(|| self.input.length() as u64)
    }

    /// f(alt) - f(ref), f(ref) and f(alt) of each window, read as letters.
    ///
    /// # Errors
    /// `Invalid` for a window of another length, and for a network that reads states.
    pub fn effects(&mut self, windows: &[&Window]) -> Result<Vec<[f64; 3]>> {
        let mut found = Vec::with_capacity(windows.len());
        for windows in windows.chunks(SEQUENCES_PER_PASS) {
            let references: Vec<_> =
                windows.iter().map(|window| window.reference.clone()).collect();
            let alternatives: Vec<_> =
                windows.iter().map(|window| window.alternative_sequence()).collect();
            let f_ref = self.predict_letters(&references)?;
            let f_alt = self.predict_letters(&alternatives)?;
            found.extend(f_ref.into_iter().zip(f_alt).map(|(from, to)| effect(from, to)));
        }
        Ok(found)
    }

    fn predict_letters(&mut self, sequences: &[DnaSequence]) -> Result<Vec<f32>> {
        let input = self.one_hot(sequences)?;
        self.predict(&input)
    }

    /// Letters of `sequences` as it reads them, `[sequences, length, 4]`.
    ///
    /// # Errors
    /// `Invalid` for a sequence of another length; `Bug` for a network that reads states.
    pub fn one_hot<S: Borrow<DnaSequence>>(&self, sequences: &[S]) -> Result<Vec<f32>> {
        if self.reads != ProbeReads::OneHot {
            return Err(Error::bug("a network that reads states was given letters"));
        }
        let length = self.input.length();
        let mut input = vec![0.0; sequences.len() * self.input.values()];
        for (sequence, row) in sequences.iter().zip(input.chunks_exact_mut(self.input.values())) {
            let sequence = sequence.borrow();
            if sequence.len() != length {
                let expected = format!("windows of {length} nucleotides");
                return Err(InputError::new("probe", "", expected, sequence.len()).into());
            }
            for (letter, cell) in sequence.as_bytes().iter().zip(row.as_chunks_mut::<4>().0) {
                for (base, value) in BASES.iter().zip(cell) {
                    *value = if base == letter { 1.0 } else { 0.0 };
                }
            }
        }
        Ok(input)
    }

    /// How f of each row of `input`, `[rows, extent]`, changes with each of its values: the same extents.
    /// Batch normalisation takes its moving statistics, nothing is dropped, and a row has the same
    /// bits alone and beside others.
    ///
    /// # Errors
    /// `Bug` if the rows are no whole number.
    pub fn gradients(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(input.len());
        let values = self.input.values().max(1);
        for rows in input.chunks(SEQUENCES_PER_GRADIENT.saturating_mul(values)) {
            let (count, known) = (rows.len() / values, (&self.network, &self.state));
            all.extend(self.pass.input_gradient(known, count, &[rows], 0)?.into_iter().flatten());
        }
        Ok(all)
    }

    /// f of each row of `input`, `[rows, extent]`.
    ///
    /// # Errors
    /// `Bug` if the rows are no whole number.
    pub fn predict(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        let mut out = Vec::new();
        let values = self.input.values().max(1);
        for rows in input.chunks(SEQUENCES_PER_PASS.saturating_mul(values)) {
            self.pass.predict(&self.state, rows.len() / values, &[rows], &mut out)?;
            all.extend_from_slice(&out);
        }
        Ok(all)
    }

    /// f of each of `sequences`, read as letters.
    ///
    /// # Errors
    /// `Invalid` for a sequence of another length; `Bug` for a network that reads states.
    pub fn predict_sequences(&mut self, sequences: &[DnaSequence]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(sequences.len());
        for sequences in sequences.chunks(SEQUENCES_PER_PASS) {
            all.extend(self.predict_letters(sequences)?);
        }
        Ok(all)
    }
}

/// f(alt) - f(ref), f(ref), f(alt).
pub(super) fn effect(from: f32, to: f32) -> [f64; 3] {
    let (from, to) = (f64::from(from), f64::from(to));
    [to - from, from, to]
}

fn one_input(place: &str, found: usize) -> Error {
    InputError::new(place, "inputs", "one input", format!("{found} inputs")).into()
}

/// A value that stands as JSON in the header.
fn text<T: DeserializeOwned>(file: &ArrayFile, key: &str, place: &str) -> Result<T> {
    let text = file.texts.get(key).map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).map_err(|e| {
        let expected = "what a trained network leaves in its header";
        let defect =
            InputError::new(place, key, expected, if text.is_empty() { "nothing" } else { text });
        Error::corrupt(defect.to_string()).with_source(e)
    })
}

/// The network without the sigmoid at its end.
fn before_sigmoid(spec: &NetworkSpec) -> NetworkSpec {
    let mut spec = spec.clone();
    match spec.layers.last_mut().map(|layer| &mut layer.kind) {
        Some(LayerKind::Activation { function: Activation::Sigmoid }) => drop(spec.layers.pop()),
        Some(LayerKind::Dense { activation, .. }) if *activation == Activation::Sigmoid => {
            *activation = Activation::Linear;
        }
        _ => {}
    }
    spec
}
