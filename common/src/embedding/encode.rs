//! From a shard to a safetensors file.
//!
//! The `safetensors` crate keeps metadata in a map without order, so the header is written here.

use super::{
    COLUMNS, EXAMPLE_INDICES, EmbeddingShard, SEQUENCES, ShardTensor, TOKEN_OFFSETS, axes_of,
    decode, tensor_name,
};
use crate::error::{Error, Result};
use crate::layout::FORMAT_VERSION;
use crate::representation::{Pooling, StoredDtype};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Longest header that readers of the format accept.
const HEADER_BYTES_MAX: usize = 100_000_000;

pub(super) fn encode(shard: &EmbeddingShard) -> Result<Bytes> {
    let mut tensors: Vec<&ShardTensor> = shard.tensors.iter().collect();
    tensors.sort_by_key(|tensor| (tensor.layer, tensor.pooling));
    let mut blocks: Vec<(String, Value, std::borrow::Cow<'_, [u8]>)> = Vec::new();
    for (name, numbers) in
        [(EXAMPLE_INDICES, &shard.example_indices), (TOKEN_OFFSETS, &shard.token_offsets)]
    {
        if let Some(numbers) = numbers {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let about = json!({"dtype": "I64", "shape": [numbers.len()]});
            blocks.push((name.to_owned(), about, bytes.into()));
        }
    }
    let dtype = match shard.identity.dtype {
        StoredDtype::F32 => "F32",
        StoredDtype::F16 => "F16",
        StoredDtype::Bf16 => "BF16",
    };
    for tensor in &tensors {
        let shape = match (tensor.pooling, shard.sequences) {
            (Pooling::Full | Pooling::Effect, _) | (_, 1) => vec![tensor.rows, tensor.width],
            (_, sequences) => vec![tensor.rows, u64::from(sequences), tensor.width],
        };
        let about = json!({"dtype": dtype, "shape": shape});
        let name = tensor_name(tensor.layer, tensor.pooling);
        blocks.push((name, about, tensor.values.as_ref().into()));
    }
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), metadata(shard, &tensors)?);
    let mut offset = 0_usize;
    for (name, about, bytes) in &mut blocks {
        let past = offset.saturating_add(bytes.len());
        about["data_offsets"] = json!([offset, past]);
        if header.insert(name.clone(), about.take()).is_some() {
            return Err(Error::bug(format!("encode a shard: {name} is there twice")));
        }
        offset = past;
    }
    let file = assemble(shard, &header, &blocks)?;
    // Reading back keeps the writer as strict as the reader.
    let checked = decode::decode(&file, "the shard just encoded");
    checked.map_err(|e| Error::bug("encode a shard").with_source(e))?;
    Ok(file)
}

fn assemble(
    shard: &EmbeddingShard,
    header: &Map<String, Value>,
    blocks: &[(String, Value, std::borrow::Cow<'_, [u8]>)],
) -> Result<Bytes> {
    let mut text = to_json(header)?.into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() > HEADER_BYTES_MAX {
        return Err(Error::invalid(format!(
            "encode shard {}-{}: expected a header of at most {HEADER_BYTES_MAX} bytes, found {}; \
             use smaller shards or shorter ids",
            shard.start,
            shard.end,
            text.len()
        )));
    }
    let payload: usize = blocks.iter().map(|(_, _, bytes)| bytes.len()).sum();
    let mut file = Vec::with_capacity(text.len().saturating_add(payload).saturating_add(8));
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(&text);
    for (_, _, bytes) in blocks {
        file.extend_from_slice(bytes);
    }
    Ok(Bytes::from(file))
}

fn metadata(shard: &EmbeddingShard, tensors: &[&ShardTensor]) -> Result<Value> {
    let mut axes = Map::new();
    if shard.example_indices.is_some() {
        axes.insert(EXAMPLE_INDICES.to_owned(), json!(["example"]));
    }
    if shard.token_offsets.is_some() {
        let axis = if shard.sequences == 1 { "example_boundary" } else { "sequence_boundary" };
        axes.insert(TOKEN_OFFSETS.to_owned(), json!([axis]));
    }
    for tensor in tensors {
        let name = tensor_name(tensor.layer, tensor.pooling);
        axes.insert(name, json!(axes_of(tensor.pooling, shard.sequences)));
    }
    let identity = &shard.identity;
    let mut texts = json!({
        "axes": to_json(&axes)?,
        "dataset": identity.dataset.as_str(),
        "dtype": identity.dtype.name(),
        "end": shard.end.to_string(),
        "format_version": FORMAT_VERSION.to_string(),
        "model": identity.model.as_str(),
        "numeric_class": identity.numeric_class,
        "row_ids": to_json(&shard.row_ids)?,
        "set": identity.set.as_str(),
        "start": shard.start.to_string(),
    });
    if !identity.columns.is_empty() {
        texts[COLUMNS] = json!(to_json(&identity.columns)?);
    }
    if shard.sequences != 1 {
        texts[SEQUENCES] = json!(shard.sequences.to_string());
    }
    Ok(texts)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::bug("encode a shard").with_source(e))
}
