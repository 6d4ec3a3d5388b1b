//! From a pickle to named tensors: finds the state dict, checks each tensor against its storage.
//!
//! Leaves out: where storages lie (torch.rs, legacy.rs). Invariant: an unknown global is tolerated
//! only beside a `state_dict` (files of Lightning), never inside or without one.

use super::Tensor;
use super::dtype::Dtype;
use super::pickle::{Defect, Object, Pickle, Value};
use super::storage::{MappedFile, Storage};
use super::strided::Strided;
use glmeval_common::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A storage as a persistent id describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageId<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    pub(super) elements: u64,
}

impl StorageId<'_> {
    /// Its size in bytes; `None` on overflow.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype.bytes() as u64)
    }
}

/// A pickle and the place it has in its file.
pub(super) struct Source<'a> {
    pub(super) file: &'a Arc<MappedFile>,
    pub(super) place: &'a str,
}

impl Source<'_> {
    /// An error of the pickle machine, with the place of the pickle.
    pub(super) fn machine_error(&self, defect: &Defect) -> Error {
        let place = format!("{} byte {}", self.place, defect.offset);
        self.file.defect(place, &defect.expected, &defect.found)
    }

    fn tensor_error(&self, name: &str, expected: &str, found: &str) -> Error {
        self.file.defect(format!("{}: tensor {name}", self.place), expected, found)
    }
}

/// Lists the tensors of a pickle; `storage` finds the bytes of one (its second argument names the
/// place in errors).
pub(super) fn tensors<'a>(
    source: &Source<'_>,
    pickle: &Pickle<'a>,
    storage: impl Fn(StorageId<'a>, &str) -> Result<Arc<Storage>>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut found = BTreeMap::new();
    for &(key, value) in state_dict(source, pickle)? {
        let Value::Text(name) = key else {
            let place = format!("{}: state dict", source.place);
            return Err(source.file.defect(place, "names of tensors", pickle.describe(key)));
        };
        let view = View::of(source, pickle, name, value)?;
        let elements = usize::try_from(view.id.elements).unwrap_or(usize::MAX);
        let layout = Strided::check(view.offset, &view.shape, &view.strides, elements)
            .map_err(|misfit| source.tensor_error(name, &misfit.expected, &misfit.found))?;
        let place = format!("{}: tensor {name}", source.place);
        let bytes = storage(view.id, &place)?;
        if Some(bytes.len() as u64) != view.id.bytes() {
            let StorageId { elements, dtype, .. } = view.id;
            let needed = view.id.bytes().map_or("overflow".to_owned(), |bytes| bytes.to_string());
            let expected = format!("{needed} bytes ({elements} elements of {dtype})");
            let place = format!("{place}: {}", bytes.place());
            return Err(source.file.defect(place, expected, format!("{} bytes", bytes.len())));
        }
        let tensor = Tensor { dtype: view.id.dtype, layout, storage: bytes };
        if found.insert(name.to_owned(), tensor).is_some() {
            return Err(source.tensor_error(name, "every name once", "a duplicate"));
        }
    }
    Ok(found)
}

/// The root dict, or the one under its key `state_dict`.
fn state_dict<'p, 'a>(
    source: &Source<'_>,
    pickle: &'p Pickle<'a>,
) -> Result<&'p [(Value<'a>, Value<'a>)]> {
    let root_error = |value| {
        let expected = "a state dict (dict of tensors)";
        source.file.defect(source.place, expected, pickle.describe(value))
    };
    let root = pickle.object(pickle.root);
    let nested = match root {
        Some(Object::Dict(entries)) => {
            entries.iter().find(|(key, _)| *key == Value::Text("state_dict"))
        }
        _ => None,
    };
    if let Some(&(_, value)) = nested {
        return match pickle.object(value) {
            Some(Object::Dict(entries)) => Ok(entries),
            _ => Err(root_error(value)),
        };
    }
    if let Some(unknown) = &pickle.unknown {
        return Err(source.machine_error(unknown));
    }
    match root {
        Some(Object::Dict(entries)) => Ok(entries),
        _ => Err(root_error(pickle.root)),
    }
}

/// A tensor as the pickle writes it, not checked against its storage.
struct View<'a> {
    id: StorageId<'a>,
    offset: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl<'a> View<'a> {
    fn of(source: &Source<'_>, pickle: &Pickle<'a>, name: &str, value: Value<'a>) -> Result<Self> {
        let error = |expected: &str, found: &str| source.tensor_error(name, expected, found);
        let arguments = match pickle.object(value) {
            Some(Object::Tensor(arguments)) => arguments.as_slice(),
            Some(Object::Opaque) if let Some(unknown) = &pickle.unknown => {
                return Err(source.machine_error(unknown));
            }
            _ => return Err(error("a tensor", &pickle.describe(value))),
        };
        let &[storage, offset, shape, strides, ..] = arguments else {
            let found = format!("{} arguments", arguments.len());
            return Err(error("storage, offset, shape and strides", &found));
        };
        let id =
            storage_id(pickle, storage).map_err(|defect| error(&defect.expected, &defect.found))?;
        let integers = |value| {
            let Some(Object::Tuple(items) | Object::List(items)) = pickle.object(value) else {
                return Err(error("a tuple of integers", &pickle.describe(value)));
            };
            items
                .iter()
                .map(|&item| integer(pickle, item).map_err(|found| error("an integer", &found)))
                .collect()
        };
        let offset = integer(pickle, offset).map_err(|found| error("an integer offset", &found))?;
        Ok(Self { id, offset, shape: integers(shape)?, strides: integers(strides)? })
    }
}

fn integer<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(number),
        _ => Err(pickle.describe(value)),
    }
}

/// Reads `('storage', class, key, location, elements)`.
pub(super) fn storage_id<'a>(
    pickle: &Pickle<'a>,
    value: Value<'a>,
) -> Result<StorageId<'a>, Defect> {
    let defect =
        |expected: &str, found: String| Defect { offset: 0, expected: expected.to_owned(), found };
    let Some(Object::Storage(parts)) = pickle.object(value) else {
        return Err(defect("a storage", pickle.describe(value)));
    };
    let &[Value::Text("storage"), class, Value::Text(key), _, elements, ref view @ ..] =
        parts.as_slice()
    else {
        let parts: Vec<_> = parts.iter().map(|&part| pickle.describe(part)).collect();
        return Err(defect("('storage', class, key, location, elements)", parts.join(", ")));
    };
    if !matches!(view, [] | [Value::None]) {
        return Err(defect("a whole storage", "a view of another one".to_owned()));
    }
    let dtype = match pickle.object(class) {
        Some(Object::Global("torch", class)) => Dtype::from_storage(class),
        _ => None,
    };
    let dtype = dtype.ok_or_else(|| {
        let expected = format!("a supported storage ({})", Dtype::storages());
        defect(&expected, pickle.describe(class))
    })?;
    match elements {
        Value::Int(number) if let Ok(elements) = u64::try_from(number) => {
            Ok(StorageId { key, dtype, elements })
        }
        _ => Err(defect("a number of elements", pickle.describe(elements))),
    }
}
