//! The order of a fetch: ask for the commit, choose files, download, link, note the revision.
//!
//! Leaves out: requests (client), bytes (download), paths (cache). Invariant: weights come after all
//! else and the revision last, so what was interrupted never looks whole.

use super::cache::{Cache, is_commit};
use super::client::Client;
use super::download::{RemoteFile, download, is_whole};
use super::files::{self, WeightFiles};
use super::{Hub, HubModel, HubProgress};
use crate::json;
use glmeval_common::error::{Error, ErrorKind, InputError, Result};
use reqwest::{Method, Url};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

/// Events that wait to be shown before a download waits for them.
const EVENTS_MAX: usize = 64;

/// What a commit holds.
struct Listing {
    url: Url,
    commit: String,
    names: BTreeSet<String>,
}

/// Fetches on a thread of its own, as the caller's may belong to a runtime that must not be blocked
/// on from inside.
pub(super) fn run(
    hub: &Hub,
    model: &HubModel,
    progress: &mut dyn FnMut(HubProgress),
) -> Result<PathBuf> {
    let (sender, events) = sync_channel(EVENTS_MAX);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Err means that nobody listens any more.
            let report = move |event| drop(sender.send(event));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime =
                runtime.map_err(|e| Error::unavailable("start a runtime").with_source(e))?;
            runtime.block_on(fetch(hub, model, &report))
        });
        events.into_iter().for_each(progress);
        worker.join().unwrap_or_else(|_| Err(Error::bug("the thread of a download panicked")))
    })
}

async fn fetch(hub: &Hub, model: &HubModel, report: &dyn Fn(HubProgress)) -> Result<PathBuf> {
    let cache = Cache::new(hub, model);
    let revision = model.wanted_revision();
    if hub.offline {
        return from_cache(&cache, model);
    }
    if is_commit(revision) && cache.is_complete(revision) {
        return Ok(cache.snapshot(revision));
    }
    // A branch may have moved, or the commit is not all there.
    let client = Client::new(hub, report)?;
    let listing = match list(&client, model).await {
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            // As the Python library does: a broken network does not stop work that needs none.
            let Ok(snapshot) = from_cache(&cache, model) else { return Err(error) };
            report(HubProgress::Cached { reason: error.chain() });
            return Ok(snapshot);
        }
        listing => listing?,
    };
    let weights = weights(&listing)?;
    // An index is a small file that tells which weights to take after it.
    let (whole, index) = match &weights {
        WeightFiles::Whole(name) => (Some(name), None),
        WeightFiles::Index(index) => (None, Some(index)),
    };
    let small = files::SMALL.iter().copied().filter(|name| listing.names.contains(*name));
    let steps = Steps { client: &client, cache: &cache, model, listing: &listing, report };
    steps.take(small.chain(index.map(String::as_str)).chain(whole.map(String::as_str))).await?;
    let snapshot = cache.snapshot(&listing.commit);
    if let Some(index) = index {
        let shards = files::shards(&snapshot.join(index))?;
        // Before gigabytes of the others are downloaded.
        if let Some(lost) = shards.difference(&listing.names).next() {
            let found = format!("no {lost}");
            return Err(InputError::new(&listing.url, "siblings", index, found).into());
        }
        steps.take(shards.iter().map(String::as_str)).await?;
    }
    for name in files::SMALL.iter().filter(|name| !listing.names.contains(**name)) {
        cache.note_absent(&listing.commit, name);
    }
    // Last: until now the revision led to an older snapshot, which is whole.
    cache.write_ref(revision, &listing.commit)?;
    Ok(snapshot)
}

/// The snapshot of a revision, without a server.
fn from_cache(cache: &Cache, model: &HubModel) -> Result<PathBuf> {
    let revision = model.wanted_revision();
    let absent = |what: &str| {
        Error::not_found(format!(
            "{}: expected {what}, found none, and HF_HUB_OFFLINE allows no download; fetch it once \
             without HF_HUB_OFFLINE, or copy this folder from a machine that has it",
            cache.folder().display(),
        ))
    };
    let commit = cache.commit(revision).ok_or_else(|| absent(&format!("refs/{revision}")))?;
    let missing = cache.missing(&commit)?;
    if !missing.is_empty() {
        return Err(absent(&format!("snapshots/{commit}/ with {}", missing.join(", "))));
    }
    Ok(cache.snapshot(&commit))
}

