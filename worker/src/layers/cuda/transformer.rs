//! What transformer blocks are made of, on a device: self-attention and a feed-forward part.
//!
//! Leaves out: norms, and the order of the parts. Invariant: a sequence's result depends on that sequence alone, so that
//! blocks of rows change no bit.

use super::{DeviceLoader, Held, Linear, Room};
use crate::device::device_error;
use crate::layers::transformer::take_query_key_value;
use crate::layers::{Activation, Widths};
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{Gpu, ProductClass, View, ViewMut};
use glmeval_kernels::ops::activation::cuda::{Function, activation_in_place, gated_activation};
use glmeval_kernels::ops::attention::cuda::{SequenceTable, attention, attention_tf32};
use glmeval_kernels::ops::rotary::cuda::{DeviceRotaryTable, TokenPlaces, rotary};

/// Bytes of hidden feed-forward values that are held at once, at most: they stay in the second cache of the device between
/// the map that writes them and the one that reads them.
const FEED_FORWARD_BYTES: usize = 24 << 20;
/// Rows of which products make their tiles.
const TILE_ROWS: usize = 256;

/// Activations of one forward pass that one part writes and reads; shared by all blocks.
pub(crate) struct Scratch<T: Held> {
    /// `[N, D]`.
    attended: Room<T>,
    /// Queries, keys and values `[N, 3D]`, then hidden feed-forward values of some rows.
    wide: Room<T>,
    /// Hidden values that their gates were multiplied with, of some rows.
    gated: Room<T>,
}

impl<T: Held> Default for Scratch<T> {
    fn default() -> Self {
        Self { attended: Room::default(), wide: Room::default(), gated: Room::default() }
    }
}

/// What a part adds its result to, and what it makes it of.
pub(crate) struct Batch<'a, T: Held> {
    /// Where the sequences are.
    pub(crate) table: &'a SequenceTable,
    /// The input, `[N, D]`.
    pub(crate) narrow: View<'a, T>,
    /// The states, `[N, D]`.
    pub(crate) states: ViewMut<'a, f32>,
}

/// How positions enter attention.
#[derive(Clone, Copy)]
pub(crate) enum Positions<'a> {
    /// They do not.
    None,
    /// Queries and keys are rotated.
    Rotary(&'a DeviceRotaryTable, &'a TokenPlaces),
    /// Distance is a penalty, with the slope of each head.
    Alibi(View<'a, f32>),
}

/// Self-attention with its output map.
pub(crate) struct SelfAttention<T: Held> {
    /// Queries, keys and values in one map, `[3D, D]`.
    query_key_value: Linear<T>,
    output: Linear<T>,
    width: usize,
    head_count: usize,
}

impl<T: Held> SelfAttention<T> {
    /// Takes `name.self.{query,key,value}`, or `name.self.Wqkv` where they are fused, and `name.output.dense`.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`](crate::model::TensorSource::take_f32); `Unavailable` if there is no room.
    pub(crate) fn load(
        loader: &mut DeviceLoader<'_>,
        (name, is_fused): (&str, bool),
        widths: Widths,
    ) -> Result<Self> {
        let Widths { width, head_count, .. } = widths;
        let extents = (width.saturating_mul(3), width);
        let query_key_value = if is_fused {
            loader.map(&format!("{name}.self.Wqkv"), (extents, true))?
        } else {
            let (weight, bias) = take_query_key_value(name, width, loader.tensors)?;
            loader.map_of(&weight, Some(&bias), extents)?
        };
        let output = loader.map(&format!("{name}.output.dense"), ((width, width), true))?;
        Ok(Self { query_key_value, output, width, head_count })
    }

