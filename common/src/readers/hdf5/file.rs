//! An open HDF5 file: its signature, its length, the keys of its root.
//!
//! Leaves out: shapes and values (`array`). Invariant: a key is found whatever its case, and two
//! keys that differ only in case are an error, never a choice.

use crate::error::{InputError, Result, io_error};
use crate::readers::isolate::isolated;
use hdf5_pure::MetadataCacheConfig;
use hdf5_pure::{ChunkCacheConfig, Dataset, DatasetAccessProperties, FileAccessProperties};
use std::path::Path;

/// Metadata kept in memory while a file is open.
const METADATA_CACHE_BYTES: usize = 8 << 20;
/// Keys an error message lists at most.
const KEYS_LISTED_MAX: usize = 30;
/// Groups that are entered, and how deep: hard links may form a ring.
const GROUPS_MAX: usize = 1 << 14;
const DEPTH_MAX: usize = 16;

/// An open file and what its root holds.
pub(super) struct Hdf5File {
    /// Path as the user wrote it.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) bytes: u64,
    file: hdf5_pure::File,
    datasets: Vec<String>,
    groups: Vec<String>,
    /// Why the root could not be listed: the library stops at the first link it cannot follow.
    listing_defect: Option<String>,
}

impl Hdf5File {
    /// Opens the file and lists its root.
    ///
    /// # Errors
    /// `NotFound` or `Invalid` from the file system; `Invalid` for anything that is no HDF5 file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|e| io_error(path, e))?;
        if metadata.is_dir() {
            return Err(InputError::new(&name, "", "an HDF5 file", "a folder").into());
        }
        let bytes = metadata.len();
        check_signature(path, &name, bytes)?;
        let opened = isolated(&name, "superblock", || {
            let file = hdf5_pure::File::open_streaming_with_options(path, access())?;
            let root = file.root();
            let datasets = root.datasets();
            let groups = root.groups();
            Ok::<_, hdf5_pure::Error>((file, datasets, groups))
        })?;
        let (file, datasets, groups) = opened.map_err(|e| {
            let found = format!("{bytes} bytes that are truncated or invalid: {e}");
            InputError::new(&name, "superblock", "the header of an HDF5 file", found)
        })?;
        let end = file.superblock().eof_address;
        if bytes < end {
            let found = format!("{bytes} bytes: truncated");
            let expected = format!("a file of the size its superblock states, {end} bytes");
            return Err(InputError::new(&name, "superblock", expected, found).into());
        }
        let listing_defect =
            datasets.as_ref().err().map(|e| format!("invalid link or header: {e}"));
        Ok(Self {
            name,
            bytes,
            file,
            datasets: datasets.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
            listing_defect,
        })
    }

    /// Whether the root has a data set of that name.
    ///
    /// # Errors
    /// `Invalid` when two names differ from it only in case, or when it names a group.
    pub(super) fn find(&self, wanted: &str) -> Result<Option<String>> {
        let same = |names: &[String]| -> Vec<String> {
            names.iter().filter(|name| name.eq_ignore_ascii_case(wanted)).cloned().collect()
        };
        let mut found = same(&self.datasets);
        if found.is_empty() {
            if let Some(group) = same(&self.groups).into_iter().next() {
                return Err(self.defect(&group, "a dataset", "a group"));
            }
            if self.listing_defect.is_some() || wanted.contains('/') {
                found = self.probe(wanted)?;
            }
        }
        if found.len() > 1 {
            let text = format!("{}: {}", found.len(), found.join(" and "));
            let expected = format!("one dataset of the name {wanted} in any case");
            return Err(self.defect(&found.join(", "), expected, text));
        }
        Ok(found.pop())
    }

    /// The data set of that name as the file spells it.
    ///
    /// # Errors
    /// As [`Hdf5File::find`], and `Invalid` with the keys there are when it is missing.
    pub(super) fn require(&self, wanted: &str) -> Result<String> {
        match self.find(wanted)? {
            Some(key) => Ok(key),
            None => Err(self.defect(wanted, format!("a dataset {wanted}"), self.keys())),
        }
    }

    /// What an error says was found instead of a key: the keys there are.
    pub(super) fn keys(&self) -> String {
        if let Some(defect) = &self.listing_defect {
            return format!("no such key, or a link that is not followed ({defect})");
        }
        let mut keys = self.datasets.iter().chain(&self.groups).map(String::as_str);
        let listed: Vec<&str> = keys.by_ref().take(KEYS_LISTED_MAX).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let more = match keys.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "no such key (links to other objects or files are not followed); keys: {listed}{more}"
        )
    }

    /// Opens the data set that the file spells `key`, keeping `cache_bytes` of decoded chunks.
    ///
    /// # Errors
    /// `Invalid` when it cannot be opened.
    pub(super) fn dataset(&self, key: &str, cache_bytes: usize) -> Result<Dataset> {
        let slots = if cache_bytes == 0 { 0 } else { 4_096 };
        let cache = ChunkCacheConfig::new().with_max_bytes(cache_bytes).with_max_slots(slots);
        let access = DatasetAccessProperties::new().with_chunk_cache(cache);
        isolated(&self.name, key, || self.file.dataset_with_options(key, access))?
            .map_err(|e| self.defect(key, "a dataset", format!("an invalid header: {e}")))
    }

    /// Keys of all data sets below the group `wanted`, below the root if there is no such group.
    ///
    /// # Errors
    /// `Invalid` for a link that cannot be followed, groups past all measure or in a ring.
    pub(super) fn keys_below(&self, wanted: &str) -> Result<Vec<String>> {
        let start = self.groups.iter().find(|group| *group == wanted).map_or("", String::as_str);
        let listed = isolated(&self.name, start, || list(&self.file, start))?;
        listed.map_err(|found| self.defect(start, "groups of datasets", found))
    }

    fn defect(
        &self,
        place: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> crate::error::Error {
        InputError::new(&self.name, place, expected, found).into()
    }

    /// Looks a name up in its usual spellings, for a root that cannot be listed.
    fn probe(&self, wanted: &str) -> Result<Vec<String>> {
        let mut spellings = vec![wanted.to_owned(), wanted.to_lowercase(), wanted.to_uppercase()];
        let mut letters = wanted.chars();
        if let Some(first) = letters.next() {
            spellings.push(first.to_uppercase().chain(letters).collect());
        }
        spellings.sort();
        spellings.dedup();
        isolated(&self.name, wanted, || {
            spellings.retain(|spelling| self.file.dataset(spelling).is_ok());
            spellings
        })
    }
}

