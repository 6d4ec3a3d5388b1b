//! Rows of features while probes are fitted: in memory up to a budget, beyond it in a file.
//!
//! Leaves out: where rows come from (fit). Invariant: a row reads the same wherever it lies; the file
//! has no name, so it goes with the process.

use glmeval_common::error::{Error, Result, io_error};
use glmeval_common::limits;
use glmeval_common::representation::StoredDtype;
use glmeval_common::rng::random_token;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

/// How a row's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// As embeddings are stored.
    Numbers(StoredDtype),
    /// One byte per nucleotide, 0 to 3 for A, C, G, T, else undefined; read as four values.
    Letters,
}

impl RowFormat {
    /// Bytes of `values` values.
    fn bytes(self, values: usize) -> Option<usize> {
        match self {
            Self::Numbers(dtype) => values.checked_mul(usize::try_from(dtype.bytes()).ok()?),
            Self::Letters => Some(values / 4),
        }
    }

    /// Widens the bytes of one row, exactly.
    fn expand(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Numbers(StoredDtype::F32) => {
                for (out, chunk) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*chunk);
                }
            }
            Self::Numbers(StoredDtype::F16) => expand_halves(bytes, out),
            Self::Numbers(StoredDtype::Bf16) => {
                for (out, chunk) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*chunk)) << 16);
                }
            }
            Self::Letters => {
                for (out, &letter) in out.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
                    *out = [0_u8, 1, 2, 3].map(|base| if base == letter { 1.0 } else { 0.0 });
                }
            }
        }
    }
}

fn expand_halves(bytes: &[u8], out: &mut [f32]) {
    // Whole slices convert several times as fast as single values.
    let halves = bytemuck::try_cast_slice::<u8, f16>(bytes).ok();
    match halves.filter(|halves| cfg!(target_endian = "little") && halves.len() == out.len()) {
        Some(halves) => halves.convert_to_f32_slice(out),
        None => {
            for (out, chunk) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16::from_le_bytes(*chunk).to_f32();
            }
        }
    }
}

/// Rows of one length, read in any order.
#[derive(Debug)]
pub struct ExampleCache {
    format: RowFormat,
    row_values: usize,
    row_bytes: usize,
    rows: usize,
    /// The first rows.
    memory: Vec<u8>,
    memory_rows_max: usize,
    /// The rows after them.
    file: Option<File>,
}

impl ExampleCache {
    /// Room for `rows` rows of `row_values` values, of which `budget_bytes` lie in memory.
    ///
    /// # Errors
    /// `Invalid` for rows that no memory can hold; `Unavailable` when there is less than the budget.
    pub fn new(
        format: RowFormat,
        row_values: usize,
        rows: usize,
        budget_bytes: u64,
    ) -> Result<Self> {
        let too_long = || Error::invalid(format!("examples of {row_values} values are too long"));
        let row_bytes = format.bytes(row_values).ok_or_else(too_long)?;
        let budget = usize::try_from(budget_bytes).unwrap_or(usize::MAX);
        let memory_rows_max = budget.checked_div(row_bytes).unwrap_or(rows).min(rows);
        let mut memory = Vec::new();
        let bytes = memory_rows_max * row_bytes;
        memory.try_reserve_exact(bytes).map_err(|e| {
            Error::unavailable(format!("keep {bytes} bytes of examples in memory")).with_source(e)
        })?;
        Ok(Self { format, row_values, row_bytes, rows: 0, memory, memory_rows_max, file: None })
    }

    /// How a row's values are kept.
    pub fn format(&self) -> RowFormat {
        self.format
    }

