//! The safetensors container: header length (8 bytes), JSON header, data.
//!
//! Leaves out: reading tensors' numbers. Invariant: the accepted tensors cover the data exactly,
//! without a gap or an overlap.
//!
//! Source: huggingface/safetensors, README "Format".

use super::Tensor;
use super::dtype::Dtype;
use super::storage::{MappedFile, Storage};
use super::strided::Strided;
use crate::json::{self, JSON_BYTES_MAX};
use glmeval_common::error::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tensor's entry in the header.
struct Entry<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

/// Lists the tensors of a safetensors file.
pub(super) fn open(file: &Arc<MappedFile>) -> Result<BTreeMap<String, Tensor>> {
    let (header, data_start) = header(file)?;
    let Value::Object(header) = json::parse(file.path().display(), "header", header)? else {
        return Err(file.defect("header", "a JSON object", "another value"));
    };
    let mut entries = Vec::with_capacity(header.len());
    for (name, value) in &header {
        if name == "__metadata__" {
            check_metadata(file, value)?;
        } else {
            entries.push(entry(file, name, value)?);
        }
    }
    entries.sort_unstable_by_key(|entry| (entry.begin, entry.end));
    check_coverage(file, &entries, file.bytes().len() - data_start)?;
    let tensor = |entry: Entry<'_>| {
        let range = data_start + entry.begin..data_start + entry.end;
        let count = range.len() / entry.dtype.bytes();
        let storage = Storage::mapped(file, format!("tensor {}", entry.name), range, None);
        let layout = Strided::contiguous(entry.shape, count);
        (entry.name.to_owned(), Tensor { dtype: entry.dtype, layout, storage })
    };
    Ok(entries.into_iter().map(tensor).collect())
}

/// The header's text and where the data starts.
fn header(file: &MappedFile) -> Result<(&[u8], usize)> {
    let bytes = file.bytes();
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        let expected = "a header length of 8 bytes";
        return Err(file.defect("header", expected, format!("{} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let fits = usize::try_from(length).ok().filter(|&length| length <= JSON_BYTES_MAX);
    let Some(length) = fits.filter(|&length| length > 0) else {
        let expected = format!("a header length from 1 to {JSON_BYTES_MAX} (limit)");
        return Err(file.defect("header", expected, length));
    };
    match rest.get(..length) {
        Some(header) => Ok((header, 8 + length)),
        None => Err(file.defect(
            "header",
            format!("{length} bytes, the header length"),
            format!("{} (truncated)", rest.len()),
        )),
    }
}

fn check_metadata(file: &MappedFile, value: &Value) -> Result<()> {
    let texts = value.as_object().map(|map| map.values().all(Value::is_string));
    if texts == Some(true) {
        return Ok(());
    }
    Err(file.defect("header: __metadata__", "an object of strings", json::describe(value)))
}

fn entry<'a>(file: &MappedFile, name: &'a str, value: &Value) -> Result<Entry<'a>> {
    let place = format!("header: tensor {name}");
    let field = |key: &str| {
        let missing =
            || file.defect(&place, format!("dtype, shape, data_offsets: {key}"), "missing");
        value.get(key).ok_or_else(missing)
    };
    let expected_dtype = || format!("a dtype of {}", Dtype::names());
    let dtype = field("dtype")?;
    let dtype = dtype
        .as_str()
        .and_then(Dtype::from_name)
        .ok_or_else(|| file.defect(&place, expected_dtype(), json::describe(dtype)))?;
    let shape = numbers(file, &format!("{place}: shape"), field("shape")?)?;
    let offsets = numbers(file, &format!("{place}: data_offsets"), field("data_offsets")?)?;
    let &[begin, end] = offsets.as_slice() else {
        return Err(file.defect(&place, "two data_offsets", format!("{offsets:?}")));
    };
    let Some(stored) = end.checked_sub(begin) else {
        return Err(file.defect(&place, "data_offsets in order", format!("[{begin}, {end}]")));
    };
    let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, &n| bytes.checked_mul(n));
    match bytes {
        Some(bytes) if bytes == stored => {}
        Some(bytes) => {
            let expected = format!("{bytes} bytes for {dtype} {shape:?}");
            return Err(file.defect(&place, expected, format!("{stored} (data_offsets)")));
        }
        None => {
            let found = format!("overflow of shape {shape:?}");
            return Err(file.defect(&place, "a size in 64 bits", found));
        }
    }
    Ok(Entry { name, dtype, shape, begin, end })
}

fn numbers(file: &MappedFile, place: &str, value: &Value) -> Result<Vec<usize>> {
    let expected = "integers (u64) of at least 0";
    let Some(items) = value.as_array() else {
        return Err(file.defect(place, format!("a list of {expected}"), json::describe(value)));
    };
    let number = |item: &Value| {
        let number = item.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| file.defect(place, expected, json::describe(item)))
    };
    items.iter().map(number).collect()
}

/// Checks that `entries`, sorted by their begin, follow each other from 0 to `data` bytes.
fn check_coverage(file: &MappedFile, entries: &[Entry<'_>], data: usize) -> Result<()> {
    let mut covered = 0;
    for entry in entries {
        let place = format!("header: tensor {}", entry.name);
        if entry.begin != covered {
            let kind = if entry.begin < covered { "overlap" } else { "gap" };
            let expected = format!("data_offsets from {covered} on (contiguous)");
            return Err(file.defect(place, expected, format!("{} ({kind})", entry.begin)));
        }
        covered = entry.end;
        if covered > data {
            let expected = format!("data up to byte {covered}");
            return Err(file.defect(place, expected, format!("data size {data} (truncated)")));
        }
    }
    if covered < data {
        let expected = format!("{covered} bytes, the end of the last tensor");
        return Err(file.defect("data", expected, data));
    }
    Ok(())
}
