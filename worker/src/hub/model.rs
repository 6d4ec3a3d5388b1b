//! Names of models on a Hub, as users write them.
//!
//! Leaves out: whether a model exists. Invariant: a parsed name or revision is safe as part of a path
//! and of a URL.

use super::files;
use glmeval_common::error::{InputError, Result};
use std::fmt;

const SCHEME: &str = "hf://";
/// The Hub's own limit for a name.
const NAME_BYTES_MAX: usize = 96;

/// A model on a Hub, and which state of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubModel {
    organisation: String,
    name: String,
    revision: Option<String>,
}

impl HubModel {
    /// Whether `text` is meant to name a model on a Hub.
    pub fn is_named_by(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Parses `hf://organisation/name` or `hf://organisation/name@revision`.
    ///
    /// # Errors
    /// `Invalid` for other schemes, and for names or revisions that the Hub does not allow.
    pub fn parse(text: &str) -> Result<Self> {
        let defect = |place: &str, expected: &str, found: &str| {
            InputError::new(text, place, expected, format!("`{found}`"))
        };
        let form = "hf://organisation/name or hf://organisation/name@revision";
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| defect("", form, text))?;
        let (path, revision) = match rest.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (rest, None),
        };
        let (organisation, name) = path.split_once('/').ok_or_else(|| defect("", form, path))?;
        for (place, part) in [("organisation", organisation), ("name", name)] {
            if !is_name(part) {
                let expected =
                    "1 to 96 of A-Z a-z 0-9 . _ -, no `--` or `..`, no . or - at the ends";
                return Err(defect(place, expected, part).into());
            }
        }
        if let Some(revision) = revision.filter(|revision| !files::is_safe(revision)) {
            return Err(defect("revision", "a branch, tag or commit", revision).into());
        }
        Ok(Self {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// Who publishes it.
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// Its name there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Branch, tag or commit as written.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The revision that is fetched: the one written, or `main`.
    pub(super) fn wanted_revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.organisation, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Source: `validate_repo_id` of `huggingface_hub`.
fn is_name(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&part.len())
        && part.bytes().all(allowed)
        && !part.contains("--")
        && !part.contains("..")
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_prints_as_it_was_written() {
        for text in ["hf://InstaDeepAI/nt.v2_50m", "hf://a/b@refs/pr/3", "hf://a/b@v1.0"] {
            assert_eq!(HubModel::parse(text).unwrap().to_string(), text);
        }
        let model = HubModel::parse("hf://a/b@v1").unwrap();
        assert_eq!((model.organisation(), model.name(), model.revision()), ("a", "b", Some("v1")));
    }

    #[test]
    fn names_that_leave_the_cache_folder_are_refused() {
        for text in [
            "a/b",
            "hf://",
            "hf://b",
            "hf://a/b/c",
            "hf://../b",
            "hf://a/..",
            "hf://a--b/c",
            "hf:///b",
            "hf://a/b@",
            "hf://a/b@../x",
            "hf://a/b@/x",
            "hf://a/b@x\\y",
            "hf://a/b c",
            "hf://a/b@x//y",
            "hf://a/b@x\ny",
        ] {
            assert!(HubModel::parse(text).is_err(), "{text}");
        }
    }
}
