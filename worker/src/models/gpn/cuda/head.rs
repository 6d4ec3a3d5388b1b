//! The masked-language-model head of either form on a device.
//!
//! Leaves out: the CPU's form (`gpn::head`). Source: songlab-cal/gpn, `MLMHead`.

use crate::device::device_error;
use crate::layers::cuda::{DeviceLoader, LayerNorm, linear_shape};
use crate::model::{LogitsSink, States};
use crate::models::gpn::head::Parts;
use crate::models::gpn::{Form, headless};
use glmeval_common::error::Result;
use glmeval_kernels::cuda::{DeviceArray, Gpu};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::branch_norm::cuda::branch_norm;
use glmeval_kernels::ops::conv1d::cuda::{
    ConvValue, DeviceActivation, DeviceConv1d, DeviceEpilogue, dense,
};
use glmeval_kernels::ops::convert::cuda::convert;

/// Weights of a head.
pub(super) struct Head<T: ConvValue> {
    gpu: Gpu,
    transform: Option<(DeviceConv1d<T>, LayerNorm)>,
    decoder: DeviceConv1d<T>,
}

impl<T: ConvValue> Head<T> {
    /// `None` if the weights were published without a head.
    pub(super) fn load(
        parts: &Parts<'_>,
        form: Form,
        loader: &mut DeviceLoader<'_>,
    ) -> Result<Option<Self>> {
        let (width, size) = parts.extents;
        let decoder = if loader.tensors.contains(&format!("{}.weight", parts.decoder)) {
            loader.linear(parts.decoder, ((size, width), parts.has_bias))?
        } else if let Some(table) = parts.tied {
            let bias = if parts.has_bias {
                Some(loader.tensors.take_f32(&format!("{}.bias", parts.decoder), &[size])?)
            } else {
                None
            };
            loader.lay_out(table, bias.as_deref(), linear_shape((size, width)))?
        } else {
            return Ok(None);
        };
        let transform = match parts.transform {
            None => None,
            Some((linear, norm)) => Some((
                loader.linear(linear, ((width, width), parts.has_bias))?,
                loader.norm(norm, (width, parts.has_bias), form.eps)?,
            )),
        };
        Ok(Some(Self { gpu: loader.gpu.clone(), transform, decoder }))
    }

    /// Logits `[N, V]` of the final states `[N, D]`; an error without a head.
    ///
    /// ```text
    /// decoder · LN(gelu(dense · x)) + bias
    /// ```
    pub(super) fn logits(head: Option<&Self>, states: &[f32]) -> Result<Vec<f32>> {
        let mut found = Vec::new();
        Self::apply(head, States::Host(states), &mut |logits| {
            found = logits.on_host()?.into_owned();
            Ok(())
        })?;
        Ok(found)
    }

    /// As [`Head::logits`], of states where they are; logits are handed to `sink` on the device.
    pub(super) fn apply(
        head: Option<&Self>,
        states: States<'_>,
        sink: &mut LogitsSink<'_>,
    ) -> Result<()> {
        let head = head.ok_or_else(headless)?;
        let left = match states {
            States::Host(states) => {
                let rounded: Vec<T> = states.iter().map(|&x| T::rounded(x)).collect();
                DeviceArray::from_slice(&head.gpu, &rounded)
            }
            States::Device(states) => {
                DeviceArray::new(&head.gpu, states.len()).and_then(|mut left| {
                    convert(states, &mut left.view_mut())?;
                    Ok(left)
                })
            }
        };
        let logits = left.and_then(|left| head.run(left)).map_err(device_error)?;
        sink(States::Device(logits.view()))
    }

    fn run(&self, mut left: DeviceArray<T>) -> Result<DeviceArray<f32>, KernelError> {
        let shape = self.decoder.shape();
        if let Some((linear, norm)) = &self.transform {
            let mut hidden = DeviceArray::<f32>::new(&self.gpu, left.len())?;
            let gelu = DeviceActivation::Gelu;
            dense(left.view(), linear, gelu.into(), &mut hidden.view_mut())?;
            let out = Some(&mut left.view_mut());
            branch_norm(hidden.view(), norm.norm(), false, None, out)?;
        }
        let rows = left.len() / shape.input_width;
        let mut logits = DeviceArray::<f32>::new(&self.gpu, rows * shape.output_width)?;
        let none = DeviceEpilogue::default();
        dense(left.view(), &self.decoder, none, &mut logits.view_mut())?;
        Ok(logits)
    }
}
