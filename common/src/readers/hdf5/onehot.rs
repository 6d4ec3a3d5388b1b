//! One-hot data sets as letters.
//!
//! Leaves out: which data set belongs to which split (`layouts`). Invariant: a position is A, C, G
//! or T when exactly one of its first four channels is 1, `N` when all four are 0, else an error.

use super::array::{Array, words};
use super::file::Hdf5File;
use crate::dna::{BASES, DnaSequence};
use crate::error::Result;

/// A data set of one-hot sequences, (N, L, 4), (N, 4, L) or (N, 9, L).
///
/// Channels after the first four are RNA structure profiles, which are ignored.
pub(super) struct OneHot {
    pub(super) array: Array,
    /// Length of every sequence in nucleotides.
    pub(super) length: usize,
    between_positions: usize,
    between_channels: usize,
    row: Vec<f64>,
}

impl OneHot {
    /// Opens the data set that the file spells `key`.
    ///
    /// The last axis holds the channels if it has 4 entries (so (N, 4, 4) is channel-last), else
    /// the middle axis if it has 4 or 9, else the last if it has 9.
    ///
    /// # Errors
    /// `Invalid` for a rank other than 3 or a shape without an axis of channels.
    pub(super) fn open(file: &Hdf5File, key: &str) -> Result<Self> {
        let array = Array::open(file, key)?;
        let &[_, middle, last] = array.shape() else {
            let shape = array.shape();
            let found = format!("rank {} in shape {}", shape.len(), words(shape));
            return Err(array.shape_defect("rank 3: rows, channels, length", found));
        };
        let (length, channels, channel_last) = match (middle, last) {
            (length, 4) => (length, 4, true),
            (channels @ (4 | 9), length) => (length, channels, false),
            (length, 9) => (length, 9, true),
            _ => {
                let found = format!("({middle}, {last}) in shape {}", words(array.shape()));
                let expected = "an axis of 4 channels, or of 9 with RNA structure";
                return Err(array.shape_defect(expected, found));
            }
        };
        // Rows are below the allocation limit, so both fit a usize.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let channels = usize::try_from(channels).unwrap_or(usize::MAX);
        let (between_positions, between_channels) =
            if channel_last { (channels, 1) } else { (1, length) };
        Ok(Self { array, length, between_positions, between_channels, row: Vec::new() })
    }

    /// The letters of the next row; `None` once all were read.
    ///
    /// # Errors
    /// `Invalid` with the row and position that is no one-hot.
    pub(super) fn next(&mut self, row_number: u64) -> Result<Option<DnaSequence>> {
        if !self.array.read_row(&mut self.row)? {
            return Ok(None);
        }
        let mut letters = Vec::with_capacity(self.length);
        for position in 0..self.length {
            match self.letter(position) {
                Ok(letter) => letters.push(letter),
                Err((expected, found)) => {
                    let place = format!("row {row_number} position {position}");
                    return Err(self.array.defect_at(&place, expected, found));
                }
            }
        }
        Ok(Some(DnaSequence::new(letters).expect("A, C, G, T and N are IUPAC letters")))
    }

    /// The letter at `position`, otherwise what was expected and found there.
    fn letter(&self, position: usize) -> Result<u8, (&'static str, String)> {
        let first = position.saturating_mul(self.between_positions);
        let (mut letter, mut set) = (b'N', 0);
        for (channel, &base) in BASES.iter().enumerate() {
            let index = first.saturating_add(channel.saturating_mul(self.between_channels));
            let value = self.row.get(index).copied().unwrap_or(f64::NAN);
            if value == 1.0 {
                (letter, set) = (base, set + 1);
            } else if value.is_nan() {
                return Err(("a finite value, 0 or 1", format!("NaN in channel {channel}")));
            } else if value != 0.0 {
                let value = value as f32;
                return Err(("0 or 1", format!("{value} in channel {channel}")));
            }
        }
        if set > 1 {
            return Err(("one-hot, one channel set at most", format!("{set} channels set")));
        }
        Ok(letter)
    }
}
