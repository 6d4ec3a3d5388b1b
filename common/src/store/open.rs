//! From a URL to a store.
//!
//! Leaves out: credentials; the S3 client finds them in `AWS_*` or the machine's role.

use super::{Store, location};
use crate::error::{Error, Result, io_error};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod server_clock;
pub(super) use server_clock::{ServerClock, parse_timestamp};

/// What an S3 store can be asked beyond objects.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// Its client; paths begin at the bucket.
    pub(super) client: Arc<AmazonS3>,
    /// Where the store lies in it: empty, or a folder without the last slash.
    pub(super) prefix: Arc<str>,
}

impl Store {
    /// Opens `file:///folder`, a plain folder path, `memory:` or `s3://bucket/prefix`.
    ///
    /// A local folder is made if absent. `memory:` is a fresh, empty store each time. S3 reads `AWS_*`,
    /// `AWS_ENDPOINT_URL` and `AWS_ALLOW_HTTP` among them. No request is sent.
    ///
    /// # Errors
    /// `Invalid` for other schemes and for URLs or settings that make no store.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &[])
    }

    /// As [`Store::open`]; `variables` such as `("AWS_REGION", "us-east-1")` go before the environment.
    ///
    /// # Errors
    /// As [`Store::open`], and `Invalid` for a variable that an S3 client does not know.
    pub fn open_with(url: &str, variables: &[(&str, String)]) -> Result<Self> {
        if let Some(folder) = folder_of(url)? {
            return open_folder(url, folder);
        }
        match url.split_once(':') {
            Some(("memory", "" | "//" | "///")) => Ok(Self::memory()),
            Some(("s3", rest)) => open_s3(url, rest, variables),
            Some(("gs" | "az", _)) => Err(Error::invalid(format!(
                "store {url}: this build has no client for Google or Azure storage; \
                 expected file://, s3://, memory: or a folder"
            ))),
            _ => Err(bad_url(url, "file://, s3://, memory: or a folder")),
        }
    }

    /// As [`Store::open`] for whoever only reads or sweeps: a local folder is not made.
    ///
    /// # Errors
    /// As [`Store::open`], and `NotFound` for a folder that is not there.
    pub fn open_existing(url: &str) -> Result<Self> {
        if let Some(folder) = folder_of(url)? {
            match std::fs::metadata(&folder) {
                Ok(about) if !about.is_dir() => return Err(not_a_folder(url)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::not_found(format!("store {url}: no such folder")));
                }
                // Opening tells of the others.
                _ => {}
            }
        }
        Self::open(url)
    }

    /// An empty store in memory; clones share it.
    pub fn memory() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            url: Arc::from("memory:"),
            folder: None,
            deadline: None,
            server_clock: ServerClock::default(),
            bucket: None,
            meter: Arc::default(),
        }
    }

    /// A store below the folder `prefix` of any object store; empty text takes all of it.
    ///
    /// # Errors
    /// `Invalid` for a prefix that is no object path.
    pub fn from_object_store(inner: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let url = Arc::from(format!("{inner}/{prefix}"));
        let inner = prefixed(inner, prefix)?;
        let server_clock = ServerClock::default();
        Ok(Self {
            inner,
            url,
            folder: None,
            deadline: None,
            server_clock,
            bucket: None,
            meter: Arc::default(),
        })
    }
}

fn prefixed(inner: Arc<dyn ObjectStore>, prefix: &str) -> Result<Arc<dyn ObjectStore>> {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Ok(inner);
    }
    Ok(Arc::new(PrefixStore::new(inner, location(prefix)?)))
}

/// The folder a URL stands for; `None` for a store that is none, and for what is no store.
fn folder_of(url: &str) -> Result<Option<PathBuf>> {
    match url.split_once(':') {
        Some(("file", rest)) => {
            let folder = rest.strip_prefix("//").unwrap_or(rest);
            let folder = folder.strip_prefix("localhost").unwrap_or(folder);
            if !folder.starts_with('/') {
                return Err(bad_url(url, "an absolute path such as file:///data/store"));
            }
            Ok(Some(PathBuf::from(decoded(url, folder)?)))
        }
        Some(("memory", "" | "//" | "///") | ("s3" | "gs" | "az", _)) => Ok(None),
        Some((_, rest)) if rest.starts_with("//") => Ok(None),
        _ if url.is_empty() => Ok(None),
        _ => Ok(Some(PathBuf::from(url))),
    }
}

fn not_a_folder(url: &str) -> Error {
    Error::invalid(format!("store {url}: expected a folder, found a file"))
}

fn bad_url(url: &str, expected: &str) -> Error {
    Error::invalid(format!("store {url:?}: expected {expected}"))
}

/// Undoes `%20` and its kin in a URL's path.
fn decoded(url: &str, path: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(value.ok_or_else(|| bad_url(url, "two hexadecimal digits after each `%`"))?);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| bad_url(url, "UTF-8"))
}

fn open_folder(url: &str, folder: PathBuf) -> Result<Store> {
    std::fs::create_dir_all(&folder).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => not_a_folder(url),
        _ => io_error(&folder, e).context(format!("open store {url}")),
    })?;
    let folder =
        std::fs::canonicalize(&folder).map_err(|e| io_error(&folder, e).context("open store"))?;
    // A commit must not outlive a power cut that its data, or its own bytes, did not survive.
    let files = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|e| Error::invalid(format!("store {url}")).with_source(e))?
        .with_fsync(true);
    Ok(Store {
        inner: Arc::new(files),
        url: Arc::from(format!("file://{}", folder.display())),
        folder: Some(Arc::from(folder)),
        deadline: None,
        server_clock: ServerClock::default(),
        bucket: None,
        meter: Arc::default(),
    })
}

fn open_s3(url: &str, rest: &str, variables: &[(&str, String)]) -> Result<Store> {
    let rest = rest.strip_prefix("//").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(bad_url(url, "s3://bucket/prefix"));
    }
    // Err means that another part of the process chose a TLS provider already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    // `Store` repeats requests itself; a short inner budget keeps outages visible to workers.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(20),
    };
    let client = |key| AmazonS3ConfigKey::Client(key);
    let server_clock = ServerClock::default();
    let s3 = s3_settings(url, variables)?
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_retry(retry)
        .with_http_connector(server_clock::Listening(server_clock.clone()))
        // A whole-request limit would cut off large objects on slow links.
        .with_config(client(ClientConfigKey::Timeout), "3600s")
        .with_config(client(ClientConfigKey::ReadTimeout), "60s")
        .build()
        .map_err(|e| Error::invalid(format!("store {url}")).with_source(e))?;
    let client = Arc::new(s3);
    let bucket =
        Bucket { client: Arc::clone(&client), prefix: Arc::from(prefix.trim_matches('/')) };
    Ok(Store {
        inner: prefixed(client, prefix)?,
        url: Arc::from(url.trim_end_matches('/')),
        folder: None,
        deadline: None,
        server_clock,
        bucket: Some(bucket),
        meter: Arc::default(),
    })
}

fn s3_settings(url: &str, variables: &[(&str, String)]) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in variables {
        let key: AmazonS3ConfigKey = name
            .to_ascii_lowercase()
            .parse()
            .map_err(|e| Error::invalid(format!("store {url}: variable {name}")).with_source(e))?;
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}
