//! Which examples a device holds while the fits of a unit are trained: all of them, or none.
//!
//! Leaves out: batches that are given one by one (on_device). Invariant: whether examples are held changes no byte of a fit.

use super::batches::BatchSource;
use super::cache::{ExampleCache, RowFormat};
use crate::device::is_out_of_memory;
use crate::network::{DeviceExamples, DeviceNumber};
use glmeval_common::error::Result;
use glmeval_common::representation::StoredDtype;
use glmeval_kernels::cuda::Gpu;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the device's free memory, of so many, that examples may take; the rest is for weights and batches.
const HELD_SHARE: (u64, u64) = (3, 4);
/// Bytes of examples that are copied to the device at a time; the order to stop is heard between.
const PIECE_BYTES: usize = 64 << 20;
/// Bits of the half 1.
const ONE: [u8; 2] = 0x3c00_u16.to_le_bytes();

/// What a device holds of a unit's examples.
pub struct Residence {
    gpu: Gpu,
    held: Mutex<Held>,
}

/// The examples of the last inputs that were asked for.
enum Held {
    Nothing,
    /// They did not fit, and are given batch by batch from now on.
    Streamed,
    Examples(Vec<usize>, Arc<DeviceExamples>),
}

impl Residence {
    /// Nothing is held yet.
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), held: Mutex::new(Held::Nothing) }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// All examples of a source with its inputs apart, copied when they are first asked for; `None` if they are given batch by
    /// batch. `go_on` is asked between pieces.
    ///
    /// # Errors
    /// As reading and `go_on`; `Unavailable` if the device fails for another reason than its memory.
    pub fn examples(
        &self,
        source: &BatchSource<'_>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Arc<DeviceExamples>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Held::Streamed => return Ok(None),
            Held::Examples(inputs, examples) if inputs == source.inputs => {
                return Ok(Some(Arc::clone(examples)));
            }
            Held::Examples(..) | Held::Nothing => {}
        }
        // Two layouts are not held at a time.
        *held = Held::Nothing;
        if self.has_room(source.cache)? {
            match copied(&self.gpu, source, go_on) {
                Ok(examples) => {
                    let examples = Arc::new(examples);
                    *held = Held::Examples(source.inputs.to_vec(), Arc::clone(&examples));
                    return Ok(Some(examples));
                }
                Err(error) if is_out_of_memory(&error) => {}
                Err(error) => return Err(error),
            }
        }
        *held = streamed();
        Ok(None)
    }

    /// Lets go of what is held: there was no room left for a fit.
    pub fn stream_from_now_on(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = streamed();
    }

    fn has_room(&self, cache: &ExampleCache) -> Result<bool> {
        let values = cache.rows().saturating_mul(cache.row_values());
        let bytes = values.saturating_mul(number(cache.format()).bytes()) as u64;
        let (free, _) = self.gpu.memory().map_err(crate::device::device_error)?;
        let (part, whole) = HELD_SHARE;
        Ok(bytes <= free / whole * part)
    }
}

fn streamed() -> Held {
    tracing::info!("examples do not fit on the device and are given to it batch by batch");
    Held::Streamed
}

/// How a device holds rows of a format: as they are, one-hot sequences as halves, which have 0 and 1.
fn number(format: RowFormat) -> DeviceNumber {
    match format {
        RowFormat::Numbers(StoredDtype::F32) => DeviceNumber::F32,
        RowFormat::Numbers(StoredDtype::F16) | RowFormat::Letters => DeviceNumber::F16,
        RowFormat::Numbers(StoredDtype::Bf16) => DeviceNumber::Bf16,
    }
}

fn copied(
    gpu: &Gpu,
    source: &BatchSource<'_>,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<DeviceExamples> {
    let cache = source.cache;
    let number = number(cache.format());
    let mut examples = DeviceExamples::new(gpu, cache.rows(), source.inputs, number)?;
    let row_bytes = cache.row_values().saturating_mul(number.bytes()).max(1);
    let rows_at_once = (PIECE_BYTES / row_bytes).max(1);
    let (mut piece, mut scratch) = (Vec::new(), Vec::new());
    for first in (0..cache.rows()).step_by(rows_at_once) {
        go_on()?;
        piece.clear();
        for row in first..cache.rows().min(first + rows_at_once) {
            let stored = cache.stored(row, &mut scratch)?;
            match cache.format() {
                RowFormat::Numbers(_) => piece.extend_from_slice(stored),
                RowFormat::Letters => stored.iter().for_each(|letter| one_hot(*letter, &mut piece)),
            }
        }
        examples.write(first, &piece)?;
    }
    Ok(examples)
}

/// Adds four halves, one of them 1 unless the letter is undefined.
fn one_hot(letter: u8, piece: &mut Vec<u8>) {
    for base in 0..4 {
        piece.extend_from_slice(if base == letter { &ONE } else { &[0; 2] });
    }
}
