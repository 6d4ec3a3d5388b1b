//! From a safetensors file to a checked shard.

use super::{
    COLUMNS, EXAMPLE_INDICES, EmbeddingShard, SEQUENCES, ShardIdentity, ShardTensor, TOKEN_OFFSETS,
    axes_of, parse_tensor_name,
};
use crate::error::{Error, InputError, Result};
use crate::ids::{DatasetId, ModelId, SetId};
use crate::layout::check_version;
use crate::representation::{Pooling, StoredDtype};
use bytes::Bytes;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::fmt::Display;

pub(super) fn decode(bytes: &Bytes, name: &str) -> Result<EmbeddingShard> {
    let file = File::open(bytes, name)?;
    let identity = ShardIdentity {
        set: SetId::parse(file.text("set")?).map_err(|e| file.defect("set", "an id", e))?,
        model: ModelId::parse(file.text("model")?).map_err(|e| file.defect("model", "an id", e))?,
        dataset: DatasetId::parse(file.text("dataset")?)
            .map_err(|e| file.defect("dataset", "an id", e))?,
        dtype: file.dtype()?,
        numeric_class: file.text("numeric_class")?.to_owned(),
        columns: file.columns()?,
    };
    let row_ids: Vec<String> = serde_json::from_str(file.text("row_ids")?)
        .map_err(|e| file.defect("row_ids", "a JSON list of texts", e))?;
    let sequences = file.sequences()?;
    let shard = EmbeddingShard {
        start: file.number("start")?,
        end: file.number("end")?,
        example_indices: file.integers(EXAMPLE_INDICES)?,
        token_offsets: file.integers(TOKEN_OFFSETS)?,
        tensors: file.tensors(identity.dtype, sequences)?,
        sequences,
        row_ids,
        identity,
    };
    check_rows(&file, &shard)?;
    check_tokens(&file, &shard)?;
    check_columns(&file, &shard)?;
    Ok(shard)
}

/// The container: header read and validated, tensor bytes not yet looked at.
struct File<'a> {
    name: &'a str,
    metadata: Metadata,
    body: Bytes,
}

