//! Where a gLM takes its tensors from, and how a few of them are written.
//!
//! Leaves out: file formats that are only read (weights).

use crate::weights::Weights;
use glmeval_common::error::{Error, Result, io_error};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// Name and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// As published.
    pub name: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
}

impl TensorShape {
    /// Number of values; saturates, as a config may claim anything.
    pub fn count(&self) -> u64 {
        self.shape.iter().fold(1_u64, |count, &extent| count.saturating_mul(extent as u64))
    }
}

/// Named tensors: weights of a file, or random ones.
pub trait TensorSource {
    /// The values of `name` as f32, row-major; each is asked for once.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or holds no finite numbers.
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;

    /// Whether there is a tensor `name`.
    fn contains(&self, name: &str) -> bool;

    /// Digest of all tensors.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn digest(&self) -> Result<String>;
}

impl TensorSource for Weights {
    fn take_f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Weights::take_f32(self, name, shape)
    }

    fn contains(&self, name: &str) -> bool {
        Weights::contains(self, name)
    }

    fn digest(&self) -> Result<String> {
        Weights::digest(self)
    }
}

/// Writes `tensors` of `source` into a safetensors file, as f16 where that loses nothing, else as f32.
///
/// # Errors
/// As [`TensorSource::take_f32`]; I/O errors with the path.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorShape],
    source: &mut dyn TensorSource,
) -> Result<()> {
    let mut data = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let values = source.take_f32(&tensor.name, &tensor.shape)?;
        let halves: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
        let is_exact = halves.iter().zip(&values).all(|(half, &value)| half.to_f32() == value);
        data.push(if is_exact {
            (Dtype::F16, halves.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
        } else {
            (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        });
    }
    let failed = |e| Error::invalid(format!("write {}", path.display())).with_source(e);
    let mut views = Vec::with_capacity(tensors.len());
    for (tensor, (dtype, bytes)) in tensors.iter().zip(&data) {
        let view = TensorView::new(*dtype, tensor.shape.clone(), bytes).map_err(failed)?;
        views.push((tensor.name.as_str(), view));
    }
    let file = safetensors::serialize(views, None).map_err(failed)?;
    std::fs::write(path, file).map_err(|e| io_error(path, e))
}
