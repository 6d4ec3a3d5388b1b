//! Random access into bgzip files, block by block.
//!
//! ```text
//! 1f 8b 08 04 | time 4 | flags, system 2 | extra length 2 | "BC" 2 0 | block bytes - 1, 2 | …
//! deflate data | CRC-32 4 | decompressed bytes 4
//! ```
//!
//! Leaves out: streams read from front to back (`text`). Invariant: the block table comes from the
//! block headers themselves; a `.gzi` beside the file is only compared with it.
//!
//! Source: SAM/BAM format specification, section 4.1 (BGZF); `bgzip(1)` for `.gzi`.

use crate::error::{InputError, Result, io_error};
use crate::readers::text::gzip;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const HEADER_BYTES: u64 = 18;
const FIXED_BYTES: u64 = 12;
const TRAILER_BYTES: u64 = 8;
const BLOCK_BYTES_MAX: u32 = 1 << 16;
const CACHED_BLOCKS_MAX: usize = 16;

/// A bgzip file with its block table.
pub(super) struct Bgzf {
    path: PathBuf,
    file: File,
    /// Where each block starts, and one entry for the end.
    blocks: Vec<Offsets>,
    cache: Mutex<Vec<(usize, Arc<[u8]>)>>,
}

/// One position, before and after decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets {
    compressed: u64,
    decompressed: u64,
}

impl Bgzf {
    /// Walks the block headers of a file of `size` bytes.
    ///
    /// # Errors
    /// `Invalid` for damaged headers, a missing end marker, or a `.gzi` that does not fit.
    pub(super) fn open(path: &Path, file: File, size: u64) -> Result<Self> {
        let blocks = walk(path, &file, size)?;
        check_gzi(&super::beside(path, ".gzi"), &blocks)?;
        Ok(Self { path: path.to_owned(), file, blocks, cache: Mutex::new(Vec::new()) })
    }

    /// Decompressed bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.blocks.last().map_or(0, |end| end.decompressed)
    }

    /// Fills `buffer` with the decompressed bytes from `offset` on.
    ///
    /// # Errors
    /// `Invalid` for a block whose data, length or checksum is wrong.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(filled as u64);
            let after = self.blocks.partition_point(|block| block.decompressed <= position);
            let index = after.checked_sub(1).expect("the first block starts at 0");
            let block = self.block(index)?;
            let skipped = self.blocks.get(index).map_or(0, |b| position - b.decompressed);
            let piece = usize::try_from(skipped).ok().and_then(|skipped| block.get(skipped..));
            let piece = piece.filter(|piece| !piece.is_empty()).expect("offset is below size()");
            let count = piece.len().min(rest.len());
            rest[..count].copy_from_slice(&piece[..count]);
            filled += count;
        }
        Ok(())
    }

    fn block(&self, index: usize) -> Result<Arc<[u8]>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = cache.iter().find(|(cached, _)| *cached == index) {
            return Ok(Arc::clone(block));
        }
        drop(cache);
        let block: Arc<[u8]> = self.decompress(index)?.into();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() == CACHED_BLOCKS_MAX {
            cache.remove(0);
        }
        cache.push((index, Arc::clone(&block)));
        Ok(block)
    }

    fn decompress(&self, index: usize) -> Result<Vec<u8>> {
        let [start, end] = self.blocks.get(index..).and_then(<[_]>::first_chunk).copied().expect(
            "read_at asks for blocks before the end entry, because their offset is below size()",
        );
        let damaged = |found: &str| {
            let expected = "deflate data that match their CRC-32 checksum and length";
            defect(&self.path, index, start.compressed, expected, found)
        };
        // Both lengths were checked by `walk`: a block has at most 64 KiB on either side.
        let mut raw = vec![0; (end.compressed - start.compressed) as usize];
        let length = (end.decompressed - start.decompressed) as usize;
        self.file.read_exact_at(&mut raw, start.compressed).map_err(|e| io_error(&self.path, e))?;
        let Some((data, checksum)) = parts(&raw) else { return Err(damaged("corrupt header")) };
        // One byte more than announced, so that a longer block shows.
        let mut letters = vec![0; length + 1];
        let mut inflate = Decompress::new(false);
        let status = inflate.decompress(data, &mut letters, FlushDecompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            return Err(damaged("corrupt deflate data"));
        }
        if inflate.total_out() != length as u64 || inflate.total_in() != data.len() as u64 {
            return Err(damaged("a length mismatch"));
        }
        letters.truncate(length);
        let mut crc = Crc::new();
        crc.update(&letters);
        if crc.sum() != checksum {
            return Err(damaged("a checksum mismatch"));
        }
        Ok(letters)
    }
}

/// Deflate data and checksum of one block.
fn parts(raw: &[u8]) -> Option<(&[u8], u32)> {
    let (body, _length) = raw.split_last_chunk::<4>()?;
    let (body, checksum) = body.split_last_chunk::<4>()?;
    let extra = u16::from_le_bytes([*body.get(10)?, *body.get(11)?]);
    let data = body.get(FIXED_BYTES as usize + usize::from(extra)..)?;
    Some((data, u32::from_le_bytes(*checksum)))
}

