//! Uploads in parts that were begun and never ended: S3 keeps their bytes, and no listing of objects shows them.
//!
//! Leaves out: when they go (`gc`). Invariant: an upload of another prefix of the bucket is never touched.

use crate::error::{Error, ErrorKind, Result};
use crate::store::open::{Bucket, parse_timestamp};
use crate::store::{Store, location};
use object_store::multipart::MultipartStore;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use std::time::Duration;

/// Pages of a listing: a thousand uploads each.
const PAGES_MAX: usize = 1_000;
/// How long a signed request is good for.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Characters of an answer that an error repeats.
const ANSWER_CHARS_MAX: usize = 400;

/// An upload in parts that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Path that the object would have below the store's URL.
    pub path: String,
    /// Name of the upload.
    pub id: String,
    /// When it was begun, in milliseconds since 1970 by the store's own clock.
    pub begun_ms: i64,
}

impl Store {
    /// Every upload in parts below the store's URL that has not ended, sorted by path; none in a store that is not S3.
    ///
    /// # Errors
    /// `Invalid` when the credentials do not allow it, `Unavailable`.
    pub async fn uploads(&self) -> Result<Vec<Upload>> {
        let Some(bucket) = &self.bucket else { return Ok(Vec::new()) };
        let mut uploads = Vec::new();
        let mut marker: Option<(String, String)> = None;
        for _ in 0..PAGES_MAX {
            let answer = self.upload_page(bucket, marker.as_ref()).await?;
            uploads.extend(
                elements(&answer, "Upload").filter_map(|text| upload(text, &bucket.prefix)),
            );
            let text = |tag| element(&answer, tag).map(str::to_owned);
            marker = text("NextKeyMarker").zip(text("NextUploadIdMarker"));
            if element(&answer, "IsTruncated") != Some("true") || marker.is_none() {
                break;
            }
        }
        uploads.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
        Ok(uploads)
    }

    /// Ends an upload and drops its parts; one that is gone is no error.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let path = &upload.path;
        let whole = match &*bucket.prefix {
            "" => location(path)?,
            prefix => location(&format!("{prefix}/{path}"))?,
        };
        let abort = || bucket.client.abort_multipart(&whole, &upload.id);
        match self.retry("abort upload of", path, abort).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// One page of the bucket's uploads, as the XML that S3 answers.
    async fn upload_page(
        &self,
        bucket: &Bucket,
        after: Option<&(String, String)>,
    ) -> Result<String> {
        let mut query = vec![("uploads".to_owned(), String::new())];
        if !bucket.prefix.is_empty() {
            query.push(("prefix".to_owned(), format!("{}/", bucket.prefix)));
        }
        if let Some((key, id)) = after {
            query.push(("key-marker".to_owned(), key.clone()));
            query.push(("upload-id-marker".to_owned(), id.clone()));
        }
        let options = SignedUrlOptions::new().with_query(query);
        let root = object_store::path::Path::default();
        let url = bucket.client.signed_url_opts(Method::GET, &root, SIGNED_FOR, &options);
        let url = url.await.map_err(|error| self.error("list uploads of", "the bucket", error))?;
        let failed = |error: reqwest::Error| {
            // The URL holds a signature.
            let message = format!("list uploads in {}", self.url);
            Error::unavailable(message).with_source(error.without_url())
        };
        let answer = reqwest::Client::new().get(url.as_str()).send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if status.is_success() {
            return Ok(text);
        }
        let kind =
            if status.is_client_error() { ErrorKind::Invalid } else { ErrorKind::Unavailable };
        let said: String = text.chars().take(ANSWER_CHARS_MAX).collect();
        Err(Error::new(kind, format!("list uploads in {}: {status}: {said}", self.url)))
    }
}

/// The upload an element tells of, if it lies below `prefix`.
fn upload(text: &str, prefix: &str) -> Option<Upload> {
    let key = element(text, "Key")?;
    let path = match prefix {
        "" => key,
        prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
    };
    // A name that no store of ours would write is none of ours.
    location(path).ok()?;
    let begun_s = parse_timestamp(element(text, "Initiated")?)?;
    let id = element(text, "UploadId")?.to_owned();
    Some(Upload { path: path.to_owned(), id, begun_ms: begun_s.saturating_mul(1_000) })
}

/// Contents of every element `tag` of flat XML, without attributes.
fn elements<'a>(text: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, behind) = after.split_once(&close)?;
        rest = behind;
        Some(inside)
    })
}

fn element<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    elements(text, tag).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_below_the_prefix_are_read() {
        let of = |key: &str| {
            format!(
                "<Upload><Key>{key}</Key><UploadId>2~x</UploadId>\
                 <Initiated>2026-11-21T21:55:24.719Z</Initiated></Upload>"
            )
        };
        let text = ["lab/a/b.bin", "lab2/a.bin", "lab/with space"].map(of).concat();
        let found: Vec<Upload> =
            elements(&text, "Upload").filter_map(|text| upload(text, "lab")).collect();
        let expected =
            Upload { path: "a/b.bin".into(), id: "2~x".into(), begun_ms: 1_795_298_124_000 };
        assert_eq!(found, [expected]);
        assert_eq!(elements("<Upload><Key>half", "Upload").count(), 0);
    }
}
