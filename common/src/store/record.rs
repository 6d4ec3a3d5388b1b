//! JSON records with a version, and the commit that makes an attempt's data visible.
//!
//! Invariant: a record is written once; the loser of a commit deletes its own objects and nothing else.

use super::{Created, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{self, FORMAT_VERSION, ObjectRecord, check_version_until};
use crate::limits;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The record that stands after a create-only write, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// The caller's own.
    Won(T),
    /// Someone else's, written before.
    Lost(T),
}

impl<T> Outcome<T> {
    /// The record that stands.
    pub fn into_record(self) -> T {
        match self {
            Self::Won(record) | Self::Lost(record) => record,
        }
    }

    /// Whether the caller's record stands.
    pub fn is_won(&self) -> bool {
        matches!(self, Self::Won(_))
    }
}

/// Indented JSON with a final line feed; field order is that of the type.
pub fn encode<T: Serialize>(record: &T) -> Result<Bytes> {
    let mut text = serde_json::to_vec_pretty(record)
        .map_err(|e| Error::bug("encode a record as JSON").with_source(e))?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}

/// Reads a record; `place` names it in errors.
///
/// # Errors
/// `Invalid` for a version above [`crate::layout::FORMAT_VERSION`]; `Corrupt` for anything that is no such record.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T> {
    decode_until(bytes, place, FORMAT_VERSION)
}

/// Reads a record of a kind whose newest version is `newest`.
pub(super) fn decode_until<T: DeserializeOwned>(
    bytes: &[u8],
    place: &str,
    newest: u32,
) -> Result<T> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let corrupt = |e| Error::corrupt(format!("{place}: not a record of this kind")).with_source(e);
    let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
    check_version_until(version, newest, place)?;
    serde_json::from_slice(bytes).map_err(corrupt)
}

impl Store {
    /// Reads the record at `path`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, and as [`decode`].
    pub async fn read_record<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bytes = self.get(path).await?;
        decode(&bytes, &format!("{path} in {}", self.url()))
    }

    /// Reads the record at `path`, `None` if there is none.
    ///
    /// # Errors
    /// `Unavailable`, and as [`decode`].
    pub async fn find_record<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_if_exists(path).await? else { return Ok(None) };
        decode(&bytes, &format!("{path} in {}", self.url())).map(Some)
    }

    /// Creates the record at `path` unless there is one; tells which stands.
    ///
    /// # Errors
    /// As [`Store::create`] and [`decode`].
    pub async fn create_record<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        record: T,
    ) -> Result<Outcome<T>> {
        match self.create(path, encode(&record)?).await? {
            Created::Won => Ok(Outcome::Won(record)),
            Created::Lost { existing } => {
                let place = format!("{path} in {}", self.url());
                Ok(Outcome::Lost(decode(&existing, &place)?))
            }
        }
    }

    /// Commits `objects`, already written by this attempt, by creating `record` at `path`.
    ///
    /// A record that stands there already is put to `check`: where that says `Corrupt`, or the record
    /// cannot be read, the next revision is created instead; else the caller has lost. A loser's
    /// objects are deleted unless the standing record names them. After an error the outcome is open
    /// and they are left to `gc`.
    ///
    /// # Errors
    /// `Fenced` when the attempt is too old ([`Store::for_attempt`]); `Invalid` when
    /// [`limits::REVISIONS_MAX`] revisions are damaged; as [`Store::create_record`] and `check`.
    pub async fn commit<T, F>(
        &self,
        path: &str,
        record: T,
        objects: &[ObjectRecord],
        check: impl Fn(T) -> F,
    ) -> Result<Outcome<T>>
    where
        T: Clone + Serialize + DeserializeOwned,
        F: Future<Output = Result<()>>,
    {
        for revision in 0..limits::REVISIONS_MAX {
            self.check_deadline()?;
            let place = layout::revision_path(path, revision);
            let standing = match self.create_record(&place, record.clone()).await {
                Ok(Outcome::Lost(standing)) => standing,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(error = error.chain(), "a commit is damaged: next revision");
                    continue;
                }
                settled => return settled,
            };
            let text = encode(&standing)?;
            if !objects.is_empty() && objects.iter().all(|object| mentions(&text, &object.path)) {
                // An earlier call of this attempt got through, with other seconds in its record.
                return Ok(Outcome::Won(standing));
            }
            match check(standing.clone()).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(
                        error = error.chain(),
                        "committed data is damaged: next revision"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            }
            for object in objects.iter().filter(|object| !mentions(&text, &object.path)) {
                self.discard(&object.path).await;
            }
            return Ok(Outcome::Lost(standing));
        }
        let most = limits::REVISIONS_MAX;
        Err(Error::invalid(format!("{path} in {}: {most} revisions, all damaged", self.url())))
    }

    /// The newest readable revision of the record at `path`, `None` if there is no revision.
    ///
    /// # Errors
    /// `Corrupt` when no revision can be read, `Invalid` for a newer version; store errors.
    pub async fn find_newest<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let mut newest = None;
        let mut damaged = None;
        for revision in 0..limits::REVISIONS_MAX {
            match self.find_record(&layout::revision_path(path, revision)).await {
                Ok(None) => break,
                Ok(found) => newest = found,
                Err(error) if error.kind() == ErrorKind::Corrupt => damaged = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (newest, damaged) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// Deletes an own object that no commit names; a failure only leaves work for `gc`.
    pub(super) async fn discard(&self, path: &str) {
        if let Err(error) = self.delete(path).await {
            tracing::warn!(path, error = %error.chain(), "an unused object stays until it is swept");
        }
    }
}

/// Whether the bytes of a record name the object `path`.
pub(super) fn mentions(record: &[u8], path: &str) -> bool {
    let quoted = format!("\"{path}\"");
    record.windows(quoted.len()).any(|window| window == quoted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[derive(Debug, Serialize, Deserialize)]
    struct Note {
        version: u32,
        text: String,
    }

    #[test]
    fn a_newer_version_is_refused_with_both_versions() {
        let error = decode::<Note>(br#"{"version": 7, "words": []}"#, "notes/1.json").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            "notes/1.json: written by a newer glmeval: expected format version 1 or older, found 7"
        );
    }

    #[test]
    fn a_damaged_record_is_corrupt_and_named() {
        for bytes in [&b""[..], b"{", b"[]", br#"{"version":0,"text":""}"#, br#"{"version":1}"#] {
            let error = decode::<Note>(bytes, "notes/1.json").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?}");
            assert!(error.to_string().contains("notes/1.json"));
        }
    }

    #[test]
    fn a_path_is_mentioned_only_as_a_whole() {
        assert!(mentions(br#"{"path": "a/b.1"}"#, "a/b.1"));
        assert!(!mentions(br#"{"path": "a/b.10"}"#, "a/b.1"));
    }
}
