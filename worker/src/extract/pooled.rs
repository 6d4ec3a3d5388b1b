//! Rows of a shard made on the device that has the states: what leaves it is as large as what is stored.
//!
//! Leaves out: what rows mean (representation). Invariant: rows have the bytes that the host makes of the same states.

use super::{Source, StrandTokens};
use crate::device::device_error;
use crate::representation::pooled_runs;
use glmeval_common::embedding::narrow;
use glmeval_common::error::{Error, Result};
use glmeval_common::representation::{FullRows, Pooling, StoredDtype, Strands};
use glmeval_kernels::cuda::{Bf16, DeviceArray, F16, Number, View};
use glmeval_kernels::error::KernelError;
use glmeval_kernels::ops::convert::cuda::convert;
use glmeval_kernels::ops::pool::cuda::{Spans, pool_pairs, pool_rows};
use std::ops::Range;

/// Rows of a batch, in the number format on disk.
pub(super) struct PooledRows {
    bytes: Vec<u8>,
    /// Where those of each sequence begin; one more number than sequences.
    offsets: Vec<usize>,
}

impl PooledRows {
    /// Those of sequence number `sequence` of the batch.
    pub(super) fn of(&self, sequence: usize, row_bytes: usize) -> &[u8] {
        let [start, end] = [sequence, sequence + 1]
            .map(|index| self.offsets.get(index).copied().unwrap_or(0) * row_bytes);
        self.bytes.get(start..end).unwrap_or_default()
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
        return full_rows(source, states, offsets, members);
    }
    let spans = spans(source, pooling, offsets, members)?;
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
    Ok(bytes.map(|bytes| PooledRows { bytes, offsets: (0..=spans.len()).collect() }))
}

/// Makes a row of each state of each sequence, or of each of its nucleotides.
fn full_rows(
    source: &Source<'_>,
    states: View<'_, f32>,
    offsets: &[usize],
    members: &[usize],
) -> Result<Option<PooledRows>> {
    let (dtype, both) = (source.dtype, source.options.strands == Strands::Averaged);
    if dtype == StoredDtype::F32 && !both {
        // As many bytes leave the device either way.
        return Ok(None);
    }
    let (mut rows, mut partners, mut starts) = (Vec::new(), Vec::new(), vec![0]);
    let mut spans = offsets.windows(2).map(|span| span[0]..span[1]);
    for strands in members.iter().flat_map(|&member| &source.tokens[member].sequences) {
        let mut of_strands = strands.iter().zip(spans.by_ref());
        if let Some(forward) = of_strands.next() {
            rows.extend(rows_of(source.options.full_rows, forward)?);
        }
        for reverse in of_strands {
            // Rows of the other strand run backwards.
            partners.extend(rows_of(source.options.full_rows, reverse)?.into_iter().rev());
        }
        if both && rows.len() != partners.len() {
            return Err(Error::bug("strands of two lengths"));
        }
        starts.push(rows.len());
    }
    let bytes = if both {
        let pairs: Vec<[usize; 2]> =
            rows.into_iter().zip(partners).map(<[usize; 2]>::from).collect();
        averaged_rows(source, states, &pairs)?
    } else {
        narrowed_rows(source, states, &rows)?
    };
    Ok(bytes.map(|bytes| PooledRows { bytes, offsets: starts }))
}

/// The state that each row of a strand is, in the order of rows.
fn rows_of(
    full_rows: FullRows,
    (tokens, states): (&StrandTokens, Range<usize>),
) -> Result<Vec<usize>> {
    match full_rows {
        FullRows::Tokens => Ok(states.collect()),
        FullRows::Nucleotides if tokens.lengths.len() != states.len() => {
            Err(Error::bug("lengths that are not those of the tokens"))
        }
        FullRows::Nucleotides => {
            let tokens = states.zip(&tokens.lengths);
            let rows = tokens.flat_map(|(row, &length)| std::iter::repeat_n(row, length as usize));
            Ok(rows.collect())
        }
    }
}

