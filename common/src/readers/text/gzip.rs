//! Gzip streams of any number of members, with errors that say where the stream is damaged.
//!
//! Leaves out: random access (`genome::bgzf`). Invariant: the end is reported only after the last
//! member's checksum and length were right and nothing followed it.

use crate::error::InputError;
use flate2::bufread::GzDecoder;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Bytes from the start of a file that tell plain text, gzip and bgzip apart.
pub(in crate::readers) const START_BYTES: usize = 18;

/// Whether a file that starts with `start` is gzip.
pub(in crate::readers) fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// Whether a file that starts with `start` is bgzip: gzip whose members carry a `BC` field.
pub(in crate::readers) fn is_bgzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b, 0x08, 0x04]) && start.get(12..16) == Some(b"BC\x02\x00")
}

/// Decompresses one gzip member after the other.
pub(super) struct GzipReader<R: BufRead> {
    file: String,
    member: Option<GzDecoder<Counted<R>>>,
    member_index: u64,
    member_start: u64,
    member_bytes: u64,
    is_bgzip: bool,
    failed: Option<InputError>,
}

impl<R: BufRead> GzipReader<R> {
    /// Reads `source`, which errors call `path`. A bgzip file must end with an empty member.
    pub(super) fn new(path: &Path, source: R, is_bgzip: bool) -> Self {
        Self {
            file: path.display().to_string(),
            member: Some(GzDecoder::new(Counted { source, consumed: 0 })),
            member_index: 0,
            member_start: 0,
            member_bytes: 0,
            is_bgzip,
            failed: None,
        }
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            match member.read(out) {
                Ok(0) => self.next_member()?,
                Ok(count) => {
                    self.member_bytes += count as u64;
                    return Ok(count);
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(0)
    }

    fn next_member(&mut self) -> io::Result<()> {
        let Some(member) = self.member.take() else { return Ok(()) };
        let mut source = member.into_inner();
        let offset = source.consumed;
        match source.fill_buf()?.first() {
            None if self.is_bgzip && self.member_bytes > 0 => Err(io::Error::other(self.defect(
                "an empty bgzip block that marks the end of the file",
                "none: the marker is missing, the file may be truncated",
            ))),
            None => Ok(()),
            Some(0x1f) => {
                self.member = Some(GzDecoder::new(source));
                self.member_index += 1;
                self.member_start = offset;
                self.member_bytes = 0;
                Ok(())
            }
            Some(byte) => Err(io::Error::other(InputError::new(
                &self.file,
                format_args!("gzip, compressed byte offset {offset}"),
                "the end of the file or another gzip member",
                format_args!("trailing garbage that starts with byte 0x{byte:02x}"),
            ))),
        }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other(self.defect(
                "compressed data up to the end of stream (checksum and length)",
                "unexpected end of file: the file is truncated",
            )),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                io::Error::other(self.defect(
                    "valid deflate data that match their CRC-32 checksum and length",
                    format_args!("corrupt data ({error})"),
                ))
            }
            _ => error,
        }
    }

    fn defect(&self, expected: impl fmt::Display, found: impl fmt::Display) -> InputError {
        let place = format!(
            "gzip member {} at compressed byte offset {}",
            self.member_index, self.member_start
        );
        InputError::new(&self.file, place, expected, found)
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(defect) = &self.failed {
            return Err(io::Error::other(defect.clone()));
        }
        let result = self.step(out);
        if let Err(error) = &result {
            self.failed = error.get_ref().and_then(|cause| cause.downcast_ref()).cloned();
        }
        result
    }
}

/// Counts the bytes taken from a buffered source.
struct Counted<R> {
    source: R,
    consumed: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        self.consumed += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count as u64;
        self.source.consume(count);
    }
}