    /// Rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn row_values(&self) -> usize {
        self.row_values
    }

    /// Adds whole rows.
    ///
    /// # Errors
    /// `Bug` for part of a row; `Unavailable` naming the folder when the disk is full.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.row_bytes == 0 || !bytes.len().is_multiple_of(self.row_bytes) {
            let (expected, found) = (self.row_bytes, bytes.len());
            return Err(Error::bug(format!("cache rows of {expected} bytes: found {found} bytes")));
        }
        let room = self.memory_rows_max.saturating_sub(self.rows) * self.row_bytes;
        let (kept, spilled) = bytes.split_at(room.min(bytes.len()));
        self.memory.extend_from_slice(kept);
        if !spilled.is_empty() {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(nameless_file()?),
            };
            file.write_all(spilled).map_err(|e| io_error(&std::env::temp_dir(), e))?;
        }
        self.rows += bytes.len() / self.row_bytes;
        Ok(())
    }

    /// Reads row `row` into `out`, `[row_values]`; `scratch` is memory to reuse.
    ///
    /// # Errors
    /// `Bug` for a row that is not there; `Unavailable` when the file cannot be read.
    pub fn read(&self, row: usize, scratch: &mut Vec<u8>, out: &mut [f32]) -> Result<()> {
        if out.len() != self.row_values {
            return Err(self.missing(row));
        }
        self.format.expand(self.stored(row, scratch)?, out);
        Ok(())
    }

    /// Row `row` as it is kept; `scratch` is memory to reuse.
    ///
    /// # Errors
    /// As [`ExampleCache::read`].
    pub fn stored<'a>(&'a self, row: usize, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        if row >= self.rows {
            return Err(self.missing(row));
        }
        let start = row * self.row_bytes;
        if let Some(bytes) = self.memory.get(start..start + self.row_bytes) {
            return Ok(bytes);
        }
        let file = self.file.as_ref().ok_or_else(|| self.missing(row))?;
        scratch.resize(self.row_bytes, 0);
        let at = (start - self.memory.len()) as u64;
        file.read_exact_at(scratch, at).map_err(|e| io_error(&std::env::temp_dir(), e))?;
        Ok(scratch)
    }

    fn missing(&self, row: usize) -> Error {
        Error::bug(format!("cache: expected row {row} of {}", self.rows))
    }
}

/// A file in the folder for temporary files, whose name is gone once it is open.
pub(crate) fn nameless_file() -> Result<File> {
    let path = std::env::temp_dir().join(format!("glmeval-{}", random_token()));
    let open = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = open.map_err(|e| io_error(&path, e))?;
    std::fs::remove_file(&path).map_err(|e| io_error(&path, e))?;
    Ok(file)
}

/// Bytes of examples to keep in memory: half of what is left.
pub fn default_budget() -> u64 {
    memory_left().map_or(limits::EXAMPLE_CACHE_BYTES, |left| left / 2)
}

/// Bytes of memory that the machine, or the group this process is confined to, has left; `None` where it does
/// not say.
pub(crate) fn memory_left() -> Option<u64> {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    });
    let text = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let confined = number("memory.max").and_then(|most| {
        // Pages of files that were read count as used, but make room.
        let stat = text("memory.stat")?;
        let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        let used = number("memory.current")?.saturating_sub(files.trim().parse().ok()?);
        Some(most.saturating_sub(used))
    });
    [available, confined].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glmeval_common::embedding::narrow;

    /// Rows of three values, of which `budget` bytes lie in memory.
    fn read_all(dtype: StoredDtype, budget: u64) -> Vec<f32> {
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 0.5 - 2.0).collect();
        let bytes = narrow(&values, 3, dtype, &|row| row.to_string()).unwrap();
        let mut cache = ExampleCache::new(RowFormat::Numbers(dtype), 3, 4, budget).unwrap();
        for piece in bytes.chunks(bytes.len() / 2) {
            cache.push(piece).unwrap();
        }
        let (mut out, mut scratch) = (vec![0.0; 12], Vec::new());
        for row in [3, 0, 2, 1] {
            cache.read(row, &mut scratch, &mut out[row * 3..row * 3 + 3]).unwrap();
        }
        assert!(cache.read(4, &mut scratch, &mut [0.0; 3]).is_err());
        assert_eq!(out, values);
        out
    }

    #[test]
    fn rows_read_the_same_from_memory_and_file() {
        for dtype in [StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16] {
            for budget in [0, 13, 30, u64::MAX] {
                read_all(dtype, budget);
            }
        }
    }

    #[test]
    fn letters_become_four_values() {
        let mut cache = ExampleCache::new(RowFormat::Letters, 8, 1, 100).unwrap();
        cache.push(&[2, 4]).unwrap();
        let mut out = [9.0; 8];
        cache.read(0, &mut Vec::new(), &mut out).unwrap();
        assert_eq!(out, [0., 0., 1., 0., 0., 0., 0., 0.]);
        assert!(cache.push(&[1]).is_err());
    }

    #[test]
    fn budget_is_positive() {
        assert!(default_budget() > 0);
    }
}
