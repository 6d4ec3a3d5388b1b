//! Lines of a text file: plain, gzip (any number of members) or bgzip, decided by content.
//!
//! Leaves out: what a line means. Invariant: no more than one line and two buffers are in memory,
//! and a damaged gzip stream is an error, never an early end.

use crate::error::{Error, InputError, Result, io_error};
use crate::regular_file;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

pub(super) mod batch;
pub(super) mod gzip;
pub(super) mod unique;

use gzip::GzipReader;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BUFFER_BYTES: usize = 64 << 10;
const EXCERPT_BYTES_MAX: usize = 60;
/// Decompressed bytes in which damage is looked for once the content has a defect.
const EXPLAIN_BYTES_MAX: u64 = 64 << 20;

/// Reads a text file line by line.
pub struct TextReader {
    path: PathBuf,
    source: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    line_number: u64,
    line_bytes_max: usize,
}

impl TextReader {
    /// Opens `path`; lines longer than `line_bytes_max` bytes are refused.
    ///
    /// # Errors
    /// When the file cannot be opened or its first bytes cannot be read; `Invalid` for a pipe.
    pub fn open(path: &Path, line_bytes_max: usize) -> Result<Self> {
        let file = regular_file::open(path)?;
        Self::from_read(path, Box::new(file), line_bytes_max)
    }

    /// Reads `source`, which errors call `path`.
    ///
    /// # Errors
    /// When the first bytes cannot be read.
    pub fn from_read(
        path: &Path,
        source: Box<dyn Read + Send>,
        line_bytes_max: usize,
    ) -> Result<Self> {
        let decoded = decode(path, source).map_err(|e| io_error(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            source: BufReader::with_capacity(BUFFER_BYTES, decoded),
            line: Vec::new(),
            line_number: 0,
            line_bytes_max,
        })
    }

    /// Steps to the next line and returns it without its line end; `None` at the end of the file.
    /// A byte order mark at the start of the file is dropped.
    ///
    /// # Errors
    /// `Invalid` for a damaged gzip stream or a line beyond the limit.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let line_end_bytes = 2;
        let bytes_max = self.line_bytes_max.saturating_add(line_end_bytes) as u64;
        let count = (&mut self.source)
            .take(bytes_max)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| read_error(&self.path, e))?;
        if count == 0 {
            return Ok(None);
        }
        self.line_number += 1;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.line_number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        if self.line.len() > self.line_bytes_max {
            return Err(self
                .defect(
                    "",
                    format_args!("a line of at most {} bytes (the limit)", self.line_bytes_max),
                    format_args!("more than {} bytes without a line end", self.line_bytes_max),
                )
                .into());
        }
        Ok(Some(&self.line))
    }

    /// The line that [`TextReader::next_line`] stepped to, without its line end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Number of that line, from 1; 0 before the first.
    pub fn line_number(&self) -> u64 {
        self.line_number
    }

    /// The file as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Prefers damage of the compressed stream to `error`, a defect of its content that such damage
    /// explains: checksums stand behind what they protect, so the next stretch is read for it.
    pub(super) fn explain(&mut self, error: Error) -> Error {
        let rest = &mut (&mut self.source).take(EXPLAIN_BYTES_MAX);
        match io::copy(rest, &mut io::sink()) {
            Err(damage) => read_error(&self.path, damage),
            Ok(_) => error,
        }
    }

    /// A defect of the line read last; `detail` says where in the line and may be empty.
    pub fn defect(
        &self,
        detail: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> InputError {
        self.defect_at(self.line_number, detail, expected, found)
    }

    /// A defect of line `line_number`; `detail` says where in the line and may be empty.
    pub fn defect_at(
        &self,
        line_number: u64,
        detail: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> InputError {
        let mut place = format!("line {line_number}");
        let detail = detail.to_string();
        if !detail.is_empty() {
            place.push_str(", ");
            place.push_str(&detail);
        }
        InputError::new(self.path.display(), place, expected, found)
    }
}

/// Decompresses `source` if its first bytes are those of gzip.
pub(super) fn decode(
    path: &Path,
    mut source: Box<dyn Read + Send>,
) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(gzip::START_BYTES);
    (&mut source).take(gzip::START_BYTES as u64).read_to_end(&mut start)?;
    let is_gzip = gzip::is_gzip(&start);
    let is_bgzip = gzip::is_bgzip(&start);
    let whole = Cursor::new(start).chain(source);
    if is_gzip {
        let compressed = BufReader::with_capacity(BUFFER_BYTES, whole);
        Ok(Box::new(GzipReader::new(path, compressed, is_bgzip)))
    } else {
        Ok(Box::new(whole))
    }
}

/// Error of reading `path`; a defect that a decoder found keeps its own words.
pub(super) fn read_error(path: &Path, error: io::Error) -> Error {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<InputError>()) {
        Some(defect) => defect.clone().into(),
        None => io_error(path, error),
    }
}

/// `bytes` in quotes, escaped, cut to a length fit for a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\" (empty)".to_owned();
    }
    let shown = &bytes[..bytes.len().min(EXCERPT_BYTES_MAX)];
    let tail = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}\"{tail}", String::from_utf8_lossy(shown).escape_debug())
}

/// `bytes` as text.
///
/// # Errors
/// The first byte that is not UTF-8, in words.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let byte = bytes.get(offset).copied().unwrap_or_default();
        format!("invalid byte 0x{byte:02x} at column {}", offset + 1)
    })
}

#[cfg(test)]
mod tests;
