//! A zlib stream that ends where its checksum says, or is an error.
//!
//! Leaves out: gzip (`text`). Invariant: a stream that is cut, damaged or followed by other bytes never
//! looks like one that has ended.

use crate::error::InputError;
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Decompresses one zlib stream.
pub(super) struct ZlibReader<R> {
    file: String,
    source: R,
    state: Decompress,
    has_ended: bool,
}

impl<R: BufRead> ZlibReader<R> {
    /// Reads `source`, which errors call `path`.
    pub(super) fn new(path: &Path, source: R) -> Self {
        let state = Decompress::new(true);
        Self { file: path.display().to_string(), source, state, has_ended: false }
    }

    fn defect(&self, expected: impl fmt::Display, found: impl fmt::Display) -> io::Error {
        let place = format!("zlib stream, compressed byte {}", self.state.total_in());
        io::Error::other(InputError::new(&self.file, place, expected, found))
    }
}

impl<R: BufRead> Read for ZlibReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.has_ended && !out.is_empty() {
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let input = self.source.fill_buf()?;
            let is_at_end = input.is_empty();
            let status = self.state.decompress(input, out, FlushDecompress::None);
            let consumed = (self.state.total_in() - before_in) as usize;
            let produced = (self.state.total_out() - before_out) as usize;
            self.source.consume(consumed);
            match status {
                Err(error) => {
                    let expected = "valid zlib data that match their checksum";
                    return Err(self.defect(expected, format_args!("corrupt data ({error})")));
                }
                Ok(Status::StreamEnd) => {
                    self.has_ended = true;
                    if !self.source.fill_buf()?.is_empty() {
                        return Err(self.defect("the end of the file", "trailing bytes"));
                    }
                    return Ok(produced);
                }
                Ok(_) if produced > 0 => return Ok(produced),
                Ok(_) if is_at_end => {
                    let found = "unexpected end of file: the file is truncated";
                    return Err(self.defect("zlib data up to their checksum", found));
                }
                Ok(_) => {}
            }
        }
        Ok(0)
    }
}