impl<'a> File<'a> {
    fn open(bytes: &Bytes, name: &'a str) -> Result<Self> {
        let (header, body) = split(bytes)
            .ok_or_else(|| defect(name, "header", "a safetensors file", "a length beyond it"))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| defect(name, "header", "a safetensors header", e))?;
        if metadata.data_len() != body.len() {
            let expected = format!("{} bytes of tensors", metadata.data_len());
            return Err(defect(name, "body", expected, body.len()));
        }
        let file = Self { name, metadata, body };
        let version = file.number("format_version")?;
        check_version(u32::try_from(version).unwrap_or(u32::MAX), name)?;
        Ok(file)
    }

    fn defect(&self, place: &str, expected: impl Display, found: impl Display) -> Error {
        defect(self.name, place, expected, found)
    }

    fn text(&self, key: &str) -> Result<&str> {
        let metadata = self.metadata.metadata().as_ref();
        metadata
            .and_then(|texts| texts.get(key))
            .map(String::as_str)
            .ok_or_else(|| self.defect(key, "an entry of __metadata__", "none"))
    }

    fn number(&self, key: &str) -> Result<u64> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.defect(key, "a whole number", format!("{text:?}")))
    }

    fn dtype(&self) -> Result<StoredDtype> {
        let text = self.text("dtype")?;
        [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16]
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| self.defect("dtype", "f32, f16 or bf16", format!("{text:?}")))
    }

    /// Sequences of each example; files of one do not say so.
    fn sequences(&self) -> Result<u32> {
        let texts = self.metadata.metadata().as_ref();
        let Some(text) = texts.and_then(|texts| texts.get(SEQUENCES)) else { return Ok(1) };
        text.parse()
            .ok()
            .filter(|count| *count > 1)
            .ok_or_else(|| self.defect(SEQUENCES, "a whole number above 1", format!("{text:?}")))
    }

    /// Names of the columns of scores; files of states do not say so.
    fn columns(&self) -> Result<Vec<String>> {
        let texts = self.metadata.metadata().as_ref();
        let Some(text) = texts.and_then(|texts| texts.get(COLUMNS)) else { return Ok(Vec::new()) };
        serde_json::from_str(text).map_err(|e| self.defect(COLUMNS, "a JSON list of texts", e))
    }

    fn data(&self, name: &str, info: &TensorInfo) -> Result<Bytes> {
        let (from, to) = info.data_offsets;
        if from > to || to > self.body.len() {
            let found = format!("{from}..{to} of {} bytes", self.body.len());
            return Err(self.defect(name, "bytes within the file", found));
        }
        Ok(self.body.slice(from..to))
    }

    /// A tensor of whole numbers from 0, `None` if the file lacks it.
    fn integers(&self, name: &str) -> Result<Option<Vec<u64>>> {
        let Some(info) = self.metadata.info(name) else { return Ok(None) };
        if info.dtype != Dtype::I64 || info.shape.len() != 1 {
            let found = format!("{:?} of shape {:?}", info.dtype, info.shape);
            return Err(self.defect(name, "I64 with one axis", found));
        }
        let data = self.data(name, info)?;
        let mut numbers = Vec::with_capacity(data.len() / 8);
        for chunk in data.as_chunks::<8>().0 {
            let number = i64::from_le_bytes(*chunk);
            let number =
                u64::try_from(number).map_err(|_| self.defect(name, "numbers from 0", number))?;
            numbers.push(number);
        }
        Ok(Some(numbers))
    }

    /// Every tensor of a layer, by layer, then pooling.
    fn tensors(&self, dtype: StoredDtype, sequences: u32) -> Result<Vec<ShardTensor>> {
        let wanted = match dtype {
            StoredDtype::F32 => Dtype::F32,
            StoredDtype::F16 => Dtype::F16,
            StoredDtype::Bf16 => Dtype::BF16,
        };
        let mut tensors = Vec::new();
        for name in self.metadata.offset_keys() {
            if name == EXAMPLE_INDICES || name == TOKEN_OFFSETS {
                continue;
            }
            let info = self.metadata.info(&name);
            let (Some((layer, pooling)), Some(info)) = (parse_tensor_name(&name), info) else {
                return Err(self.defect(&name, "a name such as layer_1.mean", "another name"));
            };
            let (rows, width) = match (info.shape.as_slice(), pooling) {
                (&[rows, width], Pooling::Full | Pooling::Effect) => (rows, width),
                (&[rows, width], _) if sequences == 1 => (rows, width),
                (&[rows, count, width], Pooling::Cls | Pooling::Mean | Pooling::AfterCls)
                    if sequences > 1 && count as u64 == u64::from(sequences) =>
                {
                    (rows, width)
                }
                (shape, _) => {
                    let expected = axes_of(pooling, sequences).join(", ");
                    let expected = match sequences {
                        1 => format!("two axes: {expected}"),
                        _ => format!("axes {expected} with {sequences} sequences"),
                    };
                    return Err(self.defect(&name, expected, format!("shape {shape:?}")));
                }
            };
            if info.dtype != wanted {
                return Err(self.defect(&name, dtype.name(), format!("{:?}", info.dtype)));
            }
            let values = self.data(&name, info)?;
            let (rows, width) = (rows as u64, width as u64);
            tensors.push(ShardTensor { layer, pooling, rows, width, values });
        }
        tensors.sort_by_key(|tensor| (tensor.layer, tensor.pooling));
        Ok(tensors)
    }
}

/// Header and tensor bytes of the file; `None` when the header does not fit.
fn split(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if length > rest.len() {
        return None;
    }
    let rest = bytes.slice(8..);
    Some((rest.slice(..length), rest.slice(length..)))
}

