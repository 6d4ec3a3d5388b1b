//! Maps of a set as one safetensors file, written sequence by sequence.
//!
//! Leaves out: naming and renaming the file. Invariant: memory does not grow with the set; a file of
//! equal maps has equal bytes.

use super::MapKind;
use glmeval_common::error::{Error, Result, io_error};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes of a value.
const VALUE_BYTES: u64 = 4;

/// One F32 tensor `[sequences, length]` for each kind of map, NaN behind the end of a shorter sequence.
pub struct MapFile {
    path: PathBuf,
    file: File,
    kinds: Vec<MapKind>,
    sequences: u64,
    length: u64,
    /// Where the first tensor begins.
    start: u64,
    pushed: u64,
}

impl MapFile {
    /// Starts the file `path` with `texts` in its header.
    ///
    /// # Errors
    /// I/O errors with the path; `Invalid` for more bytes than can be counted.
    pub fn new(
        path: &Path,
        kinds: &[MapKind],
        (sequences, length): (u64, u64),
        texts: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let file = File::create(path).map_err(|e| io_error(path, e))?;
        Self::on((file, path), kinds, (sequences, length), texts)
    }

    /// As [`MapFile::new`], on an empty file that is open; its path names it in errors.
    ///
    /// # Errors
    /// As [`MapFile::new`].
    pub fn on(
        (mut file, path): (File, &Path),
        kinds: &[MapKind],
        (sequences, length): (u64, u64),
        texts: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let tensor = sequences.checked_mul(length).and_then(|count| count.checked_mul(VALUE_BYTES));
        let whole = tensor.and_then(|bytes| bytes.checked_mul(kinds.len() as u64));
        let (Some(tensor), Some(whole)) = (tensor, whole) else {
            let found = format!("{sequences} maps of {length}");
            return Err(Error::invalid(format!("expected fewer than 2^64 bytes, found {found}")));
        };
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!(texts));
        for (index, kind) in (0_u64..).zip(kinds) {
            let offsets = [index * tensor, (index + 1) * tensor];
            let shape = [sequences, length];
            let about = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
            header.insert(kind.name().to_owned(), about);
        }
        let mut text = serde_json::Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let failed = |e| io_error(path, e);
        file.write_all(&(text.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        let start = 8 + text.len() as u64;
        file.set_len(start.saturating_add(whole)).map_err(failed)?;
        let (path, kinds) = (path.to_owned(), kinds.to_vec());
        Ok(Self { path, file, kinds, sequences, length, start, pushed: 0 })
    }

    /// Adds the maps of the next sequences: of each sequence one for each kind, in their order.
    ///
    /// # Errors
    /// `Bug` for more sequences, other kinds or longer maps than the file was started for; I/O errors.
    pub fn push(&mut self, sequences: &[Vec<Vec<f32>>]) -> Result<()> {
        let last = self.pushed.saturating_add(sequences.len() as u64);
        if last > self.sequences {
            return Err(Error::bug(format!("expected {} maps, found more", self.sequences)));
        }
        let tensor = self.sequences * self.length * VALUE_BYTES;
        for index in 0..self.kinds.len() {
            let mut bytes = Vec::new();
            for maps in sequences {
                let map = maps.get(index).filter(|map| map.len() as u64 <= self.length);
                let map = map.ok_or_else(|| Error::bug("a map that the file was not made for"))?;
                let missing = (self.length as usize).saturating_sub(map.len());
                let row = map.iter().copied().chain(std::iter::repeat_n(f32::NAN, missing));
                bytes.extend(row.flat_map(f32::to_le_bytes));
            }
            let place =
                self.start + index as u64 * tensor + self.pushed * self.length * VALUE_BYTES;
            let written = self.file.seek(SeekFrom::Start(place));
            written
                .and_then(|_| self.file.write_all(&bytes))
                .map_err(|e| io_error(&self.path, e))?;
        }
        self.pushed = last;
        Ok(())
    }

    /// Ends the file and gives it back.
    ///
    /// # Errors
    /// `Bug` for fewer sequences than it was started for; I/O errors.
    pub fn finish(self) -> Result<File> {
        if self.pushed != self.sequences {
            let (expected, found) = (self.sequences, self.pushed);
            return Err(Error::bug(format!("expected {expected} maps, found {found}")));
        }
        self.file.sync_all().map_err(|e| io_error(&self.path, e))?;
        Ok(self.file)
    }
}