    /// Adds attention over the input to the states.
    ///
    /// ```text
    /// states += output(attention(query_key_value(narrow)))
    /// ```
    ///
    /// # Errors
    /// `Bug` for operands that do not fit; `Unavailable` if the device has no room or fails.
    pub(crate) fn add(
        &self,
        gpu: &Gpu,
        batch: Batch<'_, T>,
        positions: Positions<'_>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let Batch { table, narrow, states } = batch;
        let mut qkv = scratch.wide.take(gpu, narrow.len().saturating_mul(3))?;
        self.query_key_value.apply(narrow, qkv.again())?;
        let slopes = match positions {
            Positions::None => None,
            Positions::Rotary(angles, places) => {
                rotary(&mut qkv, places, self.head_count, angles).map_err(device_error)?;
                None
            }
            Positions::Alibi(slopes) => Some(slopes),
        };
        let scale = ((self.width / self.head_count) as f64).powf(-0.5) as f32;
        let mut attended = scratch.attended.take(gpu, narrow.len())?;
        let attend = match self.query_key_value.class {
            ProductClass::F32 => attention::<T>,
            ProductClass::Tf32 => attention_tf32::<T>,
        };
        attend(qkv.view(), table, self.head_count, scale, slopes, &mut attended)
            .map_err(device_error)?;
        self.output.add(attended.view(), states)
    }
}

/// Two maps with an activation between.
pub(crate) struct FeedForward<T: Held> {
    expand: Linear<T>,
    contract: Linear<T>,
    activation: Activation,
}

impl<T: Held> FeedForward<T> {
    /// Takes two linear maps by name, each with a bias or without.
    ///
    /// # Errors
    /// As [`TensorSource::take_f32`](crate::model::TensorSource::take_f32); `Unavailable` if there is no room.
    pub(crate) fn load(
        loader: &mut DeviceLoader<'_>,
        maps: &[(String, bool); 2],
        widths: Widths,
        activation: Activation,
    ) -> Result<Self> {
        let Widths { width, feed_forward: hidden, .. } = widths;
        let rows = if activation.is_gate() { hidden.saturating_mul(2) } else { hidden };
        let [(expand, expand_bias), (contract, contract_bias)] = maps;
        Ok(Self {
            expand: loader.map(expand, ((rows, width), *expand_bias))?,
            contract: loader.map(contract, ((width, hidden), *contract_bias))?,
            activation,
        })
    }

    /// Adds what it makes of the input to the states, some rows at a time.
    ///
    /// ```text
    /// states += contract(activation(expand(narrow)))
    /// ```
    ///
    /// # Errors
    /// `Bug` for operands that do not fit; `Unavailable` if the device has no room or fails.
    pub(crate) fn add(
        &self,
        gpu: &Gpu,
        mut batch: Batch<'_, T>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let width = self.expand.inputs;
        let tokens = batch.narrow.len() / width;
        let row_bytes = self.expand.outputs.saturating_mul(size_of::<T>()).max(1);
        let rows = (FEED_FORWARD_BYTES / row_bytes / TILE_ROWS).max(1) * TILE_ROWS;
        for start in (0..tokens).step_by(rows) {
            let end = tokens.min(start + rows);
            let part = start * width..end * width;
            let states = batch.states.part(part.clone());
            self.add_rows(gpu, batch.narrow.part(part), states, scratch)?;
        }
        Ok(())
    }

    fn add_rows(
        &self,
        gpu: &Gpu,
        narrow: View<'_, T>,
        states: ViewMut<'_, f32>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let rows = narrow.len() / self.expand.inputs;
        let hidden_width = self.contract.inputs;
        let mut wide = scratch.wide.take(gpu, rows.saturating_mul(self.expand.outputs))?;
        self.expand.apply_bare(narrow, wide.again())?;
        let bias = self.expand.bias();
        let function = match self.activation {
            Activation::Gelu => {
                activation_in_place(&mut wide, bias, hidden_width, Function::Gelu)
                    .map_err(device_error)?;
                return self.contract.add(wide.view(), states);
            }
            Activation::SiluGate => Function::Silu,
            Activation::GeluGate => Function::Gelu,
        };
        let mut gated = scratch.gated.take(gpu, rows.saturating_mul(hidden_width))?;
        gated_activation(wide.view(), bias, hidden_width, function, &mut gated)
            .map_err(device_error)?;
        self.contract.add(gated.view(), states)
    }
}
