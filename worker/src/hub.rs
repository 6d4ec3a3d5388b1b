//! From `hf://organisation/name@revision` to a local folder in the layout of the Hugging Face cache.
//!
//! Leaves out: what is in the files (weights, config, tokenizers); uploads; data sets; login files.
//! Invariant: a name in a snapshot always leads to a whole, checked file.

mod cache;
mod client;
mod download;
mod fetch;
mod files;
mod model;

use glmeval_common::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use model::HubModel;

/// Where models come from and where they are kept.
///
/// It has no `Debug`, so that the token never reaches a log.
#[derive(Clone)]
pub struct Hub {
    /// Base URL of the server, such as `https://huggingface.co`.
    pub endpoint: String,
    /// Secret for gated and private models; sent to the endpoint's own host only.
    pub token: Option<String>,
    /// Folder that holds one `models--organisation--name` per model.
    pub cache: PathBuf,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// How often a request that failed for a passing reason is repeated.
    pub retries: u32,
    /// Pause before the first repetition; doubles each time.
    pub pause: Duration,
    /// Longest pause, whatever the server asks for.
    pub pause_max: Duration,
}

/// What a fetch is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubProgress {
    /// So many files and bytes are not in the cache; an index of shards may add a second plan.
    Planned {
        /// Files to download.
        files: usize,
        /// Their size together.
        bytes: u64,
    },
    /// So much of a file is on disk; the first event of a file tells where a download resumes.
    Received {
        /// Name in the repository.
        file: String,
        /// Bytes on disk.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// Another process downloads this file; waiting for it.
    Waiting {
        /// Name in the repository.
        file: String,
    },
    /// A request failed for a passing reason and will be repeated.
    Repeating {
        /// What failed.
        reason: String,
    },
    /// The server cannot be reached; what the cache holds for this revision is used.
    Cached {
        /// Why the server was of no use.
        reason: String,
    },
}

impl Hub {
    /// A Hub without a token, with the usual retries.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into(),
            token: None,
            cache: cache.into(),
            offline: false,
            retries: 5,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
        }
    }

    /// The Hub that the environment names, by the variables of the `huggingface_hub` library.
    ///
    /// # Errors
    /// As [`Hub::from_variables`].
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Hub::from_environment`], from any source of variables; empty ones count as unset.
    ///
    /// ```text
    /// endpoint  HF_ENDPOINT, https://huggingface.co
    /// token     HF_TOKEN
    /// cache     HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub
    /// offline   HF_HUB_OFFLINE: 1, on, yes or true
    /// ```
    ///
    /// # Errors
    /// `Invalid` where no variable tells where the cache is.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let home = || set("HOME").map(PathBuf::from);
        // The library expands a leading `~` here, as the variables often come from a config file.
        let folder = |name: &str| {
            let value = set(name)?;
            match value.strip_prefix("~/") {
                Some(rest) => home().map(|home| home.join(rest)),
                None => Some(PathBuf::from(value)),
            }
        };
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
            .or_else(|| home().map(|home| home.join(".cache/huggingface/hub")))
            .ok_or_else(|| {
                Error::invalid("HF_HUB_CACHE: expected a folder, found neither it nor HOME")
            })?;
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let mut hub = Self::new(endpoint, cache);
        hub.token = set("HF_TOKEN").map(|token| token.trim().to_owned());
        let offline = set("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        hub.offline = ["1", "on", "yes", "true"].contains(&offline.trim());
        Ok(hub)
    }

    /// Makes sure that a model's configuration, tokenizer and weights are in the cache, and returns
    /// the folder `…/snapshots/<commit>` that holds them.
    ///
    /// Blocks until all is there; may be called from any thread, inside an async runtime too. No
    /// request is sent where the revision is a commit that the cache holds, or offline.
    ///
    /// # Errors
    /// `NotFound` with the URL for an unknown model, revision or file, or, offline, with what the
    /// cache lacks; `Invalid` for a refused token, a repository without weights or an answer that
    /// makes no sense; `Corrupt` for bytes that are not the announced ones; `Unavailable` where the
    /// server or disk failed after all retries.
    pub fn fetch(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(HubProgress),
    ) -> Result<PathBuf> {
        fetch::run(self, model, progress).map_err(|error| error.context(model.to_string()))
    }
}

/// The folder that `source` names: fetched if it begins with `hf://`, else `source` itself.
///
/// # Errors
/// As [`HubModel::parse`] and [`Hub::fetch`]; a plain path is not looked at.
pub fn local_folder(
    source: &Path,
    hub: &Hub,
    progress: &mut dyn FnMut(HubProgress),
) -> Result<PathBuf> {
    match source.to_str().filter(|text| HubModel::is_named_by(text)) {
        Some(text) => hub.fetch(&HubModel::parse(text)?, progress),
        None => Ok(source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::error::ErrorKind;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub> {
        Hub::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_the_python_library_has_it() {
        let cache = |variables: &[(&str, &str)]| hub(variables).unwrap().cache;
        let home = ("HOME", "/home/ada");
        assert_eq!(cache(&[home]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf")]), Path::new("/home/ada/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/big")]), Path::new("/big"));
        assert_eq!(hub(&[]).err().map(|e| e.kind()), Some(ErrorKind::Invalid));
    }

    #[test]
    fn empty_variables_count_as_unset() {
        let hub = hub(&[("HOME", "/h"), ("HF_ENDPOINT", ""), ("HF_TOKEN", " "), ("HF_HOME", "")]);
        let hub = hub.unwrap();
        assert_eq!(hub.endpoint, "https://huggingface.co");
        assert_eq!(hub.token, None);
        assert_eq!(hub.cache, Path::new("/h/.cache/huggingface/hub"));
    }

    #[test]
    fn offline_is_what_the_library_takes_for_true() {
        for (value, expected) in [("1", true), ("YES", true), ("0", false), ("", false)] {
            let hub = hub(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).unwrap();
            assert_eq!(hub.offline, expected, "{value}");
        }
    }

    #[test]
    fn a_plain_path_is_returned_as_it_is() {
        let hub = Hub::new("http://127.0.0.1:9", "/nowhere");
        let path = Path::new("models/hf");
        assert_eq!(local_folder(path, &hub, &mut |_| ()).unwrap(), path);
        let error = local_folder(Path::new("hf://name"), &hub, &mut |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
