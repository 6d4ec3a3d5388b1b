//! The decompressed bytes of a genome file by offset, wherever they rest.
//!
//! Leaves out: what the bytes mean. Invariant: reading takes `&self` and moves no file position, so
//! any number of threads may read at once.

use super::bgzf::Bgzf;
use crate::error::{InputError, Result, io_error};
use crate::readers::text::{decode, gzip, read_error};
use crate::regular_file;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Largest genome held in memory, decompressed, in bytes.
const GENOME_IN_MEMORY_BYTES_MAX: usize = 512 << 20;

/// Bytes by offset.
pub(super) enum Bytes {
    /// A file that is not compressed.
    Plain { path: PathBuf, file: File, size: u64 },
    /// Blocks that are decompressed on demand.
    Bgzf(Bgzf),
    /// A gzip file without blocks, decompressed whole.
    Memory(Vec<u8>),
}

impl Bytes {
    /// Opens `path`, whose first bytes decide how it is read.
    ///
    /// # Errors
    /// `Invalid` for damaged blocks and for gzip beyond what memory may hold.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = regular_file::open(path)?;
        let size = file.metadata().map_err(|e| io_error(path, e))?.len();
        let mut start = Vec::with_capacity(gzip::START_BYTES);
        (&file)
            .take(gzip::START_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(|e| io_error(path, e))?;
        if gzip::is_bgzip(&start) {
            Ok(Self::Bgzf(Bgzf::open(path, file, size)?))
        } else if gzip::is_gzip(&start) {
            Ok(Self::Memory(decompress(path, GENOME_IN_MEMORY_BYTES_MAX)?))
        } else {
            Ok(Self::Plain { path: path.to_owned(), file, size })
        }
    }

    /// Number of bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Plain { size, .. } => *size,
            Self::Bgzf(blocks) => blocks.size(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on; they must lie within [`Bytes::size`].
    ///
    /// # Errors
    /// `Invalid` for a damaged block; errors of the file system.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Self::Plain { path, file, .. } => {
                file.read_exact_at(buffer, offset).map_err(|e| io_error(path, e))
            }
            Self::Bgzf(blocks) => blocks.read_at(offset, buffer),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(buffer.len());
                let piece = bytes.get(start..end).expect("the caller stays within size()");
                buffer.copy_from_slice(piece);
                Ok(())
            }
        }
    }
}

fn decompress(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let file = regular_file::open(path)?;
    let source = decode(path, Box::new(file)).map_err(|e| read_error(path, e))?;
    let mut bytes = Vec::new();
    source.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|e| read_error(path, e))?;
    if bytes.len() > bytes_max {
        return Err(InputError::new(
            path.display(),
            "gzip",
            format_args!("at most {bytes_max} bytes decompressed: recompress with bgzip"),
            "more, in gzip that allows no random access",
        )
        .into());
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gzip_beyond_what_memory_may_hold_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fa.gz");
        let file = File::create(&path).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&[b'A'; 100]).unwrap();
        encoder.finish().unwrap();
        assert_eq!(decompress(&path, 100).unwrap().len(), 100);
        let message = decompress(&path, 99).unwrap_err().chain();
        assert!(message.contains("recompress with bgzip"), "{message}");
    }
}
