//! The container of `torch.save` before 1.6: pickles one after another, then raw storages.
//!
//! ```text
//! magic | protocol 1001 | system | object | storage keys | (count: i64, numbers) per key
//! ```
//!
//! Leaves out: the older tar container. Invariant: storages lie one after another inside the file.
//!
//! Source: torch `torch/serialization.py`, `_legacy_load`.

use super::Tensor;
use super::pickle::{Object, Pickle, Value};
use super::state::{self, Source, StorageId};
use super::storage::{MappedFile, Storage};
use glmeval_common::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pickle of the magic number 0x1950a86a20f9469cfc6c.
pub(super) const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
const PROTOCOL: i64 = 1001;

/// Lists the tensors of a legacy torch file; it starts with [`MAGIC`].
pub(super) fn open(file: &Arc<MappedFile>) -> Result<BTreeMap<String, Tensor>> {
    let protocol = read(file, "protocol version", MAGIC.len())?;
    if protocol.root != Value::Int(PROTOCOL) {
        let found = protocol.describe(protocol.root);
        return Err(file.defect("protocol version", PROTOCOL, found));
    }
    let system = read(file, "system", protocol.end)?;
    check_byte_order(file, &system)?;
    let object = read(file, "object", system.end)?;
    let keys = read(file, "storage keys", object.end)?;
    let storages = storages(file, &object, &keys)?;
    let storage = |id: StorageId<'_>, place: &str| {
        let storage = storages.get(id.key).map(Arc::clone);
        storage
            .ok_or_else(|| file.defect(format!("{place}: storage {}", id.key), "data", "missing"))
    };
    state::tensors(&Source { file, place: "object" }, &object, storage)
}

fn read<'a>(file: &'a Arc<MappedFile>, place: &str, start: usize) -> Result<Pickle<'a>> {
    Pickle::read(file.bytes(), start).map_err(|mut defect| {
        defect.expected = format!("a pickle of the {place}: {}", defect.expected);
        Source { file, place }.machine_error(&defect)
    })
}

fn check_byte_order(file: &MappedFile, system: &Pickle<'_>) -> Result<()> {
    let little = match system.object(system.root) {
        Some(Object::Dict(entries)) => {
            entries.contains(&(Value::Text("little_endian"), Value::Bool(true)))
        }
        _ => false,
    };
    if little {
        return Ok(());
    }
    Err(file.defect("system", "little_endian True", "no such entry"))
}

/// Where the numbers of each storage lie.
fn storages<'a>(
    file: &Arc<MappedFile>,
    object: &Pickle<'a>,
    keys: &Pickle<'_>,
) -> Result<BTreeMap<&'a str, Arc<Storage>>> {
    let place = "storage keys";
    let ids: BTreeMap<&str, StorageId<'a>> = (0..object.objects.len())
        .filter_map(|index| state::storage_id(object, Value::Object(index)).ok())
        .map(|id| (id.key, id))
        .collect();
    let Some(Object::List(list)) = keys.object(keys.root) else {
        return Err(file.defect(place, "a list of texts", keys.describe(keys.root)));
    };
    let mut found = BTreeMap::new();
    let mut at = keys.end;
    for &key in list {
        let id = match key {
            Value::Text(key) => ids.get(key),
            _ => None,
        };
        let Some(id) = id else {
            let expected = "keys of supported storages of the object";
            return Err(file.defect(place, expected, keys.describe(key)));
        };
        let place = format!("storage {}", id.key);
        let rest = file.bytes().get(at..).unwrap_or_default();
        let Some((count, rest)) = rest.split_first_chunk::<8>() else {
            return Err(file.defect(place, "a number of elements", "the end of the file"));
        };
        let count = u64::from_le_bytes(*count);
        if count != id.elements {
            return Err(file.defect(place, format!("{} elements", id.elements), count));
        }
        let bytes = id.bytes().and_then(|bytes| usize::try_from(bytes).ok());
        let Some(bytes) = bytes.filter(|&bytes| bytes <= rest.len()) else {
            let expected = format!("{count} elements of {}", id.dtype);
            return Err(file.defect(place, expected, format!("{} bytes (truncated)", rest.len())));
        };
        let start = at + 8;
        at = start + bytes;
        found.insert(id.key, Storage::mapped(file, place, start..at, None));
    }
    Ok(found)
}
