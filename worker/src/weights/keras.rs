//! HDF5 files of weights in the layout of Keras before version 3: groups per layer.
//!
//! Leaves out: the network that such a file may describe; optimizer states; the lists `vars` of
//! Keras 3. Invariant: no byte is read before all sizes were compared with the length of the file.

use super::Tensor;
use super::dtype::Dtype;
use super::storage::{MappedFile, Storage};
use super::strided::Strided;
use glmeval_common::error::Result;
use glmeval_common::limits::PARSER_ALLOCATION_BYTES_MAX;
use glmeval_common::readers::hdf5::{Array, float_arrays};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// First bytes of an HDF5 file.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Group of the layers where the network and its optimizer are in the file as well.
const LAYERS: &str = "model_weights";
/// How far weights can be packed: random digits hardly shrink, whole tensors of zeros do.
const EXPANSION_MAX: usize = 64;

/// Lists and reads the tensors of `file`, widened or rounded to f32.
///
/// A tensor is called `conv1d_1/kernel`, whatever groups stand around its layer's. Layers of a kind
/// are numbered from the first one of the file: Keras counts on from networks made before.
pub(super) fn open(file: &Arc<MappedFile>) -> Result<BTreeMap<String, Tensor>> {
    let arrays = float_arrays(file.path(), LAYERS)?;
    check_size(file, &arrays)?;
    let keys: Vec<&str> = arrays.iter().map(Array::key).collect();
    let names = names(&keys);
    let mut tensors = BTreeMap::new();
    for (mut array, name) in arrays.into_iter().zip(names) {
        let values = array.read(usize::MAX)?;
        // An extent past usize belongs to no array whose values could be read.
        let shape: Vec<usize> =
            array.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
        let count = shape.iter().try_fold(1_usize, |count, &n| count.checked_mul(n));
        if count != Some(values.len()) {
            let found = format!("{} values", values.len());
            return Err(file.defect(array.key(), format!("shape {shape:?}"), found));
        }
        let layout = Strided::contiguous(shape, values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let storage = Storage::read(file, array.key().to_owned(), bytes);
        if tensors.insert(name.clone(), Tensor { dtype: Dtype::F32, layout, storage }).is_some() {
            return Err(file.defect(array.key(), format!("one tensor {name}"), "two"));
        }
    }
    Ok(tensors)
}

fn check_size(file: &MappedFile, arrays: &[Array]) -> Result<()> {
    let length = file.bytes().len();
    let limit = length.saturating_mul(EXPANSION_MAX).max(PARSER_ALLOCATION_BYTES_MAX) as u64;
    let mut total = 0_u64;
    for array in arrays {
        let row = array.values_per_row().saturating_mul(Dtype::F32.bytes()) as u64;
        total = total.saturating_add(row.saturating_mul(array.rows()));
        if total > limit {
            let expected =
                format!("tensors below {limit} bytes, the limit for a {length}-byte file");
            return Err(file.defect(array.key(), expected, format!("{total} bytes up to here")));
        }
    }
    Ok(())
}

/// Layer and weight of each key; the whole keys where two would be called the same.
fn names(keys: &[&str]) -> Vec<String> {
    let parts: Vec<(&str, &str)> = keys.iter().map(|key| layer_and_weight(key)).collect();
    let distinct: BTreeSet<_> = parts.iter().collect();
    if distinct.len() < parts.len() {
        return keys.iter().map(|&key| key.to_owned()).collect();
    }
    let mut kinds: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (layer, _) in &parts {
        let (kind, number) = kind_and_number(layer);
        kinds.entry(kind).or_default().insert(number);
    }
    let name = |&(layer, weight): &(&str, &str)| {
        let (kind, number) = kind_and_number(layer);
        let rank = kinds.get(kind).map_or(0, |numbers| numbers.range(..number).count());
        if rank == 0 { format!("{kind}/{weight}") } else { format!("{kind}_{rank}/{weight}") }
    };
    parts.iter().map(name).collect()
}

/// The last two parts of `model_weights/conv1d/conv1d/kernel:0`.
fn layer_and_weight(key: &str) -> (&str, &str) {
    let (path, weight) = key.rsplit_once('/').unwrap_or(("", key));
    let layer = path.rsplit_once('/').map_or(path, |(_, layer)| layer);
    (layer, weight.strip_suffix(":0").unwrap_or(weight))
}

/// `conv1d_12` is `conv1d` and 12, `conv1d` itself has number 0.
fn kind_and_number(layer: &str) -> (&str, u32) {
    let parts = layer.rsplit_once('_');
    parts.and_then(|(kind, number)| Some((kind, number.parse().ok()?))).unwrap_or((layer, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_called_by_layer_and_weight() {
        let keys = ["model_weights/conv1d/conv1d/kernel:0", "model_weights/d/net/dense/bias"];
        assert_eq!(names(&keys), ["conv1d/kernel", "dense/bias"]);
        assert_eq!(names(&["kernel"]), ["/kernel"]);
        let alike = ["a/vars/0", "b/vars/0"];
        assert_eq!(names(&alike), alike);
    }

    #[test]
    fn layers_are_numbered_from_the_first_of_the_file() {
        let keys = ["c_10/c_10/kernel:0", "c_9/c_9/kernel:0", "c_9/c_9/bias:0", "d/d/kernel:0"];
        assert_eq!(names(&keys), ["c_1/kernel", "c/kernel", "c/bias", "d/kernel"]);
        assert_eq!(names(&["c/c/kernel:0", "c_1/c_1/kernel:0"]), ["c/kernel", "c_1/kernel"]);
    }
}
