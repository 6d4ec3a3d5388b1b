//! Named tensors of a model, read from safetensors, torch or Keras files without running anything in
//! them.
//!
//! Leaves out: what a model needs (models). Invariant: a tensor's numbers are in row-major order,
//! whatever the container's strides; only Keras files, which are small, are read when opened.

mod container;
mod dtype;
mod keras;
mod legacy;
mod pickle;
mod safetensors;
mod state;
mod storage;
mod strided;
#[cfg(test)]
mod tests;
mod torch;

pub use dtype::Dtype;

use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{InputError, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use storage::Storage;
use strided::Strided;

/// The file of weights that `path` names: itself, or the one in that folder.
///
/// # Errors
/// `NotFound` for no such path; `Invalid` for a folder without weights, or with several.
pub fn locate(path: &Path) -> Result<PathBuf> {
    container::locate(path)
}

/// One stored tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: Dtype,
    layout: Strided,
    storage: Arc<Storage>,
}

impl Tensor {
    /// Number type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Extents, slowest first.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.layout.count()
    }

    /// File that holds it.
    pub fn file(&self) -> &Path {
        self.storage.file().path()
    }

    /// sha256 of its bytes in row-major order.
    fn digest(&self) -> Result<[u8; 32]> {
        let width = self.dtype.bytes();
        let bytes = self.storage.bytes()?;
        let mut hasher = Sha256::new();
        self.layout.for_each_run(|start, stride, length| {
            if stride == 1 {
                hasher.update(&bytes[start * width..(start + length) * width]);
                return;
            }
            let cell = |i| &bytes[(start + i * stride) * width..(start + i * stride + 1) * width];
            hasher.update((0..length).flat_map(cell).copied().collect::<Vec<u8>>());
        });
        self.storage.release();
        Ok(hasher.finalize().into())
    }

    pub(crate) fn read_f32(&self) -> Result<Vec<f32>> {
        let bytes = self.storage.bytes()?;
        let values = match self.dtype {
            Dtype::F32 => self.layout.gather(bytes, f32::from_le_bytes),
            Dtype::F64 => self.layout.gather(bytes, |cell| f64::from_le_bytes(cell) as f32),
            Dtype::F16 => self.layout.gather(bytes, |cell| half::f16::from_le_bytes(cell).to_f32()),
            Dtype::Bf16 => {
                self.layout.gather(bytes, |cell| half::bf16::from_le_bytes(cell).to_f32())
            }
            _ => return Err(self.storage.file().defect("", "floats", self.dtype)),
        };
        self.storage.release();
        Ok(values)
    }
}

/// A tensor that a model knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedTensor {
    /// Name in the file.
    pub name: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Whether the model cannot run without it.
    pub required: bool,
    /// Whether it counts as weights: buffers, and copies of tied weights, do not.
    pub is_parameter: bool,
}

impl ExpectedTensor {
    /// A weight that the model cannot run without.
    pub fn required(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), required: true, is_parameter: true }
    }

    /// A weight that may be left out.
    pub fn optional(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { required: false, ..Self::required(name, shape) }
    }

    /// The same tensor, not counted among the weights.
    pub fn as_buffer(self) -> Self {
        Self { is_parameter: false, ..self }
    }

    /// Number of values; saturates, as a config may claim anything.
    pub fn count(&self) -> u64 {
        self.shape.iter().fold(1_u64, |count, &extent| count.saturating_mul(extent as u64))
    }
}

/// How a file's tensors differ from those a model knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Required but not in the file.
    pub missing: Vec<ExpectedTensor>,
    /// In the file, unknown to the model.
    pub unexpected: Vec<String>,
    /// In both, with the file's shape where it differs.
    pub mis_shaped: Vec<(ExpectedTensor, Vec<usize>)>,
}

/// The weights of one model.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    taken: Mutex<BTreeSet<String>>,
    digest: OnceLock<String>,
}

