//! What training changes: weights, moving statistics, moments of the optimiser, steps taken.
//!
//! Leaves out: how they change (pass). Invariant: a state that was stored and restored goes on as if
//! it had not been, to the bit.

use super::{Network, draw::draw};
use glmeval_common::error::{InputError, Result};
use glmeval_common::network::{Draws, WeightShape};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Weights of one fit and the state of its optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkState {
    shapes: Arc<[WeightShape]>,
    pub(super) weights: Vec<Vec<f32>>,
    /// First and second moments of trained weights; empty for the others.
    pub(super) first: Vec<Vec<f32>>,
    pub(super) second: Vec<Vec<f32>>,
    pub(super) step: u64,
    /// Another one after every change of weights, so that a pass knows whether it packed these.
    version: Arc<()>,
}

/// A whole state as named arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateArrays {
    /// Steps taken.
    pub step: u64,
    /// `weight/NAME`, `first/NAME`, `second/NAME`; the last two of trained weights only.
    pub arrays: BTreeMap<String, Vec<f32>>,
}

impl NetworkState {
    /// First values of all weights, drawn by their initialisers from streams of `seed`.
    pub fn draw(network: &Network, draws: Draws, seed: u64) -> Self {
        let resolved = network.resolved();
        let weights = resolved.layers.iter().flat_map(|layer| {
            let shapes = &resolved.weights[layer.weights.clone()];
            shapes.iter().map(move |weight| draw(layer, weight, draws, seed))
        });
        let weights = weights.collect();
        let shapes = Arc::clone(&network.shapes);
        let moments = || -> Vec<Vec<f32>> {
            let trained = |shape: &WeightShape| shape.role.is_trained();
            let count = |shape: &WeightShape| if trained(shape) { shape.values() } else { 0 };
            shapes.iter().map(|shape| vec![0.0; count(shape)]).collect()
        };
        let (first, second) = (moments(), moments());
        Self { shapes, weights, first, second, step: 0, version: Arc::new(()) }
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Every weight, moving statistics included: its name, role and shape, and its values.
    pub fn weights(&self) -> impl Iterator<Item = (&WeightShape, &[f32])> {
        self.shapes.iter().zip(self.weights.iter().map(Vec::as_slice))
    }

    /// A copy of all weights, in order, for [`NetworkState::set_weights`].
    pub fn copy_weights(&self) -> Vec<Vec<f32>> {
        self.weights.clone()
    }

    /// Replaces all weights; the optimiser's state stays.
    ///
    /// # Errors
    /// `Invalid` with the first weight that lacks or has other extents.
    pub fn set_weights(&mut self, weights: Vec<Vec<f32>>) -> Result<()> {
        for (index, shape) in self.shapes.iter().enumerate() {
            check(shape, &shape.name, shape.values(), weights.get(index))?;
        }
        self.weights = weights;
        self.weights.truncate(self.shapes.len());
        self.mark_changed();
        Ok(())
    }

    /// The whole state.
    pub fn snapshot(&self) -> StateArrays {
        let mut arrays = BTreeMap::new();
        for (index, shape) in self.shapes.iter().enumerate() {
            arrays.insert(format!("weight/{}", shape.name), self.weights[index].clone());
            if shape.role.is_trained() {
                arrays.insert(format!("first/{}", shape.name), self.first[index].clone());
                arrays.insert(format!("second/{}", shape.name), self.second[index].clone());
            }
        }
        StateArrays { step: self.step, arrays }
    }

    /// Replaces the whole state by a stored one.
    ///
    /// # Errors
    /// `Invalid` with the array that is missing or has another number of values; the state is then as
    /// before.
    pub fn restore(&mut self, stored: &StateArrays) -> Result<()> {
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for shape in self.shapes.iter() {
            for (part, into) in ["weight", "first", "second"].into_iter().zip(&mut found) {
                if part != "weight" && !shape.role.is_trained() {
                    into.push(Vec::new());
                    continue;
                }
                let name = format!("{part}/{}", shape.name);
                let array = stored.arrays.get(&name);
                into.push(check(shape, &name, shape.values(), array)?.clone());
            }
        }
        [self.weights, self.first, self.second] = found;
        self.step = stored.step;
        self.mark_changed();
        Ok(())
    }

    /// Which weights these are.
    pub(super) fn version(&self) -> &Arc<()> {
        &self.version
    }

    /// Makes these other weights than any before.
    pub(super) fn mark_changed(&mut self) {
        self.version = Arc::new(());
    }
}

/// Refuses an array that is missing or has another number of values.
fn check<'a>(
    shape: &WeightShape,
    name: &str,
    expected: usize,
    array: Option<&'a Vec<f32>>,
) -> Result<&'a Vec<f32>> {
    let found = array.map_or("nothing".to_owned(), |array| format!("{} values", array.len()));
    array.filter(|array| array.len() == expected).ok_or_else(|| {
        let expected = format!("{expected} values of {:?}", shape.shape);
        InputError::new("network state", name, expected, found).into()
    })
}