fn defect(name: &str, place: &str, expected: impl Display, found: impl Display) -> Error {
    Error::corrupt(InputError::new(name, place, expected, found).to_string())
}

/// Row ids, example numbers and pooled tensors agree on E.
fn check_rows(file: &File<'_>, shard: &EmbeddingShard) -> Result<()> {
    let (start, end) = (shard.start, shard.end);
    let examples = shard.row_ids.len() as u64;
    if start >= end {
        return Err(file.defect("start", format!("a start below {end}"), start));
    }
    match &shard.example_indices {
        None if examples != end - start => {
            return Err(file.defect("row_ids", format!("{} ids", end - start), examples));
        }
        Some(indices) if indices.len() != shard.row_ids.len() => {
            return Err(file.defect(EXAMPLE_INDICES, format!("{examples} numbers"), indices.len()));
        }
        Some(indices)
            if !indices.is_sorted_by(|a, b| a < b)
                || indices.iter().any(|index| !(start..end).contains(index)) =>
        {
            let expected = format!("rising numbers within {start}..{end}");
            return Err(file.defect(EXAMPLE_INDICES, expected, "others"));
        }
        _ => {}
    }
    if shard.tensors.is_empty() {
        return Err(file.defect("header", "at least one layer", "none"));
    }
    for tensor in shard.tensors.iter().filter(|tensor| tensor.pooling != Pooling::Full) {
        if tensor.rows != examples {
            let name = super::tensor_name(tensor.layer, tensor.pooling);
            return Err(file.defect(&name, format!("{examples} rows"), tensor.rows));
        }
    }
    Ok(())
}

/// Columns are named exactly where a tensor holds scores, one name for each.
fn check_columns(file: &File<'_>, shard: &EmbeddingShard) -> Result<()> {
    let named = shard.identity.columns.len() as u64;
    let scores = shard.tensors.iter().filter(|tensor| tensor.pooling == Pooling::Effect);
    let widths: Vec<u64> = scores.map(|tensor| tensor.width).collect();
    if widths.iter().any(|width| *width != named) || (widths.is_empty() && named > 0) {
        let expected = format!("a name for each of {widths:?} columns of scores");
        return Err(file.defect(COLUMNS, expected, format!("{named} names")));
    }
    Ok(())
}

/// Token offsets are there exactly if a `full` tensor is, and agree with it on N.
fn check_tokens(file: &File<'_>, shard: &EmbeddingShard) -> Result<()> {
    let mut full = shard.tensors.iter().filter(|tensor| tensor.pooling == Pooling::Full).peekable();
    let Some(offsets) = &shard.token_offsets else {
        return match full.peek() {
            Some(_) => Err(file.defect(TOKEN_OFFSETS, "offsets of the full tensors", "none")),
            None => Ok(()),
        };
    };
    if full.peek().is_none() {
        return Err(file.defect(TOKEN_OFFSETS, "none without a full tensor", "offsets"));
    }
    let sequences = (shard.row_ids.len() as u64).checked_mul(u64::from(shard.sequences));
    if Some(offsets.len() as u64) != sequences.and_then(|count| count.checked_add(1)) {
        let expected = match shard.sequences {
            1 => format!("{} + 1 offsets", shard.row_ids.len()),
            count => format!("{} x {count} + 1 offsets", shard.row_ids.len()),
        };
        return Err(file.defect(TOKEN_OFFSETS, expected, offsets.len()));
    }
    if offsets.first() != Some(&0) || !offsets.is_sorted() {
        return Err(file.defect(TOKEN_OFFSETS, "0, then never falling", "others"));
    }
    let tokens = offsets.last().copied().unwrap_or_default();
    match full.find(|tensor| tensor.rows != tokens) {
        Some(tensor) => {
            let name = super::tensor_name(tensor.layer, tensor.pooling);
            Err(file.defect(&name, format!("{tokens} rows"), tensor.rows))
        }
        None => Ok(()),
    }
}
