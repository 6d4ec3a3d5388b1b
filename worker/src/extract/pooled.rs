//! Rows of a shard made on the device that has the states: what leaves it is as large as what is stored.
//!
//! Leaves out: representations that mix tokens of both strands one by one, which are made on the host. Invariant: rows have the
//! bytes that the host makes of the same states.

use super::Source;
use crate::device::device_error;
use crate::representation::pooled_span;
use glmeval_common::embedding::narrow;
use glmeval_common::error::Result;
use glmeval_common::representation::{Pooling, RepresentationOptions, StoredDtype, Strands};
use glmeval_kernels::cuda::{Bf16, DeviceArray, F16, Number, View};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::convert::cuda::convert;
use glmeval_kernels::ops::pool::cuda::{Spans, pool_rows};
use std::ops::Range;

/// Rows of a batch, in the number format on disk.
pub(super) struct PooledRows {
    bytes: Vec<u8>,
    /// Whether there is a row of each state instead of each sequence.
    is_full: bool,
}

impl PooledRows {
    /// Those of sequence number `sequence` of the batch, whose states are `span`.
    pub(super) fn of(&self, sequence: usize, span: &[usize], row_bytes: usize) -> &[u8] {
        let rows = match (self.is_full, span) {
            (true, [start, .., end]) => *start..*end,
            _ => sequence..sequence + 1,
        };
        self.bytes.get(rows.start * row_bytes..rows.end * row_bytes).unwrap_or_default()
    }
}

/// Makes the rows of the sequences of `members` from the states `[R, D]`, which begin at `offsets`.
///
/// `None` for what the host has to make: also where a number does not fit its format, as it then says which.
///
/// # Errors
/// As the host's form; `Unavailable` if the device fails.
pub(super) fn pooled_rows(
    source: &Source<'_>,
    pooling: Pooling,
    states: View<'_, f32>,
    offsets: &[usize],
    members: &[usize],
) -> Result<Option<PooledRows>> {
    if pooling == Pooling::Full {
        if source.options != RepresentationOptions::default() {
            return Ok(None);
        }
        let bytes = match source.dtype {
            StoredDtype::F32 => return Ok(None),
            StoredDtype::F16 => converted::<F16>(states, |value| value.0),
            StoredDtype::Bf16 => converted::<Bf16>(states, |value| value.0),
        };
        let bytes = checked(bytes.map_err(device_error)?, source.dtype);
        return Ok(bytes.map(|bytes| PooledRows { bytes, is_full: true }));
    }
    let Some(spans) = spans(source, pooling, offsets, members)? else { return Ok(None) };
    let width = source.width;
    let both = source.options.strands == Strands::Averaged;
    let bytes = match source.dtype {
        StoredDtype::F16 if !both => {
            let rows = pooled::<F16>(states, &spans, width).map_err(device_error)?;
            checked(rows.iter().map(|value| value.0).collect(), source.dtype)
        }
        StoredDtype::Bf16 if !both => {
            let rows = pooled::<Bf16>(states, &spans, width).map_err(device_error)?;
            checked(rows.iter().map(|value| value.0).collect(), source.dtype)
        }
        _ => {
            let mut rows = pooled::<f32>(states, &spans, width).map_err(device_error)?;
            if both {
                let strands = rows.chunks_exact(2 * width);
                let averages = strands.flat_map(|pair| {
                    let (forward, reverse) = pair.split_at(width);
                    forward.iter().zip(reverse).map(|(value, partner)| 0.5 * (value + partner))
                });
                rows = averages.collect();
            }
            // The host's form tells which row it is.
            narrow(&rows, width, source.dtype, &|_| String::new()).ok()
        }
    };
    Ok(bytes.map(|bytes| PooledRows { bytes, is_full: false }))
}

/// The states whose mean is the row of each strand of each sequence; `None` if those of one are not neighbours.
fn spans(
    source: &Source<'_>,
    pooling: Pooling,
    offsets: &[usize],
    members: &[usize],
) -> Result<Option<Vec<Range<usize>>>> {
    let mut spans = Vec::with_capacity(offsets.len());
    let bounds = offsets.iter().zip(offsets.iter().skip(1));
    let sequences = members.iter().flat_map(|&member| {
        let rows = (member * source.sequences..).zip(&source.tokens[member].sequences);
        rows.flat_map(|(row, strands)| strands.iter().map(move |strand| (row, strand)))
    });
    let skips_first = source.model.mean_skips_first();
    for ((row, strand), (&start, &end)) in sequences.zip(bounds) {
        let count = end.saturating_sub(start);
        let span = pooled_span(pooling, source.options, (count, &strand.lengths), skips_first)
            .map_err(|e| e.context(format!("example {}", source.name(row))))?;
        let Some(span) = span else { return Ok(None) };
        spans.push(start + span.start..start + span.end);
    }
    Ok(Some(spans))
}

fn pooled<T: Number>(
    states: View<'_, f32>,
    spans: &[Range<usize>],
    width: usize,
) -> Result<Vec<T>, KernelError> {
    let mut rows = DeviceArray::<T>::new(states.gpu(), spans.len() * width)?;
    pool_rows(states, &Spans::new(states.gpu(), spans)?, &mut rows.view_mut())?;
    rows.to_vec()
}

fn converted<T: Number>(
    states: View<'_, f32>,
    bits: impl Fn(&T) -> u16,
) -> Result<Vec<u16>, KernelError> {
    let mut narrowed = DeviceArray::<T>::new(states.gpu(), states.len())?;
    convert(states, &mut narrowed.view_mut())?;
    Ok(narrowed.to_vec()?.iter().map(bits).collect())
}

/// Bytes of numbers of two bytes, if all of them are finite.
fn checked(bits: Vec<u16>, dtype: StoredDtype) -> Option<Vec<u8>> {
    let exponent = if dtype == StoredDtype::F16 { 0x7c00 } else { 0x7f80 };
    let is_finite = |bits: &u16| bits & exponent != exponent;
    bits.iter().all(is_finite).then(|| bits.iter().flat_map(|bits| bits.to_le_bytes()).collect())
}