/// Start of every block, from the block headers, and the end.
fn walk(path: &Path, file: &File, size: u64) -> Result<Vec<Offsets>> {
    let mut blocks = vec![Offsets { compressed: 0, decompressed: 0 }];
    let mut last_length = 0;
    while let Some(&start) = blocks.last().filter(|block| block.compressed < size) {
        let Offsets { compressed, decompressed } = start;
        let index = blocks.len() - 1;
        let bad = |expected: &str, found: &str| defect(path, index, compressed, expected, found);
        let mut header = [0; HEADER_BYTES as usize];
        if size - compressed < HEADER_BYTES + TRAILER_BYTES {
            return Err(bad("a whole block", "end of file: the file is truncated"));
        }
        file.read_exact_at(&mut header, compressed).map_err(|e| io_error(path, e))?;
        if !gzip::is_bgzip(&header) {
            return Err(bad("a block header", "invalid bytes"));
        }
        let extra = u64::from(u16::from_le_bytes([header[10], header[11]]));
        let bytes = u64::from(u16::from_le_bytes([header[16], header[17]])) + 1;
        let bytes_min = FIXED_BYTES + extra + TRAILER_BYTES;
        if bytes < bytes_min {
            let expected = format!("a block of at least {bytes_min} bytes");
            return Err(bad(&expected, &format!("invalid block size {bytes}")));
        }
        if bytes > size - compressed {
            let found = format!("{} bytes: the file is truncated", size - compressed);
            return Err(bad(&format!("a block of {bytes} bytes"), &found));
        }
        let mut length = [0; 4];
        file.read_exact_at(&mut length, compressed + bytes - 4).map_err(|e| io_error(path, e))?;
        last_length = u32::from_le_bytes(length);
        if last_length > BLOCK_BYTES_MAX {
            let expected = format!("at most {BLOCK_BYTES_MAX} decompressed bytes");
            return Err(bad(&expected, &format!("invalid length {last_length}")));
        }
        blocks.push(Offsets {
            compressed: compressed + bytes,
            decompressed: decompressed + u64::from(last_length),
        });
    }
    if last_length != 0 {
        let expected = "an empty bgzf block that marks the end of the file";
        let found = "none: the marker is missing, the file may be truncated";
        return Err(InputError::new(path.display(), "bgzf", expected, found).into());
    }
    Ok(blocks)
}

/// Compares the block table with the `.gzi` at `path`, if there is one.
///
/// The index is a count, then for each block but the first its two offsets, all `u64`, little-endian.
/// The empty block at the end may be listed or not.
fn check_gzi(path: &Path, blocks: &[Offsets]) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let size = std::fs::metadata(path).map_err(|e| io_error(path, e))?.len();
    let listed_max = blocks.len().saturating_sub(2);
    let bad = |place: &str, expected: String, found: String| {
        Err(InputError::new(path.display(), place, expected, found).into())
    };
    let size_max = 8 + 16 * listed_max as u64;
    if size > size_max {
        let expected = format!("at most {size_max} bytes for {} blocks", listed_max + 1);
        return bad("gzi", expected, format!("{size} bytes (mismatch)"));
    }
    let bytes = std::fs::read(path).map_err(|e| io_error(path, e))?;
    let (words, rest) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let Some((&count, pairs)) = words.split_first().filter(|_| rest.is_empty()) else {
        return bad("gzi", "a count and pairs of offsets".into(), "a truncated file".into());
    };
    if pairs.len() as u64 != count.saturating_mul(2) {
        let expected = format!("a count that fits {size} bytes");
        return bad("gzi entry count", expected, format!("{count} (mismatch)"));
    }
    let inner = blocks.get(1..blocks.len().saturating_sub(1)).unwrap_or_default();
    let ending = blocks.last().map_or(0, |end| end.decompressed);
    let listed_min = inner.iter().filter(|block| block.decompressed < ending).count();
    if count < listed_min as u64 {
        return bad("gzi entry count", format!("{listed_min}"), format!("{count} (mismatch)"));
    }
    for (entry, (pair, block)) in pairs.as_chunks::<2>().0.iter().zip(inner).enumerate() {
        let [compressed, decompressed] = *pair;
        if *block != (Offsets { compressed, decompressed }) {
            let expected =
                format!("offsets {} and {} of a block", block.compressed, block.decompressed);
            let found = format!("{compressed} and {decompressed} (mismatch)");
            return bad(&format!("gzi entry {entry}"), expected, found);
        }
    }
    Ok(())
}

fn defect(
    path: &Path,
    block_index: usize,
    compressed: u64,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> crate::error::Error {
    let place = format!("bgzf block {block_index} at compressed offset {compressed}");
    InputError::new(path.display(), place, expected, found).into()
}
