//! Memory of activations and gradients, handed from one value to the next.
//!
//! Leaves out: who needs what for how long (engine). Invariant: after the first step of a number of
//! rows, a step of as many asks for no memory.

use super::defect;
use super::operations::InputSums;
use super::plan::{Plan, ValueIndex};
use glmeval_common::error::Result;
use glmeval_kernels::ops::arithmetic;

/// A buffer this many times longer than asked for is left for someone else.
const LONGER_MAX: usize = 4;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// A buffer of at least `length` values, whatever they are.
    pub(super) fn take(&mut self, length: usize) -> Vec<f32> {
        let fits = |buffer: &Vec<f32>| {
            buffer.len() >= length && buffer.len() / LONGER_MAX <= length.max(1)
        };
        let free = self.free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        match free.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index) {
            Some(index) => self.free.swap_remove(index),
            None => vec![0.0; length],
        }
    }

    /// Takes a buffer back; an empty one is none.
    pub(super) fn give(&mut self, buffer: Vec<f32>) {
        if !buffer.is_empty() {
            self.free.push(buffer);
        }
    }

    /// Frees all memory.
    pub(super) fn clear(&mut self) {
        self.free.clear();
    }
}

/// Examples that a pass reads.
#[derive(Clone, Copy)]
pub(super) struct Examples<'a> {
    pub(super) rows: usize,
    pub(super) inputs: &'a [&'a [f32]],
    /// One for each input, or none at all.
    pub(super) sums: &'a [Option<InputSums<'a>>],
}

/// Values and gradients of a pass; empty where none is held. Inputs are held by the caller.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) values: Vec<Vec<f32>>,
    pub(super) gradients: Vec<Vec<f32>>,
    pub(super) buffers: Buffers,
    rows_max: usize,
}

impl Memory {
    /// Nothing held, for `count` values.
    pub(super) fn new(count: usize) -> Self {
        let empty = vec![Vec::new(); count];
        let buffers = Buffers::default();
        Self { values: empty.clone(), gradients: empty, buffers, rows_max: 0 }
    }

    /// Values of all buffers, held or free.
    pub(super) fn held_values(&self) -> usize {
        let held = self.values.iter().chain(&self.gradients).chain(&self.buffers.free);
        held.map(Vec::len).sum()
    }

    /// Takes everything back before a pass over `rows` examples.
    pub(super) fn begin(&mut self, rows: usize) {
        for held in self.values.iter_mut().chain(&mut self.gradients) {
            self.buffers.give(std::mem::take(held));
        }
        if rows > self.rows_max {
            // Buffers of smaller batches would only lie beside those of this one.
            self.rows_max = rows;
            self.buffers.clear();
        }
    }

    /// What is held at `place`; empty if nothing is.
    pub(super) fn value<'a>(
        &'a self,
        plan: &Plan,
        place: ValueIndex,
        examples: &Examples<'a>,
    ) -> &'a [f32] {
        if let Some(input) = examples.inputs.get(place) {
            return input;
        }
        let length = plan.values[place].length * examples.rows;
        self.values[place].get(..length).unwrap_or(&[])
    }

    /// Hands on the value at `place`.
    pub(super) fn release_value(&mut self, place: ValueIndex) {
        self.buffers.give(std::mem::take(&mut self.values[place]));
    }

    /// Hands on the gradient at `place`.
    pub(super) fn release_gradient(&mut self, place: ValueIndex) {
        self.buffers.give(std::mem::take(&mut self.gradients[place]));
    }

    /// Adds a gradient of `length` values to what later readers gave.
    ///
    /// # Errors
    /// `Bug` if the lengths differ.
    pub(super) fn add_gradient(
        &mut self,
        place: ValueIndex,
        buffer: Vec<f32>,
        length: usize,
    ) -> Result<()> {
        let held = &mut self.gradients[place];
        if held.is_empty() {
            *held = buffer;
            return Ok(());
        }
        let sum = arithmetic::add_in_place(&mut held[..length], &buffer[..length]);
        self.buffers.give(buffer);
        sum.map_err(defect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_buffer_that_fits_is_taken_and_a_much_longer_one_is_not() {
        let mut buffers = Buffers::default();
        for length in [100, 30, 40] {
            buffers.give(vec![1.0; length]);
        }
        assert_eq!(buffers.take(25).len(), 30);
        assert_eq!(buffers.take(5).len(), 5);
        assert_eq!(buffers.take(35).len(), 40);
        assert_eq!(buffers.free.len(), 1);
    }
}
