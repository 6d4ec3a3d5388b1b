//! The zip container of `torch.save`: `PREFIX/data.pkl`, `PREFIX/data/KEY`, `PREFIX/byteorder`.
//!
//! Leaves out: the pickle (pickle.rs, state.rs). Invariant: entries are looked up by whole names in
//! the directory, so no name in a file ever becomes a path; a compressed entry is inflated only as
//! far as the pickle announces.

use super::Tensor;
use super::pickle::Pickle;
use super::state::{self, Source, StorageId};
use super::storage::{MappedFile, Storage, crc32};
use glmeval_common::error::Result;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// Largest pickle that is inflated, in bytes.
const PICKLE_BYTES_MAX: u64 = 16 << 20;

/// Lists the tensors of a zip archive written by torch.
pub(super) fn open(file: &Arc<MappedFile>) -> Result<BTreeMap<String, Tensor>> {
    let archive = Archive::open(file)?;
    let place = format!("{}data.pkl", archive.prefix);
    let pickle = archive.read(&place, PICKLE_BYTES_MAX)?;
    let source = Source { file, place: &place };
    let pickle = Pickle::read(&pickle, 0).map_err(|defect| source.machine_error(&defect))?;
    let storages = RefCell::new(BTreeMap::new());
    let storage = |id: StorageId<'_>, place: &str| {
        if let Some(storage) = storages.borrow().get(id.key) {
            return Ok(Arc::clone(storage));
        }
        let storage = archive.storage(id, place)?;
        storages.borrow_mut().insert(id.key.to_owned(), Arc::clone(&storage));
        Ok(storage)
    };
    state::tensors(&source, &pickle, storage)
}

/// An entry of the directory.
struct Entry {
    range: Range<usize>,
    size: u64,
    method: CompressionMethod,
    crc: u32,
}

struct Archive<'a> {
    file: &'a Arc<MappedFile>,
    prefix: String,
    entries: BTreeMap<String, Entry>,
}

impl<'a> Archive<'a> {
    fn open(file: &'a Arc<MappedFile>) -> Result<Self> {
        let place = "zip central directory";
        let invalid = |e: zip::result::ZipError| {
            file.defect(place, "a whole zip archive", format!("an invalid or truncated one ({e})"))
        };
        let mut archive = ZipArchive::new(Cursor::new(file.bytes())).map_err(invalid)?;
        let mut entries = BTreeMap::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(invalid)?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let outside =
                || file.defect(format!("zip entry {name}"), "data in the file", "data outside");
            let start = entry.data_start().ok_or_else(outside)?;
            let end = start.checked_add(entry.compressed_size()).ok_or_else(outside)?;
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let range = range.map(|(start, end)| start..end).ok_or_else(outside)?;
            if file.bytes().get(range.clone()).is_none() {
                return Err(outside());
            }
            let (size, method, crc) = (entry.size(), entry.compression(), entry.crc32());
            entries.insert(name, Entry { range, size, method, crc });
        }
        if archive.has_duplicate_names() {
            let names: Vec<_> = entries.into_keys().collect();
            let place = format!("{place} ({})", names.join(", "));
            return Err(file.defect(place, "unique entry names", "a duplicate name"));
        }
        let prefix = Self::prefix(file, &entries)?;
        let archive = Self { file, prefix, entries };
        archive.check_byte_order()?;
        Ok(archive)
    }

    /// The folder of the one `data.pkl`, with its slash.
    fn prefix(file: &MappedFile, entries: &BTreeMap<String, Entry>) -> Result<String> {
        let is_prefix = |prefix: &&str| prefix.is_empty() || prefix.ends_with('/');
        let mut prefixes =
            entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).filter(is_prefix);
        match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) => Ok(prefix.to_owned()),
            (None, _) => Err(file.defect("zip entry data.pkl", "one data.pkl", "missing")),
            (Some(_), Some(_)) => Err(file.defect("zip entry data.pkl", "one data.pkl", "two")),
        }
    }

    fn check_byte_order(&self) -> Result<()> {
        let place = format!("{}byteorder", self.prefix);
        if !self.entries.contains_key(&place) {
            return Ok(());
        }
        let order = self.read(&place, 16)?;
        match order.as_slice() {
            b"little" => Ok(()),
            _ => {
                let found = String::from_utf8_lossy(&order).into_owned();
                Err(self.file.defect(place, "little", found))
            }
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .get(name)
            .ok_or_else(|| self.file.defect(format!("zip entry {name}"), "an entry", "missing"))
    }

    /// A small entry's bytes, checksum compared.
    fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let entry = self.entry(name)?;
        let bytes = match entry.method {
            CompressionMethod::Stored if entry.range.len() as u64 <= bytes_max => {
                self.file.bytes().get(entry.range.clone()).unwrap_or_default().to_vec()
            }
            CompressionMethod::Stored => {
                let expected = format!("at most {bytes_max} bytes (limit)");
                return Err(self.file.defect(name, expected, entry.range.len()));
            }
            _ => self.inflate(name, entry, bytes_max)?,
        };
        let found = crc32(&bytes);
        if found == entry.crc {
            return Ok(bytes);
        }
        let expected = format!("the checksum (CRC-32) {:08x}", entry.crc);
        Err(self.file.defect(name, expected, format!("mismatch: {found:08x}")))
    }

    fn inflate(&self, name: &str, entry: &Entry, bytes_max: u64) -> Result<Vec<u8>> {
        if entry.method != CompressionMethod::Deflated {
            let found = format!("compression {:?}", entry.method);
            return Err(self.file.defect(name, "a stored or deflated entry", found));
        }
        let compressed = self.file.bytes().get(entry.range.clone()).unwrap_or_default();
        let mut bytes = Vec::new();
        if entry.size <= bytes_max {
            flate2::read::DeflateDecoder::new(compressed)
                .take(bytes_max.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(|e| self.file.defect(name, "deflated data", format!("invalid: {e}")))?;
        }
        if entry.size > bytes_max || bytes.len() as u64 != entry.size {
            let expected = format!("a deflated entry of at most {bytes_max} bytes");
            let found = format!("{} (declared {})", bytes.len(), entry.size);
            return Err(self.file.defect(name, expected, found));
        }
        Ok(bytes)
    }

    fn storage(&self, id: StorageId<'_>, place: &str) -> Result<Arc<Storage>> {
        let name = format!("{}data/{}", self.prefix, id.key);
        let Ok(entry) = self.entry(&name) else {
            return Err(self.file.defect(format!("{place}: {name}"), "an entry", "missing"));
        };
        if entry.method == CompressionMethod::Stored {
            return Ok(Storage::mapped(self.file, name, entry.range.clone(), Some(entry.crc)));
        }
        let bytes = self.inflate(&name, entry, id.bytes().unwrap_or(0))?;
        Ok(Storage::inflated(self.file, name, bytes, entry.crc))
    }
}
