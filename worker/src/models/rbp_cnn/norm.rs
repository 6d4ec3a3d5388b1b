//! Batch normalisation by the statistics of training.

use crate::config::rbp_cnn;
use crate::model::TensorSource;
use glmeval_common::error::{Error, Result};

/// Factor and summand of each channel.
pub(super) struct BatchNorm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl BatchNorm {
    /// Takes the four tensors of batch norm `index`.
    ///
    /// ```text
    /// scale = gamma / sqrt(moving_variance + eps);  shift = beta - moving_mean scale
    /// ```
    ///
    /// Both are computed in f64 and rounded once.
    ///
    /// # Errors
    /// `Invalid` for a variance that is negative.
    pub(super) fn load(
        index: usize,
        width: usize,
        eps: f64,
        tensors: &mut dyn TensorSource,
    ) -> Result<Self> {
        let name = rbp_cnn::norm(index);
        let mut take = |part: &str| tensors.take_f32(&format!("{name}/{part}"), &[width]);
        let (gamma, beta) = (take("gamma")?, take("beta")?);
        let (mean, variance) = (take("moving_mean")?, take("moving_variance")?);
        if let Some(found) = variance.iter().find(|&&variance| variance < 0.0) {
            let place = format!("tensor {name}/moving_variance");
            return Err(Error::invalid(format!("{place}: expected at least 0, found {found}")));
        }
        let scale = gamma.iter().zip(&variance);
        let scale = scale.map(|(&g, &v)| f64::from(g) / (f64::from(v) + eps).sqrt());
        let scale: Vec<f64> = scale.collect();
        let shift = beta.iter().zip(&mean).zip(&scale);
        let shift = shift.map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
        Ok(Self { shift: shift.collect(), scale: scale.iter().map(|&s| s as f32).collect() })
    }

    /// Factor and summand of each channel.
    pub(super) fn factors(&self) -> (&[f32], &[f32]) {
        (&self.scale, &self.shift)
    }

    /// Replaces each row of `x` `[N, C]` by `x scale + shift`, rounded after each of both steps.
    pub(super) fn apply(&self, x: &mut [f32]) {
        for row in x.chunks_exact_mut(self.scale.len()) {
            for ((x, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *x = *x * scale + shift;
            }
        }
    }
}
