//! The head of masked language models on a device: final states to logits over the vocabulary.
//!
//! Leaves out: heads of other forms. Invariant: a row's logits depend on that row alone.

use super::{DeviceLoader, Held, LayerNorm, Linear, Room, upload};
use crate::device::device_error;
use crate::layers::{HeadNames, Kept};
use crate::model::{LogitsSink, States};
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Gpu, View};
use glmeval_kernels::ops::activation::cuda::{Function, activation_in_place};
use glmeval_kernels::ops::convert::cuda::convert;

/// Rows whose logits are held at once.
const ROWS: usize = 4_096;

/// Weights of the head.
pub(crate) struct MaskedHead<T: Held> {
    gpu: Gpu,
    dense: Linear<T>,
    norm: LayerNorm,
    decoder: Linear<T>,
    width: usize,
    scratch: Kept<Scratch<T>>,
}

struct Scratch<T: Held> {
    /// `[R, D]`, in turn states and what the norm leaves.
    narrow: Room<T>,
    /// `[R, D]`.
    hidden: Room<f32>,
    /// `[R, V]`.
    logits: Room<f32>,
}

impl<T: Held> Default for Scratch<T> {
    fn default() -> Self {
        Self { narrow: Room::default(), hidden: Room::default(), logits: Room::default() }
    }
}

impl<T: Held> MaskedHead<T> {
    /// Takes the tensors that `names` tells, for states of `width` and `size` words.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`](crate::model::TensorSource::take_f32); `Unavailable` if there is no room.
    pub(crate) fn load(
        loader: &mut DeviceLoader<'_>,
        names: &HeadNames<'_>,
        ((size, width), eps): ((usize, usize), f32),
    ) -> Result<Self> {
        let weight = loader.tensors.take_f32(names.decoder, &[size, width])?;
        let bias = loader.tensors.take_f32(names.bias, &[size])?;
        Ok(Self {
            gpu: loader.gpu.clone(),
            dense: loader.map(names.dense, ((width, width), true))?,
            norm: loader.norm(names.norm, (width, true), eps)?,
            decoder: loader.map_of(&weight, Some(&bias), (size, width))?,
            width,
            scratch: Kept::default(),
        })
    }

    /// Logits `[R, V]` of the final states `[R, D]`.
    ///
    /// ```text
    /// decoder · LN(gelu(dense · x)) + bias
    /// ```
    ///
    /// # Errors
    /// `Bug` for states of another width; `Unavailable` if the device fails.
    pub(crate) fn logits(&self, states: &[f32]) -> Result<Vec<f32>> {
        if !states.len().is_multiple_of(self.width) {
            return Err(Error::bug(format!("{} values are no rows of states", states.len())));
        }
        let mut logits = Vec::new();
        for states in states.chunks(ROWS.saturating_mul(self.width)) {
            self.apply(States::Host(states), &mut |part| {
                logits.extend_from_slice(&part.on_host()?);
                Ok(())
            })?;
        }
        Ok(logits)
    }

    /// Hands the logits `[R, V]` of the final states `[R, D]` to `sink`, on the device.
    ///
    /// # Errors
    /// As [`MaskedHead::logits`]; those of `sink`.
    pub(crate) fn apply(&self, states: States<'_>, sink: &mut LogitsSink<'_>) -> Result<()> {
        self.scratch.lend(states.len() / self.width, |scratch| match states {
            States::Host(states) => self.part(upload(&self.gpu, states)?.view(), scratch, sink),
            States::Device(states) => self.part(states, scratch, sink),
        })
    }

    fn part(
        &self,
        states: View<'_, f32>,
        scratch: &mut Scratch<T>,
        sink: &mut LogitsSink<'_>,
    ) -> Result<()> {
        let Self { gpu, dense, norm, decoder, width, .. } = self;
        let mut narrow = scratch.narrow.take(gpu, states.len())?;
        let mut hidden = scratch.hidden.take(gpu, states.len())?;
        convert(states, &mut narrow).map_err(device_error)?;
        dense.apply_bare(narrow.view(), hidden.again())?;
        activation_in_place(&mut hidden, dense.bias(), *width, Function::Gelu)
            .map_err(device_error)?;
        norm.apply(&mut hidden, &mut narrow)?;
        let count = (states.len() / width).saturating_mul(decoder.outputs);
        let mut logits = scratch.logits.take(gpu, count)?;
        decoder.apply(narrow.view(), logits.again())?;
        sink(States::Device(logits.view()))
    }
}
