//! `statistics.json`: shapes and numbers of records beside it.
//!
//! Leaves out: the records. Invariant: no shape asks for more bytes than a parser may allocate.

use super::{PARSER_ALLOCATION_BYTES_MAX, STATISTICS_FILE};
use crate::dna::BASES;
use crate::error::{InputError, Result, io_error};
use crate::example::Split;
use serde_json::{Map, Value};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Largest file of statistics in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a stored number (f16).
const VALUE_BYTES: usize = 2;

/// What a folder of TFRecord files says of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Targets of an example.
    pub num_targets: usize,
    /// Length of a one-hot sequence in nucleotides; 0 = none is stored.
    pub onehot_length: usize,
    /// Rows of an embedding.
    pub embed_length: usize,
    /// Values of a row.
    pub embed_dim: usize,
    /// Records by split: train, valid, test.
    records: [u64; 3],
}

impl Statistics {
    /// Reads the statistics beside `records`, a file that errors name.
    ///
    /// # Errors
    /// `Invalid` with the key that is absent or no whole number.
    pub(super) fn read(records: &Path) -> Result<Self> {
        let path = records.with_file_name(STATISTICS_FILE);
        let defect = |key: &str, expected: &str, found: String| {
            let place = if key.is_empty() { String::new() } else { format!(", {key}") };
            let place = format!("{STATISTICS_FILE}{place}");
            InputError::new(records.display(), place, expected, found)
        };
        let mut text = Vec::new();
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let found = "missing: no such file".to_owned();
                return Err(defect("", "a file beside the records", found).into());
            }
            Err(error) => return Err(io_error(&path, error)),
        };
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|e| io_error(&path, e))?;
        let table: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|e| defect("", "a JSON object", format!("text that is none: {e}")))?;
        let number = |key: &str| {
            let value = table.get(key);
            value.and_then(Value::as_u64).ok_or_else(|| {
                let found = value.map_or("missing".to_owned(), Value::to_string);
                defect(key, &format!("{key}, a whole number"), found)
            })
        };
        let extent = |key: &str| {
            let value = number(key)?;
            let fits = usize::try_from(value).ok().filter(|&n| n <= PARSER_ALLOCATION_BYTES_MAX);
            fits.ok_or_else(|| defect(key, "a shape that fits memory", value.to_string()))
        };
        let [train, valid, test] = Split::ALL.map(|split| number(&format!("{split}_seqs")));
        let found = Self {
            num_targets: extent("num_targets")?,
            onehot_length: extent("onehot_length")?,
            embed_length: extent("embed_length")?,
            embed_dim: extent("embed_dim")?,
            records: [train?, valid?, test?],
        };
        // Each extent is at most 2^26, so that no product leaves 64 bits.
        for (key, values) in [
            ("embed_length, embed_dim", found.embed_length * found.embed_dim),
            ("onehot_length", found.onehot_length * BASES.len()),
            ("num_targets", found.num_targets),
        ] {
            if values > PARSER_ALLOCATION_BYTES_MAX / VALUE_BYTES {
                let found = format!("{values} values in a record");
                return Err(defect(key, "a shape that fits memory", found).into());
            }
        }
        Ok(found)
    }

    /// Announced number of records of `split`.
    pub fn records(&self, split: Split) -> u64 {
        let [train, valid, test] = self.records;
        match split {
            Split::Train => train,
            Split::Valid => valid,
            Split::Test => test,
        }
    }
}
