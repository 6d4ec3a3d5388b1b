//! Vocabularies in `vocab.txt`: one token per line, its id is its line.
//!
//! Leaves out: how text is cut into tokens. Invariant: tokens are unique and not empty.

use glmeval_common::digest::ContentDigest;
use glmeval_common::error::{InputError, Result, io_error};
use glmeval_common::limits::PARSER_ALLOCATION_BYTES_MAX;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Tokens and their ids.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    file: String,
    ids: BTreeMap<String, u32>,
}

impl Vocabulary {
    /// Reads a `vocab.txt`; space around tokens and a missing last line end are ignored.
    ///
    /// # Errors
    /// `Invalid` with the line for empty or repeated tokens, for text that is not UTF-8 and for
    /// an empty file; I/O errors with the path.
    pub fn read(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| io_error(path, e))?;
        let mut bytes = Vec::new();
        let limit = PARSER_ALLOCATION_BYTES_MAX as u64;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io_error(path, e))?;
        if bytes.len() as u64 > limit {
            let expected = format!("a vocabulary of at most {limit} bytes");
            return Err(InputError::new(path.display(), "", expected, "a longer file").into());
        }
        Ok(Self::parse(&path.display().to_string(), &bytes)?)
    }

    /// Parses the bytes of a `vocab.txt`; `file` names it in errors.
    ///
    /// # Errors
    /// The first defect, with its line.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, InputError> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = 1 + bytes.iter().take(e.valid_up_to()).filter(|&&b| b == b'\n').count();
            InputError::new(file, format!("line {line}"), "UTF-8 text", "other bytes")
        })?;
        let mut ids = BTreeMap::new();
        for (id, line) in (0_u32..).zip(text.lines()) {
            let place = || format!("line {}", u64::from(id) + 1);
            let token = line.trim();
            if token.is_empty() {
                return Err(InputError::new(file, place(), "a token", "an empty line"));
            }
            if let Some(earlier) = ids.insert(token.to_owned(), id) {
                let found = format!("{token:?} as on line {}", u64::from(earlier) + 1);
                return Err(InputError::new(file, place(), "a unique token", found));
            }
        }
        if ids.is_empty() {
            return Err(InputError::new(file, "line 1", "a token", "an empty file"));
        }
        Ok(Self { file: file.to_owned(), ids })
    }

    /// Id of `token`, `None` if it is not in the vocabulary.
    pub fn get(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Id of a token that must be there.
    ///
    /// # Errors
    /// Names the file and the token.
    pub fn require(&self, token: &str) -> Result<u32, InputError> {
        self.get(token)
            .ok_or_else(|| InputError::new(&self.file, "vocabulary", token, "no such token"))
    }

    /// Tokens with their ids in the order of the tokens' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().map(|(token, &id)| (token.as_str(), id))
    }

    /// Path of the file, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Digest of the tokens and their ids.
    pub fn digest(&self) -> String {
        let digest = ContentDigest::new("vocabulary/1");
        self.iter().fold(digest, |d, (token, id)| d.field(token, id.to_le_bytes())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Vocabulary::parse("v.txt", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn repeated_and_empty_tokens_are_refused_with_their_line() {
        assert_eq!(
            refusal("A\nC\nA"),
            "v.txt: line 3: expected a unique token, found \"A\" as on line 1"
        );
        assert_eq!(refusal("A\n\nC"), "v.txt: line 2: expected a token, found an empty line");
        assert_eq!(refusal(""), "v.txt: line 1: expected a token, found an empty file");
    }

    #[test]
    fn a_last_line_end_and_windows_line_ends_change_nothing() {
        let plain = Vocabulary::parse("v", b"A\nC").unwrap();
        assert_eq!(Vocabulary::parse("v", b"A\r\nC\r\n").unwrap().digest(), plain.digest());
        assert_ne!(Vocabulary::parse("v", b"C\nA").unwrap().digest(), plain.digest());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Vocabulary::parse("v", &bytes);
        }
    }
}