impl Weights {
    /// Lists the tensors of a file, or of the weights in a folder of the Hugging Face layout.
    ///
    /// A file's kind is decided by its content: safetensors, torch zip, legacy torch pickle, Keras
    /// HDF5, or the index of shards (`*.index.json`).
    ///
    /// # Errors
    /// `NotFound` if there are no weights; `Invalid` with file, place, expected and found if they
    /// are damaged, or name anything but plain tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let path = container::locate(path)?;
        let tensors = container::open(&path)?;
        Ok(Self { path, tensors, taken: Mutex::default(), digest: OnceLock::new() })
    }

    /// The same tensors under other names; digests, which cover names, change with them.
    ///
    /// # Errors
    /// `Invalid` if two tensors get one name.
    pub fn renamed(self, name: impl Fn(&str) -> std::borrow::Cow<'_, str>) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (stored, tensor) in self.tensors {
            let name = name(&stored).into_owned();
            if tensors.insert(name.clone(), tensor).is_some() {
                let place = format!("tensor {stored}");
                let expected = format!("one tensor that stands for {name}");
                return Err(InputError::new(self.path.display(), place, expected, "two").into());
            }
        }
        Ok(Self { tensors, ..self })
    }

    /// The file that was opened; an index for shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors by name, sorted.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The description of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Extents of a tensor, slowest first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Tensor::shape)
    }

    /// The numbers of a float tensor in row-major order, as f32, and notes that it was used.
    ///
    /// # Errors
    /// `Invalid` with file, tensor, expected and found if it is missing, has another shape, holds
    /// integers or numbers that are not finite in f32, or if its checksum is wrong.
    pub fn take_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(self.missing(name, shape).into());
        };
        let defect = |expected: String, found: String| {
            let place = format!("tensor {name}");
            InputError::new(tensor.file().display(), place, expected, found)
        };
        if tensor.shape() != shape {
            let found = format!("{:?}", tensor.shape());
            return Err(defect(format!("shape {shape:?}"), found).into());
        }
        if !tensor.dtype.is_float() {
            let expected = "floats (F32, F16, BF16, F64)".to_owned();
            return Err(defect(expected, tensor.dtype.to_string()).into());
        }
        let values = tensor.read_f32()?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} at element {at}", values[at]);
            return Err(defect("finite numbers".to_owned(), found).into());
        }
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.insert(name.to_owned());
        Ok(values)
    }

    /// Names of tensors that were never taken, sorted.
    pub fn unused(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.tensors.keys().filter(|name| !taken.contains(*name)).cloned().collect()
    }

    /// Compares names and shapes with those a model knows.
    pub fn compare(&self, expected: &[ExpectedTensor]) -> Comparison {
        let mut comparison = Comparison::default();
        for tensor in expected {
            match self.shape(&tensor.name) {
                Some(shape) if shape != tensor.shape => {
                    comparison.mis_shaped.push((tensor.clone(), shape.to_vec()));
                }
                None if tensor.required => comparison.missing.push(tensor.clone()),
                Some(_) | None => {}
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let unknown = self.names().filter(|name| !known.contains(name));
        comparison.unexpected = unknown.map(str::to_owned).collect();
        comparison
    }

    /// What is left of `expected` where parts that publishers leave out as a whole, such as a head,
    /// are absent: `parts` are the first letters of their names.
    pub fn without_absent(
        &self,
        mut expected: Vec<ExpectedTensor>,
        parts: &[&str],
    ) -> Vec<ExpectedTensor> {
        for part in parts {
            if !self.names().any(|name| name.starts_with(part)) {
                expected.retain(|tensor| !tensor.name.starts_with(part));
            }
        }
        expected
    }

    /// Checks that every required tensor is there and every known one has its shape.
    ///
    /// # Errors
    /// `Invalid` that names the first missing or mis-shaped tensor, and unexpected ones like it.
    pub fn check(&self, expected: &[ExpectedTensor]) -> Result<()> {
        let comparison = self.compare(expected);
        if let Some(tensor) = comparison.missing.first() {
            return Err(self.missing(&tensor.name, &tensor.shape).into());
        }
        let Some((tensor, shape)) = comparison.mis_shaped.first() else { return Ok(()) };
        let place = format!("tensor {}", tensor.name);
        let expected = format!("shape {:?}", tensor.shape);
        Err(InputError::new(self.path.display(), place, expected, format!("{shape:?}")).into())
    }

    /// Digest of every tensor's name, type, shape and numbers: 32 hexadecimal letters, the same for
    /// the same tensors in any container.
    ///
    /// # Errors
    /// `Invalid` if a checksum of the container is wrong.
    pub fn digest(&self) -> Result<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let digests: Vec<_> =
            self.tensors.par_iter().map(|(_, tensor)| tensor.digest()).collect::<Result<_>>()?;
        let mut content = ContentDigest::new("weights/1");
        for ((name, tensor), digest) in self.tensors.iter().zip(&digests) {
            let described = format!("{} {:?}", tensor.dtype, tensor.shape());
            content = content.field(name, described).field("bytes", digest);
        }
        Ok(self.digest.get_or_init(|| content.finish()).clone())
    }

    fn missing(&self, name: &str, shape: &[usize]) -> InputError {
        let nearest = self.nearest(name);
        let found = match nearest.as_slice() {
            [] => "missing (no tensor at all)".to_owned(),
            names => format!("missing; nearest names: {}", names.join(", ")),
        };
        let place = format!("tensor {name}");
        InputError::new(self.path.display(), place, format!("shape {shape:?}"), found)
    }

    /// The three names that share most letters at their ends with `name`.
    fn nearest(&self, name: &str) -> Vec<&str> {
        let shared = |other: &str| {
            let front = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let back = name.bytes().rev().zip(other.bytes().rev());
            front + back.take_while(|(a, b)| a == b).count()
        };
        let mut names: Vec<&str> = self.names().collect();
        names.sort_by_key(|other| std::cmp::Reverse(shared(other)));
        names.truncate(3);
        names
    }
}
