//! Records of a TFRecord file: length, payload, and a masked CRC-32C of each.
//!
//! Leaves out: what a payload says (`payload`). Invariant: a payload is given out only after both of
//! its checksums were right, and no announced length is allocated before bytes arrive for it.
//!
//! Source: TensorFlow `core/lib/io/record_writer.h`.

use super::zlib::ZlibReader;
use crate::error::{Error, InputError, Result};
use crate::limits::PARSER_ALLOCATION_BYTES_MAX;
use crate::readers::text::read_error;
use crate::regular_file;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Added to the rotated checksum, so that a checksum of checksums is none.
const MASK_DELTA: u32 = 0xa282_ead8;
/// Castagnoli's polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const LENGTH_BYTES: usize = 8;

static TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// CRC-32C of `bytes`, rotated and shifted as TFRecord stores it.
pub(super) fn masked_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8);
    let crc = !bytes.iter().fold(u32::MAX, step);
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

/// Reads the records of one ZLIB-compressed file.
pub(super) struct FramedReader {
    path: PathBuf,
    source: ZlibReader<BufReader<File>>,
    payload: Vec<u8>,
    /// Records read so far.
    records: u64,
}

impl FramedReader {
    /// Opens `path`.
    ///
    /// # Errors
    /// `NotFound` without the file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = regular_file::open(path)?;
        let source = ZlibReader::new(path, BufReader::new(file));
        Ok(Self { path: path.to_owned(), source, payload: Vec::new(), records: 0 })
    }

    /// The payload of the next record; `None` at the end of the file.
    ///
    /// # Errors
    /// `Invalid` with the number of the record, from 0.
    pub(super) fn next_payload(&mut self) -> Result<Option<&[u8]>> {
        self.take(LENGTH_BYTES)?;
        if self.payload.is_empty() {
            return Ok(None);
        }
        let Some(&length) = self.payload.first_chunk() else {
            return Err(self.truncated("a length of 8 bytes"));
        };
        self.check("the length", &length)?;
        let length = u64::from_le_bytes(length);
        let fits = usize::try_from(length).ok().filter(|&n| n <= PARSER_ALLOCATION_BYTES_MAX);
        let Some(length) = fits else {
            let expected = format!("a length of at most {PARSER_ALLOCATION_BYTES_MAX} bytes");
            return Err(self.defect("", expected, format_args!("{length} bytes")));
        };
        self.take(length)?;
        if self.payload.len() < length {
            return Err(self.truncated(format_args!("{length} bytes")));
        }
        let payload = std::mem::take(&mut self.payload);
        self.check("the payload", &payload)?;
        self.payload = payload;
        self.records += 1;
        Ok(Some(&self.payload))
    }

    /// A defect of the record read last; `detail` says where in it and may be empty.
    pub(super) fn defect_in_last(
        &mut self,
        detail: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Error {
        self.records = self.records.saturating_sub(1);
        self.defect(detail, expected, found)
    }

    /// Reads at most `count` bytes over the payload; fewer at the end of the stream.
    fn take(&mut self, count: usize) -> Result<()> {
        self.payload.clear();
        let mut rest = (&mut self.source).take(count as u64);
        rest.read_to_end(&mut self.payload).map_err(|e| read_error(&self.path, e))?;
        Ok(())
    }

    /// Reads the checksum that follows `bytes` and compares it.
    fn check(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        self.take(size_of::<u32>())?;
        let Some(&stored) = self.payload.first_chunk() else {
            return Err(self.truncated("a checksum of 4 bytes"));
        };
        let (stored, computed) = (u32::from_le_bytes(stored), masked_crc(bytes));
        if stored == computed {
            return Ok(());
        }
        let expected = format!("{what} to match its CRC-32C checksum {stored:08x}");
        Err(self.defect("", expected, format_args!("mismatch, corrupt: CRC {computed:08x}")))
    }

    fn truncated(&self, expected: impl fmt::Display) -> Error {
        self.defect("", expected, "end of the stream: the file is truncated")
    }

    fn defect(&self, detail: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        let comma = if detail.is_empty() { "" } else { ", " };
        let place = format!("record {}{comma}{detail}", self.records);
        InputError::new(self.path.display(), place, expected, found).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis_with_the_mask_of_tfrecord() {
        // CRC-32C of "123456789" is e3069283 (RFC 3720, appendix B.4 has the polynomial).
        let unmasked = masked_crc(b"123456789").wrapping_sub(MASK_DELTA).rotate_left(15);
        assert_eq!(unmasked, 0xe306_9283);
    }
}
