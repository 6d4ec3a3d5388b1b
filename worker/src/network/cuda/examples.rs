//! Examples in a device's memory: all of a data set as they are stored, or one batch.
//!
//! Leaves out: where they come from (training). Invariant: a value is widened by the kernel that takes a batch, exactly, so a
//! batch is the same however its examples are held.

use crate::device::device_error;
use glmeval_common::error::{Error, Result};
use glmeval_kernels::cuda::{Bf16, DeviceArray, Element, F16, Gpu};
use glmeval_kernels::error::KernelError;

/// All examples of one input of the network, `[N, extent]`, as they are stored.
pub enum DeviceInput {
    /// As they are computed with.
    F32(DeviceArray<f32>),
    /// IEEE halves.
    F16(DeviceArray<F16>),
    /// bfloat16.
    Bf16(DeviceArray<Bf16>),
}

/// How values of examples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceNumber {
    /// As they are computed with.
    F32,
    /// IEEE halves.
    F16,
    /// bfloat16.
    Bf16,
}

impl DeviceNumber {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Examples that a device holds.
pub struct DeviceExamples {
    /// How many there are.
    pub count: usize,
    /// One for each input of the network.
    pub inputs: Vec<DeviceInput>,
}

impl DeviceExamples {
    /// Room for `count` examples of `inputs` values each.
    ///
    /// # Errors
    /// `Unavailable` if there is none.
    pub fn new(gpu: &Gpu, count: usize, inputs: &[usize], number: DeviceNumber) -> Result<Self> {
        let made = |&values: &usize| -> Result<DeviceInput, KernelError> {
            let length = count.saturating_mul(values);
            Ok(match number {
                DeviceNumber::F32 => DeviceInput::F32(DeviceArray::new(gpu, length)?),
                DeviceNumber::F16 => DeviceInput::F16(DeviceArray::new(gpu, length)?),
                DeviceNumber::Bf16 => DeviceInput::Bf16(DeviceArray::new(gpu, length)?),
            })
        };
        let inputs = inputs.iter().map(made).collect::<Result<_, _>>().map_err(device_error)?;
        Ok(Self { count, inputs })
    }

    /// Replaces the examples from `first` on by those of `bytes`: whole examples, all inputs of one side by side, their
    /// values little-endian and as the device holds them.
    ///
    /// # Errors
    /// `Bug` if they do not fit; `Unavailable` if the device fails.
    pub fn write(&mut self, first: usize, bytes: &[u8]) -> Result<()> {
        let count = self.count.max(1);
        let lengths = self.inputs.iter().map(|input| input.len() / count * input.value_bytes());
        let row_bytes: usize = lengths.sum();
        let rows = bytes.len().checked_div(row_bytes).unwrap_or(0);
        if rows * row_bytes != bytes.len() || first.saturating_add(rows) > self.count {
            let (expected, found) = (self.count, bytes.len());
            return Err(Error::bug(format!(
                "network: expected {expected} examples of {row_bytes} bytes, found {found} bytes at {first}"
            )));
        }
        let mut start = 0;
        for input in &mut self.inputs {
            let length = input.len() / count * input.value_bytes();
            let part = start..start + length;
            start = part.end;
            let own = bytes.chunks_exact(row_bytes.max(1)).map(|row| &row[part.clone()]);
            match input {
                DeviceInput::F32(array) => place(array, (first, count), own, f32::from_le_bytes),
                DeviceInput::F16(array) => {
                    place(array, (first, count), own, |b| F16(u16::from_le_bytes(b)))
                }
                DeviceInput::Bf16(array) => {
                    place(array, (first, count), own, |b| Bf16(u16::from_le_bytes(b)))
                }
            }
            .map_err(device_error)?;
        }
        Ok(())
    }

    /// Replaces the first examples by values that were not narrowed, `[rows, extent]` for each input.
    ///
    /// # Errors
    /// `Bug` if they do not fit; `Unavailable` if the device fails.
    pub(super) fn fill(&mut self, inputs: &[&[f32]]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::bug("network: a batch of other inputs"));
        }
        for (input, values) in self.inputs.iter_mut().zip(inputs) {
            match input {
                DeviceInput::F32(array) if values.len() <= array.len() => {
                    let filled = array.view_mut().part(0..values.len()).write(values);
                    filled.map_err(device_error)?;
                }
                _ => return Err(Error::bug("network: a batch that its memory does not take")),
            }
        }
        Ok(())
    }
}

/// Writes `rows`, of whole values each, from example `first` of `count` on.
fn place<'a, T: Element, const N: usize>(
    array: &mut DeviceArray<T>,
    (first, count): (usize, usize),
    rows: impl Iterator<Item = &'a [u8]>,
    value: impl Fn([u8; N]) -> T,
) -> Result<(), KernelError> {
    let length = array.len() / count;
    let mut values = Vec::new();
    for row in rows {
        values.extend(row.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)));
    }
    let start = first * length;
    array.view_mut().part(start..start + values.len()).write(&values)
}

impl DeviceInput {
    /// Values of all examples.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::F32(_) => DeviceNumber::F32,
            Self::F16(_) => DeviceNumber::F16,
            Self::Bf16(_) => DeviceNumber::Bf16,
        }
        .bytes()
    }
}