/// Bytes of the states `rows`: each leaves the device once, however many nucleotides its token stands for.
fn narrowed_rows(
    source: &Source<'_>,
    states: View<'_, f32>,
    rows: &[usize],
) -> Result<Option<Vec<u8>>> {
    let bits = match source.dtype {
        StoredDtype::F32 => return Ok(None),
        StoredDtype::F16 => converted::<F16>(states, |value| value.0),
        StoredDtype::Bf16 => converted::<Bf16>(states, |value| value.0),
    };
    let bytes = checked(bits.map_err(device_error)?, source.dtype);
    let is_whole = rows.len() * source.width == states.len()
        && rows.iter().enumerate().all(|(place, &row)| place == row);
    if is_whole {
        return Ok(bytes);
    }
    let row_bytes = source.row_bytes();
    Ok(bytes.map(|bytes| {
        let of_row = |&row: &usize| bytes.get(row * row_bytes..(row + 1) * row_bytes);
        rows.iter().filter_map(of_row).flatten().copied().collect()
    }))
}

/// Bytes of the means of the states `pairs`.
fn averaged_rows(
    source: &Source<'_>,
    states: View<'_, f32>,
    pairs: &[[usize; 2]],
) -> Result<Option<Vec<u8>>> {
    let (dtype, width) = (source.dtype, source.width);
    Ok(match dtype {
        StoredDtype::F16 => {
            let rows = averaged::<F16>(states, pairs, width).map_err(device_error)?;
            checked(rows.iter().map(|value| value.0).collect(), dtype)
        }
        StoredDtype::Bf16 => {
            let rows = averaged::<Bf16>(states, pairs, width).map_err(device_error)?;
            checked(rows.iter().map(|value| value.0).collect(), dtype)
        }
        StoredDtype::F32 => {
            let rows = averaged::<f32>(states, pairs, width).map_err(device_error)?;
            narrow(&rows, width, dtype, &|_| String::new()).ok()
        }
    })
}

/// The states whose mean is the row of each strand of each sequence, in runs of neighbours.
fn spans(
    source: &Source<'_>,
    pooling: Pooling,
    offsets: &[usize],
    members: &[usize],
) -> Result<Vec<Vec<Range<usize>>>> {
    let mut spans = Vec::with_capacity(offsets.len());
    let bounds = offsets.iter().zip(offsets.iter().skip(1));
    let sequences = members.iter().flat_map(|&member| {
        let rows = (member * source.sequences..).zip(&source.tokens[member].sequences);
        rows.flat_map(|(row, strands)| strands.iter().map(move |strand| (row, strand)))
    });
    let skips_first = source.model.mean_skips_first();
    for ((row, strand), (&start, &end)) in sequences.zip(bounds) {
        let count = end.saturating_sub(start);
        let runs = pooled_runs(pooling, source.options, (count, &strand.lengths), skips_first)
            .map_err(|e| e.context(format!("example {}", source.name(row))))?;
        spans.push(runs.into_iter().map(|run| start + run.start..start + run.end).collect());
    }
    Ok(spans)
}

fn pooled<T: Number>(
    states: View<'_, f32>,
    spans: &[Vec<Range<usize>>],
    width: usize,
) -> Result<Vec<T>, KernelError> {
    let mut rows = DeviceArray::<T>::new(states.gpu(), spans.len() * width)?;
    let spans = Spans::of_runs(states.gpu(), spans.iter().map(Vec::as_slice))?;
    pool_rows(states, &spans, &mut rows.view_mut())?;
    rows.to_vec()
}

fn averaged<T: Number>(
    states: View<'_, f32>,
    pairs: &[[usize; 2]],
    width: usize,
) -> Result<Vec<T>, KernelError> {
    let mut rows = DeviceArray::<T>::new(states.gpu(), pairs.len() * width)?;
    pool_pairs(states, pairs, &mut rows.view_mut())?;
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
