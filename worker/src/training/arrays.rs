//! Named arrays and texts as one safetensors file.
//!
//! The `safetensors` crate keeps metadata in a map without order, so the header is written here.
//!
//! Leaves out: what the arrays mean. Invariant: equal contents have equal bytes.

use bytes::Bytes;
use glmeval_common::error::{Error, InputError, Result};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrayFile {
    /// `__metadata__`.
    pub texts: BTreeMap<String, String>,
    /// F32 tensors: extents, slowest first, and values.
    pub numbers: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// U8 tensors of one axis.
    pub blobs: BTreeMap<String, Bytes>,
}

impl ArrayFile {
    /// The file's bytes; tensors are sorted by name, numbers first.
    ///
    /// # Errors
    /// `Bug` when an array has another number of values than its extents say.
    pub fn encode(&self) -> Result<Bytes> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!(self.texts));
        let mut end = 0_usize;
        let mut add = |name: &str, dtype: &str, shape: &[usize], bytes: usize| {
            let about = json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
            end += bytes;
            match header.insert(name.to_owned(), about) {
                None => Ok(()),
                Some(_) => Err(Error::bug(format!("encode arrays: {name} is there twice"))),
            }
        };
        for (name, (shape, values)) in &self.numbers {
            if shape.iter().product::<usize>() != values.len() {
                let found = values.len();
                return Err(Error::bug(format!("encode {name}: {found} values for {shape:?}")));
            }
            add(name, "F32", shape, size_of_val(values.as_slice()))?;
        }
        for (name, blob) in &self.blobs {
            add(name, "U8", &[blob.len()], blob.len())?;
        }
        let text = Value::Object(header).to_string();
        let padded = text.len().next_multiple_of(8);
        let mut file = Vec::with_capacity(8 + padded + end);
        file.extend_from_slice(&(padded as u64).to_le_bytes());
        file.extend_from_slice(text.as_bytes());
        file.resize(8 + padded, b' ');
        for (_, values) in self.numbers.values() {
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        }
        self.blobs.values().for_each(|blob| file.extend_from_slice(blob));
        Ok(Bytes::from(file))
    }

    /// Reads a file back; `place` names it in errors.
    ///
    /// # Errors
    /// `Corrupt` for anything that [`ArrayFile::encode`] does not write.
    pub fn decode(bytes: &Bytes, place: &str) -> Result<Self> {
        let corrupt = |e| Error::corrupt(format!("{place}: not a safetensors file")).with_source(e);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(corrupt)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(corrupt)?;
        let mut file = Self::default();
        for (key, text) in header.metadata().iter().flatten() {
            file.texts.insert(key.clone(), text.clone());
        }
        for (name, view) in tensors.iter() {
            let (name, shape, data) = (name.to_owned(), view.shape().to_vec(), view.data());
            match view.dtype() {
                Dtype::F32 => {
                    let values = data.as_chunks::<4>().0.iter();
                    let values = values.map(|chunk| f32::from_le_bytes(*chunk)).collect();
                    file.numbers.insert(name, (shape, values));
                }
                Dtype::U8 => {
                    file.blobs.insert(name, Bytes::copy_from_slice(data));
                }
                other => {
                    let found = format!("{other:?}");
                    let defect = InputError::new(place, name, "F32 or U8", found);
                    return Err(Error::corrupt(defect.to_string()));
                }
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_texts_and_blobs_are_read_back() {
        let mut file = ArrayFile::default();
        file.texts.insert("about".to_owned(), "a \"text\"".to_owned());
        file.numbers.insert("conv/kernel".to_owned(), (vec![2, 1], vec![1.5, f32::NEG_INFINITY]));
        file.numbers.insert("empty".to_owned(), (vec![0], Vec::new()));
        file.blobs.insert("blob".to_owned(), Bytes::from_static(b"abc"));
        let bytes = file.encode().unwrap();
        assert_eq!(ArrayFile::decode(&bytes, "x").unwrap(), file);
        for length in [0, 7, 20, bytes.len() - 1] {
            assert!(ArrayFile::decode(&bytes.slice(..length), "x").is_err());
        }
        file.numbers.insert("short".to_owned(), (vec![3], vec![1.0]));
        assert!(file.encode().is_err());
    }
}