/// Asks which commit a revision is and which files it has.
async fn list(client: &Client<'_>, model: &HubModel) -> Result<Listing> {
    let (url, description) = client.describe(model).await?;
    let defect = |place: &str, expected: &str, found: Option<&Value>| {
        let found = found.map_or("missing".to_owned(), json::describe);
        InputError::new(&url, place, expected, found)
    };
    let sha = description.get("sha");
    let commit = sha.and_then(Value::as_str).filter(|commit| is_commit(commit));
    let commit = commit.ok_or_else(|| defect("sha", "40 hexadecimal digits", sha))?;
    let revision = model.wanted_revision();
    if is_commit(revision) && commit != revision {
        return Err(defect("sha", revision, sha).into());
    }
    let Some(Value::Array(siblings)) = description.get("siblings") else {
        return Err(defect("siblings", "a list of files", description.get("siblings")).into());
    };
    let mut names = BTreeSet::new();
    for (index, sibling) in siblings.iter().enumerate() {
        let name = sibling.get("rfilename");
        let safe = name.and_then(Value::as_str).filter(|name| files::is_safe(name));
        let place = format!("siblings[{index}].rfilename");
        let safe = safe.ok_or_else(|| defect(&place, "a name inside the repository", name))?;
        names.insert(safe.to_owned());
    }
    let commit = commit.to_owned();
    Ok(Listing { url, commit, names })
}

/// The weights that a commit has.
fn weights(listing: &Listing) -> Result<WeightFiles> {
    let found = match files::weights(&listing.names) {
        Ok(Some(weights)) => return Ok(weights),
        Ok(None) => "none".to_owned(),
        Err((one, two)) => format!("{one} and {two}"),
    };
    let expected = "model.safetensors, pytorch_model.bin, an index of one of them, or one file that \
                    ends with .ckpt, .pth, .pt or .h5";
    Err(InputError::new(&listing.url, "weights", expected, found).into())
}

/// What every download of one fetch needs.
struct Steps<'a> {
    client: &'a Client<'a>,
    cache: &'a Cache,
    model: &'a HubModel,
    listing: &'a Listing,
    report: &'a dyn Fn(HubProgress),
}

impl Steps<'_> {
    /// Brings files into the snapshot, in this order.
    async fn take(&self, names: impl Iterator<Item = &str>) -> Result<()> {
        let commit = &self.listing.commit;
        // All are looked up first, so that people learn the size of it all.
        let mut remotes = Vec::new();
        for name in names.filter(|name| !self.cache.has(commit, name)) {
            remotes.push(self.look_up(name).await?);
        }
        let lacking =
            |remote: &&RemoteFile| !is_whole(&self.cache.blob(&remote.etag), remote.bytes);
        let wanted: Vec<&RemoteFile> = remotes.iter().filter(lacking).collect();
        if !wanted.is_empty() {
            let bytes = wanted.iter().fold(0_u64, |sum, remote| sum.saturating_add(remote.bytes));
            (self.report)(HubProgress::Planned { files: wanted.len(), bytes });
        }
        for remote in &remotes {
            download(self.client, self.cache, remote, self.report).await?;
            self.cache.link(commit, &remote.name, &remote.etag)?;
        }
        Ok(())
    }

    /// Asks for a file's etag and size.
    async fn look_up(&self, name: &str) -> Result<RemoteFile> {
        let commit = self.listing.commit.as_str();
        let parts = [self.model.organisation(), self.model.name(), "resolve", commit];
        let url = self.client.url(parts.into_iter().chain(name.split('/')))?;
        let headers = self.client.send(Method::HEAD, &url, 0).await?.headers;
        let defect = |place: &str, expected: &str, found: &str| {
            Error::from(InputError::new(&url, place, expected, found))
        };
        if let Some(other) = headers.commit.filter(|other| other != commit) {
            return Err(defect("X-Repo-Commit", commit, &other));
        }
        let etag = headers.etag.unwrap_or_else(|| "none".to_owned());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        // It becomes the name of a file.
        if !(8..=128).contains(&etag.len()) || !etag.bytes().all(plain) {
            return Err(defect("ETag", "8 to 128 letters and digits", &etag));
        }
        let bytes = headers.bytes.ok_or_else(|| defect("X-Linked-Size", "a size", "none"))?;
        Ok(RemoteFile { name: name.to_owned(), url, etag, bytes })
    }
}
