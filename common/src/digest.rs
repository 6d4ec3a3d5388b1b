//! sha256 digests: of bytes, of files, and of described content (content ids).
//!
//! Invariant: fields are length-prefixed, so two different descriptions never share a digest input.

use crate::error::{Result, io_error};
use crate::regular_file;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// Lower-case hexadecimal sha256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal sha256 of a file, read in pieces.
///
/// # Errors
/// `NotFound`, `Invalid` or `Unavailable` with the path when it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = regular_file::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(|e| io_error(path, e))?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    })
}

/// Builds a content id from named fields, in the order given.
pub struct ContentDigest(Sha256);

impl ContentDigest {
    /// Starts the digest of a thing of `kind` (its name and format version, such as `dataset/1`).
    pub fn new(kind: &str) -> Self {
        let mut digest = Self(Sha256::new());
        digest.part(kind.as_bytes());
        digest
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds one named field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.part(name.as_bytes());
        self.part(value.as_ref());
        self
    }

    /// The first 128 bits as 32 hexadecimal letters.
    pub fn finish(self) -> String {
        let mut text = hex(&self.0.finalize());
        text.truncate(32);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_standard_value() {
        assert!(sha256_hex(b"abc").starts_with("ba7816bf8f01cfea"));
    }

    #[test]
    fn moving_a_letter_between_fields_changes_the_id() {
        let one = ContentDigest::new("x").field("a", "bc").field("d", "e").finish();
        let two = ContentDigest::new("x").field("a", "b").field("cd", "e").finish();
        assert_ne!(one, two);
    }
}
