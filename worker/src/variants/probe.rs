//! Effects of variants as a trained network of one-hot sequences predicts them.
//!
//! Leaves out: training it. Invariant: the prediction is the network's last value before a sigmoid, so
//! that an effect is a difference of logits; a letter other than A, C, G, T is a row of zeros.

use super::windows::Window;
use crate::json;
use crate::network::{Network, NetworkDescription, NetworkState, Pass};
use crate::weights::Weights;
use glmeval_common::dna::{BASES, DnaSequence};
use glmeval_common::error::{Error, InputError, Result};
use glmeval_common::model::Precision;
use glmeval_common::network::{Activation, Draws, Extent, LayerKind, Loss, NetworkSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Names of what [`VariantProbe::effects`] gives: f(alt) - f(ref), then both terms.
pub const PROBE_COLUMNS: [&str; 3] = ["probe", "f_ref", "f_alt"];
/// Windows in one pass.
const WINDOWS_PER_PASS: usize = 64;

/// A trained network with one output for each sequence.
pub struct VariantProbe {
    state: NetworkState,
    pass: Pass,
    length: usize,
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
        let file = description.display().to_string();
        let value = json::read(description)?;
        // A file may hold more than the probe.
        let described = value.get("probe").unwrap_or(&value);
        let NetworkDescription { network, inputs } = NetworkDescription::parse(&file, described)?;
        let &[Extent::Sequence { length, channels: 4 }] = inputs.as_slice() else {
            let expected = "one input of one-hot windows, [length, 4]";
            let found = inputs.iter().map(Extent::to_string).collect::<Vec<_>>().join(", ");
            return Err(InputError::new(file, "inputs", expected, found).into());
        };
        let stored = Weights::open(weights)?;
        let mut values = BTreeMap::new();
        for shape in network.resolve(&inputs)?.weights {
            let end = format!("/{}", shape.name);
            let name = stored.names().find(|name| *name == shape.name || name.ends_with(&end));
            let name = name.unwrap_or(&shape.name).to_owned();
            values.insert(shape.name, stored.take_f32(&name, &shape.shape)?);
        }
        Self::new(&network, length, &values)
    }

    /// Length of its windows in nucleotides.
    pub fn window(&self) -> u64 {
        self.length as u64
    }

    /// Builds `spec` over windows of `length` nucleotides with trained `weights` by name.
    ///
    /// # Errors
    /// `Invalid` for a network that cannot read them or has several outputs, and for weights that are
    /// missing or of other extents.
    pub fn new(
        spec: &NetworkSpec,
        length: usize,
        weights: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Self> {
        let input = Extent::Sequence { length, channels: BASES.len() };
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
        Ok(Self { state, pass, length })
    }

    /// f(alt) - f(ref), f(ref) and f(alt) of each window.
    ///
    /// # Errors
    /// `Invalid` for a window of another length.
    pub fn effects(&mut self, windows: &[&Window]) -> Result<Vec<[f64; 3]>> {
        let mut found = Vec::with_capacity(windows.len());
        for windows in windows.chunks(WINDOWS_PER_PASS) {
            let references: Vec<_> =
                windows.iter().map(|window| window.reference.clone()).collect();
            let alternatives: Vec<_> =
                windows.iter().map(|window| window.alternative_sequence()).collect();
            let f_ref = self.predict(&references)?;
            let f_alt = self.predict(&alternatives)?;
            let pairs = f_ref.into_iter().zip(f_alt);
            found.extend(pairs.map(|(from, to)| {
                let (from, to) = (f64::from(from), f64::from(to));
                [to - from, from, to]
            }));
        }
        Ok(found)
    }

    fn predict(&mut self, sequences: &[DnaSequence]) -> Result<Vec<f32>> {
        let mut input = vec![0.0; sequences.len() * self.length * BASES.len()];
        let rows = input.chunks_exact_mut((self.length * BASES.len()).max(1));
        for (sequence, row) in sequences.iter().zip(rows) {
            if sequence.len() != self.length {
                let expected = format!("windows of {} nucleotides", self.length);
                return Err(InputError::new("probe", "", expected, sequence.len()).into());
            }
            for (letter, cell) in sequence.as_bytes().iter().zip(row.as_chunks_mut::<4>().0) {
                for (base, value) in BASES.iter().zip(cell) {
                    *value = if base == letter { 1.0 } else { 0.0 };
                }
            }
        }
        let mut out = Vec::new();
        self.pass.predict(&self.state, sequences.len(), &[&input], &mut out)?;
        Ok(out)
    }
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
