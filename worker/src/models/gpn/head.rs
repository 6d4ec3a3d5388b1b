//! The masked-language-model head of either form.
//!
//! Leaves out: classification heads. Source: songlab-cal/gpn, `MLMHead`.

use super::{Form, headless};
use crate::layers::{LayerNorm, defect, load_linear_form, pack, zeros};
use crate::model::TensorSource;
use glmeval_common::error::Result;
use glmeval_kernels::ops::linear::{Epilogue, PackedLinear, linear};

/// Names and extents of a head's layers.
pub(super) struct Parts<'a> {
    /// The linear map and the layer norm before the decoder, if there are any.
    pub(super) transform: Option<(&'a str, &'a str)>,
    pub(super) decoder: &'a str,
    pub(super) has_bias: bool,
    /// D and V.
    pub(super) extents: (usize, usize),
    /// The table that stands for a decoder that is not stored.
    pub(super) tied: Option<&'a [f32]>,
}

/// Weights of a head.
pub(super) struct Head {
    transform: Option<(PackedLinear, LayerNorm)>,
    decoder: PackedLinear,
    width: usize,
    vocabulary_size: usize,
}

impl Head {
    /// `None` if the weights were published without a head.
    pub(super) fn load(
        parts: &Parts<'_>,
        form: Form,
        tensors: &mut dyn TensorSource,
    ) -> Result<Option<Self>> {
        let (width, size) = parts.extents;
        let decoder = if tensors.contains(&format!("{}.weight", parts.decoder)) {
            let extents = ((size, width), parts.has_bias);
            load_linear_form(parts.decoder, extents, form.precision, tensors)?
        } else if let Some(table) = parts.tied {
            let bias = if parts.has_bias {
                Some(tensors.take_f32(&format!("{}.bias", parts.decoder), &[size])?)
            } else {
                None
            };
            pack(table, bias.as_deref(), (size, width), form.precision)?
        } else {
            return Ok(None);
        };
        let transform = match parts.transform {
            None => None,
            Some((dense, norm)) => {
                let extents = ((width, width), parts.has_bias);
                let dense = load_linear_form(dense, extents, form.precision, tensors)?;
                let extents = (width, parts.has_bias);
                Some((dense, LayerNorm::load_form(norm, extents, form.eps, tensors)?))
            }
        };
        Ok(Some(Self { transform, decoder, width, vocabulary_size: size }))
    }

    /// Logits `[N, V]` of the final states `[N, D]`; an error without a head.
    ///
    /// ```text
    /// decoder · LN(gelu(dense · x)) + bias
    /// ```
    pub(super) fn logits(head: Option<&Self>, states: &[f32]) -> Result<Vec<f32>> {
        let head = head.ok_or_else(headless)?;
        let mut logits = zeros(states.len() / head.width, head.vocabulary_size)?;
        let mut hidden;
        let mut states = states;
        if let Some((dense, norm)) = &head.transform {
            hidden = vec![0.0; states.len()];
            linear(states, dense, Epilogue::Gelu, &mut hidden).map_err(defect)?;
            norm.apply_in_place(&mut hidden)?;
            states = &hidden;
        }
        linear(states, &head.decoder, Epilogue::None, &mut logits).map_err(defect)?;
        Ok(logits)
    }
}