/// Keys of data sets below `start`, and what is wrong with its groups in words.
fn list(file: &hdf5_pure::File, start: &str) -> Result<Vec<String>, String> {
    let invalid = |e: hdf5_pure::Error| format!("an invalid link or header: {e}");
    let mut keys = Vec::new();
    let mut open = vec![(start.to_owned(), 0)];
    for _ in 0..GROUPS_MAX {
        let Some((path, depth)) = open.pop() else { return Ok(keys) };
        let group =
            if path.is_empty() { file.root() } else { file.group(&path).map_err(invalid)? };
        let below = |name| if path.is_empty() { name } else { format!("{path}/{name}") };
        keys.extend(group.datasets().map_err(invalid)?.into_iter().map(below));
        let groups = group.groups().map_err(invalid)?;
        if depth == DEPTH_MAX && !groups.is_empty() {
            return Err(format!("groups in more than {DEPTH_MAX} levels (limit)"));
        }
        open.extend(groups.into_iter().map(|name| (below(name), depth + 1)));
    }
    Err(format!("more than {GROUPS_MAX} groups (limit)"))
}

fn access() -> FileAccessProperties {
    FileAccessProperties::new().with_metadata_cache(MetadataCacheConfig::new(METADATA_CACHE_BYTES))
}

fn check_signature(path: &Path, name: &str, bytes: u64) -> Result<()> {
    if bytes == 0 {
        return Err(InputError::new(name, "", "an HDF5 file", "an empty file of 0 bytes").into());
    }
    if !hdf5_pure::is_hdf5(path).map_err(|e| io_error(path, e))? {
        let expected = "the HDF5 signature \\x89HDF";
        return Err(InputError::new(name, "byte 0", expected, "other bytes").into());
    }
    Ok(())
}
