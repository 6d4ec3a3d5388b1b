//! Bytes of tensors: memory-mapped files, and the stretches of them that storages occupy.
//!
//! Leaves out: what the bytes mean. Invariant: a storage's checksum is compared before its first use.

use glmeval_common::error::{InputError, Result, io_error};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file of weights, mapped into memory.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Option<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`; an empty one needs no map.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>> {
        let file = File::open(path).map_err(|e| io_error(path, e))?;
        let metadata = file.metadata().map_err(|e| io_error(path, e))?;
        let path = path.to_owned();
        if !metadata.is_file() {
            return Err(InputError::new(path.display(), "", "a file", "something else").into());
        }
        if metadata.len() == 0 {
            return Ok(Arc::new(Self { path, map: None }));
        }
        #[expect(unsafe_code, reason = "weights of many gigabytes are mapped, not copied")]
        // SAFETY: the map is read-only and private to this process. Weights are files that nobody
        // changes while they are in use; truncating one under us ends the process with a signal.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| io_error(&path, e))?;
        Ok(Arc::new(Self { path, map: Some(map) }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// An error at `place` of this file.
    pub(super) fn defect(
        &self,
        place: impl std::fmt::Display,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> glmeval_common::error::Error {
        InputError::new(self.path.display(), place, expected, found).into()
    }
}

/// The bytes of one or more tensors.
#[derive(Debug)]
pub(super) struct Storage {
    file: Arc<MappedFile>,
    place: String,
    data: Data,
    crc: Option<u32>,
    verified: OnceLock<bool>,
}

#[derive(Debug)]
enum Data {
    Mapped(Range<usize>),
    Owned(Vec<u8>),
}

impl Storage {
    /// `range` of `file`; `place` names it in errors.
    pub(super) fn mapped(
        file: &Arc<MappedFile>,
        place: String,
        range: Range<usize>,
        crc: Option<u32>,
    ) -> Arc<Self> {
        Self::new(file, place, Data::Mapped(range), crc)
    }

    /// Bytes that stood compressed in `file`.
    pub(super) fn inflated(
        file: &Arc<MappedFile>,
        place: String,
        bytes: Vec<u8>,
        crc: u32,
    ) -> Arc<Self> {
        Self::new(file, place, Data::Owned(bytes), Some(crc))
    }

    /// Bytes that a format library read from `file`.
    pub(super) fn read(file: &Arc<MappedFile>, place: String, bytes: Vec<u8>) -> Arc<Self> {
        Self::new(file, place, Data::Owned(bytes), None)
    }

    fn new(file: &Arc<MappedFile>, place: String, data: Data, crc: Option<u32>) -> Arc<Self> {
        Arc::new(Self { file: Arc::clone(file), place, data, crc, verified: OnceLock::new() })
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> usize {
        self.unverified().len()
    }

    pub(super) fn file(&self) -> &MappedFile {
        &self.file
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The bytes, after their checksum was found right.
    pub(super) fn bytes(&self) -> Result<&[u8]> {
        let bytes = self.unverified();
        let Some(expected) = self.crc else { return Ok(bytes) };
        if *self.verified.get_or_init(|| crc32(bytes) == expected) {
            return Ok(bytes);
        }
        let expected = format!("the checksum (CRC-32) {expected:08x}");
        Err(self.file.defect(&self.place, expected, format!("mismatch: {:08x}", crc32(bytes))))
    }

    fn unverified(&self) -> &[u8] {
        match &self.data {
            Data::Mapped(range) => self.file.bytes().get(range.clone()).unwrap_or_default(),
            Data::Owned(bytes) => bytes,
        }
    }
}

/// CRC-32 as zip files use it.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
