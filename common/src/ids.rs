//! Identifiers: distinct types that never convert into each other.
//!
//! Content ids are digests (equal work has equal ids, across jobs); worker ids and attempts are names.
//! Invariant: an id that was read from a message, a record or a command line is one plain segment of an
//! object path, so that no path made of it leads elsewhere.

use crate::error::{InputError, Result};
use crate::limits::{ID_BYTES_MAX, NAME_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Letters, digits, `_` and `-`: no dot, hence no `..`, and no slash.
fn check_id(what: &str, text: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(());
    }
    let expected = format!("1 to {ID_BYTES_MAX} letters, digits, `_` and `-`");
    Err(InputError::new(what, "", expected, shown(text)).into())
}

/// A name of a process or a machine: letters, digits and `._:@-`, no dot in front.
///
/// # Errors
/// `Invalid` for other text.
pub fn check_name(what: &str, text: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    let good = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
    if good && !text.starts_with('.') {
        return Ok(());
    }
    let expected = format!("1 to {NAME_BYTES_MAX} letters, digits and `._:@-`, no dot in front");
    Err(InputError::new(what, "", expected, shown(text)).into())
}

/// Hostile text as an error and a log can take it.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(ID_BYTES_MAX).collect();
    let rest = if short.len() < text.len() { " and more" } else { "" };
    format!("{short:?}{rest}")
}

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident: $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(text).map_err(|e| serde::de::Error::custom(e.chain()))
            }
        }

        impl $name {
            /// Wraps text of the program's own that is already such an id.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Takes text from outside.
            ///
            /// # Errors
            /// `Invalid` for text that is no such id.
            pub fn parse(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                $check(stringify!($name), &text)?;
                Ok(Self(text))
            }

            /// The id as text, fit for one segment of an object path.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_id! {
    /// Digest of a plan: the same job file over the same inputs is the same job.
    JobId: check_id;
    /// Digest of a gLM: architecture, tensors, tokenizer.
    ModelId: check_id;
    /// Digest of a data set: source bytes, reader options, format version.
    DatasetId: check_id;
    /// Digest of an embedding set: model x data set x layers x pooling x dtype x numeric class.
    SetId: check_id;
    /// Digest of a fit: everything that decides its score.
    FitId: check_id;
    /// Name of a worker process.
    WorkerId: check_name;
    /// Random token of one attempt at a unit; names that attempt's private objects.
    Attempt: check_id;
}

/// Fencing number of a lease: epoch of the coordinator, then its count of grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation {
    /// Epoch of the coordinator that granted the lease.
    pub epoch: u64,
    /// Grants made in that epoch before this one.
    pub counter: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 16] = [
        "",
        ".",
        "..",
        "../jobs",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "a b",
        "a\nb",
        "a\0b",
        "%2e%2e",
        "é",
        "a.r1",
        "~",
        "\u{1b}[31m",
        "*",
    ];

    #[test]
    fn what_is_no_plain_segment_of_a_path_is_no_id() {
        let long = "a".repeat(ID_BYTES_MAX + 1);
        for text in HOSTILE.into_iter().chain([long.as_str()]) {
            let error = JobId::parse(text).unwrap_err().chain();
            assert!(error.starts_with("JobId: expected") && error.len() < 300, "{error}");
            assert!(!error.contains(char::is_control), "{error}");
            let json = serde_json::to_string(text).unwrap();
            let packed = rmp_serde::to_vec(text).unwrap();
            serde_json::from_str::<SetId>(&json).unwrap_err();
            rmp_serde::from_slice::<FitId>(&packed).unwrap_err();
            serde_json::from_str::<DatasetId>(&json).unwrap_err();
            rmp_serde::from_slice::<Attempt>(&packed).unwrap_err();
        }
    }

    #[test]
    fn ids_return_from_both_encodings() {
        let id = ModelId::parse("0123456789abcdef0123456789abcdef").unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"0123456789abcdef0123456789abcdef\"");
        assert_eq!(serde_json::from_str::<ModelId>(&json).unwrap(), id);
        let packed = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(rmp_serde::from_slice::<ModelId>(&packed).unwrap(), id);
    }

    #[test]
    fn a_worker_may_be_called_after_its_host() {
        for name in ["node-7.lab.org-12-ab", "fe80::1", "embedded-0-ff", "w"] {
            WorkerId::parse(name).unwrap();
        }
        for name in ["..", ".hidden", "a/b", "a b", "a\nlevel=error", "", &"n".repeat(300)] {
            assert!(WorkerId::parse(name).is_err(), "{name}");
        }
    }
}
