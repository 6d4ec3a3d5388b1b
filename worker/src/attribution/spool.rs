//! Entropies of a set on disk, between the pass that finds their maximum and the one that subtracts it.
//!
//! Leaves out: naming and deleting the file. Invariant: memory does not grow with the set; what is read
//! back has the bits that were written, in the same order.

use super::entropy::{EntropyMaximum, TokenEntropies};
use glmeval_common::error::{Error, Result, io_error};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Entropies while they are written: of each sequence the number of tokens and their values.
pub struct EntropySpool {
    path: PathBuf,
    out: BufWriter<File>,
    sequences: u64,
    maximum: EntropyMaximum,
}

impl EntropySpool {
    /// Starts the file `path`.
    ///
    /// # Errors
    /// I/O errors with the path.
    pub fn new(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Self::on(options.open(path).map_err(|e| io_error(path, e))?, path))
    }

    /// Starts an empty file that is open for reading too; `path` names it in errors.
    pub fn on(file: File, path: &Path) -> Self {
        let (out, maximum) = (BufWriter::new(file), EntropyMaximum::default());
        Self { path: path.to_owned(), out, sequences: 0, maximum }
    }

    /// Adds the next sequence.
    ///
    /// # Errors
    /// I/O errors with the path.
    pub fn push(&mut self, entropies: &TokenEntropies) -> Result<()> {
        self.maximum.add(self.sequences, entropies);
        self.sequences += 1;
        let mut record = (entropies.values.len() as u64).to_le_bytes().to_vec();
        record.extend(entropies.values.iter().flat_map(|value| value.to_le_bytes()));
        self.out.write_all(&record).map_err(|e| io_error(&self.path, e))
    }

    /// The maximum of all, and a reader from the beginning.
    ///
    /// # Errors
    /// I/O errors with the path.
    pub fn finish(mut self) -> Result<(EntropyMaximum, EntropyReader)> {
        let failed = |e| io_error(&self.path, e);
        self.out.flush().map_err(failed)?;
        let mut file = self.out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok((self.maximum, EntropyReader { file: BufReader::new(file), path: self.path }))
    }
}

/// Reads entropies back.
pub struct EntropyReader {
    file: BufReader<File>,
    path: PathBuf,
}

impl EntropyReader {
    /// Entropies of the next sequence, which has `tokens` tokens.
    ///
    /// # Errors
    /// I/O errors with the path; `Bug` if it has another number of tokens.
    pub fn next(&mut self, tokens: usize) -> Result<Vec<f64>> {
        let failed = |e| io_error(&self.path, e);
        let mut number = [0; 8];
        self.file.read_exact(&mut number).map_err(failed)?;
        let found = u64::from_le_bytes(number);
        if found != tokens as u64 {
            return Err(Error::bug(format!(
                "expected entropies of {tokens} tokens, found {found}"
            )));
        }
        let mut values = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            self.file.read_exact(&mut number).map_err(failed)?;
            values.push(f64::from_le_bytes(number));
        }
        Ok(values)
    }
}
