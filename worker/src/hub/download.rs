//! One file from a Hub into a blob: resumed, counted, checked, renamed.
//!
//! Leaves out: which files (fetch). Invariant: a blob has its own name only once its length and
//! digest are right.

use super::HubProgress;
use super::cache::{Cache, make_parent};
use super::client::{Client, broken};
use glmeval_common::error::{Error, ErrorKind, Result, io_error};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode, Url};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How often people are told: every so many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// A file as a Hub describes it.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    /// Name in the repository.
    pub(super) name: String,
    pub(super) url: Url,
    /// Name of its blob: sha256 for large files, the git sha1 for small ones.
    pub(super) etag: String,
    pub(super) bytes: u64,
}

/// Makes sure that the blob of `remote` is in the cache.
///
/// # Errors
/// `Corrupt` for other bytes than announced; `Unavailable` where a server or disk failed.
pub(super) async fn download(
    client: &Client<'_>,
    cache: &Cache,
    remote: &RemoteFile,
    report: &dyn Fn(HubProgress),
) -> Result<()> {
    let blob = cache.blob(&remote.etag);
    let lock = cache.lock(&remote.etag, || {
        report(HubProgress::Waiting { file: remote.name.clone() });
    })?;
    // Another process may have been faster.
    if is_whole(&blob, remote.bytes) {
        return Ok(());
    }
    let mut partial = Partial::open(cache.partial(&remote.etag, &lock), remote)?;
    let mut resumed = partial.done > 0;
    let mut attempt = 0;
    let mut most = partial.done;
    loop {
        report(partial.progress());
        match pull(client, &mut partial, report).await? {
            Ok(()) => match partial.check() {
                Ok(()) => return partial.finish(&blob),
                // Its beginning was another program's, or damaged on disk.
                Err(_) if resumed => partial.restart()?,
                Err(error) => return Err(partial.discard(error)),
            },
            Err(error) if error.kind() != ErrorKind::Unavailable => {
                return Err(partial.discard(error));
            }
            Err(error) => {
                attempt = if partial.done > most { 0 } else { attempt + 1 };
                most = most.max(partial.done);
                if attempt > client.retries() {
                    return Err(error);
                }
                client.pause(attempt, None, &error).await;
                continue;
            }
        }
        resumed = false;
    }
}

/// Whether a blob is there; one of another length is damaged and will be replaced.
pub(super) fn is_whole(blob: &Path, bytes: u64) -> bool {
    std::fs::metadata(blob).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

/// Appends what is missing. The outer error is final, the inner one is what the server did wrong.
async fn pull(
    client: &Client<'_>,
    partial: &mut Partial<'_>,
    report: &dyn Fn(HubProgress),
) -> Result<Result<()>> {
    let remote = partial.remote;
    if partial.done == remote.bytes {
        return Ok(Ok(()));
    }
    let answer = client.send(Method::GET, &remote.url, partial.done).await?;
    if let Some(etag) = answer.headers.etag.filter(|etag| *etag != remote.etag) {
        return Ok(Err(differs(remote, format!("the file {}", remote.etag), etag)));
    }
    let mut response = answer.response;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if continues(&response, partial.done) => {}
        StatusCode::OK => partial.restart()?,
        _ => {
            partial.restart()?;
            let said = format!("{}: expected the bytes from there on, found others", remote.url);
            return Ok(Err(Error::unavailable(said)));
        }
    }
    let mut told = partial.done;
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Ok(Err(broken(&remote.url, error))),
        };
        if chunk.len() as u64 > remote.bytes - partial.done {
            return Ok(Err(differs(remote, format!("{} bytes", remote.bytes), "more".to_owned())));
        }
        partial.append(&chunk)?;
        if partial.done - told >= STEP_BYTES || partial.done == remote.bytes {
            told = partial.done;
            report(partial.progress());
        }
    }
    if partial.done < remote.bytes {
        let said = format!("{}: ended after {} of {}", remote.url, partial.done, remote.bytes);
        return Ok(Err(Error::unavailable(format!("{said} bytes"))));
    }
    Ok(Ok(()))
}

/// Whether a part of a file begins at `from`.
fn continues(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    start.is_some_and(|(start, _)| start.parse() == Ok(from))
}

fn differs(remote: &RemoteFile, expected: String, found: String) -> Error {
    Error::corrupt(format!("{}: expected {expected}, found {found}", remote.url))
}

/// A blob that grows.
struct Partial<'r> {
    remote: &'r RemoteFile,
    path: PathBuf,
    file: File,
    /// Bytes on disk, all of them seen by `digest`.
    done: u64,
    /// `None` for an etag that is no known digest: then only the length is checked.
    digest: Option<Context>,
}

impl<'r> Partial<'r> {
    /// Opens what an earlier run left, or an empty file.
    fn open(path: PathBuf, remote: &'r RemoteFile) -> Result<Self> {
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(|e| io_error(&path, e))?;
        let mut partial = Self { remote, path, file, done: 0, digest: start_digest(remote) };
        let mut buffer = vec![0_u8; 1 << 20];
        loop {
            let read = partial.file.read(&mut buffer).map_err(|e| io_error(&partial.path, e))?;
            if read == 0 {
                return Ok(partial);
            }
            partial.count(&buffer[..read]);
            if partial.done > remote.bytes {
                partial.restart()?;
                return Ok(partial);
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.done += bytes.len() as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| io_error(&self.path, e))?;
        self.count(bytes);
        Ok(())
    }

    /// Forgets all bytes.
    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| io_error(&self.path, e))?;
        self.done = 0;
        self.digest = start_digest(self.remote);
        Ok(())
    }

    /// Compares the digest with the etag.
    fn check(&self) -> Result<()> {
        let Some(digest) = self.digest.clone() else { return Ok(()) };
        let found = hexadecimal(digest.finish().as_ref());
        if found == self.remote.etag {
            return Ok(());
        }
        Err(differs(self.remote, format!("digest {}", self.remote.etag), found))
    }

    /// Gives the blob its name, once its bytes have reached the disk.
    fn finish(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| io_error(&self.path, e))?;
        std::fs::rename(&self.path, blob).map_err(|e| io_error(blob, e))
    }

    /// Removes bytes that are of no use to a later run.
    fn discard(self, error: Error) -> Error {
        drop(std::fs::remove_file(&self.path));
        error
    }

    fn progress(&self) -> HubProgress {
        let file = self.remote.name.clone();
        HubProgress::Received { file, done: self.done, total: self.remote.bytes }
    }
}

/// The digest that an etag of this form is.
///
/// ```text
/// 64 hexadecimal digits: sha256(bytes)
/// 40 hexadecimal digits: sha1("blob " + length in decimal + "\0" + bytes), as git names blobs
/// ```
fn start_digest(remote: &RemoteFile) -> Option<Context> {
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !remote.etag.bytes().all(plain) {
        return None;
    }
    match remote.etag.len() {
        64 => Some(Context::new(&SHA256)),
        40 => {
            let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            digest.update(format!("blob {}\0", remote.bytes).as_bytes());
            Some(digest)
        }
        _ => None,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
